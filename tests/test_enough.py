"""Training ends once the model tells nothing any more, and finds a rate and rows enough where the recipe leaves them to it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import small_run, tiny_model
from tests.test_guards import guard
from tests.test_train import begin, interrupted
from unsay.config import ConfigError, load
from unsay.lm.encode import Encoder
from unsay.lm.model import fingerprint
from unsay.lm.sample import Draw
from unsay.lm.sampler import Sampler
from unsay.methods import Visit
from unsay.store.files import read_jsonl
from unsay.train import monitor, train
from unsay.train.data import TrainingData
from unsay.train.enough import shares_told
from unsay.train.guards import Aside
from unsay.train.step import peak_rate
from unsay.types import Answer, Candidate, Example, Pair

SECRET = "She lives in the old mill at Harrow Bend."


@pytest.fixture(scope="module")
def settings(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    rows = small_run(tiny_folder, tmp_path_factory.mktemp("rows"), forget=2, retain=8)
    return [*rows, "train.rounds=6", "train.learning_rate=none", "watch.enough=2"]


def visits(encoder: Encoder, count: int = 2) -> list[Visit]:
    answer = Answer(encoder.answer(SECRET), SECRET, True)
    return [Visit(Example(f"q{i}", f"Where does number {i} live?"), SECRET, (answer,)) for i in range(count)]


class Telling(Sampler):
    """A sampler whose model goes on with the secret wherever it is asked, or says something else."""

    tells = True
    drawn: list[Draw] = []  # noqa: RUF012

    def candidates(self, draws: Sequence[Draw], source: Sequence[str]) -> list[list[Candidate]]:
        self.drawn.extend(draws)
        found = []
        for draw in draws:
            question = next(q for i in range(40) if draw.context[: len(q := self.encoder.prompt(f"Where does number {i} live?"))] == q)
            said = draw.context[len(question) :]
            whole = self.encoder.answer(SECRET if self.tells else "Nobody has ever asked me this before.")
            ids = whole[len(said) :] if self.tells else whole
            found.append([Candidate(Answer(ids, self.encoder.decode(ids), True), 0, "plain")])
        return found


@pytest.mark.parametrize(("tells", "share"), [(True, 1.0), (False, 0.0)])
def test_a_model_that_tells_is_heard_plainly_and_behind_a_beginning(encoder: Encoder, monkeypatch: pytest.MonkeyPatch, tells, share):
    monkeypatch.setattr(Telling, "tells", tells)
    monkeypatch.setattr(Telling, "drawn", [])
    plain, begun = shares_told(visits(encoder), Telling(None, encoder, load(None).sample, seed=3, round=5))  # type: ignore[arg-type]
    assert plain == share
    # Where a cut leaves nothing of the secret, there is nothing to tell.
    assert begun == pytest.approx(share, abs=0.5)
    assert (begun > 0.5) is tells
    contexts = {draw.context for draw in Telling.drawn}
    assert len(contexts) > 2 + 8, "few questions are begun in many ways"
    assert len({draw.key for draw in Telling.drawn}) >= 64


def test_many_questions_are_not_all_asked(encoder: Encoder, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Telling, "drawn", [])
    shares_told(visits(encoder, 40), Telling(None, encoder, load(None).sample))  # type: ignore[arg-type]
    assert len(Telling.drawn) <= 2 * 64


def test_only_looks_in_a_row_end_training(encoder: Encoder):
    one = guard(encoder, "watch.enough=2")
    shares = [(0.0, 0.0), (0.03, 0.0), (0.0, 0.0), (0.0, 0.2), (0.0, 0.05), (0.0, 0.0)]
    assert [one.ended for share in shares if one.asked(*share)] == [False] * 5 + [True]
    never = guard(encoder)
    assert not any(never.ended for _ in range(9) if never.asked(0.0, 0.0))
    assert one.risen is False


def test_a_round_that_would_not_be_shipped_is_not_enough(encoder: Encoder):
    """It ends where the last round tells nothing; an earlier one, shipped because the loss has risen, might."""

    def ended(*more: str) -> list[bool]:
        one = guard(encoder, "watch.enough=2", "watch.patience=9", *more, losses=(0.9, 0.9, 0.1, 0.1))
        return [one.ended for rounds in range(1, 5) if one.look(None, rounds, True) and one.asked(0.0, 0.0)]  # type: ignore[arg-type]

    assert ended() == [False, False, False, True]
    assert ended("watch.keep=last") == [False, True, True, True]


def test_the_model_is_asked_as_it_would_be_shipped(tmp_path: Path, settings: list[str], monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []
    monkeypatch.setattr(monitor, "shares_told", lambda some, sampler: asked.append(fingerprint(sampler.model)) or (0.0, 0.0))
    recipe, folder = begin(tmp_path / "run", [*settings, "watch.enough=1", "train.averaging=0.5"])
    train(recipe, folder)
    assert (checkpoint := folder.manifest().checkpoint)
    assert asked == [checkpoint.fingerprint]


def told_until(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(monitor, "shares_told", lambda some, sampler: (float(sampler.round < number), 0.0))


def test_training_ends_early_and_says_so(tmp_path: Path, settings: list[str], monkeypatch: pytest.MonkeyPatch):
    told_until(monkeypatch, 2)
    recipe, folder = begin(tmp_path / "run", settings)
    train(recipe, folder)
    manifest, lines = folder.manifest(), read_jsonl(folder.steps_file)
    assert manifest.checkpoint is not None
    assert manifest.checkpoint.rounds == 4, "two rounds that tell and two that do not"
    assert [line["told"] for line in lines if "told" in line] == [1.0, 1.0, 0.0, 0.0]
    assert manifest.watch is not None
    assert manifest.watch.ended is None, "no loss had risen"
    train(recipe, folder)
    assert folder.manifest().checkpoint == manifest.checkpoint, "what has ended stays ended"


def test_an_interrupted_run_ends_at_the_same_round(tmp_path: Path, settings: list[str], monkeypatch: pytest.MonkeyPatch):
    told_until(monkeypatch, 2)
    recipe, straight = begin(tmp_path / "straight", settings)
    train(recipe, straight)
    again = interrupted(tmp_path / "again", settings)
    assert again.manifest().checkpoint == straight.manifest().checkpoint


def test_a_rate_is_chosen_by_the_size_of_the_model():
    tiny = tiny_model()
    recipe = load(None, ["train.learning_rate=none"])
    count = sum(p.numel() for p in tiny.parameters())
    assert peak_rate(recipe, tiny) == pytest.approx(5e-6 * (1.4e9 / count) ** (2 / 3))
    adapters = replace(recipe, lora=replace(recipe.lora, rank=4))
    assert peak_rate(adapters, tiny) == pytest.approx(10 * peak_rate(recipe, tiny))
    assert peak_rate(load(None, ["train.learning_rate=3e-4"]), tiny) == 3e-4
    with pytest.raises(ConfigError, match=r"name a rate"):
        load(None, ["train.learning_rate=none", "train.optimizer=whitened"])


@pytest.mark.parametrize(("loss", "count", "rows"), [("kl", 2, 8), ("kl", 8, 2), ("kl", 40, 2), ("nll", 2, 2)])
def test_few_questions_bring_the_retain_rows_of_a_full_batch(encoder: Encoder, loss: str, count: int, rows: int):
    data = TrainingData(
        {v.example.id: v for v in visits(encoder, count)}, Aside((), (Pair("a", "Q?", "A."), Pair("b", "P?", "B."))), {}, []
    )
    recipe = load(None, [f"train.retain_loss={loss}", "train.retain_rows=2", "train.batch=8"])
    assert len(data.retain_rows(recipe, encoder, 0, 0, "q0")) == rows


def test_a_step_in_pieces_brings_the_same_retain_rows(encoder: Encoder):
    data = TrainingData({v.example.id: v for v in visits(encoder)}, Aside((), (Pair("a", "Q?", "A."), Pair("b", "P?", "B."))), {}, [])
    whole, pieces = (
        load(None, ["train.retain_loss=kl", f"train.batch={batch}", f"train.accumulation={parts}"]) for batch, parts in ((8, 1), (1, 8))
    )
    assert data.retain_rows(whole, encoder, 0, 0, "q0") == data.retain_rows(pieces, encoder, 0, 0, "q0")


def test_nobody_is_asked_unless_the_recipe_wants_it(tmp_path: Path, settings: list[str]):
    recipe, folder = begin(tmp_path / "run", [*settings, "watch.enough=0", "train.rounds=1"])
    train(recipe, folder)
    assert "told" not in folder.steps_file.read_text()
