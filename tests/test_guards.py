"""Guards of training: what is not finite moves nothing, held-out rows are watched, and what collapsed is not shipped."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from tests.conftest import small_run, tiny_model
from tests.test_train import begin, finish, interrupted
from unsay.config import ConfigError, Recipe, load
from unsay.lm.encode import Encoder
from unsay.lm.model import answer_logprobs, fingerprint
from unsay.lm.rows import Batch
from unsay.record.recorded import read_recorded
from unsay.store.files import read_jsonl
from unsay.store.folder import RunFolder
from unsay.store.manifest import Checkpoint, Skipped, WatchedRows
from unsay.train import resume, train
from unsay.train.guards import Aside, Guard, Seen, set_aside
from unsay.train.monitor import finite_or_none
from unsay.train.step import Weights, optimizer_step
from unsay.types import Corpus, Pair

ENCLOSED = ("method=gd", "train.rounds=4")


@pytest.fixture(scope="module")
def settings(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """As in test_train, with retain rows enough to set some aside (a quarter is held out by the corpus itself)."""
    return [*small_run(tiny_folder, tmp_path_factory.mktemp("rows"), forget=4, retain=240), *ENCLOSED]


def steps_of(folder: RunFolder) -> list[dict[str, object]]:
    return read_jsonl(folder.steps_file)


def spoilt(monkeypatch: pytest.MonkeyPatch, when: Iterator[bool]) -> None:
    """GD's loss is NaN at the steps that `when` names; each step is one batch."""
    from unsay.methods.gradient import GradientDifference

    monkeypatch.setattr("unsay.train.step.less_padded", lambda rows: [rows])

    whole = GradientDifference.loss

    def loss(self: GradientDifference, model: PreTrainedModel, reference: None, batch: Batch) -> dict[str, Tensor]:
        terms = whole(self, model, reference, batch)
        return {**terms, "forget": terms["forget"] * math.nan} if next(when) else terms

    monkeypatch.setattr(GradientDifference, "loss", loss)


# -- one step ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_step_that_is_not_finite_is_as_if_it_had_not_been(encoder: Encoder, dtype: torch.dtype, what: str):
    """Two steps, and the same two with a spoilt one of two micro-batches between them: weights and moments are equal to the bit."""
    rows = [encoder.pair(f"What is {i}?", f"It is {i}.") for i in range(4)]

    def after(kinds: list[str]) -> tuple[dict[str, Tensor], list[dict[str, Tensor]], list[str | None]]:
        model = tiny_model().to(dtype)
        weights, found = Weights(model), []
        optimizer = torch.optim.AdamW(weights.exact.values(), lr=1e-2)
        for number, kind in enumerate(kinds):
            calls = iter(range(2))

            def loss(batch: Batch, kind: str = kind, calls: Iterator[int] = calls) -> dict[str, Tensor]:
                value = batch.mean(-answer_logprobs(model, batch), "retain")
                second = next(calls) == 1
                if kind == "loss" and second:
                    value = value * math.nan
                if kind == "gradient" and second:
                    value.register_hook(lambda gradient: gradient * math.inf)
                return {"retain": value}

            found.append(optimizer_step(Accelerator(cpu=True), weights, optimizer, encoder, rows, loss, parts=2, dropout=number).skipped)
        state = [value for _, value in sorted(optimizer.state_dict()["state"].items())]
        tensors = {**{name: p.detach() for name, p in model.named_parameters()}, **{f"exact {k}": v for k, v in weights.exact.items()}}
        return tensors, state, found

    straight, spoilt = after(["", ""]), after(["", what, ""])
    assert (straight[2], spoilt[2]) == ([None, None], [None, what, None])
    assert all(torch.equal(spoilt[0][name], tensor) for name, tensor in straight[0].items())
    assert all(torch.equal(one[key], other[key]) for one, other in zip(straight[1], spoilt[1], strict=True) for key in one)


def test_the_log_holds_no_number_that_is_none():
    assert finite_or_none({"loss": math.nan, "lr": 0.5, "grad_norm": math.inf, "step": 3}) == {
        "loss": None,
        "lr": 0.5,
        "grad_norm": None,
        "step": 3,
    }


# -- runs ----------------------------------------------------------------------------------------------------------------


def test_a_skipped_step_is_logged_and_training_goes_on(tmp_path, settings, monkeypatch):
    spoilt(monkeypatch, (number == 2 for number in range(100)))
    _, folder = finish_in(tmp_path / "run", settings)
    lines = steps_of(folder)
    assert [line.get("skipped") for line in lines] == [None, None, "loss", *[None] * 5]
    assert lines[2]["loss"] is None
    assert lines[2]["grad_norm"] is None
    assert folder.manifest().skipped == Skipped(loss=1, gradient=0)


def finish_in(path: Path, settings: list[str], *more: str) -> tuple[Recipe, RunFolder]:
    recipe, folder = begin(path, settings, *more)
    train(recipe, folder)
    return recipe, folder


def test_skips_in_a_row_end_the_run_and_the_last_good_state_stays(tmp_path, settings, monkeypatch):
    """Two steps a round: the first round is good, then four are skipped, the third round of them never ends."""
    spoilt(monkeypatch, (number >= 2 for number in range(100)))
    recipe, folder = begin(tmp_path / "run", settings, "train.max_skipped=3", "model.dtype=bfloat16")
    with pytest.raises(FloatingPointError) as error:
        train(recipe, folder)
    said = str(error.value)
    for part in (
        "ended at step 5: ",
        "the loss was not finite",
        "3 steps in a row",
        "round 2 ",
        "train.learning_rate (now 0.001)",
        "float32",
    ):
        assert part in said
    assert "secret" not in said
    assert not folder.checkpoint.exists()
    assert [line.get("skipped") for line in steps_of(folder)] == [None, None, "loss", "loss", "loss"]
    # What is left on the disk is the first round's work: the second moved nothing.
    model = tiny_model().to(torch.bfloat16)
    weights = Weights(model)
    progress = resume.restore(folder, weights, torch.optim.AdamW(weights.exact.values()), 0)
    assert (progress.round, progress.seen.in_a_row, len(progress.log)) == (2, 2, 4)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights.exact.values())


def test_a_run_whose_every_step_is_skipped_ships_nothing(tmp_path, settings, monkeypatch):
    spoilt(monkeypatch, (True for _ in range(100)))
    recipe, folder = begin(tmp_path / "run", settings, "train.rounds=1")
    with pytest.raises(FloatingPointError, match="the loss was not finite in any step"):
        train(recipe, folder)
    assert not folder.checkpoint.exists()


def test_a_rate_that_breaks_the_model_ends_the_run_and_the_broken_weights_are_not_saved(tmp_path, settings):
    recipe, folder = begin(tmp_path / "run", settings, "train.learning_rate=1e20", "train.warmup_rounds=0")
    with pytest.raises(FloatingPointError, match=r"No round was saved before.*lower train.learning_rate \(now 1e\+20\)"):
        train(recipe, folder)
    assert not folder.state.exists()


@pytest.mark.parametrize("watched", [64, 0])
def test_a_model_that_is_broken_from_the_start_is_told_before_the_first_step(tmp_path, settings, monkeypatch, watched):
    recipe, folder = begin(tmp_path / "run", settings, f"watch.rows={watched}")
    broken = tmp_path / "broken"
    model = tiny_model()
    with torch.no_grad():
        model.model.norm.weight.fill_(3e38)  # finite itself
    model.save_pretrained(broken)
    for path in Path(recipe.model.name).glob("tokenizer*"):
        (broken / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr("unsay.train.loop.target_model_name", lambda recipe, folder: str(broken))
    with pytest.raises(FloatingPointError, match=r"step 0: before the first step the model's loss is not finite\. No round was saved"):
        train(recipe, folder)


def test_resumed_equals_straight_with_every_guard_on(tmp_path, settings):
    more = (
        "gd.retain_weight=0.1",
        "train.learning_rate=3e-3",
        "watch.limit=0.05",
        "watch.patience=0",
    )
    straight = finish(tmp_path / "straight", settings, *more)
    folder = interrupted(tmp_path / "resumed", settings, *more)
    assert folder.manifest().checkpoint.fingerprint == straight
    other = RunFolder(tmp_path / "straight")
    assert folder.manifest().watch == other.manifest().watch
    assert [{**line, "seconds": 0} for line in steps_of(folder)] == [{**line, "seconds": 0} for line in steps_of(other)]
    assert folder.manifest().watch.shipped == 2


# -- what is watched -----------------------------------------------------------------------------------------------------


def test_watched_rows_are_never_drawn_and_the_audit_does_not_ask_them_where_it_need_not():
    retain = tuple(Pair(f"r{i}", f"Question {i // 2 if i < 4 else i}?", f"Answer {i}.") for i in range(402))
    corpus = Corpus("x", (), retain, utility={"retain": retain[:100]}, neighbours=retain[100:200])
    aside = set_aside(corpus, 64, seed=0)
    assert len(aside.watched) == 40  # a tenth of the 400 questions
    assert aside.scored == 0
    assert {pair.id for pair in aside.watched} <= {pair.id for pair in retain[200:]}
    assert not {pair.question for pair in aside.watched} & {pair.question for pair in aside.trained}
    assert len(aside.trained) == 362
    assert set_aside(corpus, 20, seed=0).watched == tuple(p for p in aside.watched if p in set_aside(corpus, 20, seed=0).watched)
    assert set_aside(corpus, 64, seed=1).watched != aside.watched


def test_where_the_audit_asks_all_rows_that_is_said_and_few_rows_are_all_trained_on():
    retain = tuple(Pair(f"r{i}", f"Question {i}?", "Yes.") for i in range(160))
    aside = set_aside(Corpus("x", (), retain, utility={"retain": retain}), 64, seed=0)
    assert (len(aside.watched), aside.scored) == (16, 16)
    few = Corpus("x", (), retain[:159], utility={"retain": retain[:159]})
    assert set_aside(few, 64, seed=0) == Aside((), few.retain)
    assert set_aside(Corpus("x", (), retain), 0, seed=0).watched == ()


def test_nothing_is_watched_where_there_is_nothing_to_watch(tmp_path, settings):
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join(json.dumps({"question": f"What is fact {i}?", "answer": f"It is {i}."}) for i in range(20)))
    _, folder = finish_in(tmp_path / "run", settings, f'files.retain="{few}"')
    assert folder.manifest().watch == WatchedRows(0)
    assert not any("heldout" in line for line in steps_of(folder))


def test_the_curve_is_in_the_log_and_in_the_manifest(tmp_path, settings):
    recipe, folder = finish_in(tmp_path / "run", settings, "watch.every=3", "train.save_every=4")
    watch = folder.manifest().watch
    assert [rounds for rounds, _ in watch.rises] == [3, 4]  # the last round is saved, so it is looked at
    assert (watch.shipped, watch.within, watch.ended) == (4, True, None)
    assert [(line["round"], line["rise"]) for line in steps_of(folder) if "rise" in line] == [(r - 1, rise) for r, rise in watch.rises]
    # Measured anew, from the checkpoint and the vault alone.
    aside = set_aside(read_recorded(folder).corpus, recipe.watch.rows, recipe.seed)
    assert len(aside.watched) == watch.rows > 16
    model = AutoModelForCausalLM.from_pretrained(folder.checkpoint).eval()
    from unsay.lm.model import load as load_model

    _, encoder = load_model(recipe.model)
    batch = encoder.batch([encoder.pair(pair.question, pair.answer) for pair in aside.watched])
    with torch.no_grad():
        loss = -answer_logprobs(model, batch).sum() / batch.mask.sum()
    assert float(loss) == pytest.approx(watch.before + watch.rises[-1][1], abs=1e-4)


def test_a_loss_that_stays_above_the_limit_ends_training_and_the_round_within_it_is_shipped(tmp_path, settings):
    """A steep rate after a gentle first round: rise stays above the limit, so round 1 is what is shipped."""
    gentle = begin_and_cut(tmp_path, settings)
    (first, *_), rises = gentle, [rise for _, rise in gentle]
    assert max(rises) == rises[-1] > rises[0]
    limit = (rises[0] + rises[1]) / 2
    recipe, folder = begin(tmp_path / "run", settings, *STEEP, f"watch.limit={limit}", "watch.patience=2")
    kept: dict[int, str] = {}

    def look(model: PreTrainedModel, encoder: Encoder, rounds: int, cost: object) -> bool:
        kept[rounds] = fingerprint(model)
        return True

    train(recipe, folder, watch=look)
    manifest = folder.manifest()
    assert manifest.checkpoint == Checkpoint(kept[1], 1)
    assert (manifest.watch.ended, manifest.watch.shipped, manifest.watch.within) == (3, 1, True)
    assert first[0] == 1
    assert len(kept) == 2  # the third look ended it
    best, last = (load_file(folder.state / name) for name in ("best-1.safetensors", "round-3/weights.safetensors"))
    assert any(not torch.equal(best[name], last[name]) for name in best)
    rest = folder.state / "round-1"  # as a death leaves it after the weights were moved out and before all is removed
    rest.mkdir()
    (rest / "optimizer.pt").write_bytes(b"large")
    resume.keep_last(folder)
    assert not rest.exists()
    assert (folder.state / "best-1.safetensors").exists()


STEEP = ("method=ga", "train.rounds=4", "train.learning_rate=3e-3", "train.schedule=constant", "train.warmup_rounds=0")


def begin_and_cut(tmp_path: Path, settings: list[str]) -> list[list[float]]:
    _, folder = finish_in(tmp_path / "all", settings, *STEEP, "watch.limit=1e9")
    assert not list(folder.state.glob("best*"))  # the last is the best: one file is enough
    assert folder.manifest().watch.shipped == 4
    return folder.manifest().watch.rises


# -- decisions -----------------------------------------------------------------------------------------------------------


def guard(encoder: Encoder, *more: str, losses: tuple[float, ...] = ()) -> Guard:
    """A guard whose watched loss is, one look after another, as given; 0 before."""
    recipe = load(None, ["watch.limit=0.5", *more])
    made = Guard(recipe, encoder, Aside((Pair("a", "Q?", "A."),), ()), [], Seen())
    found = iter(losses)
    made._loss = lambda model, complaint: next(found)  # type: ignore[method-assign]
    return made


@pytest.mark.parametrize(
    ("rises", "saved", "shipped", "within"),
    [
        ((0.1, 0.2, 0.3), (1, 2, 3), 3, True),  # within: the last, though the first rose least
        ((0.1, 0.2, 0.9), (1, 2, 3), 2, True),  # a collapse at the end: the round before
        ((0.1, 0.9, 0.3), (1, 2, 3), 3, True),  # one that passes is no harm
        ((0.9, 0.7, 0.8), (1, 2, 3), 2, False),  # none within: the one that rose least
        ((0.1, 0.2, 0.9), (1, 3), 1, True),  # only what was saved can be shipped
        ((0.1, 0.2, 0.9), (), 3, False),  # nothing was
    ],
)
def test_which_round_is_shipped(encoder, rises, saved, shipped, within):
    one = guard(encoder, losses=rises)
    best = [one.saving(rounds) for rounds in range(1, 4) if one.look(None, rounds, True) and rounds in saved]
    assert one.shipped(3) == shipped
    found = one.finish(3)[0]
    assert (found.shipped, found.within) == (shipped, within)
    assert not saved or best[saved.index(shipped)]  # its weights were written as the best
    last = guard(encoder, "watch.keep=last", losses=rises)
    assert [last.saving(rounds) for rounds in range(1, 4) if last.look(None, rounds, True)] == [True] * 3
    assert last.shipped(3) == 3


def test_patience_counts_looks_in_a_row(encoder):
    one = guard(encoder, "watch.patience=2", losses=(0.9, 0.1, 0.9, 0.9))
    seen = [one.ended for rounds in range(1, 5) if one.look(None, rounds, False)]
    assert seen == [False, False, False, True]
    forever = guard(encoder, "watch.patience=0", losses=(0.9,) * 9)
    assert not any(forever.ended for rounds in range(9) if forever.look(None, rounds, False))


def test_a_round_that_comes_close_to_the_limit_is_saved(encoder):
    one = guard(encoder, losses=(0.25, 0.26, 0.5, 0.51, 0.1))
    assert [one.close(rounds) for rounds in range(1, 6) if one.look(None, rounds, False)] == [False, True, True, False, False]
    assert not one.close(6)  # not looked at
    assert not guard(encoder).close(1)


@pytest.mark.parametrize("bad", ["watch.keep=first", "watch.every=0", "watch.rows=-1", "train.max_skipped=0"])
def test_knobs_that_make_no_sense_are_refused(bad):
    with pytest.raises(ConfigError, match=bad.partition("=")[0].replace(".", r"\.") + "|train"):
        load(None, [bad])
