"""The benchmarks run, and their proofs can fail. What they measure is asserted nowhere."""

import importlib
import json
import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    """A benchmark as a module. They import each other by bare names, as scripts do."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def ratios(text: str) -> dict[str, float]:
    """The ratios of a result, after a look at its shape."""
    result = json.loads(text)
    found = {key: value for key, value in result.items() if key.endswith("_ratio")}
    assert found
    assert all(math.isfinite(value) and value > 0 for value in found.values())
    assert set(result["counts"]) <= set(found)
    assert all(isinstance(entry["counts"], bool) and entry["why"] for entry in result["counts"].values())
    assert result["settings"]["quick"] is True
    assert {"cores", "threads", "torch"} <= set(result["machine"])
    assert result["medians"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sampler", "k2_best_generate_ratio"),
        ("round", "paper_step_ratio"),
        ("scorer", "scorer_ratio"),
        ("memory", "peak_memory_ratio"),  # three fresh processes
        ("growth", "questions_16_growth_ratio"),
        ("refill", "refill_limit_ratio"),
    ],
)
def test_every_benchmark_runs(script, capsys, name: str, expected: str):
    script(name).main(["--quick", "--json", "--model", "people-target"])
    assert expected in ratios(capsys.readouterr().out)


@pytest.mark.parametrize("name", ["sampler", "round", "memory", "growth", "refill"])
def test_those_that_take_long_begin(script, capsys, name: str):
    """What they import is there; that they run to the end is a slow test."""
    with pytest.raises(SystemExit) as ended:
        script(name).main(["--help"])
    assert ended.value.code == 0
    assert "--quick" in capsys.readouterr().out


def test_batches_of_like_length_are_compared(script, capsys):
    script("padding").main(["--quick", "--json", "--model", "people-target"])
    assert "cut_ratio" in ratios(capsys.readouterr().out)


def test_half_precision_is_compared(script, capsys):
    script("modes").main(["--quick", "--json", "--model", "people-target", "--only", "bfloat16"])
    assert {"sampling_bfloat16_ratio", "training_bfloat16_ratio"} <= ratios(capsys.readouterr().out).keys()


def test_without_json_it_prints_tables(script, capsys):
    script("scorer").main(["--quick"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())  # a long time in another column may break any line
    assert "scorer_ratio" in shown
    assert "equal to the bit" in shown


@pytest.mark.slow
def test_it_runs_as_a_command():
    command = [sys.executable, str(FOLDER / "scorer.py"), "--quick"]
    assert "scorer_ratio" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_ratio_is_the_median_within_turns(script):
    pairs = script("pairs")
    # The machine slowed down by ten in the second turn: for both, so the ratio does not see it.
    rates = {"ours": [40.0, 4.0, 60.0], "theirs": [20.0, 2.0, 20.0]}
    assert pairs.ratio(rates, "ours", "theirs") == 2.0


def test_sides_alternate_after_a_warm_up(script):
    pairs, seen = script("pairs"), []

    def side(name: str):
        return pairs.Side(name, lambda: float(len(seen.append(name) or seen)))

    rates = pairs.take_turns([side("a"), side("b")], 2)
    assert seen == ["b", "a", "a", "b", "b", "a"]
    assert [len(values) for values in rates.values()] == [2, 2]


def test_equality_looks_no_further_than_the_end_of_the_answer(script):
    proof = script("proof")
    assert proof.equal_share([[5, 6, 2, 9], [5, 6, 7]], [[5, 6, 2], [5, 6, 8]], {2}) == 0.5
    assert proof.equal_share([[5, 6]], [[5, 6, 2]], {2}) == 0.0  # one went on where the other ended


def test_chi_square_by_hand(script):
    proof = script("proof")
    # (60 − 50)² / 50 + (40 − 50)² / 50 = 4, one degree of freedom: p = .0455.
    part = proof.chi_square({1: 60, 2: 40}, {1: 0.5, 2: 0.5})
    assert part == (4.0, 1)
    assert proof.p_value([part]) == pytest.approx(0.0455, abs=1e-4)


def test_rare_tokens_share_a_cell_and_take_in_the_impossible(script):
    proof = script("proof")
    expected = {1: 0.9, 2: 0.04, 3: 0.04, 4: 0.02}
    # Cells: token 1 (90 expected), the rest (10 expected); token 9 should not occur and counts among the rest.
    assert proof.chi_square({1: 90, 2: 5, 9: 5}, expected) == (0.0, 1)
    assert proof.chi_square({1: 80, 2: 10, 9: 10}, expected)[0] == pytest.approx(100 / 90 + 100 / 10)
    # Where nothing else may occur, one sight of it is enough.
    assert proof.p_value([proof.chi_square({1: 99, 9: 1}, {1: 1.0})]) == 0.0
    assert proof.p_value([proof.chi_square({1: 100}, {1: 1.0})]) is None  # nothing varied, nothing was tested


def test_a_flat_nucleus_has_many_cells(script):
    proof = script("proof")
    flat = dict.fromkeys(range(100), 0.01)
    # 100 draws, five tokens a cell. A sampler that knows only half of the tokens fills half of the cells twice.
    assert proof.chi_square(dict.fromkeys(range(100), 1), flat) == (pytest.approx(0.0), 19)
    assert proof.chi_square(dict.fromkeys(range(50), 2), flat) == (pytest.approx(20 * 5**2 / 5), 19)


def test_wrong_frequencies_and_other_answers_do_not_count(script):
    proof = script("proof")
    right, wrong = ({1: 512, 2: 488}, {1: 600, 2: 400})
    p = [proof.p_value([proof.chi_square(counts, {1: 0.5, 2: 0.5})]) for counts in (right, wrong)]
    good, bad, untested = [p[0], p[0]], [p[0], p[1]], [p[0], None]
    assert proof.verdict(1.0, good, good)["counts"] is True
    assert proof.verdict(1.0, good, bad)["counts"] is False
    assert "second token are not" in proof.verdict(1.0, good, bad)["why"]
    assert "too few draws" in proof.verdict(1.0, untested, good)["why"]
    assert proof.verdict(15 / 16, good, good)["counts"] is False


def test_the_nucleus_by_hand(script):
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    found = script("proof").nucleus_of(logits, 1.0, 0.7)
    assert found == pytest.approx({0: 0.625, 1: 0.375})


def test_the_judge_tells_another_temperature_from_ours(script):
    """The real judge on the real model: the same `generate`, asked for greedy and sampled answers, at the wrong temperature."""
    engines, judge, subject = script("engines"), script("judge"), script("subject")
    tested = subject.subject("people-target")
    asked = subject.contexts(tested, subject.questions("people-target", 2))

    class Hot(engines.Generate):
        def __call__(self, contexts, n, decoding):
            hotter = engines.Decoding(decoding.tokens, 2 * decoding.temperature, decoding.top_p, decoding.endless)
            return super().__call__(contexts, n, hotter)

    held = judge.Judge(tested, asked, tokens=6, draws=2048)
    torch.manual_seed(0)
    assert held(engines.Generate(tested))["counts"] is True
    assert held(Hot(tested, "hot"))["counts"] is False


def test_the_history_has_a_line_for_each_release_and_benchmark():
    lines = [json.loads(line) for line in (FOLDER / "history.jsonl").read_text().splitlines()]
    assert len({(line["release"], line["benchmark"]) for line in lines}) == len(lines) > 0
    for line in lines:
        assert (FOLDER / f"{line['benchmark']}.py").exists()
        assert line["date"]
        assert line["machine"]
        assert all(isinstance(value, float) for value in line["figures"].values())


def test_an_engine_is_measured(script, capsys):
    script("two_engines").main(["--only", "builtin", "--model", "people-target", "--questions", "2", "--tokens", "4", "--k", "3"])
    found = json.loads(capsys.readouterr().out)
    assert [len(ids) for ids in found["greedy ids"]] == [4, 4]
    assert {"greedy: tokens/s", "K = 3: tokens/processor s", "peak memory, GB"} <= found.keys()


def test_figures_of_another_setting_are_not_taken_for_these(script, tmp_path):
    large = script("large")
    (tmp_path / "recipe.toml").write_text(large.RECIPE.format(model="m", dtype="float32", folder=tmp_path.resolve(), rounds=1))
    (tmp_path / "stages.json").write_text(json.dumps({stage: [1.0, 2] for stage in large.STAGES}))
    assert large.stages("m", "float32", tmp_path, 8, 1)["train"] == [1.0, 2]
    with pytest.raises(SystemExit, match="other options"):
        large.stages("m", "float32", tmp_path, 8, 20)
