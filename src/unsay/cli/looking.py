"""Looking at single answers: `ask` a model, `score` a pair of texts."""

import json
from typing import Annotated

import typer
from rich.console import Console

from unsay.cli.app import JsonOption, app, messages


@app.command()
def ask(
    model: Annotated[str, typer.Argument(help="A built-in name, a folder, or a hub id.")],
    question: Annotated[str, typer.Argument(help="What to ask.")],
    n: Annotated[int, typer.Option("-n", help="How many answers to sample; 0 shows the greedy one only.")] = 0,
    temperature: Annotated[float, typer.Option(help="Sampling temperature.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Nucleus.")] = 1.0,
    opening: Annotated[str, typer.Option(help="Begin the answer for the model.")] = "",
    seed: Annotated[int, typer.Option(envvar="SEED", help="Seed of the draws.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Show what a model says: its greedy answer, and n sampled ones with how often each came."""
    from unsay.config import ModelConfig, SampleConfig
    from unsay.model import load
    from unsay.subject import LocalSubject, Prompt

    with messages():
        subject = LocalSubject(*load(ModelConfig(name=model)), SampleConfig(), seed)
        prompt = Prompt("ask", question, opening)
        greedy = subject.ask([prompt])[0][0].text
        sampled = [answer.text for answer in subject.ask([prompt], n, temperature, top_p)[0]] if n else []
    if as_json:
        print(json.dumps({"greedy": greedy, "sampled": sampled}, ensure_ascii=False))
        return
    show = Console(soft_wrap=True, highlight=False, markup=False)
    show.print(f"greedy  {greedy}")
    for text in sorted(set(sampled), key=lambda text: (-sampled.count(text), text)):
        show.print(f"{sampled.count(text):4} ×  {text}")


@app.command()
def score(
    reference: Annotated[str, typer.Option(help="The text that must not be repeated.")],
    answer: Annotated[str, typer.Option(help="What was said.")],
    question: Annotated[str, typer.Option(help="The question; its words are not secret.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Score one pair of texts: ROUGE-L recall and F1, key recall."""
    from unsay.text import key_recall, rouge_l

    rouge = rouge_l(reference, answer)
    scores = {
        "rouge_l_recall": rouge.recall if rouge else None,
        "rouge_l_f1": rouge.f1 if rouge else None,
        "key_recall": key_recall(reference, answer, question),
    }
    if as_json:
        print(json.dumps(scores))
        return
    for name, value in scores.items():
        print(f"{name:16} {'unscored' if value is None else f'{value:.4f}'}")
