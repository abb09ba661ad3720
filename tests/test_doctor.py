"""What a run will cost: the arithmetic with literal numbers, the counting on a stand-in, the knobs that help."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tests.conftest import tiny_model
from unsay import probes
from unsay.cli.app import app
from unsay.cli.costs import size
from unsay.config import Recipe, TrainConfig, load
from unsay.doctor.advice import advise
from unsay.doctor.cost import Costs, Work, fit
from unsay.doctor.machine import Machine
from unsay.doctor.memory import SLACK, Sizes, memory
from unsay.doctor.pilot import Attack, Stage
from unsay.doctor.shallow import stretched
from unsay.doctor.standin import Voice, stand_in
from unsay.doctor.tape import Asked, taped
from unsay.doctor.tracker import live_bytes
from unsay.lm.model import load as load_model
from unsay.lm.reading import habits
from unsay.lm.sample import Draw, sample
from unsay.lm.subject import Prompt, Subject, row_logprobs
from unsay.store.clock import duration
from unsay.types import Answer, Case, Finding

GB = 10**9


# -- the cost model ----------------------------------------------------------------------------------------------------


def test_the_fit_finds_the_costs_that_made_the_measurements():
    def seconds(work: Work) -> float:
        return 0.5 * work["micro-batch"] + 0.01 * work["trained token"] + 2.0 * work["update"]

    works = [Work({"micro-batch": parts, "trained token": 10 * n, "update": 1}) for n, parts in ((2, 1), (8, 1), (8, 2))]
    found = fit([(work, seconds(work)) for work in works])
    assert found["micro-batch"] == pytest.approx(0.5)
    assert found["trained token"] == pytest.approx(0.01)
    assert found["update"] == pytest.approx(2.0)
    assert found["decode step"] == 0  # not measured


def test_no_cost_is_negative():
    # Twice the tokens in less time: noise, not a token that gives time back.
    found = fit([(Work({"trained token": 20}), 3.0), (Work({"trained token": 40, "update": 1}), 2.0)])
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


TRAIN = Stage("train", {}, frozenset({Asked(100, 10, 200)}), step_tokens=2000)


def test_training_holds_weights_copy_moments_and_the_larger_of_its_moments():
    found = memory(TRAIN, Recipe(), sizes(), reference=True)
    assert found.stays == {"libraries": 0.5 * GB, "weights": 4 * GB, "reference_copy": 4 * GB, "optimizer": 8 * GB}
    # The gradients (4 GB) and a matrix's temporaries outweigh the activations of 2000 tokens (2 GB).
    assert found.moments["update"] == pytest.approx(SLACK * (4 * GB + 8 * 10**7))
    assert found.moments["backward pass"] == pytest.approx(SLACK * (2000 * 10**6 + 16 * 10**6))
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


def test_an_attack_trains_a_whole_copy_or_adapters():
    audit = replace(TRAIN, name="audit after", attacks={"mine": Attack(tokens=2000)})
    whole = memory(audit, Recipe(), sizes(), reference=False)
    small = memory(replace(audit, attacks={"mine": Attack(tokens=2000, rank=8)}), Recipe(), sizes(), reference=False)
    assert whole.moment == "mine"
    assert whole.moments["mine"] > 3 * 4 * GB  # the copy and two moments, gradients on top
    assert small.moments["mine"] < 4 * GB


def test_a_copy_in_few_bits_lies_beside_the_model():
    audit = replace(TRAIN, name="audit after", attacks={"mine": Attack(few_bits=1.0)})
    found = memory(audit, Recipe(), sizes(), reference=False)
    assert found.moments["mine"] == pytest.approx(0.9 * GB + found.moments["sampling"])


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
    stage = Stage("record", {"replay": Work({"decode step": 90}), "answers": Work({"decode step": 10})})
    recipe = load(None, ["record.replay=100"])
    given = advise(recipe, machine(100 * GB), sizes(), Costs({"decode step": 1.0}, {}), [stage], False, {})
    assert [(one.setting, one.saves) for one in given] == [("record.replay=50", 45.0)]


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


SAID = [Answer((7, 8, 9, 2), "abc", True), Answer((7, 5, 2), "ab", True)]


def test_a_stand_in_says_what_it_is_told_and_is_counted(tmp_path, encoder):
    recipe = stand_in(load(None, ["sample.rows=4"]), encoder, len(encoder.tokenizer), tmp_path)
    model, _ = load_model(recipe.model)
    voice = Voice(len(encoder.tokenizer), {"q?": [replace(answer, ids=(*answer.ids[:-1], encoder.end)) for answer in SAID]})
    voice.know(encoder, ["q?"])
    prompt = encoder.prompt("q?")
    habits(model)  # what it honours is found out once
    with taped(voice) as tape:
        ((greedy,), sampled) = sample(model, encoder, [Draw("a", prompt), Draw("a", prompt, 4, 1.0)], recipe.sample)
    work = tape.take()
    assert greedy.ids == (7, 8, 9, encoder.end)  # the first
    assert {answer.ids for answer in sampled} <= {(7, 8, 9, encoder.end), (7, 5, encoder.end)}
    # Five rows do not fit into four: two batches. The last token of a row needs no further step.
    assert tape.asked == {Asked(1, 1, len(prompt) + 80), Asked(4, 1, len(prompt) + 80)}
    assert work["read batch"] == 2
    assert 4 <= work["decode step"] <= 6
    assert work["drawn token"] == work["decoded token"] - 3 + 4


def test_a_begun_answer_is_only_finished(encoder):
    voice = Voice(100, {"q?": SAID})
    voice.know(encoder, ["q?"])
    assert voice.pool((*encoder.prompt("q?"), 7)) == [(8, 9, 2), (5, 2)]
    assert voice.pool(encoder.prompt("another?")) == [answer.ids for answer in SAID]


def test_a_model_that_has_unlearned_says_something_else(encoder):
    voice = Voice(100, {"q?": SAID}, others=[Answer((4, 2), "d", True)], unasked=[Answer((3,), "e", False)], unlearned=True)
    voice.know(encoder, ["q?"])
    assert voice.pool(encoder.prompt("q?")) == [(4, 2)]
    assert voice.pool(encoder.prompt(None))[0][:3] == (3, 3, 3)  # it never ends


def test_a_tape_counts_real_work_and_leaves_nothing_behind(model, encoder):
    rows = [encoder.pair("q?", "an answer"), encoder.pair("q?", "another")]
    with taped() as tape:
        row_logprobs(model, encoder, rows)
        sample(model, encoder, [Draw("a", encoder.prompt("q?"))], load(None, ["sample.max_new_tokens=3"]).sample)
    work = tape.take()
    width = max(len(row.context) for row in rows) + max(len(row.answer) for row in rows)
    assert work["read token"] >= 2 * width + len(encoder.prompt("q?"))
    assert work["decode step"] <= 2
    row_logprobs(model, encoder, rows)
    assert not tape.take().counts


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unsay.doctor.prices.BUDGET", 0.3)


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
replay = 4
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


@pytest.mark.parametrize("method", ["npo", "altpo"])
def test_what_is_done_once_is_counted_once(recipe: Path, quick: None, method: str):
    """Rounds cost no more sampling and scoring: all of it is done before the first."""
    work = {}
    for rounds in (2, 40):
        options = [f"method={method}", f"train.rounds={rounds}", 'audit.probes=["greedy"]']
        found = json.loads(doctor(recipe, "--json", *(part for one in options for part in ("--set", one))))
        work[rounds] = next(stage["counts"] for stage in found["stages"] if stage["name"] == "train")
    assert work[40]["read batch"] - work[2]["read batch"] == 38  # the guards look at the model after each round
    if method == "altpo":
        assert work[2]["decode step"] == work[40]["decode step"] > 0
    assert work[40]["update"] == 20 * work[2]["update"]


@dataclass(frozen=True)
class Twice:
    """A probe of somebody else's: asks every question twice, and trains nothing."""

    def __call__(self, subject: Subject, case: Case) -> list[Finding]:
        prompts = [Prompt(example.id, example.question) for example in case.corpus.forget]
        subject.ask(prompts)
        subject.ask(prompts)
        return []


def test_a_probe_from_outside_is_counted(recipe: Path, quick: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(probes.TABLE, "twice", f"{__name__}:Twice")
    found = json.loads(doctor(recipe, "--json", "--set", 'audit.probes=["twice"]'))
    audit = next(stage for stage in found["stages"] if stage["name"] == "audit after")
    assert list(audit["parts"]) == ["twice"]
    assert audit["counts"]["read batch"] == 2


def test_many_questions_are_counted_from_few(recipe: Path, quick: None):
    rows = [{"question": f"Where does person {i} live?"} for i in range(60)]
    (recipe.parent / "forget.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = json.loads(doctor(recipe, "--json", "--set", 'audit.probes=["greedy"]'))
    train = next(stage for stage in found["stages"] if stage["name"] == "train")
    assert train["counts"]["update"] == pytest.approx(2 * 30)


def doctor(recipe: Path, *more: str) -> str:
    result = CliRunner().invoke(app, ["doctor", str(recipe), *more])
    assert result.exit_code == 0, result.output
    return result.stdout


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
