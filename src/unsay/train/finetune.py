"""Finetune: plant knowledge, as TOFU does, so that there is something to unlearn; and the retain model, which was
given everything but that (`model.retain_model = "finetune"`), cached by what it was made from.

Interrupted, it begins again and ends the same: its order and its dropout are named by seed, epoch and step.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator
from filelock import FileLock
from transformers import PreTrainedModel

from unsay.config import ConfigError, FinetuneConfig, Recipe
from unsay.lm import builtin
from unsay.lm.adapters import adapted, load_to_train, merged
from unsay.lm.encode import Encoder
from unsay.lm.model import answer_logprobs, save
from unsay.lm.rows import Batch
from unsay.lm.sample import uniform
from unsay.lm.subject import LocalSubject, Prompt, parts
from unsay.record import source
from unsay.store import identity, ranks
from unsay.store.files import writing
from unsay.store.folder import RunFolder
from unsay.store.manifest import Finetuned, Manifest
from unsay.text import rouge_l
from unsay.train.step import Weights, optimizer_step, set_rate
from unsay.types import Pair

Progress = Callable[[int, int, float], None]


def finetune(recipe: Recipe, folder: RunFolder, progress: Progress | None = None) -> None:
    """Plant the corpus in the recipe's model and save it as the run's target model. Raises `ConfigError`."""
    corpus = source(recipe)
    rows, secret = corpus.finetuning_rows(retain_model=False), {example.id for example in corpus.corpus().forget}
    if not rows:
        raise ConfigError(f"corpus {recipe.corpus!r} plants nothing; leave finetune.epochs at 0")
    watched = [row for row in rows if row.id in secret]
    recall = plant(recipe, rows, watched or rows, folder.planted, progress)
    folder.note(Manifest(finetune=Finetuned(len(rows), tuple(recall))))


def retain_model_folder(recipe: Recipe, progress: Progress | None = None) -> Path:
    """The model fine-tuned without the forget rows, from the cache or made now."""
    rows = source(recipe).finetuning_rows(retain_model=True)
    base = Path(builtin.resolve(recipe.model.name))
    made_from = [
        {key: value for key, value in asdict(recipe.model).items() if key != "device_map"},  # where it lies is not what it is
        identity.of(base) if base.is_dir() else "",  # a path may hold other weights tomorrow; a hub id is told by its revision
        asdict(recipe.lora),
        asdict(recipe.finetune),
        asdict(recipe.sample),
        recipe.seed,
        [asdict(row) for row in rows],
    ]
    name = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]
    folder = builtin.cache() / f"retain-{name}"
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))  # another run may be making it
    with lock if ranks.is_main() else nullcontext():
        if not ranks.on_main(folder.exists):
            plant(recipe, rows, rows, folder, progress)
    return folder


def plant(recipe: Recipe, rows: Sequence[Pair], watched: Sequence[Pair], folder: Path, progress: Progress | None) -> list[float]:
    """Supervised fine-tuning on `rows`; the recall on (at most 40 of) the watched ones after each epoch."""
    config: FinetuneConfig = recipe.finetune
    model, encoder = load_to_train(recipe)
    for row in rows:
        encoder.fits(row.id, row.question, row.answer)
    accelerator, weights = Accelerator(), Weights(model)
    optimizer = torch.optim.AdamW(weights.exact.values(), lr=config.learning_rate, weight_decay=0.01)
    steps = config.epochs * -(-len(rows) // config.batch)
    step, recall = 0, []

    def loss(batch: Batch) -> dict[str, torch.Tensor]:
        return {"retain": batch.mean(-answer_logprobs(model, batch), "retain")}

    for epoch in range(config.epochs):
        model.train()
        order = sorted(rows, key=lambda row: uniform(recipe.seed, "plant", epoch, row.id))
        for chosen in parts(order, config.batch):
            set_rate(optimizer, config.learning_rate * (1 - step / steps))
            pairs = [encoder.pair(row.question, row.answer) for row in chosen]
            made = optimizer_step(accelerator, weights, optimizer, encoder, pairs, loss, dropout=step)
            if why := made.skipped:
                remedy = "try a lower finetune.learning_rate, or model.dtype=float32"
                raise FloatingPointError(f"the {why} of fine-tuning is not finite; {remedy}")
            step += 1
            if progress:
                progress(step, steps, made.terms["retain"])
        recall.append(round(_recall(model.eval(), encoder, recipe, watched), 4))
        if recall[-1] >= config.stop_at_recall:
            break
    save(merged(model, recipe) if adapted(model) else model, encoder, folder)
    return recall


def _recall(model: PreTrainedModel, encoder: Encoder, recipe: Recipe, rows: Sequence[Pair]) -> float:
    """Mean ROUGE-L recall of greedy answers to the first 40 rows."""
    asked = rows[:40]
    answers = LocalSubject(model, encoder, recipe.sample, recipe.seed).ask([Prompt(row.id, row.question) for row in asked])
    scores = [rouge_l(row.answer, answer.text) for row, (answer,) in zip(asked, answers, strict=True)]
    known = [score.recall for score in scores if score is not None]
    return sum(known) / max(1, len(known))
