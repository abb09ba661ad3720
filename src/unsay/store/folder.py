"""The run folder: the only way in which stages speak to each other (docs/run-folder.md). What may hold sensitive text goes through
`texts`, the vault, whose files only their owner can read."""

import json
import os
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from unsay.config import ConfigError, Recipe, dump, load
from unsay.store import ranks, redact
from unsay.store.clock import Clock, Cost, now
from unsay.store.files import LOCK, tidy, write_text, writing
from unsay.store.manifest import Look, Manifest, PeakMemory, read_manifest, write_manifest
from unsay.store.memory import give_back, peak_memory
from unsay.store.vault import Vault
from unsay.types import SCORE, Finding

_locks: dict[Path, FileLock] = {}


class RunFolder:
    """Paths, and reading and writing of whole files."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.recipe_file = self.path / "recipe.toml"
        self.manifest_file = self.path / "manifest.json"
        self.vault = self.path / "vault"
        self.texts = Vault(self.vault, self._key_file)
        self.steps_file = self.path / "train" / "steps.jsonl"
        self.state = self.path / "train" / "state"
        self.planted = self.path / "planted"
        """The target model that `finetune` made; absent where the recipe names one."""
        self.retain_model = self.path / "retain_model"
        """The model that never knew, where `finetune --retain-model` was asked for it."""
        self.checkpoint = self.path / "checkpoint"
        self.adapter = self.path / "adapter"
        """The adapters alone; absent where the weights themselves were trained."""
        self.report_html = self.path / "report.html"
        self.report_json = self.path / "report.json"

    def audit_file(self, which: str) -> Path:
        """Findings on one model: `before`, `after`, `retain_model` or `endpoint`."""
        return self.path / "audit" / f"{which}.jsonl"

    def kept_answers_file(self, which: str) -> Path:
        """What that model answered about what should stay; no secret text."""
        return self.path / "audit" / f"{which}-kept.jsonl"

    def recipe(self, settings: Iterable[str] = (), texts: bool = True) -> Recipe:
        """The run's recipe with `a.b=value` settings over it. Without `texts`, or where the vault is gone, without what is secret in it.
        Raises `ConfigError`."""
        if not self.recipe_file.exists():
            raise ConfigError(f"{self.path} is not a run folder (no recipe.toml); start one with `unsay record RECIPE --out {self.path}`")
        shown = load(self.recipe_file, settings, begun=True)
        return redact.restore(shown, self.texts.rows("recipe")) if texts and self.texts.has("recipe") else shown

    def write_recipe(self, recipe: Recipe) -> None:
        """recipe.toml, readable by the owner alone; what is secret in it goes into the vault."""
        shown, texts = redact.hide(recipe)
        # First: it names the key file of the vault.
        write_text(self.recipe_file, dump(shown), mode=0o600)
        if texts or self.texts.has("recipe"):
            self.texts.write("recipe", texts)

    def _key_file(self) -> str:
        return load(self.recipe_file, begun=True).vault.key_file if self.recipe_file.exists() else ""

    def manifest(self) -> Manifest:
        """What happened here; an empty one where nothing has. Raises `ConfigError` where the file is damaged."""
        return read_manifest(self.manifest_file)

    @ranks.main_only
    def note(self, news: Manifest) -> None:
        """Write what `news` says into the manifest (`Manifest.noted`)."""
        write_manifest(self.manifest_file, self.manifest().noted(news))

    @contextmanager
    def claimed(self, wait: bool = False) -> Iterator[None]:
        """Keep other processes from writing here as long as the block lasts; this one may claim the folder again inside. What a process
        that died has left half done is put right first. Where another process writes here now, `wait` for it; else `ConfigError` is
        raised."""
        made = [path for path in (self.path, *self.path.parents) if not path.exists()]
        place = self.path.resolve() / LOCK
        lock = _locks.setdefault(place, FileLock(place, thread_local=False))
        ranks.on_main(lambda: self._acquire(lock, wait))
        try:
            ranks.on_main(lambda: self._put_right(lock))
            yield
        finally:
            if lock.lock_counter == 1:
                with suppress(OSError):  # nobody writes here any more
                    os.truncate(place, 0)
                if made:
                    _take_back(place, made)
            lock.release()

    def _acquire(self, lock: FileLock, wait: bool) -> None:
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=-1 if wait else 0)
            except Timeout:
                who = f"another process{_holder(Path(lock.lock_file))}"
                raise ConfigError(f"{who} is writing into {self.path}; wait until it is done, or choose another folder") from None

    def _put_right(self, lock: FileLock) -> None:
        if lock.lock_counter == 1:
            with suppress(OSError):  # it is told to whoever comes next, and not needed
                Path(lock.lock_file).write_text(f"{os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
            with writing(self.path):
                tidy(self.path)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Claim the folder and time a stage; note it as done if it ends well, with the most memory that the process had meanwhile. Its
        time is that of all calls: an interrupted one notes what it has spent. One that was killed outright cannot."""
        give_back()  # what the stage before it held, in a run of all of them
        clock = Clock()
        with self.claimed():
            try:
                yield
            except BaseException:
                with suppress(ConfigError), ranks.apart():  # the disk may be full, which is told already
                    if self.begun():
                        self.note(Manifest(interrupted={name: self._spent(name, clock)}))
                raise
            cost = self._spent(name, clock)
            peaks = ranks.gathered("peak memory", peak_memory)
            news = Manifest(
                peak_memory={name: PeakMemory(**{key: max(one[key] for one in peaks) for key in peaks[0]})},
                cpu_seconds={name: cost.cpu_seconds},
                seconds={name: cost.seconds},
                finished={name: now()},
            )
            ranks.on_main(lambda: write_manifest(self.manifest_file, self.manifest().without(name).noted(news)))

    def _spent(self, stage: str, clock: Clock) -> Cost:
        """By this call, and by those before it that did not come to the stage's end."""
        cost = clock.cost() + self.manifest().interrupted.get(stage, Cost())
        return Cost(round(cost.seconds, 2), round(cost.cpu_seconds, 2))

    def begun(self) -> bool:
        """Whether all that a run begins with is here (recipe, questions, truth): the manifest says so last."""
        return self.manifest().seed is not None

    def done(self, stage: str) -> bool:
        return stage in self.manifest().seconds

    @ranks.main_only
    def undo(self, stage: str) -> None:
        """Take back that a stage is done, with what the manifest says of its cost; its files are the caller's."""
        write_manifest(self.manifest_file, self.manifest().without(stage))

    def looked(self, by: str, plain: bool = False) -> None:
        """Count in the manifest that somebody opened the vault's texts. `plain`: what was encrypted was written out in plain for it."""
        self.note(Manifest(looks=(*self.manifest().looks, Look(now(), by, plain))))


def _holder(lock: Path) -> str:
    """Who holds it, where that can be read."""
    try:
        told = lock.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
    return f" ({told})" if told else ""


def _take_back(lock: Path, made: Iterable[Path]) -> None:
    """Where nothing came of the folders that were made for it, leave none behind."""
    with suppress(OSError):
        if os.listdir(lock.parent) == [lock.name]:
            lock.unlink()
            for path in made:
                path.rmdir()


def read_findings(path: Path) -> list[Finding]:
    """All that `each_finding` finds."""
    return [*each_finding(path)]


def each_finding(path: Path) -> Iterator[Finding]:
    """What an audit found, line by line; nothing where it has not run. Raises `ConfigError`, with the line, at what no audit writes: a
    value outside of [0, 1], one thing measured twice."""
    # A byte for each question says whether it was measured: millions of findings need no set of all of them.
    numbers: dict[str, int] = {}
    measured: dict[tuple[object, ...], bytearray] = {}
    try:
        if not path.exists():
            return
        with path.open(encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, 1):
                if line != "\n":
                    one = _finding(f"{path}, line {number}", line)
                    place = numbers.setdefault(one.example, len(numbers))
                    # Of the scores of single answers, each with how often it occurred, each score is there once.
                    kind = (one.probe, one.metric, one.setting, one.value if one.metric == SCORE else None)
                    places = measured.setdefault((*kind, place // 256), bytearray(256))
                    if places[place % 256]:
                        raise ConfigError(f"{path}, line {number}: this was measured on an earlier line already; audit again")
                    places[place % 256] = 1
                    yield one
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{path} cannot be read; audit again") from None


def _finding(where: str, line: str) -> Finding:
    """A line as a finding; a text that many lines hold is there once. A line may hold anything, so no message quotes it."""
    try:
        values: dict[str, Any] = {key: sys.intern(some) if type(some) is str else some for key, some in json.loads(line).items()}
        one = Finding(**values)
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise ConfigError(f"{where} cannot be read as a finding; audit again") from None
    if wrong := _wrong(one):
        raise ConfigError(f"{where}: {wrong}; audit again")
    return one


def _wrong(one: Finding) -> str:
    """What no audit writes about a finding; empty where all is well."""
    if not all(isinstance(text, str) for text in (one.probe, one.metric, one.example, one.setting, one.note)):
        return "a name is no text"
    if type(one.n) is not int or not 0 <= one.n < 2**53:
        return "n is no count"
    if not isinstance(one.group, str) or (one.group and not one.group.isdecimal()):
        return "the group is no number"
    if one.value is not None and not (type(one.value) in (int, float) and 0 <= one.value <= 1):
        return "the value is no number from 0 to 1"
    return ""
