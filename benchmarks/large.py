"""Peak memory and processor seconds of every command for 1,000, 10,000 and 100,000 forget questions, each in a fresh process.

The questions are those of `growth.py`: one world of people after the other, of which the model knows the first. What the model does
is kept small (answers of at most 8 tokens, one of each kind, one round): how the rest grows is what is measured. A growth ratio
is the growth from the smallest size to the largest over that of the size, for seconds; for memory it is the growth itself.

    python benchmarks/large.py [--quick] [--json] [--sizes 1000 10000 100000] [--out FOLDER]     a folder that is kept, to go on
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from growth import questions
from pairs import Report, arguments, settings_of, tell
from subject import PEOPLE
from unsay.config import ModelConfig
from unsay.corpora.people import People
from unsay.lm.model import load, save

RECIPE = """
corpus = "files"
model.name = "{model}"
model.dtype = "{dtype}"
files = {{ forget = "{folder}/forget.jsonl", retain = "{folder}/retain.jsonl" }}
sample.max_new_tokens = 8
record = {{ answers = 1, branches = 0 }}
pmc = {{ samples = 1, tries = 1 }}
train = {{ rounds = {rounds}, batch = 32, resample = "round" }}
audit.probes = ["greedy", "sampling"]
sampling = {{ n = 1, temperatures = [1.0] }}
"""
STAGES = {
    "check": ["check", "recipe.toml"],
    "record": ["record", "recipe.toml", "--out", "run"],
    "train": ["train", "run"],
    "audit before": ["audit", "run", "--which", "before"],
    "audit after": ["audit", "run", "--which", "after"],
    "report": ["report", "run"],
    "gate": ["gate", "run"],
    "compare": ["compare", "run", "run"],
    "look": ["look", "run"],
    "verify": ["verify", "run/report.html", "run/checkpoint"],
}
PLAY = """
import json, sys, time
from unsay.cli import main
from unsay.store.memory import peak_memory

sys.argv[:1] = ["unsay", "--quiet"]
try:
    main()
except SystemExit as end:
    if end.code not in (None, 0, 1):
        raise
print(json.dumps([time.process_time(), peak_memory()["process"]]))
"""
"""One command in a process that imports nothing else; the last line that it prints is what it cost."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__ or "", PEOPLE, turns=1)
    parser.add_argument("--tiny", action="store_true", help="a random model of 20,000 weights: what goes on around the model's own work")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000], help="default: 1000 10000 100000")
    parser.add_argument("--out", type=Path, help="keep the runs there, and do not repeat what is done (default: a folder that is removed)")
    parser.add_argument("--rounds", type=int, default=1, help="of training; 100 of 1,000 questions make as many steps as one of 100,000")
    args = parser.parse_args(argv)
    sizes = [16, 32] if args.quick else sorted(args.sizes)
    report = Report("large", settings_of(args, args.model, tiny=args.tiny, rounds=args.rounds))
    with tempfile.TemporaryDirectory() as temporary:
        out = args.out or Path(temporary)
        model = tiny(out / "model") if args.tiny else args.model
        found = {n: stages(model, args.dtype, out / str(n), n, args.rounds) for n in sizes}
    for stage in STAGES:
        for n in sizes:
            seconds, peak = found[n][stage]
            report.medians |= {f"{stage}_{n}_s": seconds, f"{stage}_{n}_mb": peak / 1e6}
        first, last = (found[n][stage] for n in (sizes[0], sizes[-1]))
        report.ratios[f"{stage}_seconds_growth_ratio"] = last[0] / first[0] / (sizes[-1] / sizes[0])
        report.ratios[f"{stage}_memory_growth_ratio"] = last[1] / first[1]
    report.show(args.json)


def tiny(folder: Path) -> str:
    """A random model with the words of the people."""
    if not folder.exists():
        _, encoder = load(ModelConfig(PEOPLE))
        torch.manual_seed(0)
        shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = LlamaConfig(vocab_size=len(encoder.tokenizer), bos_token_id=1, eos_token_id=2, pad_token_id=0, **shape)
        save(LlamaForCausalLM(config), encoder, folder)
    return str(folder.resolve())


def stages(model: str, dtype: str, folder: Path, n: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Processor seconds and peak bytes of every command, those that are known already read from `folder`."""
    known, recipe = folder / "stages.json", folder / "recipe.toml"
    text = RECIPE.format(model=model, dtype=dtype, folder=folder.resolve(), rounds=rounds)
    if recipe.exists() and recipe.read_text() != text:
        raise SystemExit(f"{recipe} was made with other options, and its figures are kept beside it: name another --out")
    found = json.loads(known.read_text()) if known.exists() else {}
    if not found:
        folder.mkdir(parents=True, exist_ok=True)
        asked = islice(({"question": one.question} for one in questions()), n)
        kept = ({"question": one.question, "answer": one.answer} for one in People().corpus().retain[:200])
        for name, rows in (("forget", asked), ("retain", kept)):
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        recipe.write_text(text)
    for stage, words in STAGES.items():
        if stage not in found:
            tell(f"{n} questions: {stage}")
            done = subprocess.run([sys.executable, "-c", PLAY, *words], cwd=folder, stdout=subprocess.PIPE, check=True, text=True)
            found[stage] = json.loads(done.stdout.splitlines()[-1])
            tell(f"    {found[stage][0]:.1f} s, {found[stage][1] / 1e6:.0f} MB")
            known.write_text(json.dumps(found))
    return found


if __name__ == "__main__":
    main()
