"""Answers about what should stay, in words, for the report: the only texts that an audit writes outside of the vault.

No forget question is among them. Shown are rows of a corpus that is public (`public`, declared by the corpus), the package's own
general questions in any, and the operator's own retain rows only where `[report] show_kept` says so. A model's answer to a harmless
question may still hold a secret, so each must pass the guard that keeps secrets out of replay rows; what does not is counted.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from unsay.config import Recipe
from unsay.corpora import general
from unsay.lm.subject import Prompt, Subject
from unsay.packed import Packed
from unsay.probes.scoring import rouge_recall
from unsay.probes.utility import HELDOUT
from unsay.record.replay import ReplayFilter
from unsay.tables import lookup
from unsay.types import Case, Corpus, Finding, Pair


def answers(subject: Subject, case: Case, recipe: Recipe, findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """A row an answer: `id`, `set`, `question`, `answer` (the right one), `said`, `recall` (ROUGE-L recall, 0 to 1); of an answer that
    is not to be shown its `id` alone. Asked again is what utility has asked, so the answers lie in the cache."""
    measured = {(f.setting, f.example) for f in Packed.of(findings).probe("utility") if f.value is not None}
    rows = [(name, pair) for name, pair in _rows(case.corpus, recipe) if (name, pair.id) in measured]
    if not rows:
        return []
    met = [case, *case.earlier.values()]
    forgotten = [example for one in met for example in one.corpus.forget]
    secrets = [(example.question, one.facts[example.id].answer) for one in met for example in one.corpus.forget if example.id in one.facts]
    guard = ReplayFilter(secrets, named=forgotten)
    asked = subject.ask([Prompt(pair.id, pair.question) for _, pair in rows], salt="utility")
    found: list[dict[str, Any]] = []
    for (name, pair), (said,) in zip(rows, asked, strict=True):
        texts = {"question": pair.question, "answer": pair.answer, "said": said.text}
        if all(map(guard.harmless, texts.values())):
            found.append({"id": pair.id, "set": name.removeprefix(HELDOUT), **texts, "recall": rouge_recall(pair.answer, said.text)})
        else:
            found.append({"id": pair.id})
    return found


def _rows(corpus: Corpus, recipe: Recipe) -> list[tuple[str, Pair]]:
    """(set, row) of the held-out sets, or, where there are none, of those that training may have seen; only what may be shown."""
    heldout = {f"{HELDOUT}{name}": pairs for name, pairs in corpus.utility_heldout.items()}
    sets: Mapping[str, Sequence[Pair]] = heldout if any(heldout.values()) else corpus.utility
    every = recipe.report.show_kept or getattr(lookup("corpus", recipe.corpus), "public", False)
    ours = {pair.question for pair in general.load()}
    return [(name, pair) for name, pairs in sets.items() for pair in pairs if every or pair.question in ours]
