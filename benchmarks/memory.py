"""Peak memory of a round, ours against the straightforward one, each in a fresh process that does nothing else.

On the CPU it is the largest resident size of the process, libraries and weights included; with CUDA the most that torch had
allocated. Ours trains by the package's loop and saves its checkpoint; the other side does neither. A ratio above 1 means that
ours is smaller.

    python benchmarks/memory.py [--quick] [--json] [--model NAME] [--questions 16] [--k 5]
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pairs import Report, arguments, settings_of, tell
from rounds import Straightforward, Work, recorded
from subject import GEMMA, corpus, subject
from unsay.lm.model import load
from unsay.store.folder import RunFolder
from unsay.store.memory import keep_freed_pages, peak_memory
from unsay.train import train

SIDES = ("load", "ours", "straightforward")


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__ or "", GEMMA, turns=1)
    parser.add_argument("--questions", type=int, default=16)
    parser.add_argument("--k", type=int, default=5, help="answers per question (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=64, help="longest answer (default: %(default)s)")
    args = parser.parse_args(argv)
    if args.quick:
        args.turns, args.questions, args.k, args.tokens = 1, 8, 2, 8
    tested = subject(args.model, args.dtype)
    asked = corpus(tested.name)
    forget = asked.forget[: args.questions]
    report = Report("memory", settings_of(args, tested.name, questions=len(forget), k=args.k, tokens=args.tokens))
    with tempfile.TemporaryDirectory() as folder:
        base = recorded(Path(folder) / "base", tested, forget, asked.retain[:200], args.k, args.tokens)
        del tested
        peaks = {side: child(side, base.folder) for side in SIDES}
    for side, peak in peaks.items():
        report.medians[f"{side}_mb"] = peak / 1e6
    report.ratios["peak_memory_ratio"] = peaks["straightforward"] / peaks["ours"]
    over = {side: max(1.0, peak - peaks["load"]) for side, peak in peaks.items()}
    report.ratios["peak_over_load_memory_ratio"] = over["straightforward"] / over["ours"]
    report.show(args.json)


def child(side: str, folder: RunFolder) -> float:
    """Bytes at most of a process that plays one side."""
    tell(f"fresh process: {side}")
    command = [sys.executable, __file__, "--play", side, str(folder.path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def play(side: str, folder: RunFolder) -> None:
    recipe = folder.recipe()
    if side == "ours":
        keep_freed_pages()  # as the command line does
        train(recipe, folder)
    elif side == "straightforward":
        Straightforward(Work(recipe, folder)).round()
    else:
        _ = load(recipe.model)
    peak = peak_memory()
    print(json.dumps(peak.get("gpu", peak["process"])))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--play"]:
        play(sys.argv[2], RunFolder(sys.argv[3]))
    else:
        main()
