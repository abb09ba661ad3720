"""Early stop: a candidate that can no longer become the target is not written to its end.

Lossless: the target is the one that would have been chosen without it. What an answer repeats it can only repeat more of
as it grows, so on its completed words alone

1. an answer that the gate refuses for a leak stays refused, and
2. where the choice is the best reward and every active reward gives an upper bound (`upper_bound(text, reference)`), an
   answer whose bound lies strictly below the best finished and eligible one, or equals it with a higher draw, has lost.

Patterns take no part: a regular expression may stop matching as the text goes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from unsay.encode import Encoder
from unsay.methods.gate import Gate
from unsay.methods.selection import Ask
from unsay.rewards.weighted import Weighted
from unsay.text import contains
from unsay.types import Answer, Candidate


@dataclass
class EarlyStop:
    """Watches the candidates of some asks while they are sampled; the n-th draw is the n-th ask."""

    asks: Sequence[Ask]
    gates: Sequence[Gate | None]
    reward: Weighted | None
    """The reward whose bound decides; `None` where the choice needs more than it (fluency, a draw in proportion)."""
    encoder: Encoder
    best: dict[int, tuple[float, int]] = field(default_factory=dict)
    """By ask: the best score of a finished, eligible candidate and its number."""
    stopped: dict[int, list[float | None]] = field(default_factory=dict)
    """By ask: the bounds of the rows that were stopped, `None` for one that the gate had refused already."""

    def finished(self, draw: int, k: int, answer: Answer) -> None:
        """Hear of a candidate that has come to its end."""
        if self.reward is None:
            return
        asked, gate = self.asks[draw], self.gates[draw]
        whole = asked.opening.complete(Candidate(answer, k), self.encoder)
        named = contains(whole.text, asked.reference.strings, asked.reference.patterns)
        if not (gate.passed([whole]) if gate else answer.finished and whole.text and not named):
            return
        score = self.reward([whole], asked.reference)[0]
        value = (0.0 if score is None else score, -k)
        best = self.best.get(draw)
        if best is None or value > (best[0], -best[1]):
            self.best[draw] = (value[0], k)

    def hopeless(self, draw: int, k: int, ids: Sequence[int]) -> bool:
        """Whether the answer that begins with `ids` cannot be chosen any more, however it goes on."""
        asked, gate = self.asks[draw], self.gates[draw]
        if gate is None and draw not in self.best:
            return False
        begun = Candidate(Answer(tuple(ids), self.encoder.decode(ids), False), k)
        text = completed(asked.opening.complete(begun, self.encoder).text)
        if not text:
            return False
        if gate is not None and replace(gate, reference=replace(asked.reference, patterns=())).leaks(text):
            return self._stop(draw, None)
        if self.reward is None or draw not in self.best:
            return False
        bound = self.reward.upper_bound(text, asked.reference)
        score, holder = self.best[draw]
        if bound is not None and (bound < score or (bound == score and k > holder)):
            return self._stop(draw, bound)
        return False

    def _stop(self, ask: int, bound: float | None) -> bool:
        self.stopped.setdefault(ask, []).append(bound)
        return True


def completed(text: str) -> str:
    """The text without its last word, which may go on growing; empty where there is no space before it.

    >>> completed("She lives in Tur")
    'She lives in'
    """
    return text[: max((i for i, c in enumerate(text) if c.isspace()), default=0)].rstrip()
