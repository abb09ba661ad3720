"""How many rows are decoded at once: `sample.rows`, or as many as memory has room for. Found out once for each stage.

The plan stands in the manifest, and a stage that is taken up again keeps it: batches of another size would change the last
bits of what is sampled.
"""

from collections.abc import Iterable
from dataclasses import replace

import torch
from transformers import PreTrainedModel

from unsay.config import SampleConfig
from unsay.lm.encode import Encoder
from unsay.lm.reading import cached_bytes
from unsay.lm.subject import AT_ONCE
from unsay.store import ranks
from unsay.store.folder import RunFolder
from unsay.store.manifest import Manifest, Plan
from unsay.store.memory import free_memory

_SHARE = 0.5
"""Of what is free; the rest is for gradients, gaps and other programs."""
DRAWN = 5
"""Float32 vectors of the vocabulary's size that a row holds while its next token is drawn: logits, their scaled copy, and
where the whole row is sorted its values, ids and sums."""
ON_PROCESSOR = 96
"""Rows on a processor where very many answers are wanted: 320 take twice the memory, and a few per cent less time (docs/lab-log.md)."""


def for_many(config: SampleConfig, device: str, questions: int | None = None) -> SampleConfig:
    """The sampler's knobs with as many rows as are worth their memory on such a device, for an audit or for a stage with very many
    `questions`. One with few keeps its batches: other batches have other last bits."""
    many = device == "cpu" and (questions is None or questions > AT_ONCE)
    return replace(config, rows=min(config.rows, ON_PROCESSOR)) if many else config


def planned(
    folder: RunFolder, stage: str, model: PreTrainedModel, encoder: Encoder, config: SampleConfig, questions: Iterable[str]
) -> SampleConfig:
    """The sampler's knobs with as many rows as fit while any of `questions` is asked. Noted under `plan.STAGE`."""
    known = folder.manifest().plan.get(stage)
    if known is None:
        processes = ranks.count()
        known = ranks.on_main(lambda: plan(model, encoder, config, questions, processes=processes))
        folder.note(Manifest(plan={stage: known}))
    return replace(config, rows=known.rows)


def plan(
    model: PreTrainedModel, encoder: Encoder, config: SampleConfig, questions: Iterable[str], free: int | None = None, processes: int = 1
) -> Plan:
    """As many rows as fit into half of `free` bytes (0 where the system does not say: then as many as the recipe has). The memory of
    a processor is shared by `processes`."""
    if free is None:
        free = torch.cuda.mem_get_info(model.device)[0] if model.device.type == "cuda" else (free_memory() or 0) // processes
    fixed, token = cached_bytes(model)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    # A prefix may be as long as an answer, before the answer begins.
    tokens = max((len(encoder.prompt(question)) for question in questions), default=0) + 2 * config.max_new_tokens
    # Twice the cache: where finished rows are dropped, the others are copied.
    row = int(2 * (fixed + token * tokens) + 4 * DRAWN * vocabulary)
    fit = int(_SHARE * free / row) if free else config.rows
    return Plan(rows=max(1, min(config.rows, fit)), row_bytes=row, free_bytes=free)
