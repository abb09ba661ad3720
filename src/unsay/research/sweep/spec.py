"""What a sweep tries: a TOML file that names a recipe, the methods, and for each the knobs to search. Every method gets as many
configurations, seeds and seconds; its first configuration stands under `[first]`, the others are drawn from `[space]`."""

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from unsay.config import ConfigError, Recipe, build, load
from unsay.config.build import not_negative, one_of, positive
from unsay.config.toml import read, setting
from unsay.run import check
from unsay.store.redact import SENSITIVE
from unsay.tables import entries
from unsay.train import method_of

ALL = "all"
_OWN = {
    "seed": "name them in `seeds`",
    "train.rounds": "they follow from the budget (0: they are the recipe's)",
    "train.save_every": "it follows from the rounds",
    "train.max_minutes": "the budget ends a run",
    "train.averaging": "curves look at what was trained; `unsay par` turns the dial of a finished run",
    "watch": "no rows are watched in a sweep, so that all of a corpus is trained on, for all rounds, and no round but the last is shipped",
    "audit.probes": "name them in `probes` and `final`",
    "method": "contenders are named in `methods`; one whose name is no method's says under [fixed.NAME] which it is",
}
"""Knobs, or tables of them, that are the sweep's own, and what to do in place of setting them."""
_TAKEN = (ALL, "recorded", "jobs")
"""Names in a sweep's folder, or in its file, that no contender may have."""
Settings = Mapping[str, Any]
"""Knob → value, as after `--set`."""


@dataclass(frozen=True)
class Sweep:
    """What is tried, checked as far as it can be without the recipe."""

    recipe: str
    """The recipe that every run starts from: a file, or the name of a shipped one."""
    methods: tuple[str, ...]
    """The contenders: methods, or names that `[fixed]` explains. They take turns."""
    configurations: int = 100
    """Configurations of each contender."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Seeds that each configuration is run with."""
    budget: float = 60.0
    """Seconds of recording and training that a run should take: of the process on a CPU, of the clock on a GPU. Rounds follow from it.
    0: a run takes the recipe's rounds."""
    checkpoints: int = 6
    """Points of a run's curve, evenly over its rounds."""
    looks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """By contender: the rounds that are points of its curves, in place of even ones; the last round is one in any case."""
    floor: float = 0.5
    """A run ends, and its configuration with it, at a checkpoint whose utility is below this share of that before; 0 never."""
    sampler: str = "random"
    """How configurations are drawn: `random`, the same whatever the machines and their number, or `tpe`, which learns from those done."""
    seed: int = 0
    """Seed of the drawing."""
    probes: tuple[str, ...] = ("greedy", "paraphrase", "utility")
    """Asked at every checkpoint."""
    final: tuple[str, ...] = ()
    """Asked of the last checkpoint besides; empty spares the audit."""
    keep: bool = False
    """Keep the last checkpoint of every run, for other probes and for `unsay par` later."""
    settings: Settings = field(default_factory=dict)
    """Knobs that every run has, over the recipe's."""
    fixed: Mapping[str, Settings] = field(default_factory=dict)
    """By contender: knobs that are not searched, `method` among them where its name is not the method's."""
    first: Mapping[str, Settings] = field(default_factory=dict)
    """By contender: the first configuration, a value for every searched knob."""
    space: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By contender, or for `all`: knob → a list of values, or `{ low, high, log }`."""

    def __post_init__(self) -> None:
        self._scalars()
        self._names()
        for name in self.methods:
            self.distributions(name)
            self._first_is_whole(name)

    def _scalars(self) -> None:
        one_of("sampler", self.sampler, ("random", "tpe"))
        positive("sweep", configurations=self.configurations, checkpoints=self.checkpoints)
        not_negative("sweep", budget=self.budget)
        if not 0 <= self.floor <= 1:
            raise ConfigError(f"floor = {self.floor} is a share from 0 to 1")
        needed = {"utility"} if self.floor else set()
        needed |= {"greedy", "paraphrase", "utility"} if self.sampler == "tpe" else set()
        if lacking := sorted(needed - set(self.probes)):
            raise ConfigError(f"probes lacks {', '.join(lacking)}, which the floor or the sampler looks at")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError("seeds must hold at least one number, and each once")

    def _names(self) -> None:
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise ConfigError("methods must name at least one contender, and each once")
        for name in self.methods:
            if name in _TAKEN or not re.fullmatch(r"\w[\w.-]*", name):
                raise ConfigError(f"methods: {name!r} cannot name a contender's folder; choose another name")
        # Tables of contenders that were not chosen may stay in the file.
        known = tuple(dict.fromkeys((*self.methods, ALL, *entries("method"))))
        explained = tuple(name for name, knobs in self.fixed.items() if "method" in knobs)
        for name in self.looks:
            one_of("[looks]", name, (*known, *explained))
        for table in ("fixed", "first", "space"):
            for name, knobs in getattr(self, table).items():
                one_of(f"[{table}]", name, (*known, *explained))
                self.not_its_own(f"[{table}.{name}]", knobs, ("method",) if table == "fixed" and name != ALL else ())
        self.not_its_own("[settings]", self.settings)

    def not_its_own(self, where: str, knobs: Iterable[str], free: Sequence[str] = ()) -> None:
        """Raises `ConfigError` where a knob is the sweep's own to set, or may be secret. `free`: those that are not its own here."""
        for knob in knobs:
            why = _OWN.get(knob) or _OWN.get(knob.partition(".")[0])
            if why and knob not in free and (self.budget or knob != "train.rounds"):
                raise ConfigError(f"{where} {knob} cannot be set in a sweep: {why}")
            if knob.rpartition(".")[2] in SENSITIVE:  # what is set stands in sweep.toml and trial.json, and is printed
                raise ConfigError(f"{where} {knob} may be secret, and the files of a sweep are no vault; set it in the recipe")

    def distributions(self, name: str) -> dict[str, BaseDistribution]:
        """What is searched for a contender. Raises `ConfigError`."""
        found = {**self.space.get(ALL, {}), **self.space.get(name, {})}
        return {knob: _distribution(f"[space.{name}] {knob}", values) for knob, values in found.items()}

    def first_configuration(self, name: str) -> Settings:
        """What a contender begins with; empty where that is drawn like the others."""
        return {**self.first.get(ALL, {}), **self.first.get(name, {})}

    @property
    def asked(self) -> tuple[str, ...]:
        """All probes, of the checkpoints and of the last one."""
        return tuple(dict.fromkeys((*self.probes, *self.final)))

    def seed_of(self, name: str, number: int) -> int:
        """Seed of the drawing of one configuration, whoever draws it and when."""
        return zlib.crc32(f"{self.seed} {name} {number}".encode())

    def recipe_of(self, path: Path, name: str, drawn: Settings, more: Settings | None = None) -> Recipe:
        """The recipe of one run. `path`: the recipe file. Later settings win: `[settings]`, `[fixed]`, what was drawn, `more`."""
        merged = {"method": name, **self.settings, **self.fixed.get(ALL, {}), **self.fixed.get(name, {}), **drawn, **(more or {})}
        merged["audit.probes"] = self.asked
        return load(path, [setting(knob, value) for knob, value in merged.items()])

    def try_out(self, path: Path) -> None:
        """Build every contender, with every listed value and both ends of every range, so that a mistake shows before the first run.
        Raises `ConfigError`. What only a combination of values breaks shows when it is drawn."""
        for name in self.methods:
            tried = {knob: ends(distribution) for knob, distribution in self.distributions(name).items()}
            drawn = {knob: values[0] for knob, values in tried.items()}
            try:
                recipe = self.recipe_of(path, name, drawn)
                check(recipe)
                check(self.recipe_of(path, name, self.first_configuration(name)))
                for knob, values in tried.items():
                    for value in values[1:]:
                        method_of(self.recipe_of(path, name, {**drawn, knob: value}))
            except ConfigError as error:
                raise ConfigError(f"contender {name}: {error}") from None
            for knob in tried:
                if of_another(knob, recipe.method):
                    raise ConfigError(f"[space] {knob} is searched for {name}, whose method is {recipe.method}; it would change nothing")
            if recipe.deployment.template or recipe.deployment.system_prompt:
                raise ConfigError("a checkpoint is asked as it was trained: leave deployment.template and .system_prompt out of a sweep")

    def goes_on(self, old: "Sweep") -> bool:
        """Whether this is `old`, or `old` with more configurations or further contenders."""

        def rest(sweep: Sweep) -> dict[str, Any]:
            values = {one.name: getattr(sweep, one.name) for one in fields(Sweep) if one.name not in ("configurations", "methods")}
            for table in ("looks", "fixed", "first", "space"):
                values[table] = {name: knobs for name, knobs in values[table].items() if name in (ALL, *old.methods)}
            return values

        return self.configurations >= old.configurations and set(self.methods) >= set(old.methods) and rest(self) == rest(old)

    def _first_is_whole(self, name: str) -> None:
        first, searched = self.first_configuration(name), self.distributions(name)
        if not first:
            return
        for knob in searched.keys() - first.keys():
            raise ConfigError(f"[first.{name}] has no value for {knob}, which [space] searches")
        for knob in first.keys() - searched.keys():
            raise ConfigError(f"[first.{name}] {knob} is not searched; put it under [fixed.{name}]")
        for knob, distribution in searched.items():
            if not _inside(distribution, first[knob]):
                raise ConfigError(f"[first.{name}] {knob} = {first[knob]!r} lies outside of its [space]")


def load_sweep(path: Path, settings: Iterable[str] = ()) -> Sweep:
    """A sweep from its file and `key=value` settings. Raises `ConfigError`."""
    raw = read(path, settings)
    # `train.batch = 4` without quotes is a table to TOML, and would replace all of the recipe's [train].
    if isinstance(own := raw.get("settings"), dict):
        raw["settings"] = _dotted(own)
    for table in ("fixed", "first", "space"):
        if isinstance(own := raw.get(table), dict):
            raw[table] = {name: _dotted(knobs) if isinstance(knobs, dict) else knobs for name, knobs in own.items()}
    return build(Sweep, raw, "")


def of_another(knob: str, method: str) -> bool:
    """Whether a knob belongs to a method that is not this one."""
    return (table := knob.partition(".")[0]) in entries("method") and table != method


def _dotted(knobs: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in knobs.items():
        nested = isinstance(value, Mapping) and "." not in key
        found |= {f"{key}.{knob}": one for knob, one in value.items()} if nested else {key: value}
    return found


def _distribution(where: str, values: Any) -> BaseDistribution:
    if isinstance(values, Sequence) and not isinstance(values, str):
        if not values or not all(isinstance(value, str | int | float | bool) for value in values):
            raise ConfigError(f"{where} takes a list of numbers, texts or true/false")
        return CategoricalDistribution(list(values))
    if not isinstance(values, Mapping) or not {"low", "high"} <= values.keys() <= {"low", "high", "log"}:
        raise ConfigError(f"{where} takes a list of values, or {{ low = …, high = …, log = true }}")
    low, high, log = values["low"], values["high"], bool(values.get("log", False))
    kind = IntDistribution if isinstance(low, int) and isinstance(high, int) else FloatDistribution
    try:
        return kind(low, high, log=log)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from None


def _inside(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    kinds = (int,) if isinstance(distribution, IntDistribution) else (int, float)
    return type(value) in kinds and distribution.low <= value <= distribution.high  # type: ignore[attr-defined]


def ends(distribution: BaseDistribution) -> tuple[Any, ...]:
    """The listed values, or both ends of the range."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    return distribution.low, distribution.high  # type: ignore[attr-defined]
