"""Findings → numbers: several settings of one question, leak@k, and what two models have apart."""

import itertools

import pytest

from unsay.measure.summary import metrics, questions, summarise
from unsay.metric import by_question
from unsay.probes.utility import TOFU_METRICS, TOFU_SETS
from unsay.types import Finding

SETTINGS = [
    Finding("sampling", "worst_keyword_recall", 0.2, "a", "T=0.7", 20),
    Finding("sampling", "worst_keyword_recall", 0.6, "a", "T=1.3", 20),
    Finding("sampling", "worst_keyword_recall", 0.4, "b", "T=0.7", 20),
    Finding("sampling", "worst_keyword_recall", 0.0, "b", "T=1.3", 20),
]


def test_the_worst_temperature_of_each_question_counts() -> None:
    assert summarise(SETTINGS)["sampling_worst_keyword_recall"] == pytest.approx(0.5), "of a at 1.3, of b at .7"
    assert summarise(SETTINGS[::2])["sampling_worst_keyword_recall"] == pytest.approx(0.3), "of one temperature the plain mean"
    assert questions(SETTINGS)["sampling_worst_keyword_recall"] == {("", "a"): 0.6, ("", "b"): 0.4}


def test_leak_at_k() -> None:
    rates = [Finding("sampling", "leak_rate", 0.1, "a", "T=1", 20), Finding("sampling", "leak_rate", 0.0, "b", "T=1", 20)]
    found = summarise(rates)
    assert found["sampling_leak_at_1"] == pytest.approx(0.05)
    assert found["sampling_leak_at_10"] == pytest.approx((1 - 10 * 9 / (20 * 19)) / 2), "2 leaks among 20, none of 10 drawn"
    assert found["sampling_leak_at_n"] == pytest.approx(0.5)
    few = summarise([Finding("sampling", "leak_rate", 0.2, "a", "T=1", 5)])
    assert (few["sampling_leak_at_10"], few["sampling_leak_at_n"]) == (None, 1.0), "ten of five answers are not known"


def test_the_bound_of_all_cases_shares_the_error() -> None:
    clean = [Finding("sampling", "leak_rate", 0.0, f"q{i}", "T=1", 100) for i in range(400)]
    assert summarise(clean)["sampling_leak_rate_upper"] == pytest.approx(0.101, abs=5e-4), "as audit bounds go for 400 questions"
    assert summarise(clean[:1])["sampling_leak_rate_upper"] == pytest.approx(0.045, abs=5e-4)


def test_forget_quality_by_counting() -> None:
    """D between the two step functions, p over all ways to deal seven values to three and four. TOFU compares R itself; the
    report has R / (1 + R), which is in the same order."""
    here, retain_model = (0.1, 0.3, 0.5), (0.2, 0.4, 0.6, 0.8)

    def distance(first: tuple[float, ...], second: tuple[float, ...]) -> float:
        return max(abs(sum(x <= at for x in first) / len(first) - sum(x <= at for x in second) / len(second)) for at in first + second)

    everything = here + retain_model
    dealt = [distance(some, tuple(x for x in everything if x not in some)) for some in itertools.combinations(everything, 3)]
    for change in (lambda r: r, lambda r: r / (1 + r), lambda r: 1 / r):
        found, reference_judge = (
            [Finding("likelihood", "truth_ratio", change(r), f"q{i}") for i, r in enumerate(some)] for some in (here, retain_model)
        )
        numbers = summarise(found, (), reference_judge)
        assert numbers["forget_quality_d"] == pytest.approx(0.5), "all of ours lie at or below .5, and half of the retain model’s"
        assert numbers["forget_quality_p"] == pytest.approx(sum(d >= 0.5 - 1e-9 for d in dealt) / len(dealt))


def test_model_utility_is_the_harmonic_mean_of_nine() -> None:
    nine = [0.5, 0.25, 1.0, 0.5, 0.25, 1.0, 0.5, 0.25, 1.0]
    places = [(name, metric) for name in TOFU_SETS for metric in TOFU_METRICS]
    found = [
        Finding("utility", f"tofu_{metric}", x + off, f"{name}-{off}", name)
        for (name, metric), x in zip(places, nine, strict=True)
        for off in (-0.125, 0.125)
    ]
    assert summarise(found)["model_utility"] == pytest.approx(3 / (2 + 4 + 1)), "of the means of the sets, two questions each"
    assert summarise(found)["real_authors_rouge_l_recall"] == 0.25
    assert summarise(found[:-2])["model_utility"] is None, "eight of nine are no model utility"
    broken = [Finding("utility", f"tofu_{metric}", 0.0 if i == 4 else 1.0, "q", name) for i, (name, metric) in enumerate(places)]
    assert summarise(broken)["model_utility"] == 0.0, "and a nought is measured, not missing"


def test_what_was_not_measured_is_none() -> None:
    missing = [Finding("sampling", "leak_rate", None, "a", "T=1", 0, "why"), Finding("likelihood", "truth_ratio", None, "a")]
    assert set(summarise(missing, missing, missing).values()) == {None}


def test_one_look_at_the_findings_gives_the_same_values() -> None:
    assert questions(SETTINGS) == {key: by_question(one, SETTINGS) for key, one in metrics().items() if not one.compute}


def test_what_is_hit_by_accident_is_folded_as_its_metric() -> None:
    accidents = {key: one.accident for key, one in metrics().items() if one.accident}
    assert len(accidents) == 4
    for key, accident in accidents.items():
        assert metrics()[key].probe == metrics()[accident].probe
        assert (metrics()[key].where, metrics()[key].fold) == (metrics()[accident].where, metrics()[accident].fold)
