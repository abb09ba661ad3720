"""unsay from Python: what the commands do, with their results returned.

    from unsay import audit_model, gate, unlearn

    result = unlearn("path/to/model", ["Where does Ada Example live?"], out="runs/ada")
    result.checkpoint, result.metrics["sampling_worst_keyword_recall"]["after"]
    gate("runs/ada", "default").passed

Each call goes on with the folder that an interrupted one has left. (`unsay.audit` is a package, hence `audit_model`.)
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from unsay import run as runs
from unsay.config import ConfigError, load, recipe_path
from unsay.lm.model import fingerprint
from unsay.report.evidence import read
from unsay.report.gate import Verdict, judge
from unsay.run import Watchers
from unsay.store.files import new_folder, sha256, write_jsonl
from unsay.store.folder import RunFolder

Model: TypeAlias = "str | Path | PreTrainedModel"
"""A folder, a hub id, a built-in name; or a live model, which is saved beside the run first and stays as it is."""
Rows: TypeAlias = str | Path | Sequence[str | Mapping[str, Any]]
"""A file (docs/own-data.md), or its rows; a plain text is a question. Rows are written beside the run, for you alone to read."""


@dataclass(frozen=True)
class Result:
    """What a run or an audit has left."""

    folder: Path
    """The run folder."""
    metrics: Mapping[str, Mapping[str, float | None]]
    """Metric → its value `before`, `after` and on the `retain_model`; `None` where it was not measured (docs/probes.md)."""
    verdict: Verdict | None
    """Of the recipe's policy; `None` where it names none."""

    @property
    def checkpoint(self) -> Path:
        """The unlearned model, as transformers saves it."""
        return RunFolder(self.folder).checkpoint

    @property
    def report(self) -> Path:
        """The report as a page; report.json lies beside it."""
        return RunFolder(self.folder).report_html


def unlearn(
    model: Model,
    questions: Rows,
    *,
    retain: Rows | None = None,
    out: str | Path,
    recipe: str | Path = "own-questions",
    settings: Sequence[str] = (),
    tokenizer: PreTrainedTokenizerBase | None = None,
    watchers: Watchers | None = None,
) -> Result:
    """Make a model forget the answers to questions; audit it before and after.

    `retain`: questions with answers that must stay; the model's own answers take their place where there is none. `recipe`: a
    file or a shipped name; `settings` change its knobs, as in "train.rounds=20". `tokenizer`: of a live model. Raises
    `ConfigError` before any work where something given is wrong, `FloatingPointError` where training falls apart.
    """
    place = Path(out)
    files = {"forget": _file(questions, place, "forget"), "retain": "" if retain is None else _file(retain, place, "retain")}
    named = {"model.name": _folder(model, tokenizer, place), **{f"files.{key}": value for key, value in files.items()}}
    loaded = load(recipe_path(str(recipe)), ["corpus=files", *(f"{key}={json.dumps(value)}" for key, value in named.items()), *settings])
    folder = RunFolder(place)
    runs.run(loaded, folder, watchers)
    return _result(folder, loaded.report.policy)


def audit_model(
    model: Model,
    questions: Rows,
    *,
    out: str | Path,
    before: str | None = None,
    retain_model: str | None = None,
    settings: Sequence[str] = (),
    tokenizer: PreTrainedTokenizerBase | None = None,
    watchers: Watchers | None = None,
) -> Result:
    """Attack a model with every probe, without a run. `before`, `retain_model`: the model as it was, and one that never knew, to
    compare with. Rows may have an `answer`, the truth. Raises `ConfigError`."""
    place, watchers = Path(out), watchers or Watchers()
    folder, name, file = RunFolder(place), _folder(model, tokenizer, place), _file(questions, place, "forget")
    recipe = runs.run_standalone(folder, name, file, watchers, settings=settings, before=before, retain_model=retain_model)
    return _result(folder, recipe.report.policy)


def gate(run: str | Path, policy: str | None = None) -> Verdict:
    """Whether a run passes a policy, by default its recipe's, line by line. Raises `ConfigError` where there is nothing to judge."""
    return judge(RunFolder(Path(run)), policy)


def _result(folder: RunFolder, policy: str) -> Result:
    return Result(folder.path, read(folder).metrics, judge(folder) if policy else None)


def _folder(model: Model, tokenizer: PreTrainedTokenizerBase | None, out: Path) -> str:
    if not isinstance(model, PreTrainedModel):
        if tokenizer is not None:
            raise ConfigError(f"tokenizer= is for a live model; {model} has its own, so leave it out, or load the model and give both")
        return str(model)
    if tokenizer is None:
        raise ConfigError("a live model needs its tokenizer: unlearn(model, questions, tokenizer=…)")
    with TemporaryDirectory() as written:
        tokenizer.save_pretrained(written)
        files = {path.name: sha256(path) for path in Path(written).rglob("*") if path.is_file()}
    # Weights and tokenizer are in the name: another one of either under the same --out is another recipe, and refused.
    name = hashlib.sha256(json.dumps([fingerprint(model), files], sort_keys=True).encode()).hexdigest()
    folder = _beside(out, f"model-{name[:8]}")
    if not folder.exists():
        with new_folder(folder) as partial:
            model.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
    return str(folder)


def _file(rows: Rows, out: Path, part: str) -> str:
    if isinstance(rows, str | Path):
        return str(rows)
    if not rows:
        raise ConfigError(f"{part}: an empty list; give at least one row, or leave it out")
    path = _beside(out, f"{part}.jsonl")
    write_jsonl(path, ({"question": row} if isinstance(row, str) else dict(row) for row in rows), mode=0o600)
    return str(path)


def _beside(out: Path, name: str) -> Path:
    """A place beside the run folder, which may be given as "." too."""
    out = out if out.name.strip(".") else out.resolve()
    return out.with_name(f"{out.name}-{name}")
