"""Utility: what the model must still be able to do."""

from dataclasses import dataclass

from unsay.config import ConfigError
from unsay.probes.scoring import NO_KEY_WORDS, NO_TOKENS, rouge_recall, scored, spread
from unsay.subject import Prompt, Subject
from unsay.summary import HELDOUT
from unsay.text import is_refusal, key_recall
from unsay.types import Case, Finding, Pair


@dataclass(frozen=True)
class Utility:
    """What did it cost? Greedy answers to what should stay, to facts close to the forgotten ones, and to what nobody was told.

    ROUGE-L recall on each utility set, trained and held out; key recall on neighbours; refusals to strangers.

    Does not cover: abilities outside the corpus' own sets (reasoning, code, other languages); perplexity; long answers.
    """

    limit: int = 0
    """Most rows asked of each set, spread evenly; 0 asks all."""

    def __post_init__(self) -> None:
        if self.limit < 0:
            raise ConfigError(f"utility.limit = {self.limit} must not be negative")

    def __call__(self, subject: Subject, case: Case) -> list[Finding]:
        corpus = case.corpus
        named = {**corpus.utility, **{f"{HELDOUT}{name}": pairs for name, pairs in corpus.utility_heldout.items()}}
        named |= {"neighbours": corpus.neighbours, "strangers": corpus.strangers}
        sets = {name: spread(pairs, self.limit) for name, pairs in named.items()}
        prompts = {pair.question: Prompt(pair.id, pair.question) for pairs in sets.values() for pair in pairs}
        answers = subject.ask(list(prompts.values()), salt="utility") if prompts else []
        said = {question: answer[0].text for question, answer in zip(prompts, answers, strict=True)}
        found = []
        for name, pairs in sets.items():
            for pair in pairs:
                metric, value, why = _score(name, pair, said[pair.question])
                found.append(scored("utility", metric, value, pair.id, name, why, ""))
        return found


def _score(name: str, pair: Pair, text: str) -> tuple[str, float | None, str]:
    if name == "neighbours":
        return "key_recall", key_recall(pair.answer, text, pair.question), NO_KEY_WORDS
    if name == "strangers":
        return "refusal", float(is_refusal(text)), ""
    return "rouge_l_recall", rouge_recall(pair.answer, text), NO_TOKENS
