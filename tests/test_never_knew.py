"""The never-knew index: by hand from means, with intervals from questions, and that these hold."""

from collections.abc import Callable

import numpy as np
import pytest

from unsay.measure.never_knew import MODELS, by_question, never_knew
from unsay.metric import Values


def metrics(after: float) -> dict[str, dict[str, float | None]]:
    told = {"before": 1.0, "after": after, "retain_model": 0.4}
    return {"partial_secret_keyword_recall": told, "greedy_keyword_recall": {"before": 1.0, "after": 0.0, "retain_model": 0.0}}


def test_to_have_forgotten_more_than_never_knowing_is_as_far_off_as_less() -> None:
    less, more, just = (never_knew(metrics(after)) for after in (0.7, 0.1, 0.4))
    assert less is not None
    assert more is not None
    assert just is not None
    assert less.index == more.index == pytest.approx(0.75)
    assert less.worst == "partial_secret_keyword_recall"
    assert just.index == 1.0
    assert just.interval is None, "means alone say nothing about their error"


def test_a_number_that_cannot_tell_them_apart_takes_no_part() -> None:
    alike = {"multiple_choice_least": {"before": 0.2, "after": 0.9, "retain_model": 0.2}}
    assert never_knew(alike | {"greedy_keyword_recall": {"before": 1.0, "after": 0.0}}) is None


def asked(values: dict[str, list[float]]) -> dict[str, dict[str, Values]]:
    return {which: {"greedy_keyword_recall": {("", f"q{i}"): v for i, v in enumerate(values[which])}} for which in MODELS}


def of(found: dict[str, dict[str, Values]]) -> Callable[[str, str], Values]:
    return lambda which, key: found[which].get(key, {})


def test_over_the_questions_of_all_three() -> None:
    found = asked({"before": [1.0] * 40, "after": [0.25] * 20 + [0.5] * 20, "retain_model": [0.0] * 40})
    found["retain_model"]["greedy_keyword_recall"]["", "another"] = 1.0
    index = by_question(of(found), {})
    assert index is not None
    assert index.apart == {"greedy_keyword_recall": pytest.approx(0.375)}
    low, high = index.intervals["greedy_keyword_recall"]
    # The ratio of means: a question moves it by ±.125, Student's t with 39 degrees of freedom.
    half = 2.023 * 0.125 / 39**0.5
    assert (low, high) == (
        pytest.approx(0.375 - half, abs=2e-3),
        pytest.approx(0.375 + half, abs=2e-3),
    )
    assert index.interval == (pytest.approx(1 - high), pytest.approx(1 - low))
    few = by_question(of(found), {f"q{i}": str(i // 8) for i in range(40)})
    assert few is not None
    assert few.intervals["greedy_keyword_recall"].high > high, "five people, each of them nearly alike"


def test_the_interval_of_the_index_holds_where_questions_of_one_person_score_alike() -> None:
    rng, groups = np.random.default_rng(0), {f"q{i}": str(i // 8) for i in range(80)}

    def person(mean: float) -> list[float]:
        own, shared = rng.binomial(4, mean, 80) / 4, np.repeat(rng.binomial(4, mean, 10) / 4, 8)
        return [float(v) for v in np.where(rng.random(80) < 0.6, shared, own)]

    held = []
    for _ in range(200):
        index = by_question(of(asked({"before": person(0.9), "after": person(0.35), "retain_model": person(0.15)})), groups)
        assert index is not None
        assert index.interval is not None
        held.append(index.interval.low <= 1 - 0.2 / 0.75 <= index.interval.high)
    assert np.mean(held) >= 0.9
