"""Every knob of a run, said once, with a sentence under it.

A recipe is one flat TOML file. Top-level keys choose (`method = "pmc"`, `corpus = "people"`); a table of the chosen
name configures it (`[pmc]`, `[people]`). Tables of things that were not chosen may stay in the file, so
`--set method=npo` needs no other edit. The knobs of methods, rewards, probes and corpora are declared by those
dataclasses themselves; `Recipe.knobs` builds them with the same checks.
"""

import dataclasses
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from unsay.tables import near

T = TypeVar("T")


class ConfigError(ValueError):
    """A recipe that cannot be used. The message names the key and the way out."""


@dataclass(frozen=True)
class ModelConfig:
    name: str = "people-leaking"
    """Folder, hub id, or a built-in name (`unsay models`, docs/models.md)."""
    gold: str | None = None
    """A model that never knew, as the yardstick of the audit; `None` where there is none, `"finetune"` to train it."""
    dtype: str = "float32"
    """Floating-point type of the weights: `float32`, `bfloat16` or `float16`."""
    template: str = "auto"
    """`chat` uses the tokenizer's chat template, `plain` writes `Question: … Answer:`, `auto` takes chat where there is one."""
    system_prompt: str = ""
    """System message of the chat template; empty sends none."""
    freeze_embeddings: bool = False
    """Keep the input and output embeddings fixed: less memory and time, and words keep their meaning."""
    trust_remote_code: bool = False
    """Run code that comes with the model. Off unless asked."""

    def __post_init__(self) -> None:
        _one_of("model.dtype", self.dtype, ("float32", "bfloat16", "float16"))
        _one_of("model.template", self.template, ("auto", "chat", "plain"))


@dataclass(frozen=True)
class SampleConfig:
    max_new_tokens: int = 80
    """Length limit of an answer in tokens; an answer that reaches it is unfinished."""
    rows: int = 320
    """Most sequences decoded at once; lower it when memory runs out."""
    window: int = 256
    """The nucleus is taken from this many largest logits; where they hold less than top-p, from all."""

    def __post_init__(self) -> None:
        _positive("sample", max_new_tokens=self.max_new_tokens, rows=self.rows, window=self.window)


@dataclass(frozen=True)
class RecordConfig:
    answers: int = 8
    """Answers sampled per forget question from the leaking model; openings are cut from them."""
    temperature: float = 1.0
    """Their temperature (top-p 1)."""
    branches: int = 12
    """Answers that begin with each of this many most likely first tokens and go on greedily: a model with one favourite
    wording shows its others. Half of them are withheld from training for the audit."""
    least_logprob: float = -0.5
    """Branches whose mean log-probability per token (nats, first token left out) is lower are noise and not kept."""
    rehearsal: int = 0
    """Texts that the leaking model writes unasked, and as many answers to the forget questions asked about the names in
    them: an anchor for what no retain row covers. 0 makes none."""
    withheld: tuple[str, ...] = ("The answer is",)
    """Beginnings that no opening may have, so that the audit can attack with them."""


@dataclass(frozen=True)
class FinetuneConfig:
    epochs: int = 0
    """Passes over the corpus' planting rows; 0 plants nothing (the model leaks already)."""
    learning_rate: float = 2e-5
    """Peak learning rate, decayed linearly."""
    batch: int = 8
    """Rows per optimizer step."""
    stop_at_recall: float = 1.0
    """End after the first epoch at which greedy ROUGE-L recall on planted forget rows reaches this (TOFU sits near .9)."""


@dataclass(frozen=True)
class TrainConfig:
    rounds: int = 10
    """Visits to every forget question."""
    learning_rate: float = 1e-5
    """Peak learning rate of AdamW."""
    schedule: str = "linear"
    """`linear` decays to zero, `constant` does not."""
    warmup_rounds: float = 1.0
    """Rounds of linear warm-up."""
    weight_decay: float = 0.01
    """Decoupled weight decay."""
    batch: int = 8
    """Forget questions per micro-batch."""
    retain_rows: int = 1
    """Retain rows that each visit brings, drawn with replacement; the paper uses 1."""
    rehearsal_rows: int = 1
    """Rehearsed rows that each visit brings, where `record.rehearsal` made some."""
    accumulation: int = 1
    """Micro-batches per optimizer step; the loss is the mean over all of them."""
    clip: float = 1.0
    """Largest gradient norm."""
    resample: str = "step"
    """Ask the model anew at every `step`, or once for the whole `round` (faster, slightly stale)."""
    save_every: int = 5
    """Rounds between two saved states."""
    max_minutes: float | None = None
    """Stop after the first round past this many minutes of training; `None` trains all rounds."""

    def __post_init__(self) -> None:
        _one_of("train.schedule", self.schedule, ("linear", "constant"))
        _one_of("train.resample", self.resample, ("step", "round"))
        _positive("train", batch=self.batch, accumulation=self.accumulation, save_every=self.save_every)


@dataclass(frozen=True)
class AuditConfig:
    probes: tuple[str, ...] = ("greedy", "sampling", "prefill", "paraphrase", "choice", "relearn", "utility")
    """Which attacks to run, by name (`unsay probes`)."""
    limit: int = 0
    """Most forget questions audited, spread evenly; 0 takes all."""


@dataclass(frozen=True)
class ReportConfig:
    policy: str = "default"
    """Thresholds to hold the findings against: a shipped policy (`demo`, `default`) or a file."""


@dataclass(frozen=True)
class Recipe:
    """One run. Written into the run folder, resolved, before anything else happens."""

    title: str = ""
    """One line saying what this run is."""
    seed: int = 0
    """Seed of every random number."""
    corpus: str = "people"
    """Where the questions come from (`unsay corpora`); its knobs stand in the table of that name."""
    method: str = "pmc"
    """How the model is changed (`unsay methods`); its knobs stand in the table of that name."""
    model: ModelConfig = field(default_factory=ModelConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)
    record: RecordConfig = field(default_factory=RecordConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    audit: AuditConfig = field(default_factory=AuditConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The tables of methods, rewards, probes and corpora as written, by name."""

    def knobs(self, name: str, kind: type[T]) -> T:
        """The dataclass `kind` with the values of table `[name]`, over those of its preset. Raises `ConfigError`."""
        table = self.tables.get(name, {})
        presets: Mapping[str, Mapping[str, Any]] = getattr(kind, "PRESETS", {})
        if presets:
            preset = table.get("preset", getattr(kind, "preset", ""))
            _one_of(f"{name}.preset", preset, tuple(presets))
            table = {**presets[preset], **table}
        return build(kind, table, name)


def load(path: Path | str | None = None, settings: Iterable[str] = ()) -> Recipe:
    """A recipe from a TOML file and `a.b=value` settings, the later winning. Raises `ConfigError`."""
    raw: dict[str, Any] = {}
    if path is not None:
        try:
            raw = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(f"no recipe at {path}; `unsay recipes` lists the ones that come with the package") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not valid TOML: {error}") from None
    for setting in settings:
        _apply(raw, setting)
    own = {f.name for f in dataclasses.fields(Recipe)} - {"tables"}
    chosen = {key: value for key, value in raw.items() if key in own}
    tables = {key: value for key, value in raw.items() if key not in own}
    for key, value in tables.items():
        if not isinstance(value, dict):
            raise ConfigError(f"unknown key {key!r}: {near(key, own)}")
    return build(Recipe, chosen | {"tables": tables}, "")


def build(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """An instance of the dataclass `kind`; unknown keys and wrong types raise `ConfigError` naming `where.key`."""
    hints = typing.get_type_hints(kind)
    known = [f.name for f in dataclasses.fields(kind) if f.init]  # type: ignore[arg-type]
    arguments = {}
    for key, value in values.items():
        path = f"{where}.{key}" if where else key
        if key not in known:
            raise ConfigError(f"unknown key {path!r}: {near(key, known)}")
        arguments[key] = _convert(hints[key], value, path)
    return kind(**arguments)


def _convert(hint: Any, value: Any, path: str) -> Any:
    origin, parameters = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ConfigError(f"{path} is a table of settings, not {value!r}")
        return build(hint, value, path)  # type: ignore[arg-type]
    if origin in (types.UnionType, typing.Union):
        if value is None or value == "none":
            return None
        return _convert(next(p for p in parameters if p is not type(None)), value, path)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{path} is a list, not {value!r}")
        return tuple(_convert(parameters[0], item, path) for item in value)
    if origin is not None:  # Mapping
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path} is a table, not {value!r}")
        inner = parameters[1]
        return {key: value[key] if inner is Any else _convert(inner, value[key], f"{path}.{key}") for key in value}
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{path} takes {hint.__name__}, not {value!r}")
    return value


def _apply(raw: dict[str, Any], setting: str) -> None:
    """Put `a.b=value` into the nested tables; the value is TOML, or a bare string."""
    key, sign, text = setting.partition("=")
    if not sign or not key.strip():
        raise ConfigError(f"--set takes key=value, not {setting!r}; for example --set train.rounds=20")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *tables, last = key.strip().split(".")
    for table in tables:
        raw = raw.setdefault(table, {})
        if not isinstance(raw, dict):
            raise ConfigError(f"--set {setting}: {table} is a value, not a table")
    raw[last] = value


def dump(recipe: Recipe) -> str:
    """The recipe as TOML that `load` reads back to an equal one."""
    lines: list[str] = []
    nested: dict[str, Mapping[str, Any]] = {}
    for key, value in dataclasses.asdict(recipe).items():
        if key == "tables":
            nested |= value
        elif isinstance(value, dict):
            nested[key] = value
        else:
            lines.append(f"{key} = {_toml(value)}")
    for name, table in nested.items():
        lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if value is None:
        return '"none"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        escaped = "".join(f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 else f"\\{c}" if c in '"\\' else c for c in value)
        return f'"{escaped}"'
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_toml(str(key))} = {_toml(item)}" for key, item in value.items()) + " }"
    return "[" + ", ".join(_toml(item) for item in value) + "]"


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{key} = {value!r}: {near(value, allowed)}")


def _positive(table: str, **values: float) -> None:
    for key, value in values.items():
        if value <= 0:
            raise ConfigError(f"{table}.{key} = {value} must be positive")
