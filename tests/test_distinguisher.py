"""The distinguisher: models that are alike are not told apart, and one that is unlike is, by what no single number shows."""

import numpy as np
import pytest

from unsay.config import ConfigError
from unsay.measure.distinguisher import separation
from unsay.metric import Values

KEYS = ("greedy_keyword_recall", "sampling_worst_keyword_recall", "answer_probability")
GROUPS = {f"q{i:02d}": str(i // 8) for i in range(40)}


def model(seed: int, shift: tuple[float, ...] = (0, 0, 0), together: float = 0.0) -> dict[str, Values]:
    """Forty questions, some harder than others for every model. `together`: how far the first two numbers move in step."""
    rng, hard = np.random.default_rng(seed), np.random.default_rng(99).normal(0, 0.1, (40, 1))
    noise = rng.normal(0, 0.1, (40, 3))
    noise[:, 1] = together * noise[:, 0] + (1 - abs(together)) * noise[:, 1]
    rows = 0.4 + hard + noise + shift
    return {key: {("", question): float(row[i]) for question, row in zip(GROUPS, rows, strict=True)} for i, key in enumerate(KEYS)}


def test_models_that_are_alike_are_not_told_apart() -> None:
    areas = [separation(model(3 * i), [model(3 * i + 1), model(3 * i + 2)], GROUPS).area for i in range(20)]
    assert np.mean(areas) == pytest.approx(0.5, abs=0.05)
    assert 0.2 < min(areas) < max(areas) < 0.8, "forty questions and two retain models: .5 give or take .15"


def test_one_that_is_unlike_them_is() -> None:
    found = separation(model(0, (0.1, 0, -0.1)), [model(1), model(2), model(3)], GROUPS)
    assert found.area > 0.75
    assert max(found.retain_models) < 0.65
    assert found.features == KEYS


def test_so_is_one_that_says_too_little() -> None:
    assert separation(model(0, (-0.15, 0, 0)), [model(1), model(2)], GROUPS).area > 0.75


def test_what_was_not_scored_tells_nothing_and_too_few_models_are_refused() -> None:
    some = model(0)
    del some["answer_probability"]["", "q00"]
    assert separation(some, [model(1), model(2)], GROUPS).area == pytest.approx(0.5, abs=0.15)
    for few in ([model(1)], [model(1), {}]):
        with pytest.raises(ConfigError, match="two retain models"):
            separation(model(0), few, GROUPS)
