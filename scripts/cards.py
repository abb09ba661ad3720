"""How many graphics cards four well-known models take, as `unsay doctor` projects it from one and two layers of their shapes.

    python scripts/cards.py --out runs/cards.json                       # 3 processor minutes; 10 GB for the largest
    python scripts/cards.py --out runs/cards.json --model Phi-1.5

No weights are read and nothing is timed: the shapes are those of the models' published configurations, the tokenizer is the built-in
one, so texts are somewhat longer in tokens than these models' own. The layers are measured at two and at three eighths of their
width, because whatever a token keeps lies on a line over the width; the weights are counted at their own, and what the recipe does
with its own small model. A model that is in `--out` already is not measured again. docs/scaling.md has the table.
"""

import argparse
import copy
import json
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma3TextConfig, LlamaConfig, PhiConfig, PreTrainedConfig

from unsay.config import LoraConfig, Recipe, load
from unsay.doctor import examine
from unsay.doctor.bench import Bench, answers
from unsay.doctor.cost import UNITS, Costs
from unsay.doctor.examine import measured
from unsay.doctor.memory import KINDS, Sizes, cards
from unsay.doctor.pilot import Stage
from unsay.doctor.shallow import layers_of, shallow, stretched
from unsay.doctor.standin import Said
from unsay.lm import builtin
from unsay.record import source
from unsay.store.files import write_text

LLAMA = {"vocab_size": 128256, "head_dim": 128, "num_key_value_heads": 8, "max_position_embeddings": 131072}
SHAPES: dict[str, PreTrainedConfig] = {
    "Phi-1.5": PhiConfig(
        vocab_size=51200,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=24,
        num_attention_heads=32,
        max_position_embeddings=2048,
    ),
    "Llama-3.2-3B": LlamaConfig(
        hidden_size=3072, intermediate_size=8192, num_hidden_layers=28, num_attention_heads=24, tie_word_embeddings=True, **LLAMA
    ),
    "Gemma-3-12B": Gemma3TextConfig(
        vocab_size=262208,
        hidden_size=3840,
        intermediate_size=15360,
        num_hidden_layers=48,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=256,
        sliding_window=1024,
    ),
    "Llama-3.1-70B": LlamaConfig(
        hidden_size=8192, intermediate_size=28672, num_hidden_layers=80, num_attention_heads=64, tie_word_embeddings=False, **LLAMA
    ),
}
SETTINGS = ("sample.rows=64", "train.gradient_checkpointing=true", "train.batch=4", "relearn.rank=16", "lora.rank=16")
WAYS: dict[str, tuple[int, str]] = {"all weights": (0, "none"), "adapters": (16, "none"), "adapters on 4 bits": (16, "4bit")}
"""Rank of the adapters, and bits of the fixed weights in training. All in bfloat16, measured in float32: a processor is quicker at it."""


def untimed() -> None:
    """Sizes alone: minutes of matrix products in half precision, which this processor is not made for, are left out."""

    def said(bench: Bench) -> Said:
        written = answers(bench.corpus.retain, bench.encoder)
        return Said({"": written}, written)

    nothing = Costs(dict.fromkeys(UNITS, 0.0), dict.fromkeys(UNITS, 0.0))
    Bench.warm, Bench.ask, Bench.costs = lambda bench: None, said, lambda bench: nothing  # type: ignore[method-assign]


@cache
def stages() -> tuple[Stage, ...]:
    """What the recipe does, counted on its own small model: rows and tokens are those of its texts, whatever model reads them."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = load("demo", [*SETTINGS, "model.retain_model="])
        return examine(recipe, Path(folder) / "run", load=False, say=lambda text: print(" ", text, flush=True)).stages


def measure(shape: PreTrainedConfig) -> dict[str, dict[str, object]]:
    """By way of training and kind of card: the number, and the stage that takes most."""
    with tempfile.TemporaryDirectory() as folder:
        recipe, wider = (recipe_of(narrowed(shape, n), Path(folder) / str(n)) for n in (FEW, MANY))
        sizes = widened(sizes_of(recipe), sizes_of(wider), shape)
    found: dict[str, dict[str, object]] = {"billions": {"": round(sizes.parameters / 1e9, 2)}}
    for way, (rank, bits) in WAYS.items():
        changed = _way(recipe, rank, bits)
        some = cards(changed, sizes, stages())
        found[way] = {str(one.gigabytes): [one.number, one.stage] for one in some}
    return found


FEW, MANY, ALL = 2, 3, 8
"""Eighths of its width at which a model is measured, and all of them. At two none is left with a single head of keys and values,
of which torch makes no copy where it makes one of several."""
WIDTHS = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")


def narrowed(shape: PreTrainedConfig, eighths: int) -> PreTrainedConfig:
    """The shape with as many layers and words, and heads as wide, but only so many eighths of the heads and of the numbers in a layer."""
    found = copy.deepcopy(shape)
    for name in WIDTHS:
        setattr(found, name, getattr(shape, name) * eighths // ALL)
    return found


def recipe_of(shape: PreTrainedConfig, folder: Path) -> Recipe:
    """Recipe `demo` with a model of this shape, whose configuration and tokenizer are written to `folder`."""
    shape.architectures = [{"phi": "PhiForCausalLM", "llama": "LlamaForCausalLM"}.get(shape.model_type, "Gemma3ForCausalLM")]
    shape.save_pretrained(folder)
    AutoTokenizer.from_pretrained(builtin.resolve("people-target")).save_pretrained(folder)
    return load("demo", [*SETTINGS, f'model.name="{folder}"', "model.retain_model="])


def sizes_of(recipe: Recipe) -> Sizes:
    """As `examine` measures them: on one layer and two."""
    corpus, found = source(recipe).corpus(), list[Sizes]()
    for layers in (1, 2):
        model, encoder = shallow(recipe, layers)
        found.append(measured(Bench(recipe, model, encoder, corpus))[0])
    return stretched(*found, layers_of(recipe))


def widened(few: Sizes, many: Sizes, shape: PreTrainedConfig) -> Sizes:
    """Those of the whole width: on the line through `FEW` and `MANY`, and the weights as they are counted where none is made."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(shape)
    matrices = {id(one.weight): one.weight.numel() for one in (model.get_input_embeddings(), model.get_output_embeddings())}
    steps = (ALL - FEW) / (MANY - FEW)
    grows = ("token", "cached_row", "cached_token")
    lines = {name: getattr(few, name) + steps * (getattr(many, name) - getattr(few, name)) for name in grows}
    return replace(
        few,
        parameters=model.num_parameters(),
        embeddings=sum(matrices.values()),
        largest=max(one.numel() for one in model.parameters()),
        hidden=shape.hidden_size,
        **lines,
    )


def _way(recipe: Recipe, rank: int, bits: str) -> Recipe:
    return replace(recipe, lora=LoraConfig(rank=rank), model=replace(recipe.model, dtype="bfloat16", quantization=bits))


def table(found: dict[str, dict[str, dict[str, object]]]) -> str:
    """Markdown."""
    lines = [f"| model, what is trained | {' | '.join(f'{kind} GB' for kind in KINDS)} |", "|---" * (1 + len(KINDS)) + "|"]
    for name, rows in found.items():
        for way in WAYS:
            cells = [rows[way][str(kind)] for kind in KINDS]
            lines.append(f"| {name}, {way} | {' | '.join(_cell(*cell) for cell in cells)} |")  # type: ignore[misc]
    return "\n".join(lines)


def _cell(number: int | None, stage: str) -> str:
    return "1" if number == 1 else f"{number or 'too small'} ({stage})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", choices=list(SHAPES), action="append")
    options = parser.parse_args()
    untimed()
    found = json.loads(options.out.read_text()) if options.out.exists() else {}
    for name in options.model or SHAPES:
        if name not in found:
            print(name, flush=True)
            found[name] = measure(SHAPES[name])
            write_text(options.out, json.dumps(found, indent=1))
    print(table({name: found[name] for name in SHAPES if name in found}))


if __name__ == "__main__":
    main()
