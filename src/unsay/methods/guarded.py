"""PMC with guards, the default: it finds something else to say where the model offers nothing, and never trains on the secret.

On top of the paper's algorithm (pmc.py), with numbered departures:

1. *Depth.* A share of the visits continues from a prefix cut out of the model's recorded answers (prefixes.py), or out of what it still
   tells when it is asked plainly (leaks.py).
2. *Target filter.* A candidate that repeats too much of this secret, or states another one, is never trained on (target_filter.py).
3. *Exploration.* A question for which nothing passes the filter is asked again, hotter and with its secret repelled.
4. *Sense.* Fluency, length, topic and distinctness join the reward, so that answers stay whole and believable; a candidate
   below a floor of fluency, or much longer than the recorded answers, is given up. So is a bare name that another question was
   trained to say.
5. *Counterfactual entities*, where asked for: what the model says about somebody it never heard of, or, of a subject of one word, about
   another of its kind, is a candidate too, and, where the recorded answer is a bare name, comes before all others (counterfactuals.py).
6. *Rejection*, where asked for: the first piece of a recorded word is pushed away beside the target, with a force that fades
   (rejection.py).
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from torch import Tensor
from transformers import PreTrainedModel

from unsay.config import ConfigError
from unsay.config.build import not_negative, positive, share
from unsay.lm.adapters import Untouched
from unsay.lm.rows import Batch
from unsay.lm.sample import Draw
from unsay.lm.sampler import Sampler
from unsay.methods import State, Target, Visit, reads
from unsay.methods.counterfactuals import borrow, stand_ins
from unsay.methods.leaks import SHARE, choose_leak, keep_leaks, leaks
from unsay.methods.pmc import PartialModelCollapse
from unsay.methods.prefixes import AT_SECRET, OPENED, choose_prefix, secret_tokens
from unsay.methods.rejection import faded, with_rejected
from unsay.methods.retain_loss import retain_logprobs
from unsay.methods.selection import Ask, Settled, add_fluency
from unsay.methods.target_filter import TargetFilter
from unsay.types import Answer, Candidate

_HARDER = 1.3
"""Repulsion grows by this factor each further time that nothing passed, up to `_HARDEST` nats."""
_HARDEST = 20.0
_MAX_TEMPERATURE = 1.6
"""To which a draw is heated at most: above it most models write noise."""


@dataclass(frozen=True)
class GuardedCollapse(PartialModelCollapse):
    """PMC: fine-tune on the model's own best-of-n answers, those least like what it used to say, and on retain data."""

    preset: str = "guarded"
    """`guarded`, or the authors' `paper`, `official`, `align`, which have the knobs of pmc.py alone (docs/methods.md)."""
    temperature: float = 1.0
    """Sampling temperature."""
    retain_weight: float = 2.5
    """λ."""
    rewards: Mapping[str, float] = field(
        default_factory=lambda: {"overlap": 1.0, "keys": 0.5, "fluency": 1.0, "length": 0.15, "topic": 0.1, "distinct": 0.1, "refusal": 0.3}
    )
    """Weights of the rewards (`unsay rewards`); the score is their weighted mean."""
    target_filter: bool = True
    """Always on here."""
    prefixes: float = OPENED
    """Share of the visits that continue from a prefix, or, where a leak tells at once, half of the time ask the bare question after all."""
    at_secret: float = AT_SECRET
    """Share of the prefixes that end right before a keyword; the others end anywhere."""
    max_leak: float = TargetFilter.max_leak
    """Largest ROUGE-L recall against the own baseline."""
    max_keyword_recall: float = TargetFilter.max_keyword_recall
    """Largest share of the own baseline's keywords."""
    max_other_leak: float = TargetFilter.max_other_leak
    """Largest share of the keywords of another forget question's baseline."""
    min_words: int = TargetFilter.min_words
    """Fewest words of a whole answer; a continuation may be shorter, and an answer where the recorded one is a bare name."""
    min_fluency: float | None = -4.5
    """Least mean log-probability per token (nats) of a sentence under the untouched model without the question; noise lies below −6."""
    length_ratio: float = 1.5
    """Longest candidate, as a multiple of the recorded answer's length in tokens; longer ones cannot win anyway."""
    tries: int = 2
    """Times a question is asked within one visit until something passes the filter, each hotter than the one before."""
    heat: float = 0.15
    """Rise of the temperature, as a share of it, each time nothing passed; it falls back as things pass again."""
    repulsion: float = 5.0
    """Penalty (nats) on the tokens of the secret's own words once nothing passed; × 1.3 each further time."""
    counterfactuals: int = 0
    """Candidates sampled besides, as if the question, and the prefix, were about somebody made up, or another of its kind; of its kind
    first the answers from before training, however many (counterfactuals.py)."""
    reject: float = 0.0
    """ρ: weight with which the first piece of a recorded word is pushed away beside the target, until the two lie far apart (rejection.py).
    It reads what should go, and the ledger says so; 0 does not."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {"guarded": {}}

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.target_filter:
            raise ConfigError('pmc.target_filter is what makes pmc.preset = "guarded"; "paper", "official" and "align" go without it')
        positive("pmc", tries=self.tries)
        not_negative("pmc", counterfactuals=self.counterfactuals, heat=self.heat, repulsion=self.repulsion, reject=self.reject)
        share("pmc", prefixes=self.prefixes, at_secret=self.at_secret)

    @property
    def needs_reference(self) -> bool:
        return super().needs_reference or self.min_fluency is not None or self.reject > 0

    def prepare(self, visits: Sequence[Visit], sampler: Sampler) -> State:
        return stand_ins(visits, sampler) if self.counterfactuals else {}

    # -- the steps of the algorithm, as they differ ----------------------------------------------------------------------

    def ask(self, visit: Visit, sampler: Sampler, entry: Mapping[str, Any]) -> Ask:
        """The question, or a prefix that an answer to it continues."""
        ask = super().ask(visit, sampler, entry)
        prefix = choose_prefix(visit, sampler, self.prefixes, self.at_secret)
        if prefix.ids and sampler.uniform(visit.example.id, "from leak") < SHARE:
            prefix = choose_leak(visit, leaks(entry, sampler.encoder), sampler) or prefix
        context, reference = ask.context + prefix.ids, prefix.continued(ask.reference)
        return replace(ask, context=context, reference=reference, prefix=prefix, heat=int(entry.get("heat", 0)))

    def sample(self, asks: Sequence[Ask], sampler: Sampler, memory: Mapping[str, dict[str, Any]]) -> None:
        """Give each ask candidates that pass the filter, trying again where none does."""
        waiting = asks
        for attempt in range(self.tries):
            self._sample_once(waiting, sampler, memory, attempt)
            for ask in waiting:
                if not attempt and not ask.prefix.ids:
                    keep_leaks(ask.visit, ask.candidates, memory[ask.id])
                ask.candidates = self._filter(ask).passed(ask.candidates)
                ask.heat = max(0, ask.heat - 1) if ask.candidates else ask.heat + 1
                memory[ask.id]["heat"] = ask.heat
            waiting = [ask for ask in waiting if not ask.candidates]
        if self.needs_reference:
            add_fluency(asks, sampler)
        for ask in asks:
            # Without its question a bare name is unlikely, whichever it is: the floor is for sentences.
            if self.min_fluency is not None and not self._filter(ask).bare:
                ask.candidates = [c for c in ask.candidates if (c.fluency or 0.0) >= self.min_fluency]

    def score(self, ask: Ask, sampler: Sampler, settled: Settled) -> list[float]:
        """Where a bare name is asked for, counterfactual candidates leave the others out."""
        if self._filter(ask).bare:  # sentences repeat the subject, and differ by that
            unused = settled.unused(ask)
            ask.candidates = [c for c in unused if c.source == "counterfactual"] or unused
        return super().score(ask, sampler, settled)

    def keep(self, ask: Ask, scores: Sequence[float], sampler: Sampler) -> Candidate | None:
        """The best candidate; where nothing of the model's own would do, and no answer is begun, one in the operator's words."""
        best = super().keep(ask, scores, sampler)
        if best is not None or ask.frozen or ask.prefix.ids or not ask.reference.desired:
            return best
        text = self._desired_answer(ask, sampler)
        return Candidate(Answer(sampler.encoder.answer(text), text, True), 0, "desired")

    def best_so_far(self, ask: Ask, best: Candidate | None, entry: dict[str, Any]) -> Candidate | None:
        """A continuation is no answer to the plain question, so none is remembered."""
        return best if ask.prefix.ids else super().best_so_far(ask, best, entry)

    def target(self, ask: Ask, best: Candidate | None) -> Target:
        target = super().target(ask, best)
        further = {"prefix": bool(ask.prefix.ids), "repulsion": ask.source == "repelled"}
        read = reads(*target.reads.items(), *((reader, 1) for reader, did in further.items() if did))
        return replace(target, reads=read, prefix=ask.prefix.text if target.rows else "")

    def targets(self, visits: Sequence[Visit], sampler: Sampler, state: State) -> tuple[list[Target], State]:
        before = state
        targets, state = super().targets(visits, sampler, before)
        if self.reject:
            known = {visit.example.id: leaks(before.get(visit.example.id, {}), sampler.encoder) for visit in visits}
            targets = with_rejected(targets, visits, sampler.encoder, known)
        return targets, state

    # -- rejection --------------------------------------------------------------------------------------------------------

    def loss(self, model: PreTrainedModel, reference: Untouched | None, batch: Batch) -> dict[str, Tensor]:
        if not self.reject or reference is None:
            return super().loss(model, reference, batch)
        logp = retain_logprobs(model, reference, batch)
        batch = faded(batch, logp, reference)
        return self.terms(logp, batch) | {"rejected": self.reject * batch.mean(logp, "rejected")}

    # -- target filter and exploration ------------------------------------------------------------------------------------

    def _sample_once(self, asks: Sequence[Ask], sampler: Sampler, memory: Mapping[str, Mapping[str, Any]], attempt: int) -> None:
        """Fresh candidates for every ask, at the temperature it has come to."""
        draws = [self._draw(ask, sampler, attempt) for ask in asks]
        for ask, candidates in zip(asks, sampler.candidates(draws, [ask.source for ask in asks]), strict=True):
            ask.candidates = [ask.prefix.complete(candidate, sampler.encoder) for candidate in candidates]
            ask.sampled += len(candidates)
        if self.counterfactuals:
            plain = [Draw("", (), self.counterfactuals, self.temperature, self.top_p, limit=self._limit(ask)) for ask in asks]
            borrow(asks, plain, memory, sampler, attempt)

    def _draw(self, ask: Ask, sampler: Sampler, attempt: int) -> Draw:
        """How an ask is sampled: as the paper does, or, once nothing has passed, hotter and with the secret repelled."""
        draw = Draw(f"{ask.id}|{attempt}", ask.context, self.samples, self.temperature, self.top_p, limit=self._limit(ask))
        ask.temperature, ask.source = self.temperature, "plain"
        if not ask.heat:
            return draw
        ask.temperature = min(self.temperature * (1 + self.heat * ask.heat), max(_MAX_TEMPERATURE, self.temperature))
        draw, ask.source = replace(draw, temperature=ask.temperature, top_p=1.0), "hot"
        if not self.repulsion:
            return draw
        ask.source, strength = "repelled", min(self.repulsion * _HARDER ** (ask.heat - 1), _HARDEST)
        return replace(draw, repelled=secret_tokens(ask.visit, sampler.encoder), repulsion=strength)

    def _limit(self, ask: Ask) -> int:
        """Tokens after which a candidate is given up; 0 where nothing is known of the usual length."""
        recorded = [len(answer.ids) for answer in ask.visit.answers]
        return max(8, 8 + int(self.length_ratio * statistics.median(recorded)) - len(ask.prefix.ids)) if recorded else 0

    def _filter(self, ask: Ask) -> TargetFilter:
        return TargetFilter(ask.reference, ask.visit.baseline, self.max_leak, self.max_keyword_recall, self.max_other_leak, self.min_words)
