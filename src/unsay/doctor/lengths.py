"""What the model will say, before it has said it: canned answers for counting.

How long answers are decides most of the time. A few questions are asked in the probe; where the recipe plants its corpus
first, the planted answers are what the model will say. Later in training it says something else, of which the retain
answers are the nearest thing at hand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unsay.encode import Encoder
from unsay.sample import uniform
from unsay.types import Answer


@dataclass(frozen=True)
class Said:
    """Answers by question, answers to any question, and texts written unasked."""

    greedy: Mapping[str, Answer]
    sampled: Mapping[str, Sequence[Answer]]
    others: Sequence[Answer] = ()
    """What it will say once it has unlearned: answers to retain questions."""
    unasked: Sequence[Answer] = ()
    unlearned: bool = False
    """Answer from `others`."""

    def answer(self, question: str | None, key: str, draw: int, greedy: bool, left: int, begun: int, encoder: Encoder) -> Answer:
        """An answer of at most `left` tokens to the question, of which `begun` tokens are already said."""
        if question is None and self.unasked:
            pool: Sequence[Answer] = self.unasked
        elif self.unlearned and self.others:
            pool = self.others
        elif greedy and (question or "") in self.greedy:
            pool = [self.greedy[question or ""]]
        else:
            pool = self.sampled.get(question or "") or [a for some in self.sampled.values() for a in some] or list(self.greedy.values())
        whole = pool[int(uniform(0, key, draw, "canned") * len(pool))]
        ids = whole.ids[min(begun, len(whole.ids) - 1) :]
        cut = ids[:left]
        finished = whole.finished and len(cut) == len(ids)
        return whole if cut == whole.ids else Answer(cut, encoder.decode(cut), finished)

    def finished_share(self) -> float:
        """Share of the sampled answers that came to an end."""
        every = [a for some in self.sampled.values() for a in some] or list(self.greedy.values())
        return sum(answer.finished for answer in every) / max(1, len(every))
