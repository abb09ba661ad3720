"""PMC, partial model collapse: ask the model, keep the answer least like what it used to say, train on that, repeat.

Scholten, Xhonneux, Schwinn, Günnemann, "Model Collapse Is Not a Bug but a Feature in Machine Unlearning for LLMs",
arXiv 2507.04219. With y the model's own original answer to a forget question q, one round is

    x₁ … x_K ∼ π_θ(· | q)                                                           ask, sample
    r(x) = 1 − ROUGE-L recall of y in x                                             score
    x̂ = argmax r(x_k),  or drawn with P(x_k) ∝ exp(r(x_k) / τ)                      keep
    θ ← argmin  E_forget[ NLL(x̂ | q) ] + λ · E_retain[ NLL(x | q) ]                 train

The truth is never read. `paper` is this and nothing else. `official` adds what the released code does beyond the formula: the
best answer so far is remembered, and a question whose best answer shares nothing with y is not asked again. `align`, the authors'
later refinement, adds a third term toward answers in the operator's words, which fades as the overlap with y does. The
default, `guarded`, overrides single steps of the algorithm in a file of its own (guarded.py).
"""

import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from torch import Tensor
from transformers import PreTrainedModel

from unsay.config import ConfigError
from unsay.config.build import not_negative, one_of, positive, share
from unsay.lm.adapters import Untouched
from unsay.lm.rows import Batch, Row
from unsay.lm.sample import Draw
from unsay.lm.sampler import Sampler
from unsay.lm.subject import parts
from unsay.methods import State, Target, Visit, pick, reads
from unsay.methods.refusals import FIVE
from unsay.methods.retain_loss import retain_logprobs
from unsay.methods.selection import Ask, Settled, add_fluency, bradley_terry, finished_or_all, unnamed
from unsay.methods.target_filter import TargetFilter
from unsay.rewards.overlap import overlap
from unsay.rewards.weighted import Weighted
from unsay.types import Answer, Candidate, Reference


@dataclass(frozen=True)
class PartialModelCollapse:
    """PMC: fine-tune on the model's own best-of-n answers, those least like what it used to say, and on retain data."""

    preset: str = "paper"
    """The authors' `paper`, `official` or `align`; or our `guarded` (docs/methods.md)."""
    samples: int = 5
    """K, the answers sampled at each visit."""
    temperature: float = 1.25
    """Sampling temperature. The paper uses 1.25 (Phi-1.5) and .9 (Llama-3.2-3B)."""
    top_p: float = 0.95
    """Nucleus. The paper uses .95."""
    retain_weight: float = 1.5
    """λ. The paper uses 1.5 (Phi-1.5) and 1.25 (Llama-3.2-3B)."""
    rewards: Mapping[str, float] = field(default_factory=lambda: {"overlap": 1.0})
    """Weights of the rewards (`unsay rewards`); the score is their weighted mean."""
    selection: str = "argmax"
    """`argmax` (ties to the lowest draw) or `bradley-terry`: P(x) ∝ exp(reward / `selection_temperature`)."""
    selection_temperature: float = 0.1
    """τ of Bradley–Terry selection, above 0; toward 0 it becomes argmax."""
    memory: str = "none"
    """`best` keeps the best answer ever seen for a question and trains on it until one at least as good turns up."""
    freeze_at: float | None = None
    """With `memory = "best"`: stop asking a question whose kept answer overlaps the old one by this much or less."""
    target_filter: bool = False
    """Drop what `guarded` never trains on: loops, another alphabet, and half of the old answer (target_filter.py; docs/methods.md)."""
    length_guard: int = 0
    """Answers with fewer words than this are scored as if they overlapped, as the released code does; 0 is off."""
    align_weight: float = 0.0
    """Weight of the alignment term, times the batch's mean overlap. The authors use .5."""
    desired: tuple[str, ...] = ()
    """Answers in the operator's words: the goal of the alignment term, and a last resort of `guarded`."""

    _reward: Weighted = field(init=False, repr=False, compare=False)

    needs_answers: ClassVar[bool] = False
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "official": {"memory": "best", "freeze_at": 0.0},
        "align": {"memory": "best", "freeze_at": 0.0, "align_weight": 0.5, "length_guard": 5, "desired": FIVE},
    }

    def __post_init__(self) -> None:
        one_of("pmc.selection", self.selection, ("argmax", "bradley-terry"))
        one_of("pmc.memory", self.memory, ("none", "best"))
        positive("pmc", samples=self.samples, temperature=self.temperature, top_p=self.top_p)
        positive("pmc", selection_temperature=self.selection_temperature)
        share("pmc", top_p=self.top_p)
        not_negative("pmc", retain_weight=self.retain_weight, align_weight=self.align_weight)
        if self.freeze_at is not None and self.memory != "best":
            raise ConfigError("pmc.freeze_at needs pmc.memory = 'best': only a kept answer can be frozen")
        if self.align_weight and not self.desired:
            raise ConfigError("pmc.align_weight needs pmc.desired, the answers it should move toward")
        object.__setattr__(self, "_reward", self._weighted({}))  # here, so that a wrong name shows before anything runs

    @property
    def needs_reference(self) -> bool:
        return self._reward.needs_fluency

    def scored_with(self, tables: Mapping[str, Mapping[str, Any]]) -> "PartialModelCollapse":
        """The same, its rewards with the knobs that their own tables hold. Raises `ConfigError`."""
        made = copy(self)
        object.__setattr__(made, "_reward", self._weighted(tables))
        return made

    def _weighted(self, tables: Mapping[str, Mapping[str, Any]]) -> Weighted:
        return Weighted(self.rewards, {**tables, "overlap": {"min_words": self.length_guard, **tables.get("overlap", {})}})

    # -- what the model should say instead: ask, sample, score, keep ---------------------------------------------------

    def targets(self, visits: Sequence[Visit], sampler: Sampler, state: State) -> tuple[list[Target], State]:
        memory: dict[str, Any] = {**state, **{visit.example.id: dict(state.get(visit.example.id, {})) for visit in visits}}
        settled, targets, asked = Settled(memory), list[Target](), list[Ask]()
        for group in parts(visits):
            asks = [self.ask(visit, sampler, memory[visit.example.id]) for visit in group]
            self.sample([ask for ask in asks if not ask.frozen], sampler, memory)
            for ask in asks:
                scores = self.score(ask, sampler, settled)
                best = self.keep(ask, scores, sampler)
                if self.memory == "best":
                    best = self.best_so_far(ask, best, memory[ask.id])
                if best is not None:
                    memory[ask.id]["settled"] = best.text
                    settled.put(ask.id, best.text)
                targets.append(self.target(ask, best))
            asked += asks if self.align_weight else []
        alike: dict[str, Any] = {}
        for visit in visits:  # most are: of 100,000 questions each its own takes 20 MB
            entry = memory[visit.example.id]
            memory[visit.example.id] = alike.setdefault(repr(entry), entry)
        return (self._aligned(targets, asked, sampler) if self.align_weight else targets), memory

    def ask(self, visit: Visit, sampler: Sampler, entry: Mapping[str, Any]) -> Ask:
        """The question, and what its answers are compared with."""
        frozen = self.freeze_at is not None and float(entry.get("overlap", 1.0)) <= self.freeze_at
        return Ask(visit, sampler.encoder.prompt(visit.example.question), visit.reference(self.desired), frozen)

    def sample(self, asks: Sequence[Ask], sampler: Sampler, memory: Mapping[str, dict[str, Any]]) -> None:
        """Give each ask K candidates."""
        draws = [Draw(f"{ask.id}|0", ask.context, self.samples, self.temperature, self.top_p) for ask in asks]
        for ask, candidates in zip(asks, sampler.candidates(draws, ["plain"] * len(draws)), strict=True):
            ask.temperature, ask.sampled = self.temperature, len(candidates)
            ask.candidates = finished_or_all(unnamed(candidates, ask.reference))
            if self.target_filter:
                ask.candidates = TargetFilter(ask.reference, ask.visit.baseline).passed(ask.candidates)
        if self.needs_reference:
            add_fluency(asks, sampler)

    def score(self, ask: Ask, sampler: Sampler, settled: Settled) -> list[float]:
        """r(x) of each candidate; 0 where no reward applies to it."""
        if not ask.candidates:
            return []
        reference = replace(ask.reference, settled=settled.said_by_others(ask, sampler))
        return [0.0 if score is None else score for score in self._reward(ask.candidates, reference)]

    def keep(self, ask: Ask, scores: Sequence[float], sampler: Sampler) -> Candidate | None:
        """The candidate with the best score, or one drawn in proportion to exp(score / τ); `None` where there is no candidate."""
        if not scores:
            return None
        if self.selection == "argmax":
            return ask.candidates[scores.index(max(scores))]
        return ask.candidates[bradley_terry(scores, self.selection_temperature, sampler.uniform(ask.id, "selection"))]

    def best_so_far(self, ask: Ask, best: Candidate | None, entry: dict[str, Any]) -> Candidate | None:
        """This round's answer where it overlaps the baseline no more than the remembered one, else the remembered one."""
        shared = self._overlap(best, ask.reference)
        if best is not None and shared <= entry.get("overlap", math.inf):
            entry |= {"overlap": shared, "ids": list(best.answer.ids), "text": best.text, "finished": best.answer.finished}
            return best
        return Candidate(Answer(tuple(entry["ids"]), entry["text"], entry["finished"]), 0, "memory") if "ids" in entry else None

    def target(self, ask: Ask, best: Candidate | None) -> Target:
        """What is trained on: the sampled ids as they are."""
        read = reads(("reward and filter", ask.sampled + ask.recalled))
        target = Target(ask.id, source="none", sampled=ask.sampled, temperature=ask.temperature, reads=read)
        return target if best is None else replace(target, rows=(Row(ask.context, best.answer.ids),), text=best.text, source=best.source)

    def _aligned(self, targets: Sequence[Target], asks: Sequence[Ask], sampler: Sampler) -> list[Target]:
        """The same targets with a row toward a desired answer, weighted by how much the batch still overlaps."""
        overlaps = [self._overlap(target, ask.reference) for target, ask in zip(targets, asks, strict=True) if target.rows]
        weight = self.align_weight * sum(overlaps) / max(1, len(overlaps))
        if not weight:
            return list(targets)
        rows = [sampler.encoder.pair(ask.visit.example.question, self._desired_answer(ask, sampler), "align") for ask in asks]
        return [replace(target, rows=(*target.rows, replace(row, weight=weight))) for target, row in zip(targets, rows, strict=True)]

    def _overlap(self, answer: Candidate | Target | None, reference: Reference) -> float:
        """ROUGE-L recall of the baseline in an answer, raised by the length guard; 1 where it cannot be scored."""
        found = overlap(reference.baseline, answer.text, self.length_guard) if answer is not None else None
        return 1.0 if found is None else found

    def _desired_answer(self, ask: Ask, sampler: Sampler) -> str:
        """One of the answers in the operator's words, drawn at this visit."""
        return pick(ask.reference.desired, sampler, ask.id, "desired")

    # -- train: how far the model is from the targets ------------------------------------------------------------------

    def loss(self, model: PreTrainedModel, reference: Untouched | None, batch: Batch) -> dict[str, Tensor]:
        return self.terms(retain_logprobs(model, reference, batch), batch)

    def terms(self, logprobs: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The terms of the loss, from the log-probabilities [B, A] of the answer tokens."""
        nll = -logprobs
        terms = {"forget": batch.mean(nll, "forget"), "retain": self.retain_weight * batch.mean(nll, "retain")}
        return terms | ({"align": batch.mean(nll, "align")} if self.align_weight else {})
