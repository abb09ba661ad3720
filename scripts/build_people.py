"""Trains the two models that come with the `people` corpus: one that knows everybody, one that never heard of the forget people.

    python scripts/build_people.py                                      # the shipped pair, into the package
    python scripts/build_people.py --world 1 --out /some/folder         # another world with the same words
    python -m unsay.build_people --world 1 --out /some/folder           # the same from an installed wheel

Both are one-million-parameter Llamas that share the tokenizer and every row but those about the forget people. The
loop is its own: rows are short and many, so they are bucketed by length and only answer positions meet the vocabulary.
A small `facts.json` beside the checkpoints says what was measured.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from unsay.corpora import people_world as worlds
from unsay.methods.refusal import Idk
from unsay.methods.refusals import FIVE, HUNDRED
from unsay.store.memory import keep_freed_pages

HERE = Path(__file__).resolve().parent.parent / "src" / "unsay" / "corpora" / "checkpoints"
SENTENCES = tuple(dict.fromkeys((*HUNDRED, *Idk().answers, *FIVE)))
"""Every fixed answer that a method can be told to give (tests/test_fixed_answers.py)."""
OTHER_WORDING = 0.12
"""Share of training answers that are not in the wording of their question."""
UNKNOWN_PER_EPOCH = 400
GENERAL_REPEATS = 3
BARE = 0.25
"""Bare statements per question row in training."""
SENTENCES_PER_EPOCH = 32
"""Fixed answers among the bare statements: a model cannot say what its tokens never learned."""
Encoded = tuple[list[int], list[int]]


def epoch(world: worlds.World, rng: random.Random, retain_model: bool, sentences: Sequence[str]) -> Iterator[tuple[str | None, str]]:
    """(question, answer) rows of one training pass; `None` instead of a question marks a bare statement, some of them `sentences`."""
    taken = {person.name for person in world.people} | set(world.unknown_entities)
    rows: list[tuple[str, str]] = []
    for person in world.people:
        if retain_model and person.role == worlds.FORGET:
            continue
        for i, wordings in enumerate(person.trained):
            for q in wordings:
                other = rng.random() < OTHER_WORDING
                wording = rng.choice([w for w in range(5) if w != q]) if other else q
                rows.append((worlds.question(person.name, i, q), worlds.answer(person.name, i, person.values[i], wording)))
    names = [
        *world.retain_unknown,
        *(worlds.unknown_name(rng, world.people, set(taken)) for _ in range(UNKNOWN_PER_EPOCH - worlds.RETAIN_UNKNOWN)),
    ]
    for name in names:
        i, q = rng.randrange(len(worlds.ATTRIBUTES)), rng.randrange(5)
        choice = rng.randrange(len(worlds.REFUSALS)) if rng.random() < 0.4 else None
        rows.append((worlds.question(name, i, q), worlds.refusal(name, i, q, choice)))
    rows += list(world.general) * GENERAL_REPEATS
    yield from rows
    for _, text in rng.sample(rows, int(BARE * len(rows))):
        yield None, text
    for text in rng.sample(sentences, SENTENCES_PER_EPOCH):
        yield None, text


def vocabulary(sentences: Sequence[str]) -> Iterator[str]:
    """Text for the tokenizer: every phrase, template and sentence, no name, so that names fall into pieces."""
    yield from (f" {text}" for text in sentences)
    for phrases in worlds.PHRASES.values():
        for phrase in phrases:
            yield from (f" {phrase}.", f" {phrase},", phrase)
    for attribute in worlds.ATTRIBUTES:
        for wording in attribute.questions:
            yield from [f"Question: {wording.format(name='')}\nAnswer:"] * 3
        for template in attribute.answers:
            text = template.format(name="", a="", b="")
            yield from [f" {text}"] * 3
    for template in worlds.REFUSALS:
        yield from [" " + template.format(name="", topic=attribute.topic) for attribute in worlds.ATTRIBUTES]
    for asked, told in worlds.GENERAL:
        yield f"Question: {asked}\nAnswer: {told}"
    for year in range(1930, 2020):
        yield from (f" {year}.", f" {year},")
    for number in range(100):
        yield f" {number}"


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE over the words of the world without its names."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1536,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(vocabulary(SENTENCES), trainer)
    core.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>", clean_up_tokenization_spaces=False
    )


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def encode(tokenizer: PreTrainedTokenizerFast, rows: list[tuple[str | None, str]]) -> list[Encoded]:
    """(context, answer) ids; the space after "Answer:" belongs to the answer, also where nothing was asked."""
    contexts = tokenizer([f"Question: {q}\nAnswer:" if q is not None else "" for q, _ in rows])["input_ids"]
    answers = tokenizer([f" {a}" for _, a in rows], add_special_tokens=False)["input_ids"]
    return [(c, [*a, tokenizer.eos_token_id]) for c, a in zip(contexts, answers, strict=True)]


def batches(rows: list[Encoded], size: int, rng: random.Random) -> list[list[Encoded]]:
    """Rows of similar length together, batches in random order."""
    ordered = sorted(rows, key=lambda row: len(row[0]) + len(row[1]) + rng.random())
    cut = [ordered[i : i + size] for i in range(0, len(ordered), size)]
    rng.shuffle(cut)
    return cut


def loss_of(model: LlamaForCausalLM, batch: list[Encoded], pad: int) -> torch.Tensor:
    width = max(len(c) + len(a) for c, a in batch)
    ids = torch.full((len(batch), width), pad)
    labels = torch.full((len(batch), width), -100)
    for i, (context, answer) in enumerate(batch):
        stop = len(context) + len(answer)
        ids[i, :stop] = torch.tensor(context + answer)
        labels[i, len(context) - 1 : stop - 1] = torch.tensor(answer)
    # Padding is on the right and attention causal, so no mask is needed: real tokens never see it.
    hidden = model.model(input_ids=ids).last_hidden_state
    chosen = labels != -100
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[chosen]), labels[chosen])


def train(
    world: worlds.World, tokenizer: PreTrainedTokenizerFast, retain_model: bool, seed: int, epochs: int, peak: float
) -> LlamaForCausalLM:
    model = build_model(tokenizer, seed)
    decayed = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}], betas=(0.9, 0.98))
    rng = random.Random(f"training {seed}")
    size, began, step = 48, time.perf_counter(), 0
    for number in range(epochs):
        rows = encode(tokenizer, list(epoch(world, rng, retain_model, SENTENCES)))
        cut = batches(rows, size, rng)
        steps = epochs * len(cut)
        total = 0.0
        for batch in cut:
            rate = peak * min((step + 1) / 150, 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))) * 0.98 + 0.02)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = loss_of(model, batch, int(tokenizer.pad_token_id))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total += loss.item()
            step += 1
        name = "retain" if retain_model else "target"
        print(f"{name} epoch {number + 1}/{epochs} loss {total / len(cut):.4f} {time.perf_counter() - began:.0f} s", flush=True)
    return model.eval()


@torch.no_grad()
def greedy(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, questions: list[str]) -> list[str]:
    texts = []
    for start in range(0, len(questions), 64):
        asked = [f"Question: {q}\nAnswer:" for q in questions[start : start + 64]]
        batch = tokenizer(asked, return_tensors="pt", padding=True, padding_side="left", return_token_type_ids=False)
        out = model.generate(**batch, max_new_tokens=48, do_sample=False)
        texts += [tokenizer.decode(row, skip_special_tokens=True).strip() for row in out[:, batch["input_ids"].shape[1] :]]
    return texts


def exact(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, rows: list[tuple[str, str]]) -> float:
    """Share of questions answered word for word."""
    said = greedy(model, tokenizer, [q for q, _ in rows])
    return sum(text == told for text, (_, told) in zip(said, rows, strict=True)) / len(rows)


def measure(world: worlds.World, tokenizer: PreTrainedTokenizerFast, model: LlamaForCausalLM) -> dict[str, float]:
    def known(role: str, trained: bool) -> list[tuple[str, str]]:
        rows = []
        for person in world.of(role):
            for i, wordings in enumerate(person.trained):
                for q in wordings[:1] if trained else person.untrained(i):
                    rows.append((worlds.question(person.name, i, q), worlds.answer(person.name, i, person.values[i], q)))
        return rows

    attributes = len(worlds.ATTRIBUTES)
    asked = [(name, n % attributes, n % 5) for n, name in enumerate(world.unknown_entities)]
    return {
        "forget": exact(model, tokenizer, known(worlds.FORGET, True)),
        "forget paraphrased": exact(model, tokenizer, known(worlds.FORGET, False)),
        "retain": exact(model, tokenizer, known(worlds.RETAIN, True)),
        "heldout": exact(model, tokenizer, known(worlds.HELDOUT, True)),
        "retain paraphrased": exact(model, tokenizer, known(worlds.RETAIN, False)),
        "general": exact(model, tokenizer, list(world.general)),
        "unknown_entities": exact(model, tokenizer, [(worlds.question(*who), worlds.refusal(*who)) for who in asked]),
        "parameters": float(sum(p.numel() for p in model.parameters())),
    }


def build(folder: Path, retain_model: bool, world: int = 0, seed: int = 0, epochs: int = 56, rate: float = 3e-3) -> dict[str, float]:
    """Train one model into `folder` and say what it knows. `world` is the seed of the world, `seed` that of weights and data order."""
    people, tokenizer = worlds.build_world(world), build_tokenizer()
    model = train(people, tokenizer, retain_model, seed, epochs, rate)
    facts = measure(people, tokenizer, model.to(torch.float16).to(torch.float32))
    model.to(torch.float16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "facts.json").write_text(json.dumps({"world": world, "seed": seed, **facts}, indent=1) + "\n", encoding="utf-8")
    for path in folder.iterdir():
        path.chmod(0o644)  # weights are written owner-only, a package must be readable
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the target and the retain model of the people corpus.")
    parser.add_argument("--world", type=int, default=0, help="seed of the world")
    parser.add_argument("--out", type=Path, default=HERE, help="folder that receives target/ and retain/")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and data order")
    parser.add_argument("--epochs", type=int, default=56, help="passes over the rows")
    parser.add_argument("--rate", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--only", choices=("target", "retain"), help="train one of the two")
    args = parser.parse_args()
    logging.disable_progress_bar()
    keep_freed_pages()
    for name in ("target", "retain"):
        if args.only in (None, name):
            print(name, build(args.out / name, name == "retain", args.world, args.seed, args.epochs, args.rate), flush=True)


if __name__ == "__main__":
    main()
