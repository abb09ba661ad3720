"""Runs that must be equal are equal to the bit: resumed and straight, with and without truth, GD without its retain loss and GA."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from tests.conftest import small_run
from unsay.config import ConfigError, Recipe, load
from unsay.lm.adapters import without_adapters
from unsay.lm.model import fingerprint
from unsay.lm.model import load as load_model
from unsay.lm.rows import Row
from unsay.lm.sample import Draw, sample
from unsay.methods.pmc import PartialModelCollapse
from unsay.record import record, start
from unsay.record.earlier import EarlierRow
from unsay.record.recorded import read_recorded, read_truth
from unsay.record.replay import Said
from unsay.run import Watchers, run_train
from unsay.store.clock import Cost
from unsay.store.files import read_jsonl, sha256
from unsay.store.folder import RunFolder
from unsay.train import loop, train
from unsay.train.data import TrainingData
from unsay.train.guards import Aside
from unsay.train.ledger import warning
from unsay.train.loop import _share_of_peak
from unsay.train.sharing import SharedRows
from unsay.types import Answer, Pair


@pytest.fixture(scope="module")
def settings(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return [
        *small_run(tiny_folder, tmp_path_factory.mktemp("rows"), forget=5, retain=8),
        "sample.max_new_tokens=16",
        "record.answers=3",
        "train.rounds=4",
        "pmc.preset=paper",
        "pmc.samples=3",
    ]


def begin(path: Path, settings: list[str], *more: str) -> tuple[Recipe, RunFolder]:
    recipe, folder = load(None, [*settings, *more]), RunFolder(path)
    start(recipe, folder)
    record(recipe, folder)
    return recipe, folder


def finish(path: Path, settings: list[str], *more: str) -> str:
    recipe, folder = begin(path, settings, *more)
    train(recipe, folder)
    return folder.manifest().checkpoint.fingerprint


def stopped(model: object, encoder: object, rounds: int, cost: object) -> bool:
    if rounds == 2:
        raise KeyboardInterrupt
    return True


def interrupted(path: Path, settings: list[str], *more: str) -> RunFolder:
    """A run whose training was stopped after its second round and taken up again."""
    recipe, folder = begin(path, settings, *more)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, folder, watch=stopped)
    assert not folder.checkpoint.exists()
    train(recipe, folder)
    return folder


def test_a_run_of_a_version_with_a_controller_is_read_and_goes_on(tmp_path, settings, caplog):
    """Such a run had the knobs in its recipe, switched off, and their memory in every saved state."""
    straight = finish(tmp_path / "straight", settings, "train.save_every=1")
    recipe, folder = begin(tmp_path / "old", settings, "train.save_every=1")
    text = folder.recipe_file.read_text()
    old = "control = false\nband = [0.02, 0.1]\ngain = 1.25\nmost = 8.0\n"
    folder.recipe_file.write_text(text.replace("[watch]\n", f"[watch]\n{old}"))
    assert folder.recipe() == recipe
    with pytest.raises(KeyboardInterrupt):
        train(recipe, folder, watch=stopped)
    for state in folder.state.glob("round-*"):
        progress, sums = (json.loads((state / name).read_text()) for name in ("progress.json", "sums.json"))
        progress["seen"]["factor"] = 1.0
        (state / "progress.json").write_text(json.dumps(progress))
        sums["progress.json"] = sha256(state / "progress.json")
        (state / "sums.json").write_text(json.dumps(sums))
    train(folder.recipe(), folder)
    assert "damaged" not in caplog.text
    assert folder.manifest().checkpoint.fingerprint == straight
    folder.recipe_file.write_text(folder.recipe_file.read_text().replace("control = false", "control = true"))
    with pytest.raises(ConfigError, match=r"watch\.control"):
        folder.recipe()


def test_the_vault_gives_back_what_was_written(tmp_path, settings):
    _, folder = begin(tmp_path / "run", settings)
    corpus = read_recorded(folder).corpus
    assert [example.question for example in corpus.forget] == [f"What is secret number {i}?" for i in range(5)]
    assert read_truth(folder) is None
    baseline = read_recorded(folder).baseline
    assert set(baseline) == {example.id for example in corpus.forget}
    assert all(len([*one.answers]) == 3 for one in baseline.values())
    assert (folder.vault.stat().st_mode & 0o777, (folder.vault / "corpus.jsonl").stat().st_mode & 0o777) == (0o700, 0o600)


GUARDED = ("pmc.preset=guarded", "record.replay=8", "train.resample=round", "model.freeze_embeddings=true", "pmc.max_leak=1.0")


LORA = (*GUARDED, "lora.rank=4", "lora.dropout=0.1", "train.gradient_checkpointing=true")
HALF = ("model.dtype=bfloat16",)
COUNTERFACTUALS = (*GUARDED, "pmc.counterfactuals=2")


KINDS = {"paper": (), "gd": ("method=gd",), "guarded": GUARDED, "counterfactuals": COUNTERFACTUALS, "lora": LORA, "half": HALF}


@pytest.mark.parametrize("more", KINDS.values(), ids=KINDS)
def test_resumed_equals_straight(tmp_path, settings, more):
    straight = finish(tmp_path / "straight", settings, *more)
    folder = interrupted(tmp_path / "resumed", settings, *more)
    assert folder.manifest().checkpoint.fingerprint == straight
    lines = read_jsonl(folder.steps_file)
    other = read_jsonl(RunFolder(tmp_path / "straight").steps_file)
    assert [{**line, "seconds": 0} for line in lines] == [{**line, "seconds": 0} for line in other]
    assert folder.manifest().exposure == RunFolder(tmp_path / "straight").manifest().exposure


def tell(folder: RunFolder, answer: str) -> None:
    """Put that answer to every forget question into the vault, as its truth."""
    rows = ({"id": e.id, "answer": answer, "wordings": [], "wrong": []} for e in read_recorded(folder).corpus.forget)
    folder.texts.write("truth", rows)


@pytest.mark.parametrize("more", [(), GUARDED, COUNTERFACTUALS], ids=["paper", "guarded", "counterfactuals"])
def test_pmc_never_sees_the_truth(tmp_path, settings, more):
    """Promise 1: with the truth absent, present, or replaced by noise the checkpoint is the same to the bit."""
    prints = []
    for name in ("absent", "present", "noise"):
        recipe, folder = begin(tmp_path / name, settings, *more)
        if name != "absent":
            tell(folder, "The truth." if name == "present" else "xqzw")
        train(recipe, folder)
        prints.append(folder.manifest().checkpoint.fingerprint)
    assert prints[0] == prints[1] == prints[2]


def test_a_method_that_needs_answers_does_see_it(tmp_path, settings):
    """The test above can fail: GA on the same folders moves with the truth."""
    prints = []
    for answer in ("The truth.", "xqzw"):
        recipe, folder = begin(tmp_path / answer[:4], settings, "method=ga")
        tell(folder, answer)
        train(recipe, folder)
        prints.append(folder.manifest().checkpoint.fingerprint)
    assert prints[0] != prints[1]


def test_gd_without_its_retain_loss_is_ga(tmp_path, settings):
    gd = finish(tmp_path / "gd", settings, "method=gd", "train.retain_rows=0", "train.replay_rows=0", "train.weight_decay=0.0")
    ga = finish(tmp_path / "ga", settings, "method=ga", "train.weight_decay=0.0")
    assert gd == ga


def test_accumulation_changes_nothing_but_rounding(tmp_path, settings):
    steps = []
    for name, more in (("whole", ["train.batch=4"]), ("parts", ["train.batch=1", "train.accumulation=4"])):
        recipe, folder = begin(tmp_path / name, settings, "method=idk", "train.rounds=2", *more)
        train(recipe, folder)
        steps.append(read_jsonl(folder.steps_file))
    assert len(steps[0]) == len(steps[1]) == 4
    for whole, parts in zip(*steps, strict=True):
        assert whole["loss"] == pytest.approx(parts["loss"], abs=2e-4)
        assert whole["grad_norm"] == pytest.approx(parts["grad_norm"], rel=1e-3)


@pytest.mark.parametrize("more", [(), GUARDED, COUNTERFACTUALS], ids=["paper", "guarded", "counterfactuals"])
def test_a_step_is_the_same_however_it_is_split(tmp_path, settings, tiny_folder, more):
    """There are no data workers; the split into micro-batches is all that may differ. What is drawn is the same, exactly, and
    the weights move to the same place but for rounding."""
    drawn = ("targets", "no_target", "leak_mean", "leak_max", "temperature_mean", "sampled", "lr")
    lines, weights = [], []
    for batch, parts in ((8, 1), (1, 8)):
        split = (f"train.batch={batch}", f"train.accumulation={parts}", "train.rounds=2")
        recipe, folder = begin(tmp_path / f"{batch}x{parts}", settings, *more, *split)
        train(recipe, folder)
        lines.append(read_jsonl(folder.steps_file))
        weights.append(torch.cat([w.flatten() for w in load_file(folder.checkpoint / "model.safetensors").values()]))
    untouched = torch.cat([w.flatten() for w in load_file(tiny_folder / "model.safetensors").values()])
    moved = float((weights[0] - untouched).norm())
    assert moved > 0
    whole, split_up = lines
    assert [split_up[0][key] for key in drawn] == [whole[0][key] for key in drawn]
    assert [line["loss"] for line in split_up] == pytest.approx([line["loss"] for line in whole], abs=5e-5)
    assert float((weights[1] - weights[0]).norm()) < 1e-4 * moved


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_adapters_train_alone_and_the_checkpoint_answers_as_they_do(tmp_path, settings, tiny_folder, dtype):
    """Fluency reads the untouched model in every round: with adapters that is the model in training, with them off."""
    recipe, folder = begin(tmp_path / "run", settings, *LORA, f"model.dtype={dtype}", "pmc.rewards={overlap=1.0, fluency=1.0}")
    source, encoder = load_model(recipe.model, str(tiny_folder))
    prompts = [Draw(example.id, encoder.prompt(example.question)) for example in read_recorded(folder).corpus.forget]
    last: dict[str, object] = {}

    def look(model: PreTrainedModel, *_: object) -> bool:
        last["answers"] = sample(model, encoder, prompts, recipe.sample)
        with without_adapters(model):
            last["off"] = sample(model, encoder, prompts, recipe.sample)
        last["base"] = {name.replace(".base_layer", ""): p.detach().clone() for name, p in model.named_parameters() if "lora_" not in name}
        return True

    train(recipe, folder, watch=look)
    assert last["off"] == sample(source, encoder, prompts, recipe.sample) != last["answers"]
    weights = dict(source.named_parameters())
    assert last["base"].keys() == weights.keys()
    assert all(torch.equal(parameter, weights[name]) for name, parameter in last["base"].items())
    merged = AutoModelForCausalLM.from_pretrained(folder.checkpoint, dtype=dtype).eval()
    if dtype == "float32":  # merged weights are rounded once more in half precision, which some processors show in an answer
        assert sample(merged, encoder, prompts, recipe.sample) == last["answers"]
    assert fingerprint(merged) == folder.manifest().checkpoint.fingerprint != fingerprint(source)
    assert (folder.adapter / "adapter_model.safetensors").stat().st_size < (folder.checkpoint / "model.safetensors").stat().st_size


def test_a_watch_sees_every_round_its_cost_and_after_a_stop_the_saved_one_again(tmp_path, settings):
    recipe, folder = begin(tmp_path / "run", settings, "train.rounds=5", "train.save_every=2")
    seen: list[tuple[int, Cost]] = []

    def look(model: object, encoder: object, rounds: int, cost: Cost) -> bool:
        seen.append((rounds, cost))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return True

    with pytest.raises(KeyboardInterrupt):
        train(recipe, folder, watch=look)
    train(recipe, folder, watch=look)
    assert [rounds for rounds, _ in seen] == [1, 2, 3, 2, 3, 4, 5]
    costs = [cost.cpu_seconds for _, cost in seen[3:]]
    assert costs == sorted(costs)
    assert costs[0] > seen[0][1].cpu_seconds  # it goes on from what was spent before the stop


def test_a_watch_may_end_training(tmp_path, settings):
    recipe, folder = begin(tmp_path / "run", settings, "train.rounds=5")
    train(recipe, folder, watch=lambda model, encoder, rounds, cost: rounds < 2)
    assert folder.manifest().checkpoint.rounds == 2
    assert folder.checkpoint.exists()


def test_passes_train_on_the_targets_of_a_round_again_with_other_retain_rows(tmp_path, settings):
    recipe, folder = begin(tmp_path / "once", settings, "train.rounds=2", "train.resample=round")
    train(recipe, folder)
    twice, again = begin(tmp_path / "twice", settings, "train.rounds=2", "train.passes=2", "train.resample=round")
    train(twice, again)
    one, two = (read_jsonl(found.steps_file) for found in (folder, again))
    assert [line["round"] for line in one] == [0] * 3 + [1] * 3  # five questions, two a step
    assert [line["round"] for line in two] == [0] * 6 + [1] * 6
    assert [line["leak_mean"] for line in two[:3]] == [line["leak_mean"] for line in two[3:6]]  # the same targets
    assert [line["sampled"] for line in two[:6]] == [line["sampled"] for line in one[:3]] + [0] * 3
    first, second = (found.manifest().exposure.rounds[0] for found in (folder, again))
    assert second.targets == 2 * first.targets  # each pass is an exposure, but what was sampled and scored was so once
    assert (second.no_target, second.baseline_reads) == (first.no_target, first.baseline_reads)
    plain = SimpleNamespace(pair=lambda question, answer: question)
    data = TrainingData({}, Aside((), read_recorded(folder).corpus.retain), {}, [])
    drawn = {(n, data.retain_rows(recipe, plain, 0, n, "x")[0]) for n in range(8)}
    assert len({question for _, question in drawn}) > 2


@pytest.mark.parametrize(("loss", "near"), [("kl", 2), ("nll", 0)])
def test_a_visit_brings_the_near_misses_of_its_own_question_alone(loss: str, near: int) -> None:
    said = {key: [Said("Who?", Answer((i,), "", True), key)] for i, key in enumerate(("", "x", "y"))}
    recipe = load(None, [f"train.retain_loss={loss}", "train.near_rows=2", "train.replay_rows=1", "train.batch=1"])
    encoder = SimpleNamespace(prompt=lambda question: (9,))
    rows = TrainingData({}, Aside((), ()), said, []).retain_rows(recipe, encoder, 0, 0, "x")
    assert [row.answer for row in rows] == [(0,)] + [(1,)] * near


def test_a_visit_brings_the_beginning_of_a_text() -> None:
    """Not all of it: every row of a batch would be padded to its length, and a place that is held costs a whole vocabulary."""
    encoder, text = SimpleNamespace(prompt=lambda question: (900,) if question is None else (901,)), Answer(tuple(range(40)), "", False)
    data = TrainingData({}, Aside((), ()), {}, [], [text])
    (row,) = data.retain_rows(load(None, ["train.batch=1"]), encoder, 0, 0, "x")
    assert row == Row((900, *range(12)), tuple(range(12, 24)), "retain")


@pytest.mark.parametrize(
    "knobs",
    [
        (),
        ("train.retain_loss=nll",),
        ("train.retain_rows=0",),
        ("train.retain_rows=0", "train.shared_rows=2"),
        ("train.replay_rows=0", "train.earlier_rows=0"),
    ],
)
def test_what_is_drawn_often_is_all_that_is_drawn(knobs: tuple[str, ...]) -> None:
    """Each row at most once in two draws: else to read them all ahead would cost more than it saves."""
    made: list[Row] = []
    encoder = SimpleNamespace(
        prompt=lambda question: (9,), pair=lambda question, answer: made.append(Row((8,), (int(answer),))) or made[-1]
    )
    said = {key: [Said("Who?", Answer((10 * i + j,), "", True), key) for j in range(2)] for i, key in enumerate(("", "x", "y"))}
    earlier = [EarlierRow("What?", (), Answer((30 + i,), "", True)) for i in range(2)]
    kept = Aside((), tuple(Pair(str(i), "Where?", str(40 + i)) for i in range(4)))
    prose = [Answer(tuple(range(60 + i, 100)), "", True) for i in range(2)]
    shared = SharedRows({"x": [kept.trained[:1], kept.trained[:2]]} if "train.shared_rows=2" in knobs else {})
    data = TrainingData(dict.fromkeys(("x", "y")), kept, said, earlier, prose, shared)  # type: ignore[arg-type]
    settings = ["train.retain_loss=kl", "train.near_rows=2", "train.replay_rows=1", "train.earlier_rows=1", "train.batch=1", *knobs]
    recipe = load(None, [*settings, "train.rounds=40", "train.passes=2"])
    drawn = {row for n in range(40) for again in range(2) for key in "xy" for row in data.retain_rows(recipe, encoder, n, again, key)}
    assert set(data.drawn_often(recipe, encoder)) == drawn
    made.clear()
    assert data.drawn_often(load(None, [*settings, "train.rounds=1"]), encoder) == []
    assert len(made) <= 2, "what one visit brings, to count it"


def test_two_seeds_differ_and_one_seed_does_not(tmp_path, settings):
    first, again, other = (finish(tmp_path / name, settings, f"seed={seed}") for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert first == again != other


def test_round_and_step_resampling_visit_the_same_questions(tmp_path, settings):
    for resample in ("round", "step"):
        recipe, folder = begin(tmp_path / resample, settings, f"train.resample={resample}", "train.rounds=1")
        train(recipe, folder)
        assert folder.manifest().exposure.targets == 5


def test_a_round_of_many_questions_holds_few_targets_at_once(tmp_path, settings, monkeypatch):
    asked: list[int] = []
    plain = PartialModelCollapse.targets

    def counted(self, visits, sampler, state):
        asked.append(len(visits))
        return plain(self, visits, sampler, state)

    monkeypatch.setattr(loop, "HELD", 5)
    monkeypatch.setattr(PartialModelCollapse, "targets", counted)
    recipe, folder = begin(tmp_path / "run", settings, "train.resample=round", "train.batch=2", "train.rounds=1", "train.passes=3")
    train(recipe, folder)
    assert asked == [4, 1], "whole steps"
    assert folder.manifest().exposure.targets == 15
    steps = read_jsonl(folder.steps_file)
    assert [step.get("pass", 0) for step in steps] == [0, 0, 1, 1, 2, 2, 0, 1, 2], "every pass over those that are held"


def test_ga_is_charged_for_no_retain_row(tmp_path, settings, monkeypatch):
    def drawn(*_: object) -> list[object]:
        raise AssertionError("a row that the loss does not read")

    monkeypatch.setattr(TrainingData, "retain_rows", drawn)
    finish(tmp_path / "ga", settings, "method=ga")
    with pytest.raises(AssertionError):
        finish(tmp_path / "gd", settings, "method=gd")


def test_the_ledger_counts_what_ga_replays_and_pmc_does_not(tmp_path, settings):
    recipe, folder = begin(tmp_path / "ga", settings, "method=ga", "train.rounds=1")
    train(recipe, folder)
    exposure = folder.manifest().exposure
    assert exposure.targets == 5
    assert exposure.over_half == sum(any(c.isalnum() for c in answer) for answer in read_recorded(folder).answers.values())
    assert exposure.baseline_reads == {"loss": 5}
    recipe, folder = begin(tmp_path / "npo", settings, "method=npo", "train.rounds=2", "train.passes=3")
    train(recipe, folder)
    assert folder.manifest().exposure.baseline_reads == {"loss": 30, "reference": 5}
    assert not warning(exposure, None), "a method that trains on the answer by design"


def test_a_model_that_always_says_the_same_is_named_at_the_end(tmp_path, settings):
    told: list[str] = []
    # So cold that some samples are all the recorded answer: what is kept is what should go.
    recipe, folder = begin(tmp_path / "run", settings, "pmc.temperature=0.01", "train.learning_rate=0.0000001", "train.rounds=1")
    run_train(recipe, folder, Watchers(note=told.append))
    exposure = folder.manifest().exposure
    assert exposure.over_half > 0
    assert f"{exposure.over_half} of {exposure.targets} targets" in told[-1]
    assert "pmc.preset=guarded" in told[-1]


def test_training_says_where_a_run_was_begun_with_another_value_of_a_knob_that_is_no_more(tmp_path, settings):
    told: list[str] = []
    _, folder = begin(tmp_path / "run", settings, "train.rounds=1")
    text = folder.recipe_file.read_text()
    folder.recipe_file.write_text(f"{text}\n[refusal]\nclose = 0.3\n[diversity]\norder = 4\n[beams]\nwidth = 2\n")
    run_train(folder.recipe(), folder, Watchers(note=told.append))
    assert [said.partition(", which")[0] for said in told if "begun with" in said] == ["this run was begun with refusal.close = 0.3"]


def test_the_schedule():
    config = load(None, ["train.rounds=3", "train.warmup_rounds=1"]).train
    values = [_share_of_peak(config, step, 4) for step in range(12)]
    assert values[:4] == [0.2, 0.4, 0.6, 0.8]
    assert values[4] == 1.0
    assert values[-1] == pytest.approx(1 / 8)


def test_no_forget_question_is_an_error(tmp_path, settings):
    recipe, folder = begin(tmp_path / "run", settings)
    folder.texts.write("corpus", [{"kind": "corpus", "name": "x", "desired": []}])
    with pytest.raises(ConfigError, match="no forget question"):
        train(recipe, folder)
