"""Retain rows that say a word of what is to be forgotten.

What a model unlearns for one it unlearns for others, first where they share the words: whose cat is called Sir Waffles, too, is asked in
vain. So each visit brings retain rows whose answer has a word of its recorded one, and the untouched model says what they should answer
(`train.retain_loss = "kl"`).
"""

from bisect import bisect
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from unsay.lm.encode import Encoder
from unsay.lm.rows import Row
from unsay.record.recorded import Recorded
from unsay.text import forms, keyword_forms
from unsay.types import Pair


@dataclass(frozen=True)
class SharedRows:
    """The rows, and what each example shares with them."""

    groups: Mapping[str, Sequence[Sequence[Pair]]] = field(default_factory=dict)
    """By example id: for each word of the recorded answer that rows have, all of them."""

    @property
    def pairs(self) -> list[Pair]:
        """Each of the rows once."""
        return [*dict.fromkeys(pair for groups in self.groups.values() for group in groups for pair in group)]

    def drawn(self, example: str, encoder: Encoder, n: int, draw: Callable[[int, str], float]) -> list[Row]:
        """n rows, none where no row has a word; the rarer the word, the sooner it is chosen. `draw(number, what)`: a random number in
        [0, 1)."""
        groups, rows = self.groups.get(example, ()), []
        chances = list(accumulate(1 / len(group) for group in groups))
        for number in range(n if groups else 0):
            group = groups[bisect(chances, draw(number, "word") * chances[-1], hi=len(groups) - 1)]
            pair = group[int(draw(number, "row") * len(group))]
            rows.append(encoder.pair(pair.question, pair.answer))
        return rows


def shared_rows(recorded: Recorded, pairs: Sequence[Pair]) -> SharedRows:
    """Those of these pairs whose answer has a word of a recorded one that is not in its question."""
    said = {one.id: keyword_forms(recorded.baseline[one.id].answer, one.question) for one in recorded.corpus.forget}
    wanted, rows = {word for words in said.values() for word in words}, defaultdict[str, list[Pair]](list)
    for pair in pairs:
        for word in forms(pair.answer) & wanted:
            rows[word].append(pair)
    return SharedRows({example: [rows[word] for word in sorted(words) if word in rows] for example, words in said.items()})
