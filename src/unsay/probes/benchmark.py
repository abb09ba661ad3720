"""General ability: the tasks of lm-evaluation-harness (Gao et al., github.com/EleutherAI/lm-evaluation-harness) on the audited model.

The harness words the questions and scores the answers. ARC (arXiv 1803.05457) and MMLU (arXiv 2009.03300) are read from local files,
in the layout that docs/probes.md shows; any other task is the harness' own, with its data from the hub.
"""

import copy
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from statistics import stdev
from typing import Any, ClassVar

from unsay.config import ConfigError
from unsay.config.build import not_negative
from unsay.extras import install
from unsay.lm.progress import report
from unsay.lm.subject import Subject
from unsay.metric import COST, EITHER, HIGHER, Metric
from unsay.probes.scoring import NO_WEIGHTS, spread, unscored
from unsay.store.files import read_jsonl
from unsay.types import Case, Finding

LOCAL = {"arc_easy": "arc/ARC-Easy_{}.jsonl", "arc_challenge": "arc/ARC-Challenge_{}.jsonl", "mmlu": "mmlu/{}.jsonl"}
"""Task → its local files, one a split; the test split is asked."""
TITLES = {"arc_easy": "ARC-Easy", "arc_challenge": "ARC-Challenge", "mmlu": "MMLU"}
SPLITS = ("test", "validation", "dev")
ERROR = ", standard error"
"""Ends the setting of the harness' own standard error of a task."""
BATCH = {"cpu": 1, "cuda": 8}
"""Texts at once by device: the harness keeps the logits of every token, a gigabyte for a long question and a large vocabulary."""
NO_HARNESS = f"lm-evaluation-harness is not installed: {install('lm-eval')}"
NO_SCORE = "the harness scores no question of this task between 0 and 1"

Rows = list[dict[str, Any]]
_ability = partial(Metric, better=HIGHER, group=COST)


def _asked(setting: str) -> bool:
    return not setting.endswith(ERROR)


@dataclass(frozen=True)
class Benchmark:
    """What became of general ability? Tasks of lm-evaluation-harness: ARC and MMLU from local files, any other by its name.

    Bare text, as the harness asks by default: no chat template, no system message. A question's value is the first score that the harness
    gives it (accuracy; the note names it), and beside it accuracy by probability per character, where there is one.

    Does not cover: generation at length; other languages; tasks that were not named.
    """

    title: ClassVar[str] = "Benchmarks"
    by_setting: ClassVar[str] = "accuracy"
    metrics: ClassVar[tuple[Metric, ...]] = (
        _ability("benchmark_accuracy", "Benchmarks", "Mean accuracy over the tasks.", where=_asked, fold="sets"),
        *(
            _ability(key, title, "Accuracy, as lm-evaluation-harness asks and scores.", finding="accuracy", where=key.__eq__, share=True)
            for key, title in TITLES.items()
        ),
        *(
            _ability(
                f"{key}_norm",
                f"{TITLES[key]}, by length",
                "By probability per character.",
                finding="acc_norm",
                where=key.__eq__,
                share=True,
            )
            for key in ("arc_easy", "arc_challenge")
        ),
        *(
            Metric(
                f"{key}_standard_error",
                f"{title}, standard error",
                "Of the accuracy, as the harness computes it.",
                EITHER,
                COST,
                finding="accuracy",
                where=f"{key}{ERROR}".__eq__,
                unit="tasks",
            )
            for key, title in TITLES.items()
        ),
    )

    tasks: tuple[str, ...] = tuple(LOCAL)
    """Names of the harness' tasks or groups."""
    limit: int = 0
    """Most questions of each task: of local files spread evenly, of others the first of each subtask; 0 asks all."""
    shots: int = 0
    """Worked examples ahead of each question."""
    data: str = ""
    """Folder with `arc/` and `mmlu/`; empty takes the environment's `UNSAY_DATA`."""
    hub: bool = False
    """Let the harness fetch the data of tasks that have no local files."""

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ConfigError(f"benchmark.tasks is empty; name some, such as {', '.join(LOCAL)}")
        not_negative("benchmark", limit=self.limit, shots=self.shots)

    def check(self) -> None:
        """Raises `ConfigError` where the harness, or the data of a task, is missing."""
        if find_spec("lm_eval") is None:
            raise ConfigError(NO_HARNESS)
        for name in self.tasks:
            self._rows(name)

    def __call__(self, subject: Subject, case: Case) -> list[Finding]:
        if subject.weights is None or find_spec("lm_eval") is None:
            why = NO_HARNESS if subject.weights else NO_WEIGHTS
            return [f for name in self.tasks for f in unscored("benchmark", ("accuracy",), ("",), why, name)]
        return [finding for name, found in harness(subject.weights, self._specified()).items() for finding in read(name, found)]

    def _specified(self) -> dict[str, dict[str, Any]]:
        """Task → what the harness is called with."""
        found: dict[str, dict[str, Any]] = {}
        for name in self.tasks:
            options: dict[str, Any] = {"tasks": [name], "limit": self.limit or None}
            if rows := self._rows(name):
                group, chosen = _own(name, rows, self.limit)
                options = {"tasks": [group], "samples": chosen}
            found[name] = options | {"num_fewshot": self.shots or None}
        return found

    def _rows(self, name: str) -> dict[str, Rows] | None:
        """Split → rows of the task's local files; `None` where it has none and may use the hub. Raises `ConfigError`."""
        given = self.data or os.environ.get("UNSAY_DATA", "")
        paths = {split: Path(given).expanduser() / LOCAL[name].format(split) for split in SPLITS} if given and name in LOCAL else {}
        found = {split: path for split, path in paths.items() if path.is_file()}
        if "test" in found:
            return {split: read_jsonl(path) for split, path in found.items()}
        if self.hub:
            return None
        if name in LOCAL:
            where = f"give the folder of {LOCAL[name].format('test')}: --data DIR or UNSAY_DATA"
            raise ConfigError(f"no data for the task {name}; {where} (or --set benchmark.hub=true fetches it)")
        raise ConfigError(f"the task {name} has no local files; --set benchmark.hub=true lets lm-evaluation-harness fetch its data")


def _own(name: str, rows: Mapping[str, Rows], limit: int) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """The harness' task with other data, as a group of it, and which rows of each part are asked. MMLU is a task a subject."""
    chosen = set(spread(range(len(rows["test"])), limit))
    parts: dict[str, dict[str, Rows]] = {}
    places: dict[str, list[int]] = {}
    for split, some in rows.items():
        for number, row in enumerate(some):
            part = f"mmlu_{row['subject']}" if name == "mmlu" else name
            held = parts.setdefault(part, {}).setdefault(split, [])
            if split == "test" and number in chosen:
                places.setdefault(part, []).append(len(held))
            held.append(row)
    worked = next((split for split in ("dev", "validation") if split in rows), None)
    splits = {"training_split": None, "validation_split": None, "fewshot_split": worked}
    tasks = [{"task": part, "custom_dataset": _dataset(parts[part]), **splits} for part in places]
    return {"group": f"local_{name}", "task": tasks}, places


def _dataset(rows: Mapping[str, Rows]) -> Callable[..., Any]:
    def made(**ignored: Any) -> Any:
        import datasets

        return datasets.DatasetDict({split: datasets.Dataset.from_list(some) for split, some in rows.items()})

    return made


def harness(weights: tuple[Any, Any], specified: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Task → what lm-evaluation-harness found on the model. No global seed is touched."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    model, encoder = weights
    # Of its own: the harness sets padding and its token.
    engine = HFLM(pretrained=model, tokenizer=copy.deepcopy(encoder.tokenizer), batch_size=BATCH.get(model.device.type, 1))
    seeds = dict.fromkeys(("random_seed", "numpy_random_seed", "torch_random_seed"))
    found = {}
    for done, (name, options) in enumerate(specified.items()):
        report(done, len(specified), name)
        with redirect_stderr(StringIO()):  # its bars, a line a question in a log
            found[name] = simple_evaluate(engine, task_manager=_task_manager(), **options, **seeds)
    return found


@cache
def _task_manager() -> Any:
    """The harness' index of its tasks, which takes half a minute to make."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def read(name: str, found: Mapping[str, Any]) -> list[Finding]:
    """Findings of one task or group from what the harness returns: each question's scores, and the standard error of the first."""
    findings: list[Finding] = []
    for part, samples in found["samples"].items():
        for sample in samples:
            setting = name if sample["filter"] == "none" else f"{name}, {sample['filter']}"
            scores = {key: float(sample[key]) for key in sample["metrics"] if _is_share(sample[key])}
            for first, (key, value) in enumerate(scores.items()):
                if not first or key == "acc_norm":
                    metric, note = ("acc_norm", "") if first else ("accuracy", key)
                    findings.append(Finding("benchmark", metric, value, f"{part}-{sample['doc_id']}", setting, 1, note))
    if not findings:
        return unscored("benchmark", ("accuracy",), ("",), NO_SCORE, name)
    for setting, key in dict.fromkeys((f.setting, f.note) for f in findings if f.metric == "accuracy"):
        values = [f.value or 0.0 for f in findings if (f.setting, f.metric) == (setting, "accuracy")]
        error = _standard_error(found, name, f"{key}_stderr,{setting.partition(', ')[2] or 'none'}", values)
        findings.append(Finding("benchmark", "accuracy", error, "", f"{setting}{ERROR}", len(values), key))
    return findings


def _standard_error(found: Mapping[str, Any], name: str, key: str, values: Sequence[float]) -> float | None:
    """The harness' own for the task or the group, else pooled over its parts as the harness pools them; where one of these has a
    single question, that of the mean over all questions. `None` of one question."""
    results, parts = found["results"], found["samples"]
    errors = [results[part].get(key) for part in parts]
    if _is_share(whole := results.get(name, {}).get(key)):
        return float(whole)
    if len(parts) > 1 and all(map(_is_share, errors)):
        from lm_eval.api.metrics import pooled_sample_stderr

        return float(pooled_sample_stderr(errors, [len(some) for some in parts.values()]))
    return stdev(values) / len(values) ** 0.5 if len(values) > 1 else None


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1
