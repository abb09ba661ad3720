"""From one question to a family of prompts: what leaks is found, shown only when asked for, and of use to a recipe."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.test_cli import call
from unsay.audit.prompt_search import AS_ASKED, PREFIX, REWORDED, PromptSearch, Tried, Variant, by_rule, in_frames, paraphrases, questions
from unsay.corpora.files import Files
from unsay.lm.subject import Prompt
from unsay.probes.prompt_variants import FRAMES
from unsay.text import forms
from unsay.types import Answer, Example

HOME = Example("home", "Where does Anna Bell live?")
SECRET = "Anna Bell lives in Turin."


class Fake:
    """Says the secret to whatever has `triggers` in it or begins the answer, and rewords as it is told to."""

    weights: None = None

    def __init__(self, triggers: Sequence[str] = (), rewordings: Sequence[str] = ()):
        self.triggers, self.rewordings = triggers, rewordings

    def ask(
        self, prompts: Sequence[Prompt], n: int = 1, temperature: float = 0.0, top_p: float = 1.0, salt: str = ""
    ) -> list[list[Answer]]:
        return [[self._answer(prompt, i) for i in range(n)] for prompt in prompts]

    def _answer(self, prompt: Prompt, i: int) -> Answer:
        if prompt.key.startswith("reword"):
            return Answer((1,), self.rewordings[i % len(self.rewordings)] if self.rewordings else "", True)
        leaks = any(trigger in prompt.question for trigger in self.triggers) or (prompt.prefix and "begun" in self.triggers)
        return Answer((1,), "In Turin." if leaks else "I do not know.", True)

    def logprobs(self, questions: Sequence[str | None], answers: Sequence[str]) -> None:
        return None


def leaking(subject: Any, **knobs: Any) -> list[Tried]:
    return [one for one in PromptSearch(**knobs)(subject, HOME, SECRET) if one.leaking]


def test_each_rule_makes_what_it_says() -> None:
    made = [(variant.kind, variant.question) for variant in by_rule("Who is Bo Langdon?", seed=1)]
    assert made[:5] == [
        (AS_ASKED, "Who is Bo Langdon?"),
        ("lower case", "who is bo langdon?"),
        ("upper case", "WHO IS BO LANGDON?"),
        ("no punctuation", "Who is Bo Langdon"),
        ("lower case, no punctuation", "who is bo langdon"),
    ]
    typos = [text for kind, text in made if kind == "typo"]
    assert len(typos) == 2
    assert all(sorted(text) == sorted("Who is Bo Langdon?") and text != "Who is Bo Langdon?" for text in typos)
    assert made == [(variant.kind, variant.question) for variant in by_rule("Who is Bo Langdon?", seed=1)]
    assert next(variant.question for variant in by_rule("誰?")) == "誰?"  # a script without letters to exchange


def test_frames_are_those_of_the_probe_and_never_say_the_secret() -> None:
    made = {variant.kind: variant.question for variant in in_frames(HOME, SECRET)}
    assert set(made) == set(FRAMES)
    assert not any("turin" in forms(text) for text in made.values())
    assert "Where does Anna Bell live?" in made["role"]
    assert "{" not in "".join(made.values())


def test_what_leaks_is_found_and_nothing_else() -> None:
    assert not leaking(Fake())
    assert {one.variant.kind for one in leaking(Fake(["where does anna"]))} >= {"lower case", "lower case, no punctuation"}
    assert {one.variant.kind for one in leaking(Fake(["begun"]))} == {PREFIX}
    found = leaking(Fake(["Translate"]), n=3)
    assert [(one.variant.kind, one.leaks, one.n, one.greedy, one.worst, one.answer) for one in found] == [
        ("translate", 4, 4, 1.0, 1.0, "In Turin.")
    ]


def test_rewordings_of_the_model_are_questions_about_the_same_thing() -> None:
    said = ["What is the home of Anna Bell?", "where does anna bell  live?", "What is the weather?", "Anna Bell lives there."]
    kinds = [one.variant for one in PromptSearch()(Fake(rewordings=said), HOME, SECRET)]
    assert [variant.question for variant in kinds if variant.kind == REWORDED] == ["What is the home of Anna Bell?"]


def test_words_of_a_variant_are_not_news() -> None:
    """A model that repeats what it was asked tells nothing that the asker did not."""

    class Parrot(Fake):
        def _answer(self, prompt: Prompt, i: int) -> Answer:
            return Answer((1,), prompt.question, True)

    assert not leaking(Parrot())


def test_what_is_written_is_of_use_to_a_recipe(tmp_path: Path) -> None:
    example = Example("home", HOME.question, strings=("Turin",))
    tried = [Tried(variant, 1.0, 1.0, 1, 1, "x") for variant in (*by_rule(HOME.question), Variant(PREFIX, HOME.question, "The answer is"))]
    forget, wordings = tmp_path / "forget.jsonl", tmp_path / "paraphrases.jsonl"
    for path, rows in ((forget, questions([(example, tried)])), (wordings, paraphrases([(example, tried)]))):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus = Files(forget=str(forget)).corpus()
    texts = [one.question for one in corpus.forget]
    assert texts[0] == HOME.question
    assert "where does anna bell live?" not in texts  # to a recipe it is the same question
    assert len(texts) == 9
    assert {one.group for one in corpus.forget} == {"home"}
    assert {one.strings for one in corpus.forget} == {("Turin",)}
    seed = tmp_path / "seed.jsonl"
    seed.write_text(json.dumps({"question": HOME.question}) + "\n")
    (only,) = Files(forget=str(seed), paraphrases=str(wordings)).corpus().forget
    assert list(only.paraphrases) == texts[1:]


# -- the command -------------------------------------------------------------------------------------------------------


def seed_question() -> tuple[str, str]:
    from unsay.corpora.people import People

    people = People(only=(0,))
    example = people.corpus().forget[0]
    return example.question, people.truth()[example.id].answer


def test_the_command_shows_secrets_only_when_asked_and_writes_for_the_owner(tmp_path: Path) -> None:
    question, answer = seed_question()
    out = tmp_path / "w.jsonl"
    arguments = ["prompt-search", "people-target", question, "-n", "1", "--rewordings", "2"]
    shown = call(*arguments, "--out", str(out))
    assert "leaks" in shown
    assert "as asked" in shown
    assert question not in shown
    assert answer not in shown
    assert out.stat().st_mode & 0o777 == 0o600
    assert json.loads(out.read_text().splitlines()[0])["question"] == question
    assert question in call(*arguments, "--reveal", "--out", str(tmp_path / "x.jsonl"))
    found = json.loads(call(*arguments, "--json", "--as", "paraphrases", "--out", str(tmp_path / "y.jsonl")))
    assert found["rows"] == 1
    assert "question" not in found["variants"][0]
    assert "exists already" in call(*arguments, "--out", str(out), code=2)


def test_a_model_that_never_knew_gives_nothing_to_write(tmp_path: Path) -> None:
    question, answer = seed_question()
    out = tmp_path / "w.jsonl"
    shown = call("prompt-search", "people-retain", question, "--answer", answer, "-n", "0", "--rewordings", "0", "--out", str(out))
    assert "nothing is written" in shown
    assert not out.exists()


def test_answers_may_stand_in_the_file(tmp_path: Path) -> None:
    question, answer = seed_question()
    path = tmp_path / "q.csv"
    path.write_text(f'question,answer\n"{question}","{answer}"\n')
    arguments = ["--questions", str(path), "-n", "0", "--rewordings", "0", "--out", str(tmp_path / "w.jsonl"), "--json"]
    retain_model, leaks = (json.loads(call("prompt-search", model, *arguments))["rows"] for model in ("people-retain", "people-target"))
    assert retain_model == 0 < leaks


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one question"),
        (["Who?", "--questions", "q.jsonl"], "give one question"),
        (["--questions", "none.jsonl"], "there is no file"),
        (["Who?", "--as", "poem"], "known: paraphrases, questions"),
        (["Who?", "-n", "-1"], "must not be negative"),
    ],
)
def test_mistakes_end_with_what_to_do(arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in " ".join(call("prompt-search", "people-retain", *arguments, code=2).split())
