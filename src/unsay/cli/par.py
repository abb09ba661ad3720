"""`par`: what runs keep where the forgetting lines of a policy just pass."""

from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unsay.cli.app import RESEARCH, JsonOption, app, print_json, print_table
from unsay.cli.progress import watching
from unsay.store.folder import RunFolder

if TYPE_CHECKING:
    from unsay.research.par import Point

Runs = Annotated[list[Path], typer.Argument(help="Finished runs that still keep their trained weights.")]
Policy = Annotated[str | None, typer.Option("--policy", help="A policy file, or the name of a shipped one; default each recipe's.")]


@app.command(rich_help_panel=RESEARCH)
def par(runs: Runs, policy: Policy = None, as_json: JsonOption = False) -> None:
    """Compare runs at equal forgetting: for each, turn the dial (weight averaging, no training) to where every forgetting line of the
    policy just passes, and say how much of what was held out is left there."""
    from unsay.research.par import at_par

    with watching() as watchers:
        found = {path: at_par(RunFolder(path), policy, watchers.stage) for path in runs}
    rows = [row(path, points) for path, points in found.items()]
    if as_json:
        print_json({"runs": rows, "mean": _mean(rows)})
        return
    columns = ("run", "held out at par", "at", "never-knew index", "farthest off", "held out at 1")
    print_table(columns, ([_cell(line[key]) for key in line if key not in ("wellformed", "failed", "points")] for line in rows))
    for line in rows:
        there = f"forgets too little at {line['points'][0]['share']:.3g}" if line["share"] is None else f"fails at {line['share']:.3g}"
        if line["failed"]:
            print(f"{line['run']} {there}: {line['failed']}")
    if (mean := _mean(rows)) is not None:
        print(f"mean of {len(rows)} runs: {mean:.1f}")


def row(path: Path, points: "list[Point]") -> dict[str, Any]:
    """One run in figures; `None` where no setting of the dial forgets enough."""
    from unsay.measure.never_knew import never_knew
    from unsay.research.par import best

    chosen = best(points)
    index = never_knew(chosen.metrics) if chosen else None
    return {
        "run": str(path),
        "held_out_at_par": chosen and chosen.held_out,
        "share": chosen and chosen.share,
        "never_knew": index and index.index,
        "farthest_off": index and index.worst,
        "wellformed": chosen and chosen.metrics.get("wellformed_share", {}).get("after"),
        "failed": ", ".join(chosen.failed(forgetting=False) if chosen else points[0].failed(forgetting=True)),
        "held_out": next(point.held_out for point in points if point.share == 1),
        "points": [{"share": p.share, "held_out": p.held_out, "failed": [*p.failed(True), *p.failed(False)]} for p in points],
    }


def _mean(rows: list[dict[str, Any]]) -> float | None:
    """A run that is never at par counts nothing: 0."""
    return fmean(line["held_out_at_par"] or 0.0 for line in rows) if rows else None


def _cell(value: float | str | None) -> str:
    return "none" if value is None else value if isinstance(value, str) else f"{value:.3g}"
