"""A round of PMC twice: by the package's own loop, and written the obvious way.

Both visit the same questions with the same retain rows, K, length limit and number of optimizer steps. The learning rate is
0: the arithmetic of a step is the same, and both sides meet the same model in every round.
"""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rouge_score.rouge_scorer import RougeScorer
from torch import Tensor
from transformers import GenerationConfig

from subject import Subject
from unsay.config import ModelConfig, Recipe, SampleConfig, TrainConfig
from unsay.config.knobs import RecordConfig
from unsay.lm.linear import stock
from unsay.lm.model import load, save
from unsay.record import record, start
from unsay.record.recorded import read_recorded
from unsay.store.folder import RunFolder
from unsay.train import method_of, train
from unsay.types import Example, Pair

BATCH, WIDTH = 8, 200


@dataclass(frozen=True)
class Work:
    """A recipe, and a run folder that `record` has filled."""

    recipe: Recipe
    folder: RunFolder

    def copy(self, where: Path, preset: str = "paper", resample: str = "step", k: int | None = None) -> "Work":
        """The same record in another folder, to be trained in another way."""
        shutil.copytree(self.folder.path, where)
        knobs = {"preset": preset, "samples": k or self.recipe.tables["pmc"]["samples"]}
        recipe = replace(self.recipe, train=replace(self.recipe.train, resample=resample), tables={**self.recipe.tables, "pmc": knobs})
        return Work(recipe, RunFolder(where))


def recorded(where: Path, tested: Subject, forget: Sequence[Example], retain: Sequence[Pair], k: int, tokens: int) -> Work:
    """The questions as an operator's files, and what the model says to them."""
    where.mkdir(parents=True)
    for name, rows in (
        ("forget", [{"question": example.question} for example in forget]),
        ("retain", [{"question": pair.question, "answer": pair.answer} for pair in retain]),
    ):
        (where / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    name = tested.name
    if name.startswith("random"):
        name = str(where / "model")
        save(tested.model, tested.encoder, Path(name))
    recipe = Recipe(
        corpus="files",
        model=ModelConfig(name, dtype=str(tested.model.dtype).removeprefix("torch.")),
        sample=SampleConfig(max_new_tokens=tokens),
        record=RecordConfig(answers=2, branches=0),
        train=TrainConfig(rounds=1, learning_rate=0.0, batch=BATCH, save_every=1000),
        tables={"files": {key: str(where / f"{key}.jsonl") for key in ("forget", "retain")}, "pmc": {"preset": "paper", "samples": k}},
    )
    work = Work(recipe, RunFolder(where / "run"))
    start(recipe, work.folder)
    record(recipe, work.folder)
    return work


def our_rounds(work: Work, turns: int, between: Callable[[], None] = lambda: None) -> list[float]:
    """Seconds of so many rounds of the training loop; `between` runs after each, outside the clock.

    One round before them loads the model, one after them saves it: neither is counted. `between` follows the first too.
    """
    seconds: list[float] = []
    clock = time.perf_counter()

    def watch(_: Any, encoder: Any, rounds: int, cost: Any) -> bool:
        nonlocal clock
        if 1 < rounds <= turns + 1:
            seconds.append(time.perf_counter() - clock)
        if rounds <= turns + 1:
            between()
        clock = time.perf_counter()
        return True

    train(replace(work.recipe, train=replace(work.recipe.train, rounds=turns + 2)), work.folder, watch=watch)
    return seconds


class Straightforward:
    """PMC as one writes it first, on the layers that torch has: `generate` for 8 questions at a time, the rouge-score
    package, the chosen text encoded again, rows padded to 200 tokens, a forward pass for each term, and one more for the log."""

    def __init__(self, work: Work):
        self.model, self.encoder = load(work.recipe.model)
        self.model.generation_config = GenerationConfig()
        self.method: Any = method_of(work.recipe)  # its numbers: K, temperature, top-p, λ
        recorded = read_recorded(work.folder)
        corpus = recorded.corpus
        self.forget = [(example.question, recorded.answers[example.id]) for example in corpus.forget]
        self.retain = [(pair.question, pair.answer) for pair in corpus.retain]
        self.tokens = work.recipe.sample.max_new_tokens
        self.scorer = RougeScorer(["rougeL"], use_stemmer=True)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.0)
        self.logged: list[float] = []

    def round(self) -> float:
        """One visit to every question; returns how many there were."""
        with stock(self.model):
            return self._round()

    def _round(self) -> float:
        for place in range(0, len(self.forget), BATCH):
            batch = self.forget[place : place + BATCH]
            rows = [self.retain[(place + i) % len(self.retain)] for i in range(len(batch))]
            chosen = self.choose(batch)
            self.optimizer.zero_grad()
            self.model.train()
            self.loss(chosen, rows).backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.model.eval()
            with torch.no_grad():
                self.logged.append(self.nll(chosen).item())
        return len(self.forget)

    def choose(self, batch: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """For every question the sampled answer least like the baseline."""
        ids, attention = self.encoder.prompts([self.encoder.prompt(question) for question, _ in batch], self.model.device)
        k = self.method.samples
        config = GenerationConfig(
            max_new_tokens=self.tokens,
            do_sample=True,
            temperature=self.method.temperature,
            top_p=self.method.top_p,
            top_k=0,
            num_return_sequences=k,
            pad_token_id=self.encoder.pad,
            eos_token_id=sorted(self.encoder.stops),
        )
        written = self.model.generate(input_ids=ids, attention_mask=attention, generation_config=config)
        texts = self.encoder.tokenizer.batch_decode(written[:, ids.shape[1] :], skip_special_tokens=True)
        chosen = []
        for i, (question, baseline) in enumerate(batch):
            answers = texts[i * k : (i + 1) * k]
            chosen.append((question, min(answers, key=lambda answer: self.scorer.score(baseline, answer)["rougeL"].recall)))
        return chosen

    def loss(self, forget: Sequence[tuple[str, str]], retain: Sequence[tuple[str, str]]) -> Tensor:
        return self.nll(forget) + self.method.retain_weight * self.nll(retain)

    def nll(self, pairs: Sequence[tuple[str, str]]) -> Tensor:
        """Mean negative log-likelihood (nats) of the answers' tokens."""
        ids = torch.full((len(pairs), WIDTH), self.encoder.pad)
        labels, attention = torch.full_like(ids, -100), torch.zeros_like(ids)
        for row, (question, answer) in enumerate(pairs):
            context, said = self.encoder.prompt(question), self.encoder.answer(answer.strip())
            whole = torch.tensor([*context, *said][:WIDTH])
            ids[row, : len(whole)], attention[row, : len(whole)] = whole, 1
            labels[row, len(context) : len(whole)] = whole[len(context) :]
        device = self.model.device
        found: Tensor = self.model(input_ids=ids.to(device), attention_mask=attention.to(device), labels=labels.to(device)).loss
        return found

    @torch.no_grad()
    def same_loss(self) -> dict[str, Any]:
        """Whether the package's loss on the same rows is the same number: if not, the rounds do different work."""
        forget, retain = self.forget[:BATCH], self.retain[:BATCH]
        rows = [self.encoder.pair(*pair, role) for role, pairs in (("forget", forget), ("retain", retain)) for pair in pairs]
        ours = sum(value.item() for value in self.method.loss(self.model, None, self.encoder.batch(rows, self.model.device)).values())
        theirs = self.loss(forget, retain).item()
        apart = abs(ours - theirs) / abs(theirs)
        same = "same loss on the same rows" if apart < 1e-3 else "another loss on the same rows"
        return {"counts": apart < 1e-3, "why": f"{same} ({apart:.0e} apart)", "loss_ours": ours, "loss_theirs": theirs}
