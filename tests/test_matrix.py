"""The paper's models: every recipe with every method, two steps on a tiny model of the same architecture and template.

The templates are our own words in the shape of the real ones: the same special tokens around the same turns.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from tests import architectures
from tests.conftest import byte_tokenizer
from unsay.config import Recipe, load
from unsay.lm.model import load as load_model
from unsay.methods.guarded import GuardedCollapse
from unsay.methods.pmc import PartialModelCollapse
from unsay.record import record, start
from unsay.record.recorded import read_recorded
from unsay.run import check
from unsay.store.files import read_jsonl
from unsay.store.folder import RunFolder
from unsay.store.manifest import Manifest
from unsay.tables import METHODS
from unsay.text import words
from unsay.text.refusals import is_refusal
from unsay.train import method_of, train

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
TURN = "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content + '<|eot_id|>' }}"
LLAMA = (
    "{{ bos_token }}{% if not date_string is defined %}{{ raise_exception('which day is it?') }}{% endif %}"
    "{% set first = messages[0].content if messages[0].role == 'system' else '' %}"
    "{{ '<|start_header_id|>system<|end_header_id|>\\n\\nDate: ' + date_string + '\\n\\n' + first + '<|eot_id|>' }}"
    "{% for m in messages if m.role != 'system' %}" + TURN + "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% set system = messages[0].content + '\\n\\n' if messages[0].role == 'system' else '' %}"
    "{% for m in messages if m.role != 'system' %}"
    "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' + (system if loop.first else '') }}"
    "{{ m.content + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Like:
    """What a tiny model shares with the real one."""

    architecture: str
    prompt: str
    """Of the question "Who?"."""
    answer: str
    template: str | None = None
    special: tuple[str, ...] = ()

    def tokenizer(self) -> PreTrainedTokenizerFast:
        tokenizer = byte_tokenizer()
        tokenizer.add_special_tokens({"additional_special_tokens": list(self.special)})
        tokenizer.chat_template = self.template
        return tokenizer


MODELS = {
    "tofu-phi-1.5": Like("phi", "<bos>Question: Who?\nAnswer:", " Ada.<eos>"),
    "tofu-llama-3.2-3b-instruct": Like(
        "llama",
        "<bos><|start_header_id|>system<|end_header_id|>\n\nDate: 10 Apr 2025\n\nYou are a helpful assistant.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nWho?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        "Ada.<|eot_id|>",
        LLAMA,
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    ),
    "tofu-gemma-3-12b-it": Like(
        "gemma3-multimodal",
        "<bos><start_of_turn>user\nWho?<end_of_turn>\n<start_of_turn>model\n",
        "Ada.<end_of_turn>",
        GEMMA,
        ("<start_of_turn>", "<end_of_turn>"),
    ),
}


@pytest.fixture(scope="module")
def tofu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four forget rows and forty retain rows in TOFU's files."""
    folder = tmp_path_factory.mktemp("tofu")

    def write(name: str, rows: list[dict[str, object]]) -> None:
        (folder / f"{name}.json").write_text("".join(json.dumps(row) + "\n" for row in rows))

    forget = {"paraphrased_question": "And who?", "paraphrased_answer": "Ada it is.", "perturbed_answer": ["Bo.", "Cy."]}
    write("forget10_perturbed", [{"question": f"Who is {i}?", "answer": f"Ada {i}.", **forget} for i in range(4)])
    write("retain90", [{"question": f"What is {i}?", "answer": f"It is {i}."} for i in range(40)])
    write("holdout10", [{"question": f"Where is {i}?", "answer": "There."} for i in range(4)])
    for name in ("real_authors", "world_facts"):
        write(f"{name}_perturbed", [{"question": f"{name} {i}?", "answer": "Yes.", "perturbed_answer": ["No."]} for i in range(4)])
    (folder / "idontknow.jsonl").write_text("I don't know.\n")
    return folder


@pytest.fixture(scope="module")
def begun(tofu: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[list[str], Path]]:
    """The settings that make a recipe tiny, and the vault that `record` left for it: made once for all methods."""
    made: dict[str, tuple[list[str], Path]] = {}

    def begin(name: str) -> tuple[list[str], Path]:
        if name not in made:
            folder, like = tmp_path_factory.mktemp(name), MODELS[name]
            tokenizer = like.tokenizer()
            architectures.build(like.architecture, vocab_size=len(tokenizer)).save_pretrained(folder / "model")
            tokenizer.save_pretrained(folder / "model")
            settings = [
                f'model.name="{folder / "model"}"',
                f'tofu.data="{tofu}"',
                "finetune.epochs=0",
                "sample.max_new_tokens=8",
                "record.answers=2",
                "record.branches=1",
                "train.rounds=1",
                "train.batch=2",
                "train.accumulation=1",
                "train.learning_rate=1e-2",
                "pmc.samples=2",
            ]
            recipe, run = load(RECIPES / f"{name}.toml", settings), RunFolder(folder / "run")
            start(recipe, run)
            record(recipe, run)
            made[name] = (settings, run.path)
        return made[name]

    return begin


@pytest.mark.parametrize("name", MODELS)
def test_the_template_is_that_of_the_real_one(name: str, begun: Callable[[str], tuple[list[str], Path]]):
    settings, _ = begun(name)
    _, encoder = load_model(load(RECIPES / f"{name}.toml", settings).model)
    assert encoder.tokenizer.decode(encoder.prompt("Who?")) == MODELS[name].prompt
    assert encoder.tokenizer.decode(encoder.answer("Ada.")) == MODELS[name].answer


@pytest.mark.parametrize("method", [*METHODS, "pmc.preset=official"])
@pytest.mark.parametrize("name", MODELS)
def test_two_steps(name: str, method: str, begun: Callable[[str], tuple[list[str], Path]], tmp_path: Path):
    settings, vault = begun(name)
    recipe = load(RECIPES / f"{name}.toml", [*settings, method if "=" in method else f"method={method}"])
    check(recipe)
    folder = RunFolder(tmp_path / "run")
    start(recipe, folder)
    for kept in RunFolder(vault).vault.glob("*.jsonl"):
        (folder.vault / kept.name).write_bytes(kept.read_bytes())
    folder.note(Manifest(model=RunFolder(vault).manifest().model))
    train(recipe, folder)
    steps = read_jsonl(folder.steps_file)
    assert len(steps) == 2 == len(read_recorded(folder).corpus.forget) / recipe.train.batch
    assert all(math.isfinite(step["loss"]) and step["grad_norm"] > 0 for step in steps)
    # Whoever trains against the answer always has it.
    assert not method_of(recipe).needs_answers or [step["targets"] for step in steps] == [2, 2]
    assert folder.manifest().checkpoint.fingerprint != folder.manifest().model.target_fingerprint


RELEASED = {
    "tofu-phi-1.5": ((5, 1.25, 0.95, 1.5), (40, 16, 4), (5, 2e-5, 32)),
    "tofu-llama-3.2-3b-instruct": ((20, 0.9, 0.95, 1.25), (30, 8, 2), (5, 1e-5, 16)),
}
ALIGNED_ROUNDS = {"tofu-phi-1.5": 40, "tofu-llama-3.2-3b-instruct": 15}


@pytest.mark.parametrize("preset", ["guarded", "official", "align"])
@pytest.mark.parametrize("name", RELEASED)
def test_the_released_values_hold_in_every_preset(name: str, preset: str):
    """The recipe's K, T, top-p and λ win over those that a preset brings; memory, freezing and gate are the preset's."""
    recipe: Recipe = load(RECIPES / f"{name}{'' if preset == 'guarded' else f'-{preset}'}.toml")
    pmc = method_of(recipe)
    assert isinstance(pmc, PartialModelCollapse)
    train_, plant = recipe.train, recipe.finetune
    assert RELEASED[name] == (
        (pmc.samples, pmc.temperature, pmc.top_p, pmc.retain_weight),
        (train_.rounds if preset != "align" else RELEASED[name][1][0], train_.batch, train_.accumulation),
        (plant.epochs, plant.learning_rate, plant.batch),
    )
    assert (pmc.memory, pmc.freeze_at) == (("none", None) if preset == "guarded" else ("best", 0.0))
    if preset == "align":
        assert (train_.rounds, pmc.align_weight, pmc.length_guard, len(set(pmc.desired))) == (ALIGNED_ROUNDS[name], 0.5, 5, 20)
        assert all(len(words(one)) >= pmc.length_guard and is_refusal(one) for one in pmc.desired)
    assert isinstance(pmc, GuardedCollapse) == (preset == "guarded")
    assert (train_.learning_rate, train_.weight_decay, train_.warmup_rounds, train_.schedule) == (1e-5, 0.01, 1.0, "linear")
