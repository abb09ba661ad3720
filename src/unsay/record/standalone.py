"""An audit of any model, without a run: its questions in a file or of a corpus, its folder that of a run in which nothing was trained.

The audited model stands where a run has the model *after* unlearning, so that report, gate and compare read both alike; the manifest's
`alone` says that nothing was trained. Questions may have an `answer`, the truth: it goes where a run's truth goes, and no further.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from unsay.config import ConfigError, Recipe, dump, load
from unsay.corpora import Source, parts
from unsay.corpora.files import Files
from unsay.corpora.rows import Problems
from unsay.lm.subject import Prompt, Subject
from unsay.record.recorded import Baseline, note_begun, read_answers, read_handed, read_truth, write_questions
from unsay.store.folder import RunFolder
from unsay.store.manifest import Counts, Manifest, Standalone
from unsay.tables import lookup
from unsay.types import Fact, Truth

METHOD = "none"
"""What the recipe names where a run names how the model was changed."""
POLICIES = {False: "audit", True: "audit-retain-model"}
"""The shipped policies that need no model before, by whether there is one that never knew."""


@dataclass(frozen=True)
class Questions(Files):
    """`Files` whose questions may have an answer: for the audit alone."""

    answered: ClassVar[bool] = True

    def truth(self) -> Truth:
        """Facts of the questions that have an answer. Raises `ConfigError`, naming file and line."""
        examples, rows = self.corpus().forget, self._rows(self.forget, parts.FORGET, Problems())
        return {e.id: Fact(e.id, row.text("answer")) for e, row in zip(examples, rows, strict=True) if "answer" in row.values}


def prepare(
    model: str, questions: str | None, retain_model: str | None = None, settings: Sequence[str] = (), corpus: str = "files"
) -> Recipe:
    """The recipe of an audit that stands alone, with the questions of a file, or (`None`) those of a corpus. Raises `ConfigError`."""
    given = load(None, [f"report.policy={POLICIES[retain_model is not None]}", *settings, f"corpus={corpus}", f"method={METHOD}"])
    if retain_model == "finetune" or given.model.retain_model == "finetune":
        raise ConfigError("an audit trains nothing; name a model that never knew with --retain-model, or leave it out")
    table = {"files": {**given.tables.get("files", {}), "forget": questions}} if questions is not None else {}
    return replace(
        given,
        title=given.title or f"An audit of {Path(model).name or model}",  # printed: it need not tell where files lie
        model=replace(given.model, name=model, retain_model=retain_model or given.model.retain_model),
        tables={**given.tables, **table},
    )


def begin(recipe: Recipe, folder: RunFolder, before: str | None = None) -> None:
    """Write what a run's `record` writes but for the model's answers; a folder begun with the same is gone on with. Raises `ConfigError`
    where the questions are not as they should be, or the folder holds something else."""
    asked: Source = recipe.knobs(recipe.corpus, Questions if recipe.corpus == "files" else lookup("corpus", recipe.corpus))
    corpus, truth = asked.corpus(), asked.truth() or {}
    alone = Standalone(before, recipe.model.name, recipe.model.retain_model)
    if folder.begun():
        if dump(folder.recipe()) != dump(recipe) or folder.manifest().alone != alone:
            raise ConfigError(f"{folder.path} holds a run or an audit of other settings; choose another --out, or remove that folder")
        if read_handed(folder) != corpus or read_truth(folder) != truth:
            raise ConfigError(f"the questions have changed since {folder.path} was begun; choose another --out, or remove that folder")
        return
    write_questions(recipe, folder, corpus, truth)
    folder.texts.write("baseline", [])
    folder.note(Manifest(alone=alone))
    note_begun(recipe, folder, Counts(forget=len(corpus.forget), answers=len(truth)))


def unanswered(folder: RunFolder, truth: Truth | None) -> list[Prompt]:
    """The questions that nobody has given an answer to yet, neither the file nor a model."""
    known = {*(truth or {}), *read_answers(folder)}
    return [Prompt(example.id, example.question) for example in read_handed(folder).forget if example.id not in known]


def answer(folder: RunFolder, prompts: Sequence[Prompt], subject: Subject) -> None:
    """What the subject says by default to questions without an answer is what every audited model is held against."""
    answers = subject.ask(prompts, salt="record")
    said = dict(read_answers(folder)) | {prompt.key: found[0].text for prompt, found in zip(prompts, answers, strict=True)}
    folder.texts.write("baseline", ({"id": key, **dataclasses.asdict(Baseline(text, (), ()))} for key, text in said.items()))
