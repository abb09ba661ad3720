"""PMC, partial model collapse: ask the model, keep the answer least like what it used to say, train on that, repeat.

Scholten, Xhonneux, Schwinn, Günnemann, "Model Collapse Is Not a Bug but a Feature in Machine Unlearning for LLMs",
arXiv 2507.04219. One round is

    θ' = argmin  E_forget[ NLL(x̂ | q) ] + λ·E_retain[ NLL(x | q) ],   x̂ = the best of K samples from the model itself

with reward 1 − ROUGE-L recall against the model's own original answer (`preset = "paper"`). Numbered departures, all of
them knobs, and all of them on in the default `preset = "guarded"`:

1. *Depth.* A share of the visits continues from an opening cut out of the model's recorded answers (openings.py).
2. *Gate.* A candidate that repeats too much of this secret, or states another one, is never trained on (gate.py).
3. *Exploration.* A question for which nothing passes the gate is asked again, hotter and with its secret repelled.
4. *Sense.* Fluency, length, topic and distinctness join the reward, so that answers stay whole and believable.

`official` adds what the released code does beyond the formula: the best answer so far is kept, and a question whose
kept answer shares nothing with the old one is not asked again. `align` is the authors' later refinement: a small third
term toward answers in the operator's words, fading as the collapse proceeds.
"""

import statistics
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from torch import Tensor
from transformers import PreTrainedModel

from unsay.adapters import Untouched
from unsay.anchor import anchored_logprobs
from unsay.config import ConfigError
from unsay.config.build import not_negative, one_of, positive, share
from unsay.encode import Batch, Row
from unsay.methods import State, Target, Visit
from unsay.methods.gate import Gate
from unsay.methods.openings import choose_opening, secret_tokens
from unsay.methods.selection import Ask, bradley_terry, finished_or_all, remember, unnamed
from unsay.methods.stopping import EarlyStop
from unsay.methods.strangers import borrow, strangers
from unsay.rewards.overlap import overlap
from unsay.rewards.weighted import Weighted
from unsay.sample import Draw
from unsay.sampler import Sampler
from unsay.types import Answer, Candidate, Reference

_SETTLED = 8
"""How many other questions' last answers the distinctness of a candidate is measured against."""


@dataclass(frozen=True)
class PartialModelCollapse:
    """PMC: fine-tune on the model's own best-of-n answers, those least like what it used to say, and on retain data."""

    preset: str = "guarded"
    """`guarded`, or the authors' `paper`, `official`, `align` (docs/methods.md)."""
    samples: int = 8
    """K, the answers sampled at each visit."""
    temperature: float = 1.0
    """Sampling temperature. The paper uses 1.25 (Phi-1.5) and .9 (Llama-3.2-3B)."""
    top_p: float = 0.95
    """Nucleus. The paper uses .95."""
    retain_weight: float = 1.25
    """λ. The paper uses 1.5 (Phi-1.5) and 1.25 (Llama-3.2-3B)."""
    selection: str = "argmax"
    """`argmax` (ties to the lowest draw) or `bradley-terry`: P(x) ∝ exp(reward / `selection_temperature`)."""
    selection_temperature: float = 0.1
    """τ of Bradley–Terry selection, above 0; toward 0 it becomes argmax."""
    memory: str = "none"
    """`best` keeps the best answer ever seen for a question and trains on it until one at least as good turns up."""
    freeze_at: float | None = None
    """With `memory = "best"`: stop asking a question whose kept answer overlaps the old one by this much or less."""
    rewards: Mapping[str, float] = field(default_factory=lambda: {"overlap": 1.0})
    """Weights of the rewards (`unsay rewards`); the score is their weighted mean."""
    length_guard: int = 0
    """Answers with fewer words than this are scored as if they overlapped, as the released code does; 0 is off."""
    gate: bool = False
    """Refuse targets that leak or make no sense (the knobs from `max_leak` to `min_words`)."""
    max_leak: float = 0.5
    """Largest ROUGE-L recall against the own baseline."""
    max_key_recall: float = 0.25
    """Largest share of the own baseline's key words."""
    max_other_leak: float = 0.67
    """Largest share of the key words of another forget question's baseline."""
    min_words: int = 3
    """Fewest words of a whole answer; a continuation may be shorter, and an answer where the recorded one is a bare name."""
    min_fluency: float | None = None
    """Least mean log-probability per token (nats) of a sentence under the untouched model without the question; noise lies below −6."""
    tries: int = 1
    """Times a question is asked within one visit until something passes the gate, each hotter than the one before."""
    heat: float = 0.15
    """Rise of the temperature, as a share of it, each time nothing passed; it falls back as things pass again."""
    max_temperature: float = 1.6
    """Its ceiling: above it most models write noise."""
    repulsion: float = 0.0
    """Penalty (nats) on the tokens of the secret's own words once nothing passed; × 1.3 each further time."""
    openings: float = 0.0
    """Share of the visits that continue from an opening."""
    strangers: int = 0
    """Candidates sampled besides, as if the question, and the opening, were about somebody made up (strangers.py)."""
    at_secret: float = 0.5
    """Share of the openings that end right before a key word; the others end anywhere."""
    desired: tuple[str, ...] = ()
    """Answers in the operator's words: offered as a last resort, and the goal of the alignment term."""
    align_weight: float = 0.0
    """Weight of the alignment term, times the batch's mean overlap. The authors use .5."""

    early_stop: bool = True
    """Stop writing a candidate that cannot be chosen any more. The choice is the same with and without."""
    length_ratio: float = 2.0
    """Longest candidate, as a multiple of the recorded answer's length in tokens; longer ones cannot win anyway."""

    _reward: Weighted = field(init=False, repr=False, compare=False)

    needs_answers: ClassVar[bool] = False
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"samples": 5, "temperature": 1.25, "retain_weight": 1.5},
        "official": {"samples": 5, "temperature": 1.25, "retain_weight": 1.5, "memory": "best", "freeze_at": 0.0},
        "align": {
            "samples": 5,
            "temperature": 1.25,
            "retain_weight": 1.5,
            "memory": "best",
            "freeze_at": 0.0,
            "align_weight": 0.5,
            "length_guard": 5,
            "desired": (
                "That information is not available.",
                "I have no information about that.",
                "I am not able to say anything about that.",
                "There is nothing I can tell you about this.",
                "No details about that are known to me.",
            ),
        },
        "guarded": {
            "samples": 5,
            "retain_weight": 2.5,
            "gate": True,
            "min_fluency": -4.5,
            "openings": 0.65,
            "tries": 2,
            "length_ratio": 1.5,
            "repulsion": 5.0,
            "rewards": {"overlap": 1.0, "keys": 0.5, "fluency": 1.0, "length": 0.15, "topic": 0.1, "distinct": 0.1, "refusal": 0.3},
        },
    }

    def __post_init__(self) -> None:
        one_of("pmc.selection", self.selection, ("argmax", "bradley-terry"))
        one_of("pmc.memory", self.memory, ("none", "best"))
        positive("pmc", samples=self.samples, tries=self.tries, temperature=self.temperature, top_p=self.top_p)
        positive("pmc", selection_temperature=self.selection_temperature)
        not_negative("pmc", strangers=self.strangers, retain_weight=self.retain_weight, align_weight=self.align_weight)
        not_negative("pmc", heat=self.heat, repulsion=self.repulsion)
        share("pmc", top_p=self.top_p, openings=self.openings, at_secret=self.at_secret)
        if self.freeze_at is not None and self.memory != "best":
            raise ConfigError("pmc.freeze_at needs pmc.memory = 'best': only a kept answer can be frozen")
        if self.align_weight and not self.desired:
            raise ConfigError("pmc.align_weight needs pmc.desired, the answers it should move toward")
        object.__setattr__(self, "_reward", self._weighted({}))  # here, so that a wrong name shows before anything runs

    @property
    def needs_reference(self) -> bool:
        return self._reward.needs_fluency or self.min_fluency is not None

    def scored_with(self, tables: Mapping[str, Mapping[str, Any]]) -> "PartialModelCollapse":
        """The same, its rewards with the knobs that their own tables hold. Raises `ConfigError`."""
        made = copy(self)
        object.__setattr__(made, "_reward", self._weighted(tables))
        return made

    def _weighted(self, tables: Mapping[str, Mapping[str, Any]]) -> Weighted:
        return Weighted(self.rewards, {**tables, "overlap": {"min_words": self.length_guard, **tables.get("overlap", {})}})

    # -- what the model should say instead -------------------------------------------------------------------------

    def prepare(self, visits: Sequence[Visit], sampler: Sampler) -> State:
        names = strangers(visits, sampler) if self.strangers else {}
        return {key: {"strangers": found} for key, found in names.items()}

    def targets(self, visits: Sequence[Visit], sampler: Sampler, state: State) -> tuple[list[Target], State]:
        memory = {key: dict(value) for key, value in state.items()}
        asks = [self._ask(visit, sampler, memory.get(visit.example.id, {})) for visit in visits]
        open_asks = [ask for ask in asks if not ask.frozen]
        for attempt in range(self.tries):
            self._sample(open_asks, sampler, attempt)
            if self.strangers:
                names = {key: entry["strangers"] for key, entry in memory.items() if "strangers" in entry}
                plain = [Draw("", (), self.strangers, self.temperature, self.top_p, limit=self._limit(ask)) for ask in open_asks]
                borrow(open_asks, plain, names, sampler, attempt)
            for ask in open_asks:
                ask.passed = self._gate(ask).passed(ask.candidates) if self.gate else finished_or_all(unnamed(ask))
                ask.heat = max(0, ask.heat - 1) if ask.passed else ask.heat + 1
            open_asks = [ask for ask in open_asks if not ask.passed]
        self._fluency([ask for ask in asks if ask.passed], sampler)

        targets = []
        for ask in asks:
            entry = memory.setdefault(ask.id, {})
            best = None if ask.frozen else self._select(ask, sampler, memory)
            if self.memory == "best" and not ask.opening.ids:
                best = remember(entry, best, self._overlap(best, ask.reference))
            entry["heat"] = ask.heat
            if best is not None:
                entry["settled"] = best.text
            targets.append(self._target(ask, best, sampler))
        if self.align_weight:
            targets = self._align(targets, asks, sampler)
        return targets, memory

    def _ask(self, visit: Visit, sampler: Sampler, entry: Mapping[str, Any]) -> Ask:
        opening = choose_opening(visit, sampler, self.openings, self.at_secret)
        reference = Reference(
            visit.example.question,
            opening.source or visit.baseline,
            visit.others,
            visit.other_questions,
            opening.text,
            strings=visit.example.strings,
            patterns=visit.example.patterns,
            spans=visit.example.spans,
            struck=visit.example.struck,
            desired=self.desired or visit.desired,
        )
        frozen = self.freeze_at is not None and float(entry.get("overlap", 1.0)) <= self.freeze_at
        return Ask(visit, opening, reference, int(entry.get("heat", 0)), frozen)

    def _sample(self, asks: Sequence[Ask], sampler: Sampler, attempt: int) -> None:
        """Fresh candidates for every ask, at the temperature it has come to."""
        if not asks:
            return
        draws = []
        for ask in asks:
            hot = self.gate and ask.heat > 0
            ask.temperature = (
                min(self.temperature * (1 + self.heat * ask.heat), max(self.max_temperature, self.temperature)) if hot else self.temperature
            )
            repelled = hot and self.repulsion > 0
            ask.source = "repelled" if repelled else "hot" if hot else "plain"
            draws.append(
                Draw(
                    f"{ask.id}|{attempt}",
                    sampler.encoder.prompt(ask.visit.example.question) + ask.opening.ids,
                    self.samples,
                    ask.temperature,
                    1.0 if hot else self.top_p,
                    secret_tokens(ask.visit, sampler.encoder) if repelled else (),
                    min(self.repulsion * 1.3 ** (ask.heat - 1), 20.0) if repelled else 0.0,
                    self._limit(ask),
                )
            )
        watch = self._watch(asks, sampler)
        for i, (ask, found) in enumerate(zip(asks, sampler.candidates(draws, [ask.source for ask in asks], watch), strict=True)):
            ask.candidates = [ask.opening.complete(candidate, sampler.encoder) for candidate in found]
            ask.sampled += len(found)
            ask.stopped += watch.stopped.get(i, []) if watch else []

    def _watch(self, asks: Sequence[Ask], sampler: Sampler) -> EarlyStop | None:
        """Who gives up candidates that cannot be chosen; nobody where that cannot be known before they are whole."""
        decides = self.selection == "argmax" and self._reward.bounded and not self.needs_reference
        if not self.early_stop or not (decides or self.gate):
            return None
        return EarlyStop(asks, [self._gate(ask) if self.gate else None for ask in asks], self._reward if decides else None, sampler.encoder)

    def _limit(self, ask: Ask) -> int:
        """Tokens after which a candidate is given up; 0 where the gate is off and any length may win."""
        recorded = ask.visit.answers
        if not self.gate or not recorded:
            return 0
        usual = statistics.median(len(answer.ids) for answer in recorded)
        return max(8, 8 + int(self.length_ratio * usual) - len(ask.opening.ids))

    def _gate(self, ask: Ask) -> Gate:
        baselines = tuple(dict.fromkeys((ask.visit.baseline, ask.reference.baseline)))
        return Gate(ask.reference, baselines, self.max_leak, self.max_key_recall, self.max_other_leak, self.min_words)

    def _fluency(self, asks: Sequence[Ask], sampler: Sampler) -> None:
        if not asks or not self.needs_reference:
            return
        flat = [(ask, candidate) for ask in asks for candidate in ask.passed]
        scored = iter(sampler.with_fluency([c for _, c in flat], [ask.opening.ids for ask, _ in flat]))
        for ask in asks:
            fluent = [next(scored) for _ in ask.passed]
            # Without its question a bare name is unlikely, whichever it is: the threshold is for sentences.
            free = self.min_fluency is None or self._gate(ask).bare
            ask.passed = [c for c in fluent if free or (c.fluency or 0.0) >= (self.min_fluency or 0.0)]

    def _select(self, ask: Ask, sampler: Sampler, memory: Mapping[str, Mapping[str, Any]]) -> Candidate | None:
        """The candidate to train on: the best reward, or a draw in proportion to exp(reward / τ)."""
        if not ask.passed:
            return self._last_resort(ask, sampler)
        elsewhere = [str(entry["settled"]) for key, entry in memory.items() if key != ask.id and "settled" in entry]
        start = int(sampler.uniform(ask.id, "settled") * max(1, len(elsewhere)))
        settled = (elsewhere + elsewhere)[start : start + min(_SETTLED, len(elsewhere))]
        reference = replace(ask.reference, settled=tuple(settled))
        scores = self._reward(ask.passed, reference)
        values = [score if score is not None else 0.0 for score in scores]
        if self.selection == "argmax":
            return ask.passed[max(range(len(values)), key=lambda i: (values[i], -i))]
        return ask.passed[bradley_terry(values, self.selection_temperature, sampler.uniform(ask.id, "selection"))]

    def _last_resort(self, ask: Ask, sampler: Sampler) -> Candidate | None:
        """One of the operator's answers, where nothing of the model's own would do and the answer is not begun."""
        if not self.gate or not ask.reference.desired or ask.opening.ids or ask.frozen:
            return None
        text = self._one_desired(ask, sampler)
        return Candidate(Answer(sampler.encoder.answer(text), text, True), 0, "desired")

    def _overlap(self, said: Candidate | Target | None, reference: Reference) -> float:
        """What the authors keep of an answer: its overlap with the baseline, length guard included; 1 where it cannot be scored."""
        found = overlap(reference.baseline, said.text, self.length_guard) if said is not None else None
        return 1.0 if found is None else found

    def _one_desired(self, ask: Ask, sampler: Sampler) -> str:
        desired = ask.reference.desired
        return desired[int(sampler.uniform(ask.id, "desired") * len(desired))]

    def _target(self, ask: Ask, best: Candidate | None, sampler: Sampler) -> Target:
        reads = {"reward and gate": ask.sampled}
        if ask.opening.ids:
            reads["opening"] = 1
        if ask.source == "repelled":
            reads["repulsion"] = 1
        asked = Target(ask.id, source="none", sampled=ask.sampled, stopped=tuple(ask.stopped), temperature=ask.temperature, reads=reads)
        if best is None:
            return asked
        context = sampler.encoder.prompt(ask.visit.example.question) + ask.opening.ids
        rows = (Row(context, best.answer.ids),)
        return replace(asked, rows=rows, text=best.text, opening=ask.opening.text, source=best.source)

    def _align(self, targets: list[Target], asks: Sequence[Ask], sampler: Sampler) -> list[Target]:
        """The same targets with a row toward a desired answer, weighted by how much the batch still overlaps."""
        overlaps = [self._overlap(target, ask.reference) for target, ask in zip(targets, asks, strict=True) if target.rows]
        weight = self.align_weight * sum(overlaps) / max(1, len(overlaps))
        if not weight:
            return targets
        extra = []
        for target, ask in zip(targets, asks, strict=True):
            row = sampler.encoder.pair(ask.visit.example.question, self._one_desired(ask, sampler), "align")
            extra.append(replace(target, rows=(*target.rows, replace(row, weight=weight))))
        return extra

    # -- how far the model is from it ------------------------------------------------------------------------------

    def loss(self, model: PreTrainedModel, reference: Untouched | None, batch: Batch) -> dict[str, Tensor]:
        nll = -anchored_logprobs(model, reference, batch)
        terms = {"forget": batch.mean(nll, "forget"), "retain": self.retain_weight * batch.mean(nll, "retain")}
        return terms | ({"align": batch.mean(nll, "align")} if self.align_weight else {})
