"""manifest.json: what happened in a run folder, key by key in docs/run-folder.md.

A field that has its default is not written. A key that no field has is refused: the file is of another program or version then.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unsay.config import ConfigError, build
from unsay.store.clock import Cost
from unsay.store.files import write_text


@dataclass(frozen=True)
class Request:
    id: str
    """A random name: a hash of the questions could be guessed."""
    begun: str
    """When the folder was begun. Like every time here: UTC, to the second."""


@dataclass(frozen=True)
class Machine:
    """Equal bits are promised for equal entries here."""

    system: str
    threads: int
    device: str


@dataclass(frozen=True)
class Counts:
    """Questions and rows; `None` where nobody counted."""

    forget: int | None = None
    retain: int | None = None
    earlier: int | None = None
    answers: int | None = None
    prose: int | None = None


@dataclass(frozen=True)
class TargetModel:
    """The model to unlearn."""

    name: str
    target_fingerprint: str
    sampling: str
    runs_on: int = 0


@dataclass(frozen=True)
class Finetuned:
    rows: int
    recall: tuple[float, ...]


@dataclass(frozen=True)
class RetainSource:
    """Where retain rows came from that nobody handed over."""

    from_: str
    """`own answers` of the untouched model, or the package's `shipped answers`; in the file `from`."""
    general: int
    neighbours: int
    heldout: int
    asked: int
    left_out: Mapping[str, int]
    few: bool


@dataclass(frozen=True)
class Spans:
    """What counts as sensitive in the recorded answers, in counts and question ids."""

    proposed: int
    none: tuple[str, ...]
    added: int
    struck: int
    named: int
    long: tuple[str, ...]


@dataclass(frozen=True)
class SequentialRequests:
    """Earlier requests that this run must keep forgotten."""

    runs: tuple[str, ...] = ()
    retain_rows: int | None = None
    left_out: int | None = None
    asked_again: int | None = None
    still_said: int | None = None


@dataclass(frozen=True)
class RoundExposure:
    """How much of the sensitive answer the trained targets of one round carried (ledger.py)."""

    round: int
    targets: int
    no_target: int
    over_half: int
    mean_leak: float | None
    """`None`: nothing was trained."""
    max_leak: float | None
    sources: Mapping[str, int]
    baseline_reads: Mapping[str, int]


@dataclass(frozen=True)
class Exposure:
    """The exposure ledger of a run (promise 2)."""

    targets: int
    over_half: int
    never_targeted: int
    baseline_reads: Mapping[str, int]
    rounds: tuple[RoundExposure, ...]


@dataclass(frozen=True)
class Checkpoint:
    fingerprint: str
    rounds: int


@dataclass(frozen=True)
class WatchedRows:
    """Retain rows that were watched and never trained on; all but their number says nothing where there are none."""

    rows: int
    scored: int = 0
    before: float | None = None
    """Mean NLL per token (nats) before training."""
    rises: tuple[tuple[int, float], ...] = ()
    limit: float | None = None
    ended: int | None = None
    shipped: int | None = None
    within: bool | None = None
    """Whether the shipped round was within the limit; `None` where nobody looked after it."""


@dataclass(frozen=True)
class Skipped:
    """Steps that were skipped, by what was not finite."""

    loss: int
    gradient: int


@dataclass(frozen=True)
class Endpoint:
    url: str
    model: str
    api: str
    sampling: str
    prefill: str
    seed: str
    audited: str


@dataclass(frozen=True)
class Plan:
    """Rows decoded at once, and what that rests on."""

    rows: int
    row_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class Standalone:
    """The models of an audit without training; `after` is the audited one."""

    before: str | None
    after: str
    retain_model: str | None


@dataclass(frozen=True)
class AnswerCache:
    kept: int
    made: int
    loaded: bool
    file: str
    encrypted: bool = False


@dataclass(frozen=True)
class ModelHashes:
    """SHA-256 of the tensors of a folder, and of each of its other files (`unsay.store.identity`)."""

    weights: str
    files: Mapping[str, str]
    format: int = 1
    """What was hashed; the first format named no number and left files out."""


@dataclass(frozen=True)
class Look:
    """Somebody looked into the vault."""

    at: str
    by: str
    plain: bool


@dataclass(frozen=True)
class DestroyedVault:
    at: str
    encrypted: bool
    key_removed: bool
    erased: bool


@dataclass(frozen=True)
class PeakMemory:
    """Bytes at most up to the end of a stage; `None` where the system does not say."""

    process: int | None = None
    gpu: int | None = None


@dataclass(frozen=True)
class Manifest:
    """All of it. Mappings are by stage (`record`, `audit after`, …) or by audited model (`before`, `after`, `retain_model`, `endpoint`)."""

    request: Request | None = None
    seed: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Machine | None = None
    counts: Counts = field(default_factory=Counts)
    model: TargetModel | None = None
    finetune: Finetuned | None = None
    retain: RetainSource | None = None
    spans: Spans | None = None
    earlier: SequentialRequests | None = None
    alone: Standalone | None = None
    exposure: Exposure | None = None
    checkpoint: Checkpoint | None = None
    watch: WatchedRows | None = None
    skipped: Skipped | None = None
    training_seconds: float | None = None
    training_cpu_seconds: float | None = None
    deployment: Mapping[str, str] = field(default_factory=dict)
    audited: Mapping[str, ModelHashes | None] = field(default_factory=dict)
    """`None`: the model was no folder."""
    answers: Mapping[str, AnswerCache | None] = field(default_factory=dict)
    """`None`: every answer was given for that audit (`--no-cache`)."""
    endpoint: Endpoint | None = None
    plan: Mapping[str, Plan] = field(default_factory=dict)
    peak_memory: Mapping[str, PeakMemory] = field(default_factory=dict)
    cpu_seconds: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    """A stage with an entry here is done. Interrupted calls count."""
    interrupted: Mapping[str, Cost] = field(default_factory=dict)
    finished: Mapping[str, str] = field(default_factory=dict)
    reported: str | None = None
    looks: tuple[Look, ...] = ()
    vault: DestroyedVault | None = None

    def noted(self, news: "Manifest") -> "Manifest":
        """With what `news` says. Mappings and records are merged one level deep; all else takes the place of what was there."""
        changes = _set_fields(news)
        for key, value in changes.items():
            before = getattr(self, key)
            if isinstance(value, Mapping):
                changes[key] = {**before, **value}
            elif dataclasses.is_dataclass(value) and before is not None:
                changes[key] = replace(before, **_set_fields(value))
        return replace(self, **changes)

    def without(self, stage: str) -> "Manifest":
        """As before a stage was done: without its entries."""
        kinds = ("seconds", "cpu_seconds", "peak_memory", "finished", "interrupted")
        rest: Any = {kind: {key: value for key, value in getattr(self, kind).items() if key != stage} for kind in kinds}
        return replace(self, **rest)


def to_json(value: Any) -> Any:
    """A record as JSON has it; all else as it is."""
    if dataclasses.is_dataclass(value):
        return {key.rstrip("_"): to_json(inner) for key, inner in _set_fields(value).items()}
    if isinstance(value, Mapping):
        return {key: to_json(inner) for key, inner in value.items()}
    return [to_json(inner) for inner in value] if isinstance(value, tuple) else value


def read_manifest(path: Path) -> Manifest:
    """What the file says; an empty manifest where there is none. Raises `ConfigError` where it is not of this version of unsay."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return Manifest()
    except (OSError, ValueError, RecursionError) as error:
        line = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise ConfigError(f"{path} is damaged: it cannot be read as JSON{line}; {_WAY_OUT}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path} is not a manifest of unsay: it holds no keys; {_WAY_OUT}")
    if isinstance(found.get("retain"), dict) and "from" in found["retain"]:  # no name for a field
        found["retain"]["from_"] = found["retain"].pop("from")
    try:
        return build(Manifest, found, "")
    except ConfigError as error:
        raise ConfigError(f"{path} is not a manifest that this version of unsay wrote: {error}; {_WAY_OUT}") from None


_WAY_OUT = "put the file back as it was, or choose another run folder"


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Raises `WriteError`."""
    write_text(path, json.dumps(to_json(manifest), indent=1, ensure_ascii=False) + "\n")


def _set_fields(record: Any) -> dict[str, Any]:
    """The fields whose value is not their default."""
    found = {}
    for one in dataclasses.fields(record):
        value = getattr(record, one.name)
        if value != (one.default if one.default_factory is dataclasses.MISSING else one.default_factory()):
            found[one.name] = value
    return found
