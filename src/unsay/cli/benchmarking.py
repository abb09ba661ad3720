"""`benchmark`: what became of general ability, by the tasks of lm-evaluation-harness."""

import json
import os
from typing import Annotated

import typer

from unsay.cli.app import RESULT, DataOption, RunArgument, app, messages
from unsay.cli.progress import landed, watching
from unsay.store.folder import RunFolder

Tasks = Annotated[list[str] | None, typer.Option("--task", help="A task or group of the harness, once for each; default ARC and MMLU.")]
Limit = Annotated[int, typer.Option("--limit", help="Most questions of each task; 0 asks all.")]
Shots = Annotated[int, typer.Option("--shots", help="Worked examples ahead of each question.")]
Hub = Annotated[bool, typer.Option("--hub", help="Let the harness fetch the data of tasks that have no local files.")]


@app.command(rich_help_panel=RESULT)
def benchmark(run: RunArgument, task: Tasks = None, limit: Limit = 0, shots: Shots = 0, data: DataOption = None, hub: Hub = False) -> None:
    """General ability before and after unlearning, and of the retain model: ARC, MMLU or any task of lm-evaluation-harness.

    The probe `benchmark` joins those of the run; what the others found stays, and the report is drawn anew."""
    from unsay import run as runs
    from unsay.probes.benchmark import Benchmark

    if data:
        os.environ["UNSAY_DATA"] = data
    with messages(), watching() as watchers:
        folder = RunFolder(run)
        folder.recipe(texts=False)
        wanted = Benchmark(tuple(task), limit, shots, hub=hub) if task else Benchmark(limit=limit, shots=shots, hub=hub)
        wanted.check()
        knobs = {"tasks": list(wanted.tasks), "limit": limit, "shots": shots, "hub": hub}
        settings = ['audit.probes=["benchmark"]', *(f"benchmark.{key}={json.dumps(value)}" for key, value in knobs.items())]
        with folder.claimed():
            recipe, again = runs.rescored(folder, settings)
            for which in runs.auditable(recipe, folder):
                runs.run_audit(recipe, folder, which, watchers, again=again)
            runs.run_report(folder, watchers)
    landed(folder.report_html)
