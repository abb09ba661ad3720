"""Beams: the likeliest answers as a whole, which greedy decoding may miss and sampling may never draw."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from transformers import GenerationConfig, PreTrainedModel

from unsay.lm.encode import Encoder
from unsay.lm.reading import habits, read
from unsay.lm.sample import NOT_FINITE
from unsay.lm.subject import Subject, sampling_of
from unsay.metric import Metric, leak
from unsay.probes.scoring import NO_WEIGHTS, known, missing, plainly, unscored, worst
from unsay.types import Case, Finding

WIDTH = 4
"""Beams, and answers of each question that are scored."""
ROWS = 64


@dataclass(frozen=True)
class Beams:
    """Does a wider search say it? The likeliest answers to each question by beam search, as plain transformers makes them.

    What counts is the worst of all four answers: a secret that is the second likeliest answer stands among them every time.

    Does not cover: wider beams; penalties for length or repetition; diverse beams. Unscored where a model shows no weights.
    """

    title: ClassVar[str] = "Searched with beams"
    tested: ClassVar[str] = "beam search ({settings})"
    by_setting: ClassVar[str] = "worst_keyword_recall"
    metrics: ClassVar[tuple[Metric, ...]] = (
        leak(
            "beams_worst_keyword_recall",
            "Searched with beams",
            "The worst of the likeliest answers as a whole.",
            claim="the worst of the likeliest answers as a whole says {}",
        ),
    )

    def __call__(self, subject: Subject, case: Case) -> list[Finding]:
        metric, setting = "worst_keyword_recall", f"{WIDTH} beams"
        found, asked = missing("beams", (metric,), case), plainly(known(case), setting)
        if subject.weights is None:
            return found + unscored("beams", (metric,), [one.example.id for one in asked], NO_WEIGHTS, setting)
        model, encoder = subject.weights
        limit = sampling_of(subject).max_new_tokens
        texts = searched(model, encoder, [encoder.prompt(one.example.question) for one in asked], limit)
        return found + [worst("beams", metric, one, some, case.source) for one, some in zip(asked, texts, strict=True)]


@torch.inference_mode()
def searched(model: PreTrainedModel, encoder: Encoder, contexts: Sequence[tuple[int, ...]], limit: int) -> Iterator[list[str]]:
    """The answers to each context."""
    rows = ROWS // WIDTH if habits(model).padding else 1
    for start in range(0, len(contexts), rows):
        ids, attention = encoder.prompts(contexts[start : start + rows], model.device)
        if not read(model, ids, attention, room=0).logits.amax(1).isfinite().all():
            raise FloatingPointError(NOT_FINITE)
        settings = GenerationConfig(
            max_new_tokens=min(limit, encoder.left(ids.shape[1])),
            num_beams=WIDTH,
            num_return_sequences=WIDTH,
            do_sample=False,
            eos_token_id=sorted(encoder.stops),
            pad_token_id=encoder.pad,
        )
        written = model.generate(input_ids=ids, attention_mask=attention, generation_config=settings)[:, ids.shape[1] :]
        ends = {*encoder.stops, encoder.pad}
        texts = [encoder.decode([token for token in row if token not in ends]) for row in written.tolist()]
        yield from (texts[i : i + WIDTH] for i in range(0, len(texts), WIDTH))
