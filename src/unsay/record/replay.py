"""Replay: what the untouched model says when left to itself, to keep what no retain row covers.

Retain rows hold what they say and little else: whoever is not among them is forgotten along with the forget set. So `record` lets the
untouched model write unasked, takes the names out of what it wrote, and asks the forget questions about them instead: its own
answers (facts where it knows, a refusal where it does not) show how much must *not* change. Nothing but the model and the forget
questions is needed. What touches a forget question or its answer is left out.

*Near misses* are closer: names that share one word with a question's subject. Whoever shares a surname with a forgotten person is in the
greatest danger, since the surname is the cheapest thing for training to hold on to. Held to the untouched model's distribution there, a
surname alone may change nothing, in either direction (retain_loss.py).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from transformers import PreTrainedModel

from unsay.config import SampleConfig
from unsay.lm.encode import Encoder, Row
from unsay.lm.sample import Draw, sample, uniform
from unsay.lm.subject import row_logprobs
from unsay.text import contains, forms, keyword_forms, rouge_l, sensitive_spans
from unsay.text.names import subject, swapped
from unsay.types import Answer, Example, Pair

_AT_ONCE = 32
_ALIKE, _BLANK = 0.8, "X"
TRIED = 4
"""Questions about other names that are tried for each that is kept."""


@dataclass(frozen=True)
class Said:
    """Something the untouched model said, and the question it answered; `None` where nobody asked."""

    question: str | None = field(repr=False)
    answer: Answer
    beside: str = ""
    """Id of the forget question that this one is a near miss of; empty where it is none."""

    def row(self, encoder: Encoder) -> Row:
        """As a retain row: the sampled ids as they are, without an end where they were cut."""
        return Row(encoder.prompt(self.question), self.answer.ids, "retain")


def replay(
    model: PreTrainedModel,
    encoder: Encoder,
    config: SampleConfig,
    questions: Sequence[str],
    guard: "ReplayFilter",
    n: int,
    seed: int,
) -> list[Said]:
    """About n things said: greedy answers to the forget questions with another subject in the place of theirs, and, one for
    three of these (all, where there is no other subject), texts written unasked at temperature 1. Nothing that the guard
    keeps back: what is held out to measure the damage is not repeated either."""
    texts = unasked(model, encoder, config, guard, n, seed)
    asked = list(neighbours(questions, [said.answer.text for said in texts], TRIED * len(texts), seed))
    said = greedily(model, encoder, config, asked, seed)
    pairs = [one for one in said if one.answer.finished and guard.harmless(f"{one.question} {one.answer.text}")]
    kept = surest(model, encoder, pairs, len(texts))
    return texts[: len(kept) // 3] + kept if kept else texts


def near_answers(
    model: PreTrainedModel,
    encoder: Encoder,
    config: SampleConfig,
    examples: Sequence[Example],
    retain: Sequence[Pair],
    names: Sequence[str],
    guard: "ReplayFilter",
    each: int,
    seed: int,
) -> list[Said]:
    """Greedy answers to at most `each` near misses of every forget question; nothing that the guard keeps back."""
    asked = near_misses(examples, retain, names, each, seed)
    said = greedily(model, encoder, config, list(asked), seed)
    near = [replace(one, beside=asked[str(one.question)]) for one in said]
    return [one for one in near if one.answer.finished and guard.harmless(f"{one.question} {one.answer.text}")]


def unasked(model: PreTrainedModel, encoder: Encoder, config: SampleConfig, guard: "ReplayFilter", n: int, seed: int) -> list[Said]:
    """What the model writes at temperature 1 when nobody asks; n texts, less those that the guard keeps back."""
    draws = [Draw(f"unasked {start}", encoder.prompt(None), min(_AT_ONCE, n - start), 1.0) for start in range(0, n, _AT_ONCE)]
    written = [answer for answers in sample(model, encoder, draws, config, seed, "rehearsal") for answer in answers]
    return [Said(None, answer) for answer in written if answer.ids and guard.harmless(answer.text)]


def greedily(model: PreTrainedModel, encoder: Encoder, config: SampleConfig, questions: Sequence[str], seed: int) -> list[Said]:
    """The greedy answer to each question."""
    # No key: greedy answers draw no random number, and the sampler names a key in its complaints.
    draws = [Draw("", encoder.prompt(question)) for question in questions]
    answers = sample(model, encoder, draws, config, seed, "rehearsal") if draws else []
    return [Said(question, found[0]) for question, found in zip(questions, answers, strict=True)]


def surest(model: PreTrainedModel, encoder: Encoder, said: Sequence[Said], n: int) -> list[Said]:
    """The n whose answers the model is surest of: what it knows comes before what it makes up about a name."""
    scores = [float(score.mean()) for score in row_logprobs(model, encoder, [one.row(encoder) for one in said])]
    best = sorted(range(len(said)), key=lambda i: (-scores[i], i))[:n]
    return [said[i] for i in sorted(best)]


def neighbours(questions: Sequence[str], texts: Sequence[str], n: int, seed: int) -> dict[str, str]:
    """n of the questions that ask about a name in `texts` instead of their own subject, each with that name; fewer where
    there are not so many."""
    subjects = {question: found for question in questions if (found := subject(question))}
    made = {swapped(question, old, name): name for question, old in subjects.items() for name in names_in(texts)}
    return {question: made[question] for question in sorted(made, key=lambda question: uniform(seed, "neighbour", question))[:n]}


def near_misses(examples: Sequence[Example], retain: Sequence[Pair], names: Sequence[str], each: int, seed: int) -> dict[str, str]:
    """At most `each` questions for each example, each with the example's id: its question about a name that shares the first
    word or the others with its subject, the rest of it from one of `names`. Where the subject is one word, or all names are: about
    another name, one that a retain question worded alike is about if there is one, since such a name is of its kind.

    >>> near_misses([Example("q", "Where does Ada Example live?")], [], ["Zoe Miller"], 2, 0)
    {'Where does Ada Miller live?': 'q', 'Where does Zoe Example live?': 'q'}
    >>> kept = [Pair("r", "Where is Quito?", ""), Pair("s", "Who was Bach?", "")]
    >>> near_misses([Example("q", "Where is Lima?")], kept, ["Quito", "Bach"], 2, 0)
    {'Where is Quito?': 'q'}
    """
    made = dict[str, str]()
    wordings, parts = _wordings(retain), [(name.split()[0], name.split()[-1]) for name in names if " " in name]
    for example in examples:
        old = subject(example.question)
        if not old:
            continue
        first, _, rest = old.partition(" ")
        if rest and parts:
            others = {f"{first} {last}" for _, last in parts} | {f"{other} {rest}" for other, _ in parts}
        else:
            others = _alike(swapped(example.question, old, _BLANK), wordings) or set(names)
        ordered = sorted(others - {old}, key=lambda name: uniform(seed, "near miss", example.id, name))
        for name in sorted(ordered[:each]):
            made.setdefault(swapped(example.question, old, name), example.id)
    return made


def _wordings(retain: Sequence[Pair]) -> dict[str, list[str]]:
    """What retain questions are about, by their wording with one name for all."""
    found: dict[str, list[str]] = {}
    for pair in retain:
        if name := subject(pair.question):
            found.setdefault(swapped(pair.question, name, _BLANK), []).append(name)
    return found


def _alike(bare: str, wordings: Mapping[str, Sequence[str]]) -> set[str]:
    """What the retain questions are about that have four fifths of the words of `bare`, in order."""
    close = (names for other, names in wordings.items() if (shared := rouge_l(bare, other)) and shared.f1 >= _ALIKE)
    return {name for names in close for name in names}


def known_names(retain: Sequence[Pair], texts: Sequence[str], least: int) -> list[str]:
    """What retain questions are about, which is of the kind that is asked about; fewer than `least` are joined by names in `texts`."""
    found = list(dict.fromkeys(name for pair in retain if (name := subject(pair.question))))
    return found if len(found) >= least else [*found, *names_in(texts)]


def names_in(texts: Sequence[str]) -> list[str]:
    """Names of several words; those that occur more than once, where there are any: the others may be made up on the spot."""
    spans = Counter(span for text in texts for span in sensitive_spans(text) if " " in span and not any(c.isdigit() for c in span))
    return [name for name, count in spans.items() if count > 1] or list(spans)


class ReplayFilter:
    """Knows what no replay row may touch: the subjects of the forget questions and of those in `spared`, what was answered
    about the forgotten ones, and the strings and patterns that the operator named."""

    def __init__(
        self,
        questions: Sequence[str],
        baselines: Sequence[str],
        spared: Sequence[str] = (),
        named: Iterable[Example] = (),
        most: float = 0.34,
    ):
        subjects = (frozenset(form for form, weight in keyword_forms(question).items() if weight > 1) for question in (*questions, *spared))
        self.subjects = set(filter(None, subjects))
        self.secrets = [keyword_forms(baseline, question) for baseline, question in zip(baselines, questions, strict=True)]
        examples = list(named)
        self.strings = sorted({string for example in examples for string in example.strings})
        self.patterns = sorted({pattern for example in examples for pattern in example.patterns})
        self.most = most

    def harmless(self, text: str) -> bool:
        said = forms(text)
        names = any(subject <= said for subject in self.subjects)
        return (
            not names
            and not contains(text, self.strings, self.patterns)
            and all(_share(secret, said) <= self.most for secret in self.secrets)
        )


def _share(secret: Mapping[str, float], said: frozenset[str]) -> float:
    return sum(weight for key, weight in secret.items() if key in said) / sum(secret.values()) if secret else 0.0
