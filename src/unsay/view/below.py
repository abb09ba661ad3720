"""What lies below a folder: runs, as rows of numbers and names, and sweeps.

Nothing is read through a link that leads anywhere else, and nothing of a file is passed on but what was checked to be a number, or is
a name from the recipe: all else could be a text that somebody put there.
"""

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from unsay.config import ConfigError, Recipe
from unsay.measure.summary import metrics
from unsay.research.front.area import PLANES, Point, pareto
from unsay.research.front.curves import read
from unsay.store.files import LOCK, links
from unsay.store.folder import RunFolder
from unsay.store.manifest import Manifest

COLUMNS = {key: one for key, one in metrics().items() if one.tile}
CURVE, SWEEP = "curve.jsonl", "sweep.toml"


@dataclass(frozen=True)
class Row:
    """One run."""

    name: str
    """Its path below the folder."""
    state: str
    progress: float | None
    """While it trains, the share of its rounds, 0 to 1."""
    passed: bool | None
    verdict: str
    metrics: Mapping[str, float | None]
    never_knew: float | None
    reported: bool
    audited: bool
    model: str = ""
    method: str = ""
    minutes: float | None = None
    begun: str = ""


@dataclass(frozen=True)
class Spot:
    """One checkpoint of one seed of a sweep; forgetting across, usefulness upwards, 0 to 1."""

    method: str
    run: str
    checkpoint: int
    x: float
    y: float
    front: bool
    """Whether no other of its method beats it on both axes."""


class Below:
    """The runs and sweeps below a folder."""

    def __init__(self, root: Path):
        self.root = root.resolve(strict=True)
        self._known: dict[Path, tuple[object, Row]] = {}

    def walk(self) -> tuple[dict[str, Path], dict[str, Path]]:
        """Runs and sweeps by their path below the folder. What lies in a run is its own, what a sweep has recorded belongs to all."""
        runs, sweeps = {}, {}
        for place, folders, _ in os.walk(self.root):
            here = Path(place)
            name, swept = here.relative_to(self.root).as_posix(), self.own(here / SWEEP)
            if swept:
                sweeps[name] = here
            if self.own(here / "recipe.toml") and self.own(here / "manifest.json"):
                runs[name] = here
                folders.clear()
            folders[:] = sorted(one for one in folders if not one.startswith(".") and not (swept and one == "recorded"))
        return runs, sweeps

    def own(self, path: Path) -> bool:
        """Whether it is a file below the folder, with no link on the way."""
        return path.is_file() and path.resolve() == path

    def closed(self, path: Path) -> bool:
        """Whether no link in a folder leads out of the whole."""
        return all(target.is_relative_to(self.root) for target in links(path))

    def rows(self) -> list[Row]:
        """Every run, read anew where it has changed."""
        found = []
        for name, path in self.walk()[0].items():
            watched = [path / file for file in ("manifest.json", "report.json", "train/steps.jsonl", CURVE, LOCK, "audit/after.jsonl")]
            seen = _running(path), [(one.stat().st_mtime_ns, one.stat().st_size) if one.is_file() else None for one in watched]
            if self._known.get(path, (None,))[0] != seen:
                self._known[path] = seen, self._row(name, path)
            found.append(self._known[path][1])
        return found

    def _row(self, name: str, path: Path) -> Row:
        folder, report = RunFolder(path), self._json(path / "report.json")
        current, about = True, dict[str, Any]()
        try:
            recipe, manifest = folder.recipe(texts=False), folder.manifest()
        except ConfigError:  # the message may quote what stands there
            state, progress = "of another version, or damaged", None
        else:
            state, progress = self._state(folder, recipe, manifest)
            current = str(manifest.reported or "") >= manifest.finished.get("audit after", "")
            about = {"model": recipe.model.name, "method": recipe.method}
            about["minutes"] = manifest.training_seconds and manifest.training_seconds / 60
            about["begun"] = manifest.request.begun[:16].replace("T", " ") if manifest.request else ""
        lines = _get(report, "policy", "lines") if current else None
        held = [_get(line, "passed") is True for line in lines] if isinstance(lines, list) and lines else []
        verdict = "passed" if held and all(held) else f"failed {held.count(False)} of {len(held)}" if held else ""
        curve = None if report else self._json(path / CURVE, last=True)
        return Row(
            name,
            state,
            progress=progress,
            passed=all(held) if held else None,
            verdict=verdict if current or not report else "report is older than the audit",
            metrics={key: _number(_get(report, "metrics", key, "after") if report else _get(curve, "metrics", key)) for key in COLUMNS},
            never_knew=_number(_get(report, "never_knew", "index")),
            reported=self.own(folder.report_html),
            audited=self.own(folder.audit_file("after")),
            **about,
        )

    def _state(self, folder: RunFolder, recipe: Recipe, manifest: Manifest) -> tuple[str, float | None]:
        last = max(manifest.finished, key=lambda stage: manifest.finished[stage], default="")
        if _running(folder.path):
            done = _number(_get(self._json(folder.steps_file, last=True), "round"))
            if "record" in manifest.seconds and "train" not in manifest.seconds and manifest.alone is None:
                rounds = recipe.train.rounds
                now = min(rounds, int(done) + 1) if done is not None else 0
                return f"trains, round {now} of {rounds}", now / rounds
            return f"runs, done: {last or 'nothing yet'}", None
        return "finished" if "report" in manifest.seconds else f"stopped after {last}" if last else "begun", None

    def _json(self, path: Path, last: bool = False) -> Any:
        """What stands in a file, or in its last line; `None` where that cannot be read, or lies elsewhere."""
        try:
            text = path.read_text(encoding="utf-8").rstrip("\n") if self.own(path) else "null"
            return json.loads(text.rpartition("\n")[2] if last else text)
        except (OSError, ValueError, RecursionError):
            return None

    def spots(self, name: str, path: Path) -> list[Spot]:
        """Every checkpoint of every seed of a sweep. Raises `ConfigError` where it holds no curve."""
        plane, found = PLANES["recall"], []
        for method, some in read([path]).configurations.items():
            points = [
                (f"{name}/{one.place}/seed-{seed}", Point(one, step.checkpoint, step.round, x, y, step.cpu_seconds, 1))
                for one in some
                for seed, curve in one.curves.items()
                for step in curve
                if isfinite(x := plane.x.of(step.metrics)) and isfinite(y := plane.y.of(step.metrics))
            ]
            best = pareto([point for _, point in points])
            found += [Spot(method, run, point.checkpoint, point.x, point.y, point in best) for run, point in points]
        return found


def _running(path: Path) -> bool:
    """Whether a process of this machine writes there: who claims a folder leaves its number in the lock, and takes it out again."""
    try:
        number, _, machine = (path / LOCK).read_text(encoding="utf-8").strip().partition(" on ")
        if machine != socket.gethostname() or not number.isdecimal():
            return False
        os.kill(int(number), 0)
    except PermissionError:
        return True  # somebody else's process
    except (OSError, ValueError, OverflowError):
        return False
    return True


def _get(found: Any, *keys: str) -> Any:
    """What stands at the end of some keys; `None` where it is not there."""
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value) else None
