"""One knob at a time: each value of it is a configuration of a sweep, run with the recipe's rounds and with several seeds.

A contender of the sweep is a knob, and its configurations are the values. `ablate_report` draws what came of it. `train.rounds` is special:
with `train.schedule = "constant"` a run of many rounds passes through exactly the models that runs of fewer would have ended with, so one
run stands for all values. With another schedule every value gets a run of its own.
"""

import json
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from unsay.config import ConfigError, load, recipe_path
from unsay.config.toml import parsed
from unsay.research.ablate_report import ROUNDS
from unsay.research.sweep.spec import Settings, Sweep, of_another
from unsay.research.sweep.worker import Shared, begin
from unsay.run import check

PROBES = ("greedy", "paraphrase", "utility")


def ablation(name: str, over: Iterable[str], folder: Path, settings: Sequence[str] = (), seeds: int = 3) -> Shared:
    """An ablation of a recipe, begun in its folder: `over` holds `knob=value,value,…`. Raises `ConfigError` before any work."""
    path = recipe_path(name).resolve()
    values = dict(map(read_values, over))
    recipe = load(path, settings)
    looks: dict[str, tuple[int, ...]] = {}
    chosen: dict[str, list[Settings]] = {knob: [{knob: value} for value in some] for knob, some in values.items()}
    if recipe.train.schedule == "constant" and ROUNDS in values:
        looks, chosen[ROUNDS] = {ROUNDS: tuple(values[ROUNDS])}, [{ROUNDS: max(values[ROUNDS])}]
    given = {knob: value for knob, value in map(parsed, settings) if knob != "method"}
    sweep = Sweep(
        recipe=name,
        methods=tuple(values),
        seeds=tuple(range(seeds)),
        budget=0.0,
        checkpoints=1,
        floor=0.0,
        probes=PROBES,
        looks=looks,
        settings=given,
        fixed={knob: {"method": recipe.method} for knob in values},
    )
    for knob in values:
        sweep.not_its_own("--over", [knob], free=("method",))
        if of_another(knob, recipe.method):
            raise ConfigError(f"--over {knob}: the method is {recipe.method}, so it would change nothing")
        for one in chosen[knob]:
            try:
                check(sweep.recipe_of(path, knob, one))
            except ConfigError as error:
                raise ConfigError(f"--over {knob}, {json.dumps(one[knob])}: {error}") from None
    shared = Shared(sweep, path, folder.resolve(), chosen)
    begin(shared)
    return shared


def read_values(text: str) -> tuple[str, list[Any]]:
    """`knob=value,value,…` as a knob and its values, in TOML or as bare words. Raises `ConfigError`.

    >>> read_values("pmc.samples=1, 5")
    ('pmc.samples', [1, 5])
    >>> read_values("pmc.preset=paper,official")
    ('pmc.preset', ['paper', 'official'])
    """
    knob, sign, listed = text.partition("=")
    if not knob or not sign:
        raise ConfigError("--over takes a knob and its values; for example --over pmc.samples=1,5,20")
    try:
        values = tomllib.loads(f"values = [{listed}]")["values"]
    except ValueError:
        values = [parsed(f"{knob}={one.strip()}")[1] for one in listed.split(",")]
    knob, _ = parsed(f"{knob}=0")
    if len({json.dumps(value) for value in values}) < max(2, len(values)):
        raise ConfigError(f"--over {knob} takes at least two values, each once; for example --over pmc.samples=1,5,20")
    if knob == ROUNDS and not all(type(value) is int and value > 0 for value in values):
        raise ConfigError(f"--over {knob} takes whole numbers above 0")
    return knob, values
