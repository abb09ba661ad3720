"""The built-in sampler and vLLM on the same questions: tokens a second, equal greedy answers, memory, what new weights cost.

    OMP_NUM_THREADS=1 PYTHON_WITH_VLLM benchmarks/two_engines.py [--model gemma-3-270m] [--k 5 20] [--questions 40] [--tokens 32]

Each engine has a process of its own, one after the other, in the environment that scripts/vllm_env.sh makes. Processor seconds
count all threads, and change less than seconds where other programs want the cores; the load is that of the system at the end.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch

from subject import GEMMA, contexts, questions, subject
from unsay.config import SampleConfig, VllmConfig
from unsay.lm import vllm
from unsay.lm.sample import Draw, sample

ENGINES = ("builtin", "vllm")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=GEMMA)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--k", type=int, nargs="*", default=[5, 20], help="sampled answers to each question (default: 5 20)")
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--only", choices=ENGINES, help="measure one, and print what was found as JSON")
    given = parser.parse_args(argv)
    if given.only:
        print(json.dumps(measured(given)))
        return
    found = {}
    for engine in ENGINES:
        command = [sys.executable, __file__, *(argv or sys.argv[1:]), "--only", engine]
        found[engine] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
    ours, theirs = (found[engine].pop("greedy ids") for engine in ENGINES)
    print(f"equal greedy answers: {sum(a == b for a, b in zip(ours, theirs, strict=True))} of {len(ours)}")
    print(f"| | {' | '.join(ENGINES)} |\n|---|---|---|")
    for key in found["vllm"]:
        print(f"| {key} | {' | '.join(str(found[engine].get(key, '')) for engine in ENGINES)} |")


def measured(given: argparse.Namespace) -> dict[str, Any]:
    tested = subject(given.model, given.dtype)
    asked = contexts(tested, questions(tested.name, given.questions))
    config = (SampleConfig if given.only == "builtin" else VllmConfig)(given.tokens)
    found: dict[str, Any] = {"threads": torch.get_num_threads()}

    def ask(name: str, n: int, temperature: float, top_p: float, of: int = len(asked), limit: int = 0) -> list[list[int]]:
        draws = [Draw(str(i), context, n, temperature, top_p, limit=limit) for i, context in enumerate(asked[:of])]
        start, before = time.perf_counter(), time.process_time()
        ids = [list(answer.ids) for answers in sample(tested.model, tested.encoder, draws, config, 0, name) for answer in answers]
        seconds, processor = time.perf_counter() - start, time.process_time() - before
        if name:
            tokens = sum(map(len, ids))
            found[f"{name}: tokens/s"] = round(tokens / seconds, 1)
            found[f"{name}: tokens/processor s"] = round(tokens / processor, 1)
            found[f"{name}: seconds"] = round(seconds, 1)
        found["last"] = round(seconds, 2)
        return ids

    ask("", 1, 0.0, 1.0, of=2, limit=2)
    found["first answers: seconds"] = found["last"]
    ask("", 1, 0.0, 1.0, of=1, limit=1)
    quiet = found["last"]
    found["greedy ids"] = ask("greedy", 1, 0.0, 1.0)
    for k in given.k:
        ask(f"K = {k}", k, 1.0, given.top_p)
    found["peak memory, GB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
    if given.only == "vllm":
        found["largest difference of the canary"] = _apart(tested)
        _step(tested, found)
        ask("", 1, 0.0, 1.0, of=1, limit=1)
        found["new weights: seconds"] = round(found["last"] - quiet, 2)
    found.pop("last")
    found["load"] = round(os.getloadavg()[0], 1)
    return found


def _apart(tested: Any) -> str:
    return f"{vllm.largest(*vllm._engine[0].canary(tested.model, tested.encoder)):.2g}"


def _step(tested: Any, found: dict[str, Any]) -> None:
    """One step of AdamW on one answer, and how far the canary is then from what the engine still holds."""
    row = tested.encoder.pair("Who wrote it?", "Nobody knows.")
    from unsay.lm.model import answer_logprobs

    optimizer = torch.optim.AdamW(tested.model.parameters(), lr=1e-5)
    (-answer_logprobs(tested.model, tested.encoder.batch([row])).sum()).backward()
    optimizer.step()
    optimizer.zero_grad()
    found["one step of 1e-5 later, not sent"] = _apart(tested)


if __name__ == "__main__":
    main()
