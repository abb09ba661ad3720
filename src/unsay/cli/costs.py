"""What a run will cost: `doctor`."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unsay.cli.app import START, DataOption, JsonOption, RecipeArgument, SetOption, app, load_recipe, print_json, print_table
from unsay.cli.progress import watching
from unsay.config import recipe_path
from unsay.store.clock import duration

if TYPE_CHECKING:
    from unsay.doctor import Report


@app.command(rich_help_panel=START)
def doctor(
    recipe: RecipeArgument,
    out: Annotated[Path | None, typer.Option(help="Where the run folder would lie; default runs/RECIPE.")] = None,
    settings: SetOption = None,
    data: DataOption = None,
    shallow: Annotated[bool, typer.Option("--shallow", help="Read no weights: measure on two layers of the model's shape.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what a recipe will need here, before it runs: memory, time, disk, and which knob to turn. Takes about ten seconds
    beyond loading the model, and some more to run every stage small."""
    from unsay import run as runs
    from unsay.doctor import examine

    loaded = load_recipe(recipe, settings)
    runs.check(loaded)
    place = out or Path("runs") / recipe_path(recipe).stem
    with watching() as watchers:
        watchers.stage("doctor")
        report = examine(loaded, place, False if shallow else None, say=lambda text: watchers.steps(0, 0, text))
    if as_json:
        print_json(as_dictionary(report))
    else:
        _show(report)


def as_dictionary(report: "Report") -> dict[str, Any]:
    """The report as JSON has it; the keys are listed in docs/doctor.md."""
    costs = report.costs
    return {
        "machine": dataclasses.asdict(report.machine),
        "model": dataclasses.asdict(report.sizes),
        "seconds_per_unit": {"wall": dict(costs.wall), "cpu": dict(costs.cpu), "contention": costs.contention},
        "stages": [
            {
                "name": stage.name,
                "seconds": costs.seconds(stage.work),
                "cpu_seconds": costs.cpu_seconds(stage.work),
                "parts": {part: costs.seconds(work) for part, work in stage.parts.items()},
                "counts": dict(stage.work.counts),
                "scoring_seconds": stage.work.scoring,
                "memory": memory.total,
                "memory_parts": memory.parts,
                "notes": list(stage.notes),
            }
            for stage, memory in zip(report.stages, report.memories, strict=True)
        ],
        "slow": list(report.slow),
        "loaded": report.loaded,
        "seconds": report.seconds,
        "memory": report.peak.total,
        "disk": {**report.disk, "total": sum(report.disk.values())},
        "cards": [dataclasses.asdict(one) for one in report.cards],
        "advice": [dataclasses.asdict(one) for one in report.advice],
    }


def _show(report: "Report") -> None:
    machine = report.machine
    print(", ".join(f"{name} {version}" for name, version in machine.versions.items()))
    gpu = f"; {machine.gpu}, {size(machine.gpu_free)} free" if machine.gpu else ""
    free = "unknown" if machine.memory_free is None else size(machine.memory_free)
    load = "" if machine.load is None else f" (load {machine.load:.1f})"
    print(f"{machine.system}; {machine.cores} cores{load}, {machine.threads} threads")
    print(f"memory free {free}{gpu}; disk free {size(machine.disk_free)}\n")
    rows = []
    for stage, memory in zip(report.stages, report.memories, strict=True):
        held = ", ".join(
            f"{name.replace('_', ' ')} {size(bytes_)}" for name, bytes_ in memory.parts.items() if bytes_ > 0.01 * memory.total
        )
        spent = {name: report.costs.seconds(work) for name, work in stage.parts.items()}
        took = sum(spent.values())
        times = ", ".join(f"{name} {duration(seconds)}" for name, seconds in spent.items() if seconds > 0.05 * took)
        rows.append((stage.name, size(memory.total), held, duration(took), times))
    print_table(("stage", "memory at most", "of which", "time", "of which"), rows)
    disk = size(sum(report.disk.values()))
    print(f"\nin all {size(report.peak.total)} at most ({report.peak.stage}), {duration(report.seconds)}, {disk} on disk")
    kinds = (f"{one.gigabytes} GB: {one.number or 'too small'}{f' ({one.stage})' if one.number != 1 else ''}" for one in report.cards)
    print(f"graphics cards it would take, by their memory (projected): {', '.join(kinds)}")
    if report.costs.contention > 1.3:
        print(
            f"Other programs want the cores: times are as they would be beside them ({report.costs.contention:.1f} × the processor's own)."
        )
    if not report.loaded:
        print("Measured on one and two layers of the model's shape, not on the model; answers as long as the retain rows' are assumed.")
    for reason in report.slow:
        print(f"Slow: {reason}.")
    for note in dict.fromkeys(note for stage in report.stages for note in stage.notes):
        print(f"Note: {note}.")
    _advise(report)


def _advise(report: "Report") -> None:
    short = [one for one in report.advice if one.about in ("memory", "disk")]
    if not short:
        print("It fits.")
    for about, has in (("memory", report.machine.free), ("disk", report.machine.disk_free)):
        fitting = [one for one in short if one.about == about]
        if fitting and has is not None:
            print(f"\nIt does not fit: {size(has)} of {about} are free (a tenth of it is kept in reserve). Turn, in this order:")
        for one in fitting:
            print(_line(one.setting, f"saves {size(one.saves)}" if one.saves else "", one.note) + (" — then it fits" if one.enough else ""))
    for one in report.advice:
        if one.about == "vault":
            print(f"\nWarning: {one.note}.")
    slow = [one for one in report.advice if one.about == "time"]
    if slow:
        print("\nWhere the time goes:")
    for one in slow:
        print(_line(one.setting, f"saves {duration(one.saves)}", one.note))


def _line(setting: str, saves: str, note: str) -> str:
    options = " ".join(f"--set {one}" for one in setting.split())
    return "  " + ": ".join(part for part in (f"{options} {f'({saves})' if saves else ''}".strip(), note) if part)


def size(bytes_: float) -> str:
    """Bytes for a reader.

    >>> size(1_500_000_000), size(20_000_000)
    ('1.5 GB', '20 MB')
    """
    return f"{bytes_ / 1e9:.3g} GB" if bytes_ >= 1e9 else f"{bytes_ / 1e6:.3g} MB"
