"""Ways of doing the same work, timed in turns in one process, and how the figures are printed.

A machine that others use too is not equally fast from one minute to the next, so nothing is compared across runs: the sides
take turns, forwards and backwards, a ratio is the median of the ratios within a turn, and seconds are shown beside it only
to give the scale.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Side:
    """One way of doing the work."""

    name: str
    run: Callable[[], float]
    """Does it, and returns how much was done, in the unit of the comparison."""


Rates = Mapping[str, Sequence[float]]
"""Units per second by side, one number a turn."""


def take_turns(sides: Sequence[Side], turns: int) -> Rates:
    """Units per second of every side in every turn, after one run of each that is not counted."""
    found: dict[str, list[float]] = {side.name: [] for side in sides}
    for turn in range(-1, turns):
        # Back and forth, so that a drift of the machine's speed does not favour whoever comes first.
        for side in sides if turn % 2 == 0 else reversed(sides):
            rate = per_second(side.run)
            tell(f"{'warm-up' if turn < 0 else f'turn {turn + 1} of {turns}'}: {side.name}: {rate:.4g} a second")
            if turn >= 0:
                found[side.name].append(rate)
    return found


def per_second(run: Callable[[], float]) -> float:
    start = time.perf_counter()
    done = run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return done / (time.perf_counter() - start)


def ratio(rates: Rates, ours: str, theirs: str) -> float:
    """How many times faster `ours` is: the median of the ratios within a turn."""
    return statistics.median(a / b for a, b in zip(rates[ours], rates[theirs], strict=True))


@dataclass
class Report:
    """What a benchmark found. A ratio above 1 means that ours is faster, or smaller, unless the benchmark says otherwise."""

    benchmark: str
    settings: dict[str, Any]
    ratios: dict[str, float] = field(default_factory=dict)
    """By name; every name ends in `_ratio`."""
    counts: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Ratio → whether it counts, and why; a ratio that is missing here has nothing to prove."""
    medians: dict[str, float] = field(default_factory=dict)
    """Raw figures, the unit at the end of the name."""

    def rates(self, found: Rates, unit: str, prefix: str = "") -> None:
        for name, values in found.items():
            self.medians[f"{prefix}{name}_{unit}"] = statistics.median(values)

    def show(self, as_json: bool) -> None:
        """One JSON object on standard output, or tables."""
        medians = {name: _short(value) for name, value in self.medians.items()}
        ratios = {name: _short(value) for name, value in self.ratios.items()}
        if as_json:
            whole = {"benchmark": self.benchmark, **ratios, "counts": self.counts, "medians": medians}
            print(json.dumps(whole | {"settings": self.settings, "machine": machine()}, indent=1))
            return
        console = Console()
        console.print(f"[bold]{self.benchmark}[/]  " + ", ".join(f"{k} {v}" for k, v in (*self.settings.items(), *machine().items())))
        console.print(_table(("figure", "median"), [(name, f"{value:,}") for name, value in medians.items()]))
        console.print(_table(("ratio", "times", "counts", "why"), [(n, f"{v:,}", *self._verdict(n)) for n, v in ratios.items()]))

    def _verdict(self, name: str) -> tuple[str, str]:
        found = self.counts.get(name)
        return ("", "") if found is None else ("yes" if found["counts"] else "NO", str(found["why"]))


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table()
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number == 1 else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def machine() -> dict[str, Any]:
    """What a reader must know to compare; nothing that names the machine."""
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def tell(line: str) -> None:
    """Progress, on standard error: standard output belongs to the result."""
    print(line, file=sys.stderr, flush=True)


def arguments(description: str, model: str, turns: int) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, measures nothing")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument("--model", default=model, help="built-in name, folder or hub id (default: %(default)s)")
    parser.add_argument("--dtype", default="float32", help="type of the weights, on both sides (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=turns, help="counted turns (default: %(default)s; 1 with --quick)")
    return parser


def settings_of(args: argparse.Namespace, model: str, **more: Any) -> dict[str, Any]:
    # The last part of a path: where a model lies is nobody's business.
    return {"model": Path(model).name, "dtype": args.dtype, "turns": args.turns, "quick": args.quick, **more}
