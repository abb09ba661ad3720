"""`sweep` and `ablate`: configurations run, each a curve; `front`: what methods reach; `theory`: what their formulas say;
`par`: what runs keep where the forgetting lines of a policy just pass."""

from contextlib import suppress
from itertools import takewhile
from math import inf, isfinite
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unsay.cli import completing
from unsay.cli.app import RESEARCH, DataOption, JsonOption, SetOption, app, note, print_json, print_table
from unsay.cli.progress import watching
from unsay.config import ConfigError, recipe_path
from unsay.config.build import NoFolder
from unsay.config.shipped import sweep_path
from unsay.extras import needed
from unsay.store.folder import RunFolder

if TYPE_CHECKING:
    from unsay.research.par import Point

Workers = Annotated[int, typer.Option("--workers", min=1, help="Processes that share the sweep; others may join in.")]
Slurm = Annotated[list[str] | None, typer.Option("--slurm", help="Of a Slurm job, for example --slurm slurm_partition=gpu.")]
Folders = Annotated[
    list[Path],
    typer.Argument(
        metavar="DIR [DIR ...]", help="Folders of `unsay sweep`, or files kept of them (results/); those of several are pooled."
    ),
]
FrontOut = Annotated[
    Path | None, typer.Option("--out", help="Where the pictures and tables go; default the first folder, or runs/front-NAME of a file.")
]
AtMost = Annotated[
    list[str] | None,
    typer.Option("--at-most", metavar="METRIC=VALUE", help="Count only checkpoints that score no more, such as class_degenerate=0.05."),
]
Budget = Annotated[
    float | None,
    typer.Option(help="Count only checkpoints that cost at most so many seconds; default a tenth over the sweep's budget, 0 counts all."),
]
TheoryOut = Annotated[Path, typer.Option("--out", help="Where theory.md, theory.json and the picture go.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the simulations.")]
Runs = Annotated[list[Path], typer.Argument(help="Finished runs that still keep their trained weights.")]
Policy = Annotated[str | None, typer.Option("--policy", help="A policy file, or the name of a shipped one; default each recipe's.")]


@app.command(rich_help_panel=RESEARCH)
def sweep(
    file: Annotated[
        str, typer.Argument(metavar="SWEEP", help="A sweep file, or the name of a shipped one.", autocompletion=completing.sweeps)
    ],
    out: Annotated[Path | None, typer.Option(help="The sweep's folder; default runs/sweep-SWEEP.")] = None,
    settings: SetOption = None,
    data: DataOption = None,
    chosen: Annotated[
        Path | None, typer.Option("--from", help="Run what this front.json chose, instead of drawing configurations.")
    ] = None,
    workers: Workers = 1,
    cluster: Annotated[str, typer.Option(help="Where workers run: local, or slurm (submitit).")] = "local",
    slurm: Slurm = None,
) -> None:
    """Run configurations × seeds of every method, each a curve of checkpoints against its cost. Interrupted sweeps go on."""
    with needed("a sweep", "sweep", "optuna", "submitit"):
        from unsay.research.sweep import launch
    path = sweep_path(file)
    folder = out or Path("runs") / f"sweep-{path.stem}"
    try:
        shared = launch.shared(path, folder, settings or [], chosen)
        if workers == 1 and cluster == "local":
            with watching() as watchers:
                launch.work(shared, watchers)
        else:
            jobs = launch.submit(shared, workers, cluster, slurm or [])
            if cluster == "slurm":
                note(f"submitted {', '.join(jobs)}; they log in {folder / 'jobs'}")
    except NoFolder as error:
        if not (head := _head(path)):
            raise
        raise ConfigError(f"{error}. The sweep says of itself:\n{head}") from None
    print(folder)


@app.command(rich_help_panel=RESEARCH)
def ablate(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="A recipe file or a shipped one; without --over, what an ablation left.",
            autocompletion=completing.recipes,
        ),
    ],
    over: Annotated[list[str] | None, typer.Option(metavar="KNOB=VALUE,VALUE", help="A knob and its values; may be repeated.")] = None,
    out: Annotated[Path | None, typer.Option(help="The ablation's folder; default runs/ablate-RECIPE.")] = None,
    settings: SetOption = None,
    data: DataOption = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each value, with the seeds 0, 1, 2 …")] = 3,
    workers: Workers = 1,
) -> None:
    """Vary one knob at a time, and draw forget quality, utility and held-out utility over its values. Interrupted ablations go on."""
    from unsay.research import ablate_report

    if not over:
        found = Path(recipe)
        if not found.exists() or found.suffix == ".toml":
            raise ConfigError(f"{recipe} is no ablation's folder; to run one, say what varies: --over KNOB=VALUE,VALUE")
        folder = out or _folder(found, "")
    else:
        with needed("a sweep", "sweep", "optuna", "submitit"):
            from unsay.research.ablate import ablation
            from unsay.research.sweep import launch
        found = folder = out or Path("runs") / f"ablate-{recipe_path(recipe).stem}"
        shared = ablation(recipe, over, folder, settings or [], seeds)
        if workers == 1:
            with watching() as watchers:
                launch.work(shared, watchers)
        else:
            launch.submit(shared, workers, "local", [])
    paths = ablate_report.write(ablate_report.ablated(found), folder)
    print(*paths, sep="\n")


@app.command("front", rich_help_panel=RESEARCH)
def draw(found: Folders, out: FrontOut = None, at_most: AtMost = None, budget: Budget = None, as_json: JsonOption = False) -> None:
    """Draw and tabulate the trade between forgetting and usefulness for all methods of a sweep, with bars and at equal cost."""
    from unsay.research.front import pictures, tables
    from unsay.research.front.trade import front

    if budget is not None and not 0 <= budget < inf:
        raise ConfigError(f"--budget {budget}: give a number of seconds, or 0 to count all")
    if (at_most or budget is not None) and out is None:
        raise ConfigError("--at-most and --budget draw another picture than the sweep's own; say with --out where it goes")
    result = front(found, at_most=dict(map(_bound, at_most or ())), budget=budget)
    paths = pictures.write(result, out or _folder(found[0], "front-"))
    if as_json:
        print_json(tables.as_json(result))
        return
    print("Hypervolume, 0 to 1 (95 % interval)")
    print_table(*tables.volumes(result, brief=True))
    print(f"\n{tables.halved(result)}")
    if result.rows:
        print_table(*tables.equal_cost(result))
    for line in (*tables.failures(result), *result.notes):
        print(line)
    print(*paths, sep="\n")


@app.command(rich_help_panel=RESEARCH)
def theory(out: TheoryOut = Path("runs/theory"), seed: Seed = 0, as_json: JsonOption = False) -> None:
    """Show what the theory of the method says, by formula and simulated: exit code 1 if the two disagree anywhere."""
    from unsay.research import theory as shown

    found = shown.shown(seed)
    paths = shown.write(found, out)
    if as_json:
        print((out / "theory.json").read_text(encoding="utf-8"), end="")
    else:
        for one in found.findings:
            print(f"{'agrees' if one.agrees else 'DIFFERS':8} {one.expected:8.4g} {one.found:8.4g}  {one.statement}")
        print(*paths, sep="\n")
    if not all(one.agrees for one in found.findings):
        raise typer.Exit(1)


@app.command(rich_help_panel=RESEARCH)
def par(runs: Runs, policy: Policy = None, as_json: JsonOption = False) -> None:
    """Compare runs at equal forgetting: for each, turn the dial (weight averaging, no training) to where every forgetting line of the
    policy just passes, and say how much of what was held out is left there."""
    from unsay.research.par import at_par

    with watching() as watchers:
        found = {path: at_par(RunFolder(path), policy, watchers.stage) for path in runs}
    rows = [_row(path, points) for path, points in found.items()]
    if as_json:
        print_json({"runs": rows, "mean": _mean(rows)})
        return
    columns = ("run", "held out at par", "at", "never-knew index", "farthest off", "held out at 1")
    print_table(columns, ([_cell(line[key]) for key in line if key not in ("wellformed", "failed", "points")] for line in rows))
    for line in rows:
        if line["share"] is not None:
            there = f"fails at {line['share']:.3g}"
        else:
            spared = "".join(f", {name} not asked" for name in line["points"][0]["unasked"])
            there = f"forgets too little at {line['points'][0]['share']:.3g}{spared}"
        if line["failed"]:
            print(f"{line['run']} {there}: {line['failed']}")
    if (mean := _mean(rows)) is not None:
        print(f"mean of {len(rows)} runs: {mean:.1f}")


def _folder(found: Path, kind: str) -> Path:
    """Where pictures go: a folder takes its own; a kept file cannot."""
    return Path("runs") / f"{kind}{found.name.partition('.')[0]}" if found.is_file() else found


def _head(path: Path) -> str:
    """What a sweep file says before its first key: where its models come from."""
    lines = takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
    return "\n".join(line.removeprefix("# ") for line in lines)


def _bound(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    with suppress(ValueError):
        if name.strip() and isfinite(float(value)):
            return name.strip(), float(value)
    raise ConfigError(f"--at-most {text}: give a metric and a number, such as class_degenerate=0.05")


def _row(path: Path, points: "list[Point]") -> dict[str, Any]:
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
        "points": [
            {"share": p.share, "held_out": p.held_out, "failed": [*p.failed(True), *p.failed(False)], "unasked": p.unasked} for p in points
        ],
    }


def _mean(rows: list[dict[str, Any]]) -> float | None:
    """A run that is never at par counts nothing: 0."""
    return fmean(line["held_out_at_par"] or 0.0 for line in rows) if rows else None


def _cell(value: float | str | None) -> str:
    return "none" if value is None else value if isinstance(value, str) else f"{value:.3g}"
