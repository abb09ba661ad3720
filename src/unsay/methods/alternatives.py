"""AltPO: prefer answers that the model made up itself over the one it knows.

Mekala et al., "Alternate Preference Optimization for Unlearning Factual Knowledge in Large Language Models", arXiv
2409.13474 (COLING 2025). Before anything is trained the model is shown each question with its answer and asked for
another one; the loss is DPO's (preference.py) with these in the place of refusals, plus λ·NLL(retain). PMC's nearest relative:
its targets are the model's own words too, but they are made once, and it still trains against the answer. Departures:

1. The request is worded anew (`request`). Where a model follows no requests, `request = "{question}"` samples plain answers.
2. The sampled ids are trained on as they are. In place of what is empty or unfinished, holds a string that the operator named, or
   holds the answer word for word (a small model often repeats what it is shown: Gemma 3 270M in three of ten), more are drawn,
   up to `tries` times; an unfinished one stands only where a question has no other. The authors keep what comes.
3. One of a question's alternatives is drawn at each visit.
4. `ref` is found once, before the first step, as for DPO.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor
from transformers import PreTrainedModel

from unsay.config import ConfigError
from unsay.config.build import not_negative, positive, share
from unsay.lm.adapters import Untouched
from unsay.lm.rows import Batch
from unsay.lm.sample import Draw
from unsay.lm.sampler import Sampler
from unsay.methods import State, Target, Visit
from unsay.methods.preference import pair_target, preference_loss, with_answers, with_preferred
from unsay.methods.selection import finished_or_all
from unsay.text import contains
from unsay.types import Candidate

REQUEST = "{question}\nAnswer: {answer}\nNow give another version of this answer: plausible, but with other facts in place of those above."


@dataclass(frozen=True)
class AlternatePreference:
    """AltPO: make invented answers of the model's own more likely and the known one less, measured against the model as it was."""

    beta: float = 0.1
    """β: the smaller, the further apart the two are pushed. The authors search .05, .1, .5."""
    retain_weight: float = 1.0
    """λ, the weight of the retain term. The authors search 1, 2, 5."""
    alternatives: int = 5
    """K, the alternatives made for each question. The authors make 5."""
    temperature: float = 1.0
    """Sampling temperature of the alternatives. The authors use 1."""
    top_p: float = 1.0
    """Their nucleus. The authors cut nothing off."""
    request: str = REQUEST
    """What the model is asked for an alternative with; `{question}` and `{answer}` are filled in."""
    tries: int = 3
    """Times it is asked for those still missing."""

    needs_answers: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = False

    def __post_init__(self) -> None:
        positive("altpo", beta=self.beta, alternatives=self.alternatives, temperature=self.temperature, tries=self.tries, top_p=self.top_p)
        not_negative("altpo", retain_weight=self.retain_weight)
        share("altpo", top_p=self.top_p)
        if "{question}" not in self.request:
            raise ConfigError("altpo.request does not say where the question goes; write {question} in it")

    def prepare(self, visits: Sequence[Visit], sampler: Sampler) -> State:
        made: dict[str, list[Candidate]] = {visit.example.id: [] for visit in visits}
        for attempt in range(self.tries):
            missing = {key: self.alternatives - sum(c.answer.finished for c in found) for key, found in made.items()}
            asked = [visit for visit in visits if missing[visit.example.id] > 0]
            draws = [self._draw(visit, attempt, missing[visit.example.id], sampler) for visit in asked]
            for visit, candidates in zip(asked, sampler.candidates(draws, ["alternative"] * len(draws)), strict=True):
                made[visit.example.id] += [candidate for candidate in candidates if _differs(candidate, visit)]
        kept = {key: [c.answer for c in finished_or_all(found)[: self.alternatives]] for key, found in made.items()}
        return with_answers(with_preferred(kept, visits, sampler), visits, sampler)

    def targets(self, visits: Sequence[Visit], sampler: Sampler, state: State) -> tuple[list[Target], State]:
        targets = [pair_target(visit, sampler, state) for visit in visits]
        if sampler.round == 0 and "{answer}" in self.request:  # it was shown once, before the first round
            targets = [replace(target, reads={**target.reads, "request": 1}) for target in targets]
        return targets, state

    def loss(self, model: PreTrainedModel, reference: Untouched | None, batch: Batch) -> dict[str, Tensor]:
        return preference_loss(model, reference, batch, self.beta, self.retain_weight)

    def _draw(self, visit: Visit, attempt: int, n: int, sampler: Sampler) -> Draw:
        # Not str.format: a question may hold braces.
        request = self.request.replace("{answer}", visit.known).replace("{question}", visit.example.question)
        key = f"{visit.example.id}|alternative|{attempt}"
        return Draw(key, sampler.encoder.prompt(request), n, self.temperature, self.top_p)


def _differs(candidate: Candidate, visit: Visit) -> bool:
    """Whether a candidate says something else: neither the answer, word for word, nor what the operator named."""
    unwanted = (*visit.example.strings, visit.known)
    return bool(candidate.text) and not contains(candidate.text, unwanted, visit.example.patterns)
