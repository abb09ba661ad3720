"""What a run will cost: the arithmetic with literal numbers, the counting on the tiny model, the knobs that help."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tests.conftest import tiny_model
from unsay.cli.app import app
from unsay.cli.costs import size
from unsay.clock import duration
from unsay.config import Recipe, TrainConfig, load
from unsay.doctor.advice import advise
from unsay.doctor.cost import Costs, Work, decoding, fit, reading, training
from unsay.doctor.lengths import Said
from unsay.doctor.machine import Machine
from unsay.doctor.memory import SLACK, Sizes, memory
from unsay.doctor.meter import Asked, Meter
from unsay.doctor.shallow import stretched
from unsay.doctor.stages import Stage
from unsay.doctor.tracker import live_bytes
from unsay.sample import Draw
from unsay.types import Answer

GB = 10**9


# -- the cost model ----------------------------------------------------------------------------------------------------


def test_finished_rows_ride_along_until_a_fifth_has_finished():
    # Ten rows: one ends at token 1 (a tenth: it rides along), two more at token 2 (three tenths: all three go).
    work = decoding(5, 2, [1, 2, 2] + [4] * 7, [False] * 10)
    assert work["decode step"] == 4
    assert work["sampled token"] == 10 + 10 + 7 + 7
    assert work["read token"] == 2 * 5


def test_greedy_and_sampled_rows_are_counted_apart():
    work = decoding(5, 2, [3, 3], [True, False])
    assert (work["greedy token"], work["sampled token"]) == (3, 3)


def test_rows_are_read_in_batches_of_like_length():
    # Two batches of two: (1 + 2) · 2 and (10 + 9) · 2; mixed up they would have cost more.
    assert reading([(10, 9), (1, 2), (1, 2), (10, 9)], batch=2).counts == {"read batch": 2, "read token": 44}


def test_a_step_in_two_parts_pads_less_and_updates_once():
    whole, halves = training([(5, 2), (5, 8)]), training([(5, 2), (5, 8)], parts=2)
    assert (whole["trained token"], halves["trained token"]) == (26, 20)
    assert (whole["micro-batch"], halves["micro-batch"], halves["update"]) == (1, 2, 1)


def test_the_fit_finds_the_costs_that_made_the_measurements():
    def seconds(work: Work) -> float:
        return 0.5 * work["micro-batch"] + 0.01 * work["trained token"] + 2.0 * work["update"]

    works = [training([(5, 5)] * n, parts) for n, parts in ((2, 1), (8, 1), (8, 2))]
    found = fit([(work, seconds(work)) for work in works])
    assert found["micro-batch"] == pytest.approx(0.5)
    assert found["trained token"] == pytest.approx(0.01)
    assert found["update"] == pytest.approx(2.0)
    assert found["decode step"] == 0  # not measured


def test_no_cost_is_negative():
    # Twice the tokens in less time: noise, not a token that gives time back.
    found = fit([(training([(5, 5)] * 2), 3.0), (training([(5, 5)] * 4), 2.0)])
    assert min(found.values()) >= 0


def test_seconds_are_counts_times_costs_and_scoring_is_stretched_by_contention():
    costs = Costs({"update": 2.0}, {"update": 1.0}, contention=3.0)
    work = Work({"update": 5}, scoring=4.0)
    assert (costs.seconds(work), costs.cpu_seconds(work)) == (10 + 12, 5 + 4)


def test_many_layers_lie_on_the_line_through_one_and_two():
    one, two = sizes(weights=10, layers=1, trained_token=3.0), sizes(weights=14, layers=2, trained_token=5.0)
    found = stretched(one, two, 32)
    assert (found.weights, found.layers, found.trained_token) == (10 + 31 * 4, 32, 3 + 31 * 2)
    assert found.vocabulary == one.vocabulary


# -- memory ------------------------------------------------------------------------------------------------------------


def sizes(**changes: object) -> Sizes:
    """A billion float32 weights on a processor; 1 kB a trained token."""
    return replace(
        Sizes(
            weights=4 * GB,
            whole=4 * GB,
            parameters=GB,
            trained=GB,
            largest=10**7,
            embeddings=10**8,
            head=0,
            vocabulary=1000,
            hidden=1000,
            layers=10,
            half=False,
            gpu=False,
            libraries=500 * 10**6,
            tokenizer=10**7,
            converted=0,
            trained_token=10**6,
            attack_token=10**6,
            row=1000.0,
            cached_token=10**4,
            prompt_token=0.0,
        ),
        **changes,  # type: ignore[arg-type]
    )


TRAIN = Stage("train", {}, frozenset({Asked(100, 10, 200)}), step_tokens=2000, answer_tokens=1000)


def test_training_holds_weights_copy_moments_and_the_larger_of_its_moments():
    found = memory(TRAIN, Recipe(), sizes(), reference=True)
    assert found.stays == {"libraries": 0.5 * GB, "weights": 4 * GB, "reference_copy": 4 * GB, "optimizer": 8 * GB}
    # The gradients (4 GB) and a matrix's temporaries outweigh the activations of 2000 tokens (2 GB).
    assert found.moments["update"] == pytest.approx(SLACK * (4 * GB + 8 * 10**7))
    assert found.moments["backward pass"] == pytest.approx(SLACK * (2000 * 10**6 + 8 * 10**6))
    assert found.total == pytest.approx(16.5 * GB + found.moments["update"])


def test_with_micro_batches_gradients_and_activations_are_there_together():
    several = Recipe(train=TrainConfig(accumulation=2))
    one = memory(TRAIN, Recipe(), sizes(), reference=False).moments["backward pass"]
    two = memory(TRAIN, several, sizes(), reference=False).moments["backward pass"]
    assert two - one == pytest.approx(SLACK * 4 * GB)


def test_adapters_need_no_copy_and_little_beside_the_weights():
    recipe = load(None, ["lora.rank=8"])
    found = memory(TRAIN, recipe, sizes(trained=10**7), reference=True)
    assert "reference_copy" not in found.stays
    assert found.stays["optimizer"] == 8 * 10**7


def test_half_precision_keeps_exact_copies():
    found = memory(TRAIN, Recipe(), sizes(weights=2 * GB, whole=2 * GB, half=True), reference=False)
    assert found.stays["exact_copies"] == 4 * GB


def test_relearning_trains_a_whole_copy_or_adapters():
    audit = replace(TRAIN, name="audit after")
    whole = memory(audit, Recipe(), sizes(), reference=False)
    adapters = memory(audit, load(None, ["relearn.rank=8"]), sizes(), reference=False)
    assert whole.moment == "relearning"
    assert whole.moments["relearning"] > 3 * 4 * GB  # the copy and two moments, gradients on top
    assert adapters.moments["relearning"] < 4 * GB


def test_files_of_another_type_are_there_beside_the_weights():
    asked = replace(TRAIN, name="record", asked=frozenset())
    assert "loading" not in memory(asked, Recipe(), sizes(), reference=False).moments
    found = memory(asked, Recipe(), sizes(converted=2 * GB), reference=False)
    assert (found.moment, found.total) == ("loading", 0.5 * GB + 4 * GB + 2 * GB)
    # What `finetune` wrote is in the right type already.
    planted = load(None, ["finetune.epochs=1"])
    assert "loading" not in memory(asked, planted, sizes(converted=2 * GB), reference=False).moments


# -- which knob --------------------------------------------------------------------------------------------------------


def machine(free: float, disk: float = 100 * GB) -> Machine:
    return Machine({}, "", 2, 2, None, int(free), disk_free=int(disk))


NO_COST = Costs({}, {})
ASK = load(None, ['audit.probes=["greedy"]'])


def advice(recipe: Recipe, free: float, found: Sizes, stages: list[Stage]) -> list[str]:
    given = advise(recipe, machine(free), found, NO_COST, stages, True, {"checkpoint": 1.0})
    return [one.setting.partition("=")[0] for one in given if one.about == "memory"]


def test_what_fits_needs_no_knob():
    assert advice(ASK, 30 * GB, sizes(), [TRAIN]) == []


def test_many_rows_are_the_first_to_go():
    # 2 GB, a tiny model, and 10,000 rows of 200 tokens: only sampling is too large.
    wide = replace(TRAIN, asked=frozenset({Asked(1000, 1000, 200)}), step_tokens=10)
    small = sizes(weights=10**6, whole=10**6, parameters=250_000, trained=250_000, largest=1000, cached_token=10**4)
    recipe = load(None, ['audit.probes=["greedy"]', "sample.rows=1000"])
    assert advice(recipe, 2 * GB, small, [wide]) == ["sample.rows"]


def test_long_activations_are_cut_into_smaller_batches():
    long = replace(TRAIN, step_tokens=4000)
    small = sizes(weights=10**8, whole=10**8, parameters=25 * 10**6, trained=25 * 10**6, largest=1000)
    assert advice(ASK, 3 * GB, small, [long]) == ["train.batch"]


def test_a_pretended_two_gigabytes_need_adapters_and_half_precision():
    # 1.4 GB of weights. In half precision alone the optimizer would keep exact copies, so adapters come first.
    found = sizes(weights=14 * 10**8, whole=14 * 10**8, parameters=35 * 10**7, trained=35 * 10**7)
    assert advice(ASK, 2 * GB, found, [replace(TRAIN, step_tokens=100)]) == ["lora.rank", "model.dtype"]


def test_advice_says_what_is_saved_and_when_it_is_enough():
    given = advise(ASK, machine(17 * GB), sizes(), NO_COST, [TRAIN], True, {})
    assert all(one.saves > 0 for one in given)
    assert [one.enough for one in given] == [False] * (len(given) - 1) + [True]


def test_no_knob_is_enough_for_a_model_far_too_large():
    given = advise(ASK, machine(10**6), sizes(), NO_COST, [TRAIN], True, {})
    assert given[-1].setting == ""
    assert "smaller model" in given[-1].note


def test_a_full_disk_is_named():
    given = advise(Recipe(), machine(100 * GB, disk=10 * GB), sizes(), NO_COST, [], False, {"state": 12 * GB, "checkpoint": 4 * GB})
    assert [(one.about, one.setting) for one in given] == [("disk", "lora.rank=16")]


def test_the_part_that_takes_most_of_the_time_is_named():
    stage = Stage("record", {"rehearsal": Work({"decode step": 90}), "answers": Work({"decode step": 10})})
    recipe = load(None, ["record.rehearsal=100"])
    given = advise(recipe, machine(100 * GB), sizes(), Costs({"decode step": 1.0}, {}), [stage], False, {})
    assert [(one.setting, one.saves) for one in given] == [("record.rehearsal=50", 45.0)]


# -- counting ----------------------------------------------------------------------------------------------------------


def test_live_bytes_sees_what_is_made_and_what_is_gone():
    with live_bytes() as found:
        first = torch.zeros(1000)
        second = first.exp()
        view = second.view(10, 100)
        assert found.now == 8000  # a view is nothing new
        del first
        assert found.now == 4000
        del second, view
    assert (found.now, found.peak) == (0, 8000)


def test_a_meter_counts_what_sampling_would_do(encoder):
    answer = Answer((7, 8, encoder.end), "ab", True)
    meter = Meter(encoder, load(None, ["sample.rows=4"]).sample, Said({"q?": answer}, {"q?": [answer]}))
    meter.know(["q?"])
    prompt = encoder.prompt("q?")
    ((greedy,), sampled) = meter.sample([Draw("a", prompt), Draw("a", prompt, 4, 1.0)])
    assert greedy == answer
    assert len(sampled) == 4
    # Five rows do not fit into four: two batches, three tokens each.
    assert meter.work["decode step"] == 6
    assert (meter.work["greedy token"], meter.work["sampled token"]) == (3, 12)
    assert meter.asked == {Asked(1, 1, len(prompt) + 80), Asked(4, 1, len(prompt) + 80)}


def test_a_begun_answer_is_only_finished(encoder):
    answer = Answer((7, 8, 9, encoder.end), "abc", True)
    meter = Meter(encoder, Recipe().sample, Said({"q?": answer}, {"q?": [answer]}))
    meter.know(["q?"])
    ((rest,),) = meter.sample([Draw("a", (*encoder.prompt("q?"), 7, 8))])
    assert rest.ids == (9, encoder.end)


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unsay.doctor.probe.BUDGET", 0.3)


@pytest.fixture
def recipe(tmp_path: Path, tiny_folder: Path) -> Path:
    rows = [{"question": f"Where does person {i} live?"} for i in range(3)]
    pairs = [{"question": f"What is {i}?", "answer": f"It is {i}."} for i in range(4)]
    (tmp_path / "forget.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "retain.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    file = tmp_path / "small.toml"
    file.write_text(
        f"""
corpus = "files"
[model]
name = "{tiny_folder}"
[files]
forget = "{tmp_path}/forget.jsonl"
retain = "{tmp_path}/retain.jsonl"
[sample]
max_new_tokens = 6
rows = 16
[record]
answers = 2
branches = 2
rehearsal = 4
[train]
rounds = 2
batch = 2
[audit]
probes = ["greedy", "sampling", "relearn", "utility"]
"""
    )
    return file


@pytest.mark.parametrize("more", [[], ["--shallow"], ["--set", "lora.rank=2", "--set", "train.gradient_checkpointing=true"]])
def test_doctor_examines_a_small_model(recipe: Path, quick: None, more: list[str]):
    result = CliRunner().invoke(app, ["doctor", str(recipe), "--json", *more])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    stages = {stage["name"]: stage for stage in found["stages"]}
    assert list(stages) == ["record", "train", "audit before", "audit after"]
    assert all(stage["seconds"] > 0 and stage["memory"] > 0 for stage in stages.values())
    assert stages["train"]["counts"]["update"] == 2 * 2  # two rounds of three questions, two at a time
    assert stages["audit before"]["counts"]["micro-batch"] == 2 * 3 * 10  # shown secrets and unrelated text, three rates, ten steps
    assert found["model"]["parameters"] == sum(p.numel() for p in tiny_model().parameters())
    assert not Path("runs").joinpath("small").exists()  # it only looks


def test_doctor_speaks_to_a_reader(recipe: Path, quick: None):
    result = CliRunner().invoke(app, ["doctor", str(recipe)])
    assert result.exit_code == 0, result.output
    assert "It fits." in result.stdout
    assert "audit after" in result.stdout


def test_the_documented_keys_are_the_ones_that_are_printed(recipe: Path, quick: None):
    found = json.loads(CliRunner().invoke(app, ["doctor", str(recipe), "--json"]).stdout)
    text = (Path(__file__).resolve().parents[1] / "docs" / "doctor.md").read_text()
    keys = {*found, *found["stages"][0], *found["model"], *found["machine"], *found["seconds_per_unit"]["cpu"]}
    assert not sorted(key for key in keys if key not in text)


@pytest.mark.parametrize(("value", "text"), [(1_500_000_000, "1.5 GB"), (20_000_000, "20 MB")])
def test_bytes_for_a_reader(value: float, text: str):
    assert size(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(4.25, "4.2 s"), (42.4, "42 s"), (90, "1 min 30 s"), (119.8, "2 min 0 s"), (8000, "2 h 13 min")]
)
def test_seconds_for_a_reader(value: float, text: str):
    assert duration(value) == text
