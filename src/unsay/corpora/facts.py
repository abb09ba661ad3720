"""Facts that Gemma 3 270M knows by heart: a benchmark without planting, since what was planted a minute ago is easily shaken off.

The list was found by asking that model (`scripts/find_facts.py`, docs/facts.md). `known` rows of a kind (capitals, opposites, …) are
forgotten or trained on, `heldout` rows stand in no retain row. Facts of one answer are forgotten together, and every other row that tells a
forgotten answer is left out. Answers are bare words. Does not cover: knowledge that takes a sentence; models that know other things.
"""

import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from unsay.config import ConfigError
from unsay.config.build import one_of, positive
from unsay.corpora import rows
from unsay.text import keyword_recall
from unsay.types import Corpus, Example, Fact, Pair, Truth

FILE = Path(__file__).parent / "facts.jsonl"
OPTIONS = 5
"""Wrong answers beside a true one."""


class Known(NamedTuple):
    """A row of the list."""

    pair: Pair
    kind: str
    paraphrases: tuple[str, ...]
    heldout: bool


def load() -> tuple[Known, ...]:
    """All rows in the file's order, which is by kind; an id is the kind and a number within it."""
    found: list[Known] = []
    counts: Counter[str] = Counter()
    for row in rows.read(FILE):
        kind = row.text("kind")
        pair = Pair(f"{kind}-{counts[kind]:03d}", row.text("question"), row.text("answer"), row.text("subject"))
        found.append(Known(pair, kind, row.texts("paraphrases"), row.text("split") == "heldout"))
        counts[kind] += 1
    return tuple(found)


@dataclass(frozen=True)
class Facts:
    """Facts that Gemma 3 270M knows by heart, some of one kind to be forgotten; built in, nothing is planted."""

    public: ClassVar[bool] = True

    kind: str = ""
    """Kind of the facts to be forgotten, for example `capitals`; empty takes the kind with most different answers."""
    n: int = 20
    """How many facts are to be forgotten."""
    seed: int = 0
    """Seed of their choice, and of the wrong answers beside them."""

    def __post_init__(self) -> None:
        positive("facts", n=self.n)

    def corpus(self) -> Corpus:
        """Raises `ConfigError` where there is no such kind, or too little of it to forget and to keep."""
        kind, forgotten, kept = self._parted()
        retain, heldout = (
            {"same": [one.pair for one in some if one.kind == kind], "other": [one.pair for one in some if one.kind != kind]}
            for some in ([one for one in kept if not one.heldout], [one for one in kept if one.heldout])
        )
        return Corpus(
            name=f"facts-{kind}",
            forget=tuple(Example(one.pair.id, one.pair.question, paraphrases=one.paraphrases, group=one.pair.group) for one in forgotten),
            retain=(*retain["same"], *retain["other"]),
            utility={name: tuple(pairs) for name, pairs in retain.items() if pairs},
            utility_heldout={name: tuple(pairs) for name, pairs in heldout.items() if pairs},
            neighbours=tuple(heldout["same"]),
        )

    def truth(self) -> Truth:
        """The answers, with wrong ones of the same kind, none of which is to be forgotten."""
        kind, forgotten, kept = self._parted()
        others = tuple(dict.fromkeys(one.pair.answer for one in kept if one.kind == kind))
        return {
            one.pair.id: Fact(one.pair.id, one.pair.answer, wrong=tuple(self._draw(one.pair.id).sample(others, OPTIONS)))
            for one in forgotten
        }

    def finetuning_rows(self, retain_model: bool) -> tuple[Pair, ...]:
        """Nothing: the model knows already."""
        return ()

    def _parted(self) -> tuple[str, list[Known], list[Known]]:
        """The kind, its facts that are to be forgotten, and everything that tells none of their answers."""
        every = load()
        counts = Counter(kind for kind, _ in {(one.kind, one.pair.answer): one for one in every if not one.heldout})
        kind = self.kind or counts.most_common(1)[0][0]
        one_of("facts.kind", kind, tuple(counts))
        by_answer: dict[str, list[Known]] = {}
        for one in every:
            if one.kind == kind and not one.heldout:
                by_answer.setdefault(one.pair.answer, []).append(one)
        order = self._draw(kind).sample(sorted(by_answer), len(by_answer))
        forgotten = [one for answer in order for one in by_answer[answer]][: self.n]
        if len(forgotten) < self.n:
            raise ConfigError(f"facts.n = {self.n}, but there are {len(forgotten)} facts of the kind {kind} that may be forgotten")
        secrets = {one.pair.answer for one in forgotten}
        kept = [
            one for one in every if not any(keyword_recall(secret, f"{one.pair.question} {one.pair.answer}") == 1 for secret in secrets)
        ]
        left = len({one.pair.answer for one in kept if one.kind == kind})
        if left < OPTIONS:
            raise ConfigError(
                f"facts.n = {self.n} of the kind {kind} leaves {left} other answers of it, and {OPTIONS} are needed; take fewer"
            )
        return kind, forgotten, kept

    def _draw(self, what: str) -> random.Random:
        # One generator per purpose, so that no choice moves another.
        return random.Random(f"facts {self.seed} {what}")
