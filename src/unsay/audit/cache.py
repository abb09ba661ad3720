"""What a model has said before, kept in the vault: a second audit with other scores asks nothing anew and loads no model.

A file for each model, `vault/generations/FINGERPRINT.jsonl`, readable by its owner alone; in an encrypted vault each line is
encrypted by itself, since lines are only added. An answer is found again only under the same weights and files of the model
(their contents, hashed), ids of the prompt, decoding and, where it was sampled, seed, occasion and question. Fewer answers than are
kept are the first of them. What a crash has torn, or somebody has changed, is asked again.
Not kept: an endpoint's answers (what is served there may change without a word) and those of attacked weights.
"""

import base64
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel

from unsay.config import ModelConfig, SampleConfig, VllmConfig
from unsay.lm import builtin
from unsay.lm.encode import Encoder
from unsay.lm.files import look_at
from unsay.lm.model import fingerprint
from unsay.lm.subject import LocalSubject, Prompt
from unsay.packed import Places
from unsay.store import identity, ranks
from unsay.store.files import decoded, writing
from unsay.store.folder import RunFolder
from unsay.store.manifest import AnswerCache
from unsay.types import Answer

T = TypeVar("T")
_FORMAT = 3
"""Raised where what is kept would mean something else; older lines are then not found again."""
_AT_ONCE = 4096
"""Lines that are written at once."""
_HEAD = re.compile(rb'\{"key": "([^"]*)", "left": (\d+)[,}]')
"""How a line begins: its key, and how many lines of its batch are still to come."""


def kept(
    folder: RunFolder,
    config: ModelConfig,
    name: str,
    sample: SampleConfig,
    seed: int,
    load: Callable[[], LocalSubject],
    quantized: bool = False,
    beside: LocalSubject | None = None,
) -> "KeptSubject":
    """The model `name` as `load` makes it, with its answers kept in the folder's vault; loaded when it is first needed. `beside`: what else
    is asked meanwhile; of the same model it holds the places of the answers for both.

    A model that is no folder (a hub id) is loaded at once: only then is it known which revision of it this is. Raises `ConfigError`
    where the folder is not what may be loaded.
    """
    where = Path(builtin.resolve(name))
    if where.is_dir():
        look_at(str(where))
        model = _hash([_FORMAT, config.dtype, config.quantization if quantized else "none", identity.of(where)])
        return KeptSubject(_store(folder, model, beside), config, sample, seed, load, where)
    local = load()
    model = _hash([_FORMAT, fingerprint(local.model), sorted(local.encoder.stops), local.encoder.room])
    subject = KeptSubject(_store(folder, model, beside), config, sample, seed, lambda: local, None)
    subject.loaded = True
    return subject


def _store(folder: RunFolder, model: str, beside: LocalSubject | None) -> "Store":
    store = Store(folder, model)
    return beside.store if isinstance(beside, KeptSubject) and beside.store.path == store.path else store


def _hash(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Asked:
    """What was asked, for a person who looks at the answers (`unsay look`); they are found again by their key alone."""

    key: str
    """Of the prompt: the example's id, and what a probe adds behind a `#`."""
    question: str = field(repr=False)
    prefix: str = field(repr=False)
    temperature: float
    top_p: float
    salt: str
    """The occasion: the probe that asked first."""


class Store:
    """The file of one model."""

    def __init__(self, folder: RunFolder, model: str):
        self.vault, self.name = folder.texts, model[:32]
        self._seen, self._places = 0, Places()

    @property
    def path(self) -> Path:
        return self.vault.file(f"generations/{self.name}")

    def read(self, key: str) -> dict[str, Any] | None:
        """What was last kept under `key`; `None` where there is nothing, or nothing sound."""
        named = self.vault.named(key)
        if (start := self._places.get(named)) is None:
            self._look()
            start = self._places.get(named)
        row = self._at(start) if start is not None else None
        return row if row and row["key"] == key else None

    def asked(self) -> Iterator[tuple[str, int]]:
        """Key of the prompt, and the place for `answers`, of everything that the model was asked, in the order of its first asking;
        likelihoods left out."""
        self._look()
        seen: set[int] = set()
        for named, _, _ in self._lines(0):
            start = self._places.get(named)
            row = self._at(start) if start is not None and hash(named) not in seen else None
            if start is not None and row and "asked" in row:
                seen.add(hash(named))
                yield row["asked"][0], start

    def answers(self, start: int) -> tuple["Asked", list[Answer]]:
        """What was asked and answered at a place of `asked`."""
        row = self._at(start) or {}
        return Asked(*row["asked"]), _unpacked(row["said"])

    def _at(self, start: int) -> dict[str, Any] | None:
        with self.path.open("rb") as file:
            file.seek(start)
            line = file.readline()
        try:
            row = self.vault.unseal(decoded(line.decode()))
        except ValueError:
            return None
        return row if row.get("sum") == _hash(row.get("said")) and "key" in row else None

    def add(self, rows: Mapping[str, T], packed: Callable[[T], Any], asked: Mapping[str, "Asked"] | None = None) -> None:
        """Keep what was said under each key, packed as JSON, with what was asked for whoever looks at it, on the disk before this returns.

        Raises `WriteError`, and what was kept before stays as it was.
        """
        if not rows:
            return

        def lines() -> Iterator[bytes]:
            for left, (key, one) in zip(reversed(range(len(rows))), rows.items(), strict=True):
                said, told = packed(one), {"asked": astuple(asked[key])} if asked else {}
                sealed = self.vault.seal({"key": key, "sum": _hash(said), "said": said} | told, key)
                yield (json.dumps({"key": sealed["key"], "left": left, **sealed}, ensure_ascii=False) + "\n").encode()

        self.vault.settle()
        with writing(self.path):
            ranks.on_main(lambda: self._append(lines()))
        self._look()  # a key that was kept before now has another line

    def _append(self, lines: Iterator[bytes]) -> None:
        self.path.parent.mkdir(exist_ok=True)
        self.path.parent.chmod(0o700)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            place = file.seek(0, os.SEEK_END)
            if place:
                file.seek(place - 1)
                if file.read(1) != b"\n":  # torn: the rest of that line must not swallow the next
                    lines = chain([b"\n"], lines)
            try:
                while some := b"".join(islice(lines, _AT_ONCE)):
                    file.write(some)
                file.flush()
                os.fsync(descriptor)
            except OSError:  # a full disk: what was there before stays as it was
                os.ftruncate(descriptor, place)
                raise

    def _look(self) -> None:
        """Find the lines added since, the last of a key counting. A torn batch is asked again whole: a smaller one rounds otherwise."""
        batch: dict[str, int] = {}
        wanted = None
        for named, left, (start, end) in self._lines(self._seen):
            if left != wanted:
                batch = {}
            batch[named] = start
            wanted = left - 1
            if left == 0:
                for one, place in batch.items():
                    self._places.put(one, place)
                self._seen, batch, wanted = end, {}, None

    def _lines(self, place: int) -> Iterator[tuple[str, int, tuple[int, int]]]:
        """Of each whole line from `place` on: its key, how many of its batch are still to come, where it begins and ends."""
        if not self.path.exists() or self.path.stat().st_size == place:
            return
        with self.path.open("rb") as file:
            file.seek(place)
            for line in file:
                if not line.endswith(b"\n"):  # torn, or still being written
                    break
                if head := _HEAD.match(line):
                    yield head[1].decode(errors="replace"), int(head[2]), (place, place + len(line))
                place += len(line)


class KeptSubject(LocalSubject):
    """A model in this process that is loaded when something is asked of it that it has not answered before."""

    def __init__(
        self, store: Store, settings: ModelConfig, sample: SampleConfig, seed: int, load: Callable[[], LocalSubject], where: Path | None
    ):
        self.store, self.seed = store, seed
        self._settings, self._sample, self._load, self._where = settings, sample, load, where
        self.loaded = False
        self.counts = {"kept": 0, "made": 0}
        """Answers that were found in the vault, and that the model gave now."""

    def about(self) -> AnswerCache:
        """For the manifest: where its answers came from, and whether somebody without the key could have changed those kept."""
        return AnswerCache(**self.counts, loaded=self.loaded, file=self.store.name, encrypted=self.store.vault.encrypted)

    @cached_property
    def local(self) -> LocalSubject:
        """The model itself, loaded now at the latest."""
        self.loaded = True
        return self._load()

    @property
    def model(self) -> PreTrainedModel:
        return self.local.model

    @property
    def config(self) -> SampleConfig:  # type: ignore[override]
        return self.local.config

    @cached_property
    def encoder(self) -> Encoder:  # type: ignore[override]
        """How it reads and writes, without its weights: the same ids and texts; where it stops is for the model itself to say."""
        if self._where is None:
            return self.local.encoder
        config = self._settings
        try:
            tokenizer = AutoTokenizer.from_pretrained(self._where, trust_remote_code=config.trust_remote_code)
            shape = AutoConfig.from_pretrained(self._where, trust_remote_code=config.trust_remote_code)
        except (OSError, ValueError):
            return self.local.encoder  # loading says best what is wrong
        room = getattr(shape.get_text_config(), "max_position_embeddings", None) or None
        return Encoder(tokenizer, config.template, config.system_prompt, (), config.template_options, room=room, stop=config.stop)

    @property
    def weights(self) -> tuple[PreTrainedModel, Encoder]:
        return self.local.weights

    def ask(
        self, prompts: Sequence[Prompt], n: int = 1, temperature: float = 0.0, top_p: float = 1.0, salt: str = ""
    ) -> list[list[Answer]]:
        keys = [self._key(prompt, temperature, top_p, salt) for prompt in prompts]
        known = {key: _unpacked(row["said"]) for key in dict.fromkeys(keys) if (row := self.store.read(key))}
        found = {key: answers for key, answers in known.items() if len(answers) >= n}
        self.counts["kept"] += n * len(found)
        lacking = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in found}
        if lacking:
            made = dict(zip(lacking, self.local.ask(list(lacking.values()), n, temperature, top_p, salt), strict=True))
            asked = {key: Asked(one.key, one.question or "", one.prefix, temperature, top_p, salt) for key, one in lacking.items()}
            self.store.add(made, _packed, asked)
            self.counts["made"] += sum(map(len, made.values()))
            found |= made
        return [found[key][:n] for key in keys]

    def logprobs(self, questions: Sequence[str | None], answers: Sequence[str]) -> list[torch.Tensor]:
        pairs = list(zip(questions, answers, strict=True))
        rows = [self.encoder.pair(question, answer) for question, answer in pairs]
        keys = [_hash(["logprobs", row.context, row.answer]) for row in rows]
        found = {key: _floats(row["said"]) for key in dict.fromkeys(keys) if (row := self.store.read(key))}
        lacking = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in found}
        if lacking:
            read = self.local.logprobs([question for question, _ in lacking.values()], [answer for _, answer in lacking.values()])
            made = dict(zip(lacking, read, strict=True))
            self.store.add(made, _text)
            found |= made
        return [found[key] for key in keys]

    def _key(self, prompt: Prompt, temperature: float, top_p: float, salt: str) -> str:
        ids = self.encoder.prompt(prompt.question, prompt.before) + self.encoder.prefix(prompt.prefix)
        # The greedy answer is the same on every occasion; a sampled one is its seed's, its occasion's and its question's.
        chance = [temperature, top_p, self.seed, salt, prompt.key, prompt.prefix] if temperature > 0 else []
        engine = ["vllm"] if isinstance(self._sample, VllmConfig) else []
        return _hash(["answers", ids, self._sample.max_new_tokens, self._settings.stop, chance, *engine])


def _packed(answers: Iterable[Answer]) -> dict[str, Any]:
    """Each different answer once, and which of them each draw gave: a model that knows by heart repeats itself."""
    answers = list(answers)
    different = list(dict.fromkeys(answers))
    number = {answer: i for i, answer in enumerate(different)}
    return {
        "answers": [[answer.ids, answer.text, answer.finished] for answer in different],
        "draws": [number[answer] for answer in answers],
    }


def _unpacked(said: Mapping[str, Any]) -> list[Answer]:
    different = [Answer(tuple(ids), text, finished) for ids, text, finished in said["answers"]]
    return [different[i] for i in said["draws"]]


def _text(values: torch.Tensor) -> str:
    """Float32 numbers to the bit, a third as long as their decimals."""
    return base64.b64encode(values.float().numpy().astype("<f4").tobytes()).decode()


def _floats(text: str) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), dtype="<f4").astype(np.float32))
