"""Whether two samplers do the same thing: without that a ratio of their speeds says nothing.

Greedy answers must be the same ids up to the end of the answer, and sampled tokens must have the frequencies that the
model's own logits prescribe, by Pearson's χ² test: the first token, and the second given the first.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

from scipy.stats import chi2
from torch import Tensor

LEAST_P = 1e-3
_LEAST_EXPECTED = 5.0
"""A cell of a χ² test expects at least so many."""


class Part(NamedTuple):
    """One χ² statistic and its degrees of freedom. Independent parts add up."""

    statistic: float
    freedom: int


def until_end(ids: Sequence[int], stops: Set[int]) -> tuple[int, ...]:
    """The ids up to and with the first end of answer."""
    end = next((i for i, token in enumerate(ids) if token in stops), len(ids))
    return tuple(ids[: end + 1])


def equal_share(first: Sequence[Sequence[int]], second: Sequence[Sequence[int]], stops: Set[int]) -> float:
    """Share of answers that are the same ids up to the end of the answer."""
    pairs = list(zip(first, second, strict=True))
    return sum(until_end(a, stops) == until_end(b, stops) for a, b in pairs) / len(pairs)


def nucleus_of(logits: Tensor, temperature: float, top_p: float) -> dict[int, float]:
    """Token → probability in the smallest set of most likely tokens whose mass reaches top_p. logits [V]."""
    values, ids = (logits.double() / temperature).softmax(0).sort(descending=True, stable=True)
    size = int((values.cumsum(0) < top_p).sum()) + 1
    kept = values[:size] / values[:size].sum()
    return dict(zip(ids[:size].tolist(), kept.tolist(), strict=True))


def chi_square(observed: Mapping[int, int], expected: Mapping[int, float]) -> Part:
    """Pearson's statistic of counts against probabilities: Σ (o − e)² / e over cells, Σ cells − 1 degrees of freedom.

    From the likeliest token down, a cell takes tokens until it expects five; what is left over joins the last. A flat
    nucleus of thousands thus has many cells too. What was seen and should not have been falls into the last cell, where that
    holds several tokens (rounding may move the edge of a nucleus by one); else it makes the statistic infinite.
    """
    n = sum(observed.values())
    cells: list[list[int]] = [[]]
    for token in sorted(expected, key=lambda token: -expected[token]):
        if n * math.fsum(expected[other] for other in cells[-1]) >= _LEAST_EXPECTED:
            cells.append([])
        cells[-1].append(token)
    if len(cells) > 1 and n * math.fsum(expected[token] for token in cells[-1]) < _LEAST_EXPECTED:
        rest = cells.pop()
        cells[-1] += rest
    counts = [(sum(observed.get(token, 0) for token in cell), n * math.fsum(expected[token] for token in cell)) for cell in cells]
    if impossible := n - sum(seen for seen, _ in counts):
        if len(cells[-1]) == 1:
            return Part(math.inf, 1)
        counts[-1] = (counts[-1][0] + impossible, counts[-1][1])
    return Part(math.fsum((seen - wanted) ** 2 / wanted for seen, wanted in counts), len(counts) - 1)


def p_value(parts: Sequence[Part]) -> float | None:
    """Probability of so large a sum of statistics where all frequencies are as expected; `None` where nothing could vary."""
    statistic, freedom = math.fsum(part.statistic for part in parts), sum(part.freedom for part in parts)
    return float(chi2.sf(statistic, freedom)) if freedom else None


def by_first(drawn: Sequence[Sequence[int]], least: int) -> dict[int, Counter[int]]:
    """First token → counts of the second, for first tokens drawn at least so often."""
    firsts = Counter(ids[0] for ids in drawn)
    return {first: Counter(ids[1] for ids in drawn if ids[0] == first) for first, count in firsts.items() if count >= least}


def verdict(greedy: float, first: Sequence[float | None], second: Sequence[float | None]) -> dict[str, Any]:
    """Whether a ratio counts, and why: from the share of equal greedy answers, and both sides' p-values for each token."""
    reasons = []
    if greedy < 1:
        reasons.append(f"greedy output differs in {1 - greedy:.1%} of the answers")
    lowest: dict[str, float | None] = {}
    for name, values in (("first", first), ("second", second)):
        known = [value for value in values if value is not None]
        lowest[name] = min(known) if len(known) == len(values) else None
        if len(known) < len(values):
            reasons.append(f"too few draws to test the {name} token")
        elif min(known) <= LEAST_P:
            reasons.append(f"frequencies of the {name} token are not the model's (p = {min(known):.1e})")
    why = "; ".join(reasons) or f"greedy equal, frequencies right (p = {lowest['first']:.2g}, {lowest['second']:.2g})"
    return {"counts": not reasons, "why": why, "greedy_equal": greedy, "p_first": lowest["first"], "p_second": lowest["second"]}
