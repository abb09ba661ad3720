"""What a sweep tries: a TOML file that names a recipe, the methods, and for each the knobs to search.

Every method gets the same number of configurations, the same seeds and the same seconds. Its first configuration is the one
written under `[first]`, the others are drawn from `[space]`.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from unsay.config import ConfigError, Recipe, build, load
from unsay.config.build import one_of, positive
from unsay.config.toml import read, setting
from unsay.methods import GROUP
from unsay.methods import TABLE as METHODS
from unsay.run import check
from unsay.tables import entries

ALL = "all"
Settings = Mapping[str, Any]
"""Knob → value, as after `--set`."""


@dataclass(frozen=True)
class Sweep:
    recipe: str
    """The recipe that every run starts from: a file, or the name of a shipped one."""
    methods: tuple[str, ...]
    """The contenders: methods, or names that `[fixed]` explains. They take turns."""
    configurations: int = 100
    """Configurations of each contender."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Seeds that each configuration is run with."""
    budget: float = 60.0
    """Seconds of recording and training that a run should take: of the process on a CPU, of the clock on a GPU. Rounds follow from it."""
    checkpoints: int = 6
    """Points of a run's curve, evenly over its rounds."""
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
    """Keep the last checkpoint of every run, for other probes later."""
    settings: Settings = field(default_factory=dict)
    """Knobs that every run has, over the recipe's."""
    fixed: Mapping[str, Settings] = field(default_factory=dict)
    """By contender: knobs that are not searched, `method` among them where its name is not the method's."""
    first: Mapping[str, Settings] = field(default_factory=dict)
    """By contender: the first configuration, a value for every searched knob."""
    space: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By contender, or for `all`: knob → a list of values, or `{ low, high, log }`."""

    def __post_init__(self) -> None:
        one_of("sampler", self.sampler, ("random", "tpe"))
        positive("sweep", configurations=self.configurations, budget=self.budget, checkpoints=self.checkpoints)
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise ConfigError("methods must name at least one contender, and each once")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError("seeds must hold at least one number, and each once")
        # Tables of contenders that were not chosen may stay in the file.
        known = tuple(dict.fromkeys((*self.methods, ALL, *self.fixed, *entries(METHODS, GROUP))))
        for table in ("first", "space"):
            for name in getattr(self, table):
                one_of(f"[{table}]", name, known)
        for name in self.methods:
            self.distributions(name)
            self._first_is_whole(name)

    def distributions(self, name: str) -> dict[str, BaseDistribution]:
        """What is searched for a contender. Raises `ConfigError`."""
        found = {**self.space.get(ALL, {}), **self.space.get(name, {})}
        if "train.rounds" in found:
            raise ConfigError(f"[space.{name}] train.rounds: the rounds follow from the budget; leave them out")
        return {knob: _distribution(f"[space.{name}] {knob}", values) for knob, values in found.items()}

    def opening(self, name: str) -> Settings | None:
        """The first configuration of a contender; `None` where it is drawn like the others."""
        found = {**self.first.get(ALL, {}), **self.first.get(name, {})}
        return found or None

    def seed_of(self, name: str, number: int) -> int:
        """Seed of the drawing of one configuration, whoever draws it and when."""
        return zlib.crc32(f"{self.seed} {name} {number}".encode())

    def recipe_of(self, path: Path, name: str, drawn: Settings, more: Settings | None = None) -> Recipe:
        """The recipe of one run. `path`: the recipe file. Later settings win: `[settings]`, `[fixed]`, what was drawn, `more`."""
        merged = {"method": name, **self.settings, **self.fixed.get(ALL, {}), **self.fixed.get(name, {}), **drawn, **(more or {})}
        return load(path, [setting(knob, value) for knob, value in merged.items()])

    def try_out(self, path: Path) -> None:
        """Build every contender once, with the first value of every knob, so that a mistake shows before the first run."""
        for name in self.methods:
            drawn = {knob: _example(distribution) for knob, distribution in self.distributions(name).items()}
            for values in (drawn, self.opening(name) or {}):
                check(self.recipe_of(path, name, values))

    def _first_is_whole(self, name: str) -> None:
        first, searched = self.opening(name), self.distributions(name)
        if first is None:
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
    return build(Sweep, read(path, settings), "")


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
    return isinstance(value, int | float) and distribution.low <= value <= distribution.high  # type: ignore[attr-defined]


def _example(distribution: BaseDistribution) -> Any:
    return distribution.choices[0] if isinstance(distribution, CategoricalDistribution) else distribution.low  # type: ignore[attr-defined]
