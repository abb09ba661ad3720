"""Whether training is enough: the model is asked the forget questions between rounds, and ends early once it tells nothing.

How many rounds a model needs depends on its size, its rate and how many questions there are; each round after that costs other
answers and time. What is asked here are the forget questions themselves, plainly and with a recorded answer begun, at
temperature 1, and the draws are neither those of training nor those of the audit. It decides when to stop, and proves nothing:
a rare slip, other wordings and what lies deeper are the audit's to find.
"""

from collections.abc import Sequence
from dataclasses import replace

from unsay.lm.progress import fixed_work
from unsay.lm.sample import Draw
from unsay.lm.sampler import Sampler
from unsay.methods import Target, Visit
from unsay.methods.prefixes import AnswerPrefix, choose_prefix
from unsay.train import ledger

MOST_TOLD, MOST_TOLD_BEGUN = 0.02, 0.05
"""Largest share of answers that still tell half of what is to go. One of 64 may be a lucky guess; with
its answer begun, a model that never knew guesses about as much as this."""
_QUESTIONS, _ANSWERS = 32, 64
"""Most questions that are asked in a look, and about how many answers of each kind are drawn."""


def shares_told(visits: Sequence[Visit], sampler: Sampler) -> tuple[float, float]:
    """Of sampled answers to some forget questions, the share that tells half of what is to go: asked plainly, and with the answer begun.

    `sampler`: of the round that was just trained. Questions with short answers cannot be begun; without any that can, the second is 0.
    """
    # Numbers of their own, below 0: not the cuts that this round was trained on.
    looks = [replace(sampler, round=-(sampler.round * _ANSWERS + i + 1)) for i in range(-(-_ANSWERS // min(len(visits), _QUESTIONS)))]
    asked = sorted(visits, key=lambda visit: looks[0].uniform(visit.example.id, "enough"))[:_QUESTIONS]
    begun = [(visit, prefix) for look in looks for visit in asked if (prefix := choose_prefix(visit, look, share=1.0)).ids]
    with fixed_work():
        return _share_told([(visit, AnswerPrefix()) for visit in asked for _ in looks], looks[0]), _share_told(begun, looks[0])


def _share_told(asked: Sequence[tuple[Visit, AnswerPrefix]], sampler: Sampler) -> float:
    """Of one answer to each question, the share that tells half of what is to go."""
    prompt = sampler.encoder.prompt
    draws = [Draw(f"enough {i}", prompt(visit.example.question) + prefix.ids, 1, 1.0) for i, (visit, prefix) in enumerate(asked)]
    told = 0
    for (visit, prefix), (candidate,) in zip(asked, sampler.candidates(draws, ["plain"] * len(draws)), strict=True):
        answer = Target(visit.example.id, text=prefix.complete(candidate, sampler.encoder).text, prefix=prefix.text)
        told += ledger.leak(answer, visit) > 0.5
    return told / max(1, len(asked))
