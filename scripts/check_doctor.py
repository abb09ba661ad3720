"""What `unsay doctor` says, beside what the run then takes: predicted, measured, ratio.

    python scripts/check_doctor.py demo passages llama-10m llama-60m own-7b --times 3
    UNSAY_DATA=DIR python scripts/check_doctor.py gemma own-gemma

Every stage runs in a process of its own, so that the peak of its memory is its own. Seconds of processor time are compared
as well as seconds on the clock: other programs on the machine change the former less. `--counts` compares what the pilot
counted with what the run then asks of its model, which no other program changes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

SMALL = (
    "train.rounds=2",
    "train.batch=4",
    "sample.max_new_tokens=32",
    "sample.rows=64",
    "record.answers=4",
    "record.branches=4",
    "record.replay=16",
    "sampling.n=5",
    "prefill.n=3",
    "relearn.learning_rates=[3e-4]",
    "relearn.steps=[5]",
    "relearn.n=3",
    "quantise.n=3",
)
LLAMAS = {"llama-10m": (320, 960, 8), "llama-60m": (640, 1920, 12)}
"""Hidden size, inner size, layers."""
OWN_7B = (
    "model.dtype=bfloat16",
    "lora.rank=16",
    "train.gradient_checkpointing=true",
    "train.batch=2",
    "train.accumulation=4",
    "train.learning_rate=2e-4",
    "relearn.rank=16",
    "relearn.batch=2",
)
"""The knobs of recipes/own-7b-24gb.toml, for the larger Llama; 4 bits need an accelerator."""
OWN_GEMMA = (
    "model.freeze_embeddings=true",
    "sample.max_new_tokens=40",
    "record.own_retain=48",
    "record.replay=24",
    "record.branches=6",
    "train.rounds=2",
    "train.learning_rate=5e-5",
    'train.resample="round"',
    "sampling.n=10",
    "prefill.n=4",
    "utility.limit=12",
    'audit.probes=["greedy","sampling","prefill","paraphrase","multiple_choice","depth","utility"]',
)
"""Own questions about Gemma 3 270M without a retain file (docs/own-data.md), a tenth of it."""
GEMMA = ("train.rounds=1", "finetune.epochs=1", "audit.limit=8", "utility.limit=10", "record.replay=24")
"""The whole recipe takes about an hour; this is a tenth of it, of every part."""
STAGES = ("finetune", "record", "train", "audit before", "audit after")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", choices=["demo", "passages", *LLAMAS, "own-7b", "gemma", "own-gemma"])
    parser.add_argument("--times", type=int, default=1, help="repeat prediction and run, and take medians")
    parser.add_argument("--set", action="append", default=[], dest="settings", help="a further knob")
    parser.add_argument("--counts", action="store_true", help="compare counts in place of seconds and memory")
    arguments = parser.parse_args()
    for case in arguments.cases:
        with tempfile.TemporaryDirectory() as work:
            recipe, settings = prepare(case, Path(work))
            settings = [*settings, *arguments.settings]
            look = counts if arguments.counts else once
            show(case, [look(recipe, settings, Path(work) / f"run-{i}") for i in range(arguments.times)])


def prepare(case: str, work: Path) -> tuple[str, list[str]]:
    """The recipe and the settings of a case; a random Llama is written to `work`."""
    if case == "demo":
        return "demo", ["train.rounds=16"]
    if case == "passages":
        return "passages", ["train.rounds=8"]
    if case == "gemma":
        return "tofu-gemma-270m", [*GEMMA]
    if case == "own-gemma":
        return own_gemma(work), [*OWN_GEMMA]
    random_llama(*LLAMAS["llama-60m" if case == "own-7b" else case], work / "model")
    questions(work)
    recipe = work / "recipe.toml"
    files = f'[files]\nforget = "{work}/forget.jsonl"\nretain = "{work}/retain.jsonl"\n'
    recipe.write_text(f'title = "{case}"\ncorpus = "files"\n[model]\nname = "{work}/model"\n{files}')
    return str(recipe), [*SMALL, *(OWN_7B if case == "own-7b" else ())]


def own_gemma(work: Path) -> str:
    """Twelve capitals that Gemma 3 270M is to forget; it is given no retain rows."""
    names = ["France", "Germany", "Spain", "Portugal", "Japan", "China", "Russia", "Egypt", "Greece", "Austria", "Poland", "Norway"]
    rows = [{"question": f"What is the capital of {n}?", "paraphrases": [f"Which city is the capital of {n}?"], "group": n} for n in names]
    (work / "forget.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = work / "recipe.toml"
    model = '[model]\nname = "gemma-3-270m"\nstop = "\\n"\n'
    recipe.write_text(f'title = "capitals"\ncorpus = "files"\n{model}[files]\nforget = "{work}/forget.jsonl"\n')
    return str(recipe)


def random_llama(hidden: int, inner: int, layers: int, folder: Path) -> None:
    """Weights that nobody trained, a token per byte."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<pad>", "<bos>", "<eos>"]
    vocabulary = {token: i for i, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=hidden // 64,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def questions(work: Path) -> None:
    """Eight forget questions and 24 retain rows of the built-in people."""
    from unsay.corpora.people import People

    corpus = People().corpus()
    forget = [{"question": example.question} for example in corpus.forget[:8]]
    retain = [{"question": pair.question, "answer": pair.answer} for pair in corpus.retain[:24]]
    for name, rows in (("forget", forget), ("retain", retain)):
        (work / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def once(recipe: str, settings: list[str], out: Path) -> dict[str, dict[str, tuple[float, float]]]:
    """Stage → quantity → (predicted, measured)."""
    options = [part for setting in settings for part in ("--set", setting)]
    report = json.loads(unsay("doctor", recipe, "--json", "--out", str(out), *options))
    predicted = {stage["name"]: stage for stage in report["stages"]}
    if "finetune" in predicted:
        unsay("finetune", recipe, "--out", str(out), *options)
    unsay("record", recipe, "--out", str(out), *options)
    unsay("train", str(out))
    for which in ("before", "after"):
        unsay("audit", str(out), "--which", which)
    manifest = json.loads((out / "manifest.json").read_text())
    libraries = report["model"]["libraries"]
    found = {}
    for stage in STAGES:
        if stage not in predicted:
            continue
        memory = manifest["peak_memory"][stage]["process"]
        found[stage] = {
            "seconds": (predicted[stage]["seconds"], manifest["seconds"][stage]),
            "cpu seconds": (predicted[stage]["cpu_seconds"], manifest["cpu_seconds"][stage]),
            "memory (MB)": (predicted[stage]["memory"] / 1e6, memory / 1e6),
            "without libraries": ((predicted[stage]["memory"] - libraries) / 1e6, (memory - libraries) / 1e6),
        }
        gpu = manifest["peak_memory"][stage].get("gpu")
        if gpu:
            found[stage] |= {"gpu (MB)": (predicted[stage]["memory"] / 1e6, gpu / 1e6)}
    return found


def counts(recipe: str, settings: list[str], out: Path) -> dict[str, dict[str, tuple[float, float]]]:
    """Stage → unit → (predicted, counted while the run is on)."""
    from unsay import run as runs
    from unsay.config import load
    from unsay.doctor import examine
    from unsay.doctor.cost import UNITS
    from unsay.doctor.counting import counted
    from unsay.store.folder import RunFolder

    loaded, folder, watchers = load(recipe, settings), RunFolder(out), runs.Watchers()
    predicted = {stage.name: stage.work for stage in examine(loaded, out).stages}
    runs.open_folder(loaded, folder)
    stages = {"finetune": runs.run_finetune, "record": runs.run_record, "train": runs.run_train}
    found = {}
    for stage in STAGES:
        if stage in predicted:
            with counted() as tally:
                if stage in stages:
                    stages[stage](loaded, folder, watchers)
                else:
                    runs.run_audit(loaded, folder, stage.removeprefix("audit "), watchers)
                work = tally.take()
            found[stage] = {unit: (predicted[stage][unit], work[unit]) for unit in UNITS if work[unit]}
    return found


def unsay(*arguments: str) -> str:
    """The command's output, from a process of its own."""
    command = [sys.executable, "-c", "from unsay.cli import main; main()", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    if done.returncode:
        raise SystemExit(f"unsay {' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def show(case: str, runs: list[dict[str, dict[str, tuple[float, float]]]]) -> None:
    """Medians over the runs, and the total."""
    print(f"\n{case}, {len(runs)} time(s)\n{'stage':14} {'quantity':18} {'predicted':>10} {'measured':>10} {'ratio':>6}", flush=True)
    sums: dict[str, list[tuple[float, float]]] = {}
    for stage in runs[0]:
        for quantity in runs[0][stage]:
            pairs = [run[stage][quantity] for run in runs]
            sums.setdefault(quantity, []).append(line(stage, quantity, pairs))
    for quantity in {"seconds", "cpu seconds"} & sums.keys():
        line("all", quantity, [(sum(p for p, _ in sums[quantity]), sum(m for _, m in sums[quantity]))])


def line(stage: str, quantity: str, pairs: list[tuple[float, float]]) -> tuple[float, float]:
    predicted, measured = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
    ratio = statistics.median(p / m for p, m in pairs)
    print(f"{stage:14} {quantity:18} {predicted:10.1f} {measured:10.1f} {ratio:6.2f}", flush=True)
    return predicted, measured


if __name__ == "__main__":
    main()
