"""`prompt_search`: how else a question can be asked, and which of the ways still give the answer away."""

from pathlib import Path
from typing import Annotated, Any

import typer

from unsay.cli.app import START, JsonOption, ModelArgument, app, output, print_json
from unsay.cli.progress import watching
from unsay.config import ConfigError
from unsay.store.files import write_jsonl
from unsay.types import Example

FORMS = ("questions", "paraphrases")


@app.command(rich_help_panel=START)
def prompt_search(
    model: ModelArgument,
    question: Annotated[str | None, typer.Argument(help="The question that must not be answered.")] = None,
    questions: Annotated[str | None, typer.Option("--questions", help="A file of questions instead, with or without answers.")] = None,
    answer: Annotated[
        str | None, typer.Option("--answer", help="What must not be said; default what the model says to the question.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Where the variants that leak are written, for you alone to read.")] = Path(
        "variants.jsonl"
    ),
    form: Annotated[str, typer.Option("--as", help="questions to forget, or paraphrases for the audit.")] = "questions",
    n: Annotated[int, typer.Option("-n", help="Sampled answers to each variant, beside the greedy one.")] = 10,
    rewordings: Annotated[int, typer.Option(help="Rewordings asked of the model itself; 0 asks for none.")] = 12,
    threshold: Annotated[float, typer.Option(help="Keyword recall from which on an answer is a leak.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    reveal: Annotated[bool, typer.Option("--reveal", help="Show the variants and the answer to each that says most.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Expand a question into variants and show which of them leak: the way to a prompt family to forget."""
    from unsay.audit import prompt_search
    from unsay.config import ModelConfig, SampleConfig
    from unsay.config.build import one_of
    from unsay.lm.model import load
    from unsay.lm.subject import LocalSubject, Prompt

    with watching() as watchers:
        one_of("--as", form, FORMS)
        if out.exists():
            raise ConfigError(f"{out} exists already; name another --out, or remove it")
        search = prompt_search.PromptSearch(n, rewordings, threshold=threshold)
        asked = _asked(question, questions, answer)
        watchers.stage("prompt-search")
        subject = LocalSubject(*load(ModelConfig(name=model)), SampleConfig(), seed)
        found = []
        for number, (example, reference) in enumerate(asked):
            watchers.steps(number, len(asked), "")
            known = subject.ask([Prompt(example.id, example.question)])[0][0].text if reference is None else reference
            found.append((example, search(subject, example, known, seed)))
        rows = prompt_search.questions(found) if form == "questions" else prompt_search.paraphrases(found)
        if rows:
            write_jsonl(out, rows, mode=0o600)
    shown = [(example.id, one) for example, tried in found for one in tried]
    if as_json:
        variants = [{"id": key, **_about(one, reveal)} for key, one in shown]
        print_json({"file": str(out) if rows else None, "rows": len(rows), "variants": variants})
        return
    for key, one in shown:
        worst = "unscored" if one.worst is None else f"{one.worst:.2f}"
        output.print(f"{key}  {'leaks' if one.leaking else 'silent'}  {one.leaks:3} of {one.n}  worst {worst}  {one.variant.kind}")
        if reveal:
            words = " … ".join(filter(None, (one.variant.question, one.variant.prefix)))
            output.print(f"    asked   {words}\n    answer  {one.answer}")
    where = f"; {len(rows)} rows in {out}" if rows else ", and nothing is written"
    output.print(f"{sum(one.leaking for _, one in shown)} of {len(shown)} variants leak{where}")


def _asked(question: str | None, questions: str | None, answer: str | None) -> list[tuple[Example, str | None]]:
    """The seed questions, each with the answer that was handed over, if any. Raises `ConfigError`."""
    from unsay.record.standalone import Questions

    if (question is None) == (questions is None):
        raise ConfigError(
            'give one question, or a file of them: unsay prompt-search MODEL "question", or unsay prompt-search MODEL --questions FILE'
        )
    if question is not None:
        return [(Example("question", question), answer)]
    if answer is not None:
        raise ConfigError("--answer is the answer to one question; with --questions the answers stand in the file")
    corpus = Questions(forget=questions or "")
    truth = corpus.truth()
    return [(example, truth[example.id].answer if example.id in truth else None) for example in corpus.corpus().forget]


def _about(one: Any, reveal: bool) -> dict[str, Any]:
    """A variant as JSON has it: numbers always, texts only where they are to be revealed."""
    numbers = {"kind": one.variant.kind, "leaks": one.leaks, "n": one.n, "greedy": one.greedy, "worst": one.worst}
    texts = {"question": one.variant.question, "prefix": one.variant.prefix, "answer": one.answer}
    return numbers | texts if reveal else numbers
