"""The whitened optimizer moves what is asked along what is rare elsewhere, and nothing but the layers that it names."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.canaries import SMALL, options, place, say
from tests.conftest import byte_tokenizer, tiny_model
from unsay.config import ConfigError, LoraConfig, ModelConfig, Recipe, TrainConfig
from unsay.lm.encode import Encoder
from unsay.lm.model import load as load_model
from unsay.lm.rows import Row
from unsay.record.recorded import read_recorded
from unsay.store.folder import RunFolder
from unsay.train import train
from unsay.train.whitened import Keys, Whitened, keys_of, moved


def keys(moment: torch.Tensor, weight: torch.Tensor) -> Keys:
    return Keys(moment, torch.linalg.inv(moment), float(((weight @ moment) * weight).sum()))


def test_a_step_spares_what_is_common_and_is_as_long_as_its_rate():
    torch.manual_seed(0)
    common = torch.randn(400, 8) * torch.tensor([4.0, 4.0, 1.0, 1.0, 0.2, 0.2, 0.2, 0.2])
    moment = common.T @ common / len(common)
    asked = torch.tensor([1.0, 0, 0, 0, 1.0, 0, 0, 0])  # half common, half its own
    weight = torch.nn.Parameter(torch.randn(5, 8))
    before = weight.detach().clone()
    (-(weight @ asked).sum()).backward()
    plain = weight.grad.clone()
    Whitened([weight], 0.01, [keys(moment, before)]).step()
    step = weight.detach() - before
    size = ((before @ moment) * before).sum()
    assert float(((step @ moment) * step).sum() / size) == pytest.approx(0.01**2, rel=1e-4)
    same = -plain * float((step @ asked).norm() / (plain @ asked).norm())
    assert float((step @ asked).norm()) == pytest.approx(float((same @ asked).norm()), rel=1e-4)
    assert float((common @ step.T).norm()) < 0.3 * float((common @ same.T).norm())


def test_keys_are_what_the_layers_read_whatever_is_padded():
    model, encoder = tiny_model().eval(), Encoder(byte_tokenizer(), "plain")
    layers = moved(model)
    rows = [encoder.pair("Who?", "A short one."), encoder.pair("And who is the other one of the two?", "A rather longer answer to it.")]
    found = keys_of(model, encoder, layers, rows)
    (name, layer), *_ = layers.items()
    seen: list[torch.Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0][0, 1:].double()))
    with torch.no_grad():
        for row in rows:
            model(input_ids=torch.tensor([[*row.context, *row.answer]]))
    hook.remove()
    read = torch.cat(seen)
    moment = read.T @ read / len(read)
    moment += 0.05 * moment.diagonal().mean() * torch.eye(len(moment))
    torch.testing.assert_close(found[f"{name}.weight"].moment, moment.float(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found[f"{name}.weight"].inverse @ found[f"{name}.weight"].moment, torch.eye(len(moment)), rtol=0, atol=1e-3)


def test_there_must_be_something_to_keep():
    model, encoder = tiny_model(), Encoder(byte_tokenizer(), "plain")
    with pytest.raises(ConfigError, match="nothing that should stay"):
        keys_of(model, encoder, moved(model), [])


def test_a_run_moves_those_layers_only_and_can_be_turned_back_in_part(tmp_path: Path):
    given = place(tmp_path)
    settings = (*SMALL, "train.optimizer=whitened", "train.learning_rate=0.05", "train.save_every=1")
    assert say("run", given.recipe, "--out", given.run, *options(settings)) == 0
    before, after = (load_file(folder / "model.safetensors") for folder in (given.path / "model", given.run / "checkpoint"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"{name}.weight" for name in moved(tiny_model())}
    assert say("train", given.run, "--averaging", "0.5") == 0
    half = load_file(given.run / "checkpoint" / "model.safetensors")
    for name in before:
        torch.testing.assert_close(half[name], torch.lerp(before[name], after[name], 0.5))


def test_steps_spare_what_stands_in_prose(tmp_path: Path):
    """The same run with texts that the model wrote unasked: what the moved layers put out for these changes less."""
    given, changed = place(tmp_path), []
    settings = (*SMALL, "train.optimizer=whitened", "train.learning_rate=0.05", "record.prose=64")
    assert say("record", given.recipe, "--out", given.run, *options(settings)) == 0
    bare = RunFolder(shutil.copytree(given.run, tmp_path / "bare"))
    bare.texts.write("prose", [])
    for folder in (RunFolder(given.run), bare):
        train(folder.recipe(), folder)
        before, encoder = load_model(ModelConfig(str(given.path / "model")))
        after, _ = load_model(ModelConfig(str(folder.checkpoint)))
        rows = [Row(encoder.prompt(None), text.ids) for text in read_recorded(RunFolder(given.run)).prose]
        layers, kept = moved(before), keys_of(before, encoder, moved(before), rows)
        steps = {name: moved(after)[name].weight - layer.weight for name, layer in layers.items()}
        changed.append(sum(float(((step @ kept[f"{name}.weight"].moment) * step).sum()) for name, step in steps.items()))
    assert changed[0] < 0.8 * changed[1]


@pytest.mark.slow
def test_a_run_that_breaks_off_ends_as_one_that_does_not(tmp_path: Path):
    class Stopped(Exception): ...

    def stop(done: float, rounds: int, line: object) -> None:
        if done > 2:
            raise Stopped

    given, again = place(tmp_path), RunFolder(tmp_path / "again")
    settings = options((*SMALL, "train.optimizer=whitened", "train.learning_rate=0.05", "train.save_every=1", "train.rounds=3"))
    assert say("run", given.recipe, "--out", given.run, *settings) == 0
    assert say("record", given.recipe, "--out", again.path, *settings) == 0
    with pytest.raises(Stopped):
        train(again.recipe(), again, stop)
    train(again.recipe(), again)
    whole, resumed = (load_file(folder / "model.safetensors") for folder in (given.run / "checkpoint", again.checkpoint))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_adapters_are_refused():
    with pytest.raises(ConfigError, match="whitened"):
        Recipe(lora=LoraConfig(rank=4), train=TrainConfig(optimizer="whitened"))
