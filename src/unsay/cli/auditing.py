"""`audit` a run, any model, or what is deployed; `gate` the result; `compare` several; `benchmark` one, and `export` its numbers."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unsay.cli.app import RESULT, STAGES, DataOption, JsonOption, RunArgument, SetOption, app, print_json, print_table
from unsay.cli.processes import ProcessesOption
from unsay.cli.progress import watching
from unsay.config import ConfigError, build
from unsay.store import ranks
from unsay.store.folder import RunFolder

if TYPE_CHECKING:
    from unsay.report.compare import Column

Policy = Annotated[str | None, typer.Option("--policy", help="A policy file, or the name of a shipped one; default the recipe's.")]
WithoutWeights = Annotated[
    bool, typer.Option("--without-weights", help="Judge a run that was received without its model, which cannot be looked at then.")
]
Runs = Annotated[list[Path], typer.Argument(help="Run folders; the others are held against the first.")]
Tasks = Annotated[list[str] | None, typer.Option("--task", help="A task or group of the harness, once for each; default ARC and MMLU.")]
Limit = Annotated[int, typer.Option("--limit", help="Most questions of each task; 0 asks all.")]
Shots = Annotated[int, typer.Option("--shots", help="Worked examples ahead of each question.")]
Hub = Annotated[bool, typer.Option("--hub", help="Let the harness fetch the data of tasks that have no local files.")]
OpenUnlearning = Annotated[bool, typer.Option("--open-unlearning", help="TOFU_EVAL.json and TOFU_SUMMARY.json (or MUSE_…).")]
OneModel = Annotated[str, typer.Option("--which", help="before, after or retain_model.")]
ExportOut = Annotated[Path | None, typer.Option("--out", help="The folder for the files; default RUN/open-unlearning/WHICH.")]


@app.command(rich_help_panel=STAGES)
def audit(
    run: Annotated[str, typer.Argument(metavar="RUN or MODEL", help="A run folder; with --questions a built-in name, a folder, a hub id.")],
    which: Annotated[str | None, typer.Option(help="before, after or retain_model; default all that can be audited.")] = None,
    questions: Annotated[str | None, typer.Option(help="Audit a model without a run, with the questions of this file.")] = None,
    corpus: Annotated[str | None, typer.Option(help="The same with the questions of a corpus (`unsay corpora`).")] = None,
    retain_model: Annotated[str | None, typer.Option(help="With --questions: a model that never knew, to compare with.")] = None,
    before: Annotated[str | None, typer.Option(help="With --questions: the model as it was, to compare with.")] = None,
    out: Annotated[Path | None, typer.Option(help="With --questions: the folder; default runs/audit-MODEL.")] = None,
    settings: SetOption = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Ask everything anew; neither read nor keep answers in the vault.")] = False,
    endpoint: Annotated[str | None, typer.Option(help="Audit what answers at this URL (OpenAI-compatible) instead.")] = None,
    model: Annotated[str, typer.Option(help="The model's name there; default the one it lists.")] = "",
    api: Annotated[str, typer.Option(help="chat, or completions (plain “Question: … Answer:”).")] = "chat",
    key_env: Annotated[str, typer.Option(help="Environment variable that holds the key; default sends none.")] = "",
    processes: ProcessesOption = 1,
) -> None:
    """Attack a run's models (before, after, retain model) with the recipe's probes; or what is deployed at a URL; or, with
    --questions or --corpus, any model without a run. --set changes a knob of the audit: probes that it does not concern keep what they
    found."""
    from unsay import run as runs
    from unsay.audit.endpoint import EndpointConfig

    served, alone = endpoint is not None, questions is not None or corpus is not None
    folder = RunFolder(out or Path("runs") / f"audit-{Path(run).name}") if alone else RunFolder(run)
    how = f"a model without a run: unsay audit {run} --questions FILE"
    refused = (
        (not served and (model or key_env or api != "chat"), "--model, --api and --key-env say how to reach a server: --endpoint URL"),
        (served and ranks.count() > 1, "--endpoint asks a server, which needs no --processes"),
        (served and which, "--endpoint audits what is deployed, --which the models of the run; give one of them"),
        (served and (alone or settings), "--endpoint audits what is deployed as the run says; leave --questions, --corpus and --set out"),
        (questions is not None and corpus is not None, "--questions and --corpus name two sources of questions; give one of them"),
        (alone and which, "--which names the models of a run; without one all that are named are audited"),
        (not alone and (retain_model or before or out), f"--retain-model, --before and --out are for {how}"),
        (not alone and not folder.recipe_file.exists(), f"{run} is not a run folder (no recipe.toml); to audit {how}"),
        (settings and which, "--set changes how every model of the run is audited; leave --which out, so that their numbers compare"),
    )
    for wrong, text in refused:
        if wrong:
            raise ConfigError(text)
    if alone:
        with watching() as watchers:
            runs.run_standalone(folder, run, questions, watchers, not no_cache, settings or [], before, retain_model, corpus or "files")
        print(folder.report_html)
        return
    with watching() as watchers, folder.claimed():
        recipe, again = runs.rescored(folder, settings) if settings else (folder.recipe(), None)
        if endpoint is not None:
            runs.run_endpoint(recipe, folder, EndpointConfig(endpoint, model, api, key_env), watchers, not no_cache)
        elif which is None and folder.manifest().alone is not None:
            runs.run_alone(recipe, folder, watchers, not no_cache, again)
        else:
            for one in [which] if which else runs.auditable(recipe, folder):
                runs.run_audit(recipe, folder, one, watchers, not no_cache, again)
    print(folder.audit_file("endpoint") if served else folder.audit_file("after").parent)


@app.command(rich_help_panel=RESULT)
def gate(run: RunArgument, policy: Policy = None, without_weights: WithoutWeights = False, as_json: JsonOption = False) -> None:
    """Say whether a run passes its policy: exit code 0 if every line passed, 1 if not, naming each that failed."""
    from unsay.measure import verdict
    from unsay.report.gate import judge, said
    from unsay.report.steps import next_step

    judged = judge(RunFolder(run), policy, weights=not without_weights)
    if as_json:
        lines = [verdict.as_json(line) | {"next": next_step(line, judged.alone)} for line in judged.lines]
        print_json({"policy": judged.name, "passed": judged.passed, "unjudged": judged.unjudged, "lines": lines})
    else:
        for step, failed in judged.steps().items():
            for one in failed:
                print(f"failed  {said(one)}")
            print(f"   next: {step.replace('RUN', str(run))}")
        outcome = "passed" if judged.passed else f"not passed, {len(judged.failed)} of {len(judged.lines)} lines failed"
        unseen = "; the model itself was not looked at" if without_weights else ""
        print(f"{run}: {outcome} (policy {judged.name}){unseen}{'; ' if judged.unjudged else ''}{judged.unjudged}")
    if not judged.passed:
        raise typer.Exit(1)


@app.command("compare", rich_help_panel=RESULT)
def side_by_side(
    found: Runs,
    which: Annotated[str, typer.Option("--which", help="Which model of each run: before, after, retain_model or endpoint.")] = "after",
    distinguish: Annotated[bool, typer.Option("--distinguish", help="The other runs audit retain models: can the first be told?")] = False,
    as_json: JsonOption = False,
) -> None:
    """Set runs side by side: every metric with its interval, and its difference to the first run over the same questions.

    With --distinguish, how well a classifier tells the first run's model from its retain model and the other runs' models."""
    from unsay.report.compare import compare, distinguished, table

    folders = [RunFolder(path) for path in found]
    columns, classifier = compare(folders, which), distinguished(folders, which) if distinguish else None
    if as_json:
        rows = [_as_json(column) for column in columns]
        print_json({"which": which, "runs": rows, "distinguisher": classifier and vars(classifier)})
        return
    names = ("", *(f"{column.run}\n{column.model}\n{column.method}" for column in columns))
    print_table(names, ((title, *cells) for title, cells in table(columns)))
    print("\nIn brackets the 95 % interval; Δ: the difference to the first run over the questions of both, with its own.")
    if classifier:
        floor = ", ".join(f"{area:.2f}" for area in classifier.retain_models)
        area = f"an area of {classifier.area:.2f} on {classifier.questions} questions (.5: not at all)"
        print(f"Told from the retain models with {area}; each of them from the others: {floor}")
    for column in columns:
        for note in column.notes:
            print(f"{column.run}: {note}")


@app.command(rich_help_panel=RESULT)
def benchmark(run: RunArgument, task: Tasks = None, limit: Limit = 0, shots: Shots = 0, data: DataOption = None, hub: Hub = False) -> None:
    """General ability before and after unlearning, and of the retain model: ARC, MMLU or any task of lm-evaluation-harness.

    The probe `benchmark` joins those of the run; what the others found stays, and the report is drawn anew."""
    from unsay import run as runs
    from unsay.probes.benchmark import LOCAL, Benchmark

    with watching() as watchers:
        folder = RunFolder(run)
        folder.recipe(texts=False)
        knobs = {"tasks": task or list(LOCAL), "limit": limit, "shots": shots, "hub": hub}
        build(Benchmark, knobs, "benchmark").check()
        settings = ['audit.probes=["benchmark"]', *(f"benchmark.{key}={json.dumps(value)}" for key, value in knobs.items())]
        with folder.claimed():
            recipe, again = runs.rescored(folder, settings)
            for which in runs.auditable(recipe, folder):
                runs.run_audit(recipe, folder, which, watchers, again=again)
            runs.run_report(folder, watchers)
    print(folder.report_html)


@app.command(rich_help_panel=RESULT)
def export(run: RunArgument, open_unlearning: OpenUnlearning = False, which: OneModel = "after", out: ExportOut = None) -> None:
    """Write a run's numbers under the names and definitions of open-unlearning, without any text."""
    from unsay.report.open_unlearning import export as write

    if not open_unlearning:
        raise ConfigError("say which format: --open-unlearning")
    print(*write(RunFolder(run), which, out or run / "open-unlearning" / which), sep="\n")


def _as_json(column: "Column") -> dict[str, Any]:
    from unsay.report.data import index

    metrics = {}
    for key, value in column.metrics.items():
        interval, change = column.intervals.get(key), column.differences.get(key)
        metrics[key] = {
            "value": value,
            "interval": list(interval) if interval else None,
            "difference": {**change._asdict(), "questions": column.questions[key]} if change else None,
        }
    about = {key: getattr(column, key) for key in ("run", "model", "method", "reference")}
    return about | {"metrics": metrics, "never_knew": index(column.never_knew), "notes": list(column.notes)}
