"""vLLM as one of the samplers, in the environment where it is installed.

It pins its own torch, so it seldom lives beside other things: `sampler.py --vllm PYTHON` starts this file with that
interpreter as a child that reads requests and writes answers, one JSON object a line, and takes its turn like the others.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Served:
    """A model folder behind vLLM. `endless` and the stops are said in every request. Use as a context manager."""

    name = "vllm"

    def __init__(self, python: str, folder: str, dtype: str, stops: Sequence[int], longest: int):
        command = [python, str(Path(__file__).resolve()), folder, dtype, str(longest)]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.stops = sorted(stops)
        if self._read() != {"ready": True}:
            raise RuntimeError("vLLM did not start")

    def __call__(self, contexts: Sequence[tuple[int, ...]], n: int, decoding: Any) -> list[list[list[int]]]:
        request = {"contexts": contexts, "n": n, "stops": self.stops, **vars(decoding)}
        assert self.child.stdin is not None
        self.child.stdin.write(json.dumps(request) + "\n")
        self.child.stdin.flush()
        found: list[list[list[int]]] = self._read()
        return found

    def close(self) -> None:
        assert self.child.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.child.stdin.close()
        self.child.wait()

    def _read(self) -> Any:
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        if not line:
            raise RuntimeError(f"vLLM ended with status {self.child.wait()}; its own words stand above")
        return json.loads(line)


def serve(folder: str, dtype: str, longest: int) -> None:
    # vLLM logs to standard output: that goes to standard error, and the answers to a copy of the pipe.
    pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from vllm import LLM, SamplingParams

    llm = LLM(folder, dtype=dtype, skip_tokenizer_init=True, max_model_len=longest, seed=0)
    print(json.dumps({"ready": True}), file=pipe, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        params = SamplingParams(
            n=asked["n"],
            temperature=asked["temperature"],
            top_p=asked["top_p"],
            max_tokens=asked["tokens"],
            ignore_eos=asked["endless"],
            stop_token_ids=None if asked["endless"] else asked["stops"],
            detokenize=False,
        )
        prompts = [{"prompt_token_ids": context} for context in asked["contexts"]]
        outputs = llm.generate(prompts, params, use_tqdm=False)
        print(json.dumps([[list(answer.token_ids) for answer in output.outputs] for output in outputs]), file=pipe, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], int(sys.argv[3]))
