"""vLLM as the engine: what it is asked for, that it has the weights at hand, and that nobody believes it where it has not.

The quick tests put a small stand-in in its place, which answers from a model of its own. The slow one asks the real one, where
there is one: in this environment, or in that of the interpreter UNSAY_VLLM_PYTHON (scripts/vllm_env.sh makes one).
"""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from tests.conftest import tiny_model
from unsay import run as runs
from unsay.audit.cache import KeptSubject
from unsay.config import ConfigError, EngineConfig, LoraConfig, ModelConfig, SampleConfig, VllmConfig, deployment, dump, load
from unsay.lm import vllm
from unsay.lm.adapters import adapt, trainable, without_adapters
from unsay.lm.encode import Encoder
from unsay.lm.model import load as load_model
from unsay.lm.sample import Draw, sample
from unsay.lm.subject import LocalSubject, Prompt, sampling_of
from unsay.run.watchers import Watchers
from unsay.store import ranks
from unsay.store.folder import RunFolder

BUILTIN, VLLM = SampleConfig(max_new_tokens=12), VllmConfig(max_new_tokens=12)
QUESTIONS = ["Who?", "Where does she live now?", "When was that?"]


# -- a stand-in ----------------------------------------------------------------------------------------------------------


class StandIn:
    """vLLM's `LLM` as far as it is used, one token after another from a model of its own, which begins with random weights."""

    def __init__(self, folder: str, **options: Any):
        assert options["load_format"] == "dummy"
        self.options, self.asked, self.running, self.remembers = options, list[Any](), True, False
        torch.manual_seed(99)
        self.model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).eval()
        self.llm_engine = SimpleNamespace(engine_core=SimpleNamespace(shutdown=self._end))

    def _end(self) -> None:
        self.running = False

    def collective_rpc(self, method: str, kwargs: dict[str, Any]) -> None:
        assert method == "reload_weights"
        missing, unexpected = self.model.load_state_dict(dict(kwargs["weights_iterator"]), strict=False)
        assert not missing
        assert not unexpected
        self.remembers = True

    def apply_model(self, do: Any) -> None:
        do(self.model)

    def reset_prefix_cache(self) -> bool:
        self.remembers = False
        return True

    def generate(self, prompts: list[Any], params: list[Any], use_tqdm: bool) -> list[Any]:
        assert self.running
        assert not self.remembers, "what the old weights have read is still remembered"
        self.asked += params
        return [self._one(prompt["prompt_token_ids"], wanted) for prompt, wanted in zip(prompts, params, strict=True)]

    def _one(self, prompt: list[int], wanted: SimpleNamespace) -> SimpleNamespace:
        assert len(prompt) + wanted.max_tokens <= self.options["max_model_len"]
        logits = self.model(torch.tensor([prompt])).logits[0].log_softmax(1)
        read = [None, *({t: SimpleNamespace(logprob=float(row[t]))} for row, t in zip(logits, prompt[1:], strict=False))]
        ids, chance = list[int](), torch.Generator().manual_seed(getattr(wanted, "seed", 0))
        while len(ids) < wanted.max_tokens:
            row = self.model(torch.tensor([[*prompt, *ids]])).logits[0, -1]
            for token, bias in (getattr(wanted, "logit_bias", None) or {}).items():
                row[token] += bias
            drawn = torch.multinomial((row / (wanted.temperature or 1)).softmax(0), 1, generator=chance)
            ids.append(int(drawn if wanted.temperature else row.argmax()))
            if ids[-1] in getattr(wanted, "stop_token_ids", ()):
                break
        return SimpleNamespace(outputs=[SimpleNamespace(token_ids=ids)], prompt_logprobs=read)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[StandIn]]:
    """The stand-ins that were started, in order."""
    started: list[StandIn] = []
    package = ModuleType("vllm")
    package.LLM = lambda *args, **options: started.append(StandIn(*args, **options)) or started[-1]  # type: ignore[attr-defined]
    package.SamplingParams = SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", package)
    monkeypatch.setattr(vllm, "_engine", [])
    yield started
    for name in ("VLLM_ENABLE_V1_MULTIPROCESSING", "VLLM_NO_USAGE_STATS", "VLLM_LOGGING_LEVEL"):
        os.environ.pop(name, None)


def draws(encoder: Encoder) -> list[Draw]:
    return [Draw(str(i), encoder.prompt(question)) for i, question in enumerate(QUESTIONS)]


def both(model: PreTrainedModel, encoder: Encoder, asked: list[Draw]) -> tuple[Any, Any]:
    return sample(model, encoder, asked, BUILTIN), sample(model, encoder, asked, VLLM)


# -- the same answers ------------------------------------------------------------------------------------------------------


def test_greedy_answers_prefixes_limits_and_repulsion_are_those_of_the_built_in_sampler(model, encoder, stand_in):
    plain = draws(encoder)
    ours, theirs = both(model, encoder, plain)
    assert ours == theirs
    first = [answers[0].ids[0] for answers in ours]
    changed = [
        [replace(draw, context=(*draw.context, *encoder.prefix("The"))) for draw in plain],
        [replace(draw, limit=1 + i) for i, draw in enumerate(plain)],
        [replace(draw, repelled=(token, encoder.end), repulsion=9.0) for draw, token in zip(plain, first, strict=True)],
    ]
    for asked in changed:
        ours, theirs = both(model, encoder, asked)
        assert ours == theirs
    assert all(answers[0].ids[0] != token for answers, token in zip(theirs, first, strict=True))


def test_a_finished_answer_keeps_its_end(model, encoder, stand_in):
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.weight[encoder.end] = 1.0
        model.model.norm.weight.fill_(1.0)
    ours, theirs = both(model, encoder, draws(encoder))
    assert ours == theirs


def test_each_answer_has_its_own_numbers_and_each_draw_its_own_settings(model, encoder, stand_in):
    asked = [replace(draw, n=3, temperature=1 + i / 2, top_p=1 - i / 10) for i, draw in enumerate(draws(encoder))]
    once = sample(model, encoder, asked, VLLM, seed=3, salt="round 1")
    params = stand_in[0].asked[1:]  # the canary comes first
    assert [(one.temperature, one.top_p) for one in params] == [(1.0, 1.0)] * 3 + [(1.5, 0.9)] * 3 + [(2.0, 0.8)] * 3
    assert len({one.seed for one in params}) == 9
    assert all(0 <= one.seed < 2**63 for one in params)
    assert sample(model, encoder, asked[::-1], VLLM, seed=3, salt="round 1")[::-1] == once
    assert sample(model, encoder, asked, VLLM, seed=3, salt="round 2") != once
    assert len({answer.ids for answers in once for answer in answers}) == 9


# -- the weights at hand ----------------------------------------------------------------------------------------------------


def test_it_follows_the_weights(model, encoder, stand_in):
    before, _ = both(model, encoder, draws(encoder))
    with torch.no_grad():
        for parameter, other in zip(model.parameters(), tiny_model(seed=5).parameters(), strict=True):
            parameter.copy_(other)
    ours, theirs = both(model, encoder, draws(encoder))
    assert ours == theirs != before
    other = tiny_model(seed=6)
    assert sample(other, encoder, draws(encoder), VLLM) == sample(other, encoder, draws(encoder), BUILTIN)
    assert len(stand_in) == 1


def test_weights_that_stay_are_sent_once(model, encoder, stand_in, monkeypatch):
    sent = []
    monkeypatch.setattr(vllm.Engine, "_send", lambda engine, model, send=vllm.Engine._send: (sent.append(1), send(engine, model)))
    for _ in range(3):
        sample(model, encoder, draws(encoder), VLLM)
    assert len(sent) == 1


@pytest.mark.parametrize(("step", "tolerance", "said"), [(1e-3, 1e-3, "weights are stale"), (1e-2, 9.0, "has not moved with the weights")])
def test_stale_weights_end_the_run(model, encoder, stand_in, monkeypatch, step, tolerance, said):
    sample(model, encoder, draws(encoder), VLLM)
    monkeypatch.setattr(vllm.Engine, "_send", lambda *_: None)
    monkeypatch.setattr(vllm, "TOLERANCE", {torch.float32: tolerance})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(step * torch.randn_like(parameter).sign())
    with pytest.raises(vllm.StaleWeights, match=said):
        sample(model, encoder, draws(encoder), VLLM)


def test_adapters_are_added_and_taken_away(model, encoder, stand_in):
    plain = sample(model, encoder, draws(encoder), BUILTIN)
    adapt(model, LoraConfig(rank=4))
    with torch.no_grad():
        for parameter in trainable(model).values():
            parameter.normal_()
    ours, theirs = both(model, encoder, draws(encoder))
    assert ours == theirs != plain
    with without_adapters(model):
        assert sample(model, encoder, draws(encoder), VLLM) == plain
    assert sample(model, encoder, draws(encoder), VLLM) == ours


def test_a_model_that_is_not_finite_is_an_error(model, encoder, stand_in):
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="not finite"):
        sample(model, encoder, draws(encoder), VLLM)


def test_a_longer_request_starts_another_engine(model, encoder, stand_in):
    sample(model, encoder, draws(encoder), VLLM)
    sample(model, encoder, [Draw("long", (5,) * 1500)], VLLM)
    assert [one.options["max_model_len"] for one in stand_in] == [1024, 2048]
    assert [one.running for one in stand_in] == [False, True]


# -- what a recipe may ask -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["engine.name=vllm"], r"pip install 'unsay\[vllm\]'"),
        (["engine.name=vllm", "model.trust_remote_code=true"], "code that comes with a model"),
        (["engine.name=vllm", "model.quantization=4bit", "lora.rank=4"], "model.quantization = '4bit'"),
        (["engine.name=vllm", "model.device_map=auto"], "in several places"),
    ],
)
def test_what_it_cannot_do_is_refused_before_anything_runs(settings, said, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=said):
        vllm.check(load(None, settings))


def test_several_processes_are_refused(monkeypatch):
    monkeypatch.setattr(ranks, "launched", lambda: True)
    with pytest.raises(ConfigError, match="several processes"):
        vllm.check(load(None, ["engine.name=vllm"]))
    vllm.check(load(None))


@pytest.mark.parametrize("stage", [runs.run_train, lambda *its: runs.run_audit(*its[:2], "after", its[2])])
def test_a_stage_alone_looks_for_it_too(stage, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'unsay\[vllm\]'"):
        stage(load(None, ["engine.name=vllm"]), RunFolder(tmp_path), Watchers())
    assert not list(tmp_path.iterdir())


def test_a_server_is_audited_and_not_trained_through():
    with pytest.raises(ConfigError, match="unsay audit RUN --endpoint"):
        EngineConfig("http://127.0.0.1:8000")
    with pytest.raises(ConfigError, match="'vlm'"):
        EngineConfig("vlm")


def test_the_recipe_says_which_engine_everywhere():
    recipe = load(None, ["engine.name=vllm", "engine.memory=3", "sample.rows=7", "deployment.max_new_tokens=9"])
    assert recipe.sampling == VllmConfig(rows=7, memory=3.0)
    assert deployment.sample(recipe) == VllmConfig(max_new_tokens=9, rows=7, memory=3.0)
    assert '[engine]\nname = "vllm"\nmemory = 3.0\n' in dump(recipe)
    assert type(load(None).sampling) is SampleConfig


def test_attacked_copies_are_asked_by_the_built_in_sampler(model, encoder):
    assert sampling_of(LocalSubject(model, encoder, VllmConfig(max_new_tokens=3))) == SampleConfig(max_new_tokens=3)


def test_kept_answers_of_the_two_engines_are_told_apart(encoder):
    subjects = [KeptSubject(None, ModelConfig(), config, 0, lambda: None, None) for config in (BUILTIN, VLLM)]  # type: ignore[arg-type]
    for subject in subjects:
        subject.encoder = encoder
    ours, theirs = (subject._key(Prompt("a", "Who?"), 0.0, 1.0, "") for subject in subjects)
    assert ours != theirs


# -- the real one ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_real_engine_answers_for_the_weights_at_hand():
    if importlib.util.find_spec("vllm") is None:
        python = os.environ.get("UNSAY_VLLM_PYTHON")
        if not python:
            pytest.skip("vLLM is not here: UNSAY_VLLM_PYTHON names an interpreter that has it (scripts/vllm_env.sh)")
        command = [python, "-m", "pytest", f"{__file__}::{test_the_real_engine_answers_for_the_weights_at_hand.__name__}"]
        done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:]
        assert "1 passed" in done.stdout
        return
    model, encoder = load_model(ModelConfig("people-target"))
    retain_model, _ = load_model(ModelConfig("people-retain"))
    from unsay.corpora.people import People

    asked = [Draw(e.id, encoder.prompt(e.question)) for e in People().corpus().forget[::5]]
    ours, theirs = both(model, encoder, asked)
    assert ours == theirs
    repelled = [replace(draw, repelled=(answers[0].ids[0],), repulsion=20.0) for draw, answers in zip(asked, ours, strict=True)]
    ours_repelled, theirs_repelled = both(model, encoder, repelled)
    assert ours_repelled == theirs_repelled != ours
    hot = [replace(draw, n=4, temperature=1.2, top_p=0.9) for draw in asked]
    assert sample(model, encoder, hot, VLLM, 1, "x") == sample(model, encoder, hot[::-1], VLLM, 1, "x")[::-1]
    with torch.no_grad():
        for parameter, other in zip(model.parameters(), retain_model.parameters(), strict=True):
            parameter.copy_(other)
    ours_now, theirs_now = both(model, encoder, asked)
    assert ours_now == theirs_now != ours
    vllm.Engine._send = lambda *_: None  # type: ignore[method-assign]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1e-4)
    with pytest.raises(vllm.StaleWeights):
        sample(model, encoder, asked, VLLM)
