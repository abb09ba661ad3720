"""Finds what a model knows by heart among many candidates: the list behind the corpus `facts` (docs/facts.md).

    python scripts/find_facts.py scripts/facts_pool.toml src/unsay/corpora/facts.jsonl

A fact is known by heart where the greedy answer holds the true answer, and so do at least LEAST of ten answers at temperature 1, and
of ten more with other random numbers: a choice made on ten alone takes in whom luck helped. The wordings of a question are tried in
turn, and it is asked in the first one that passes the first ten. Answers are kept in the file `--answers`: a run that was broken off
goes on where it was. All of it takes about a quarter of an hour on one core.
"""

import argparse
import json
import random
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from unsay.config import ModelConfig, SampleConfig
from unsay.lm.model import load
from unsay.lm.subject import LocalSubject, Prompt
from unsay.store.files import write_jsonl
from unsay.store.memory import keep_freed_pages
from unsay.text import keyword_recall

LEAST = 5
SAMPLES = 10
GUESSES = 20
"""Answers of a fact that the model does not know: how often is it told by chance?"""
HELDOUT = 0.4
"""Share of each kind that stands in no retain row, whatever is forgotten."""
AT_ONCE = 320
"""Answers between two writings of what was said."""


class Candidate(NamedTuple):
    kind: str
    subject: str
    answer: str
    questions: tuple[str, ...]


def read_pool(path: Path) -> list[Candidate]:
    """Raises `SystemExit` where a question tells its answer, where an answer has no keyword, or where a fact stands there twice."""
    found = []
    for kind, told in tomllib.loads(path.read_text(encoding="utf-8")).items():
        for line in told["facts"].strip().splitlines():
            subject, answer = line.split(" = ")
            found.append(Candidate(kind, subject, answer, tuple(question.format(subject) for question in told["questions"])))
    for one in found:
        if any(keyword_recall(one.answer, one.answer, question) != 1 for question in one.questions):
            raise SystemExit(f"{one.kind}, {one.subject}: the question tells the answer, or the answer has no keyword")
    if len({(one.kind, one.subject) for one in found}) < len(found):
        raise SystemExit("a fact stands in the pool twice")
    return found


class Asked:
    """A model, and what it has said so far, kept in a file."""

    def __init__(self, model: str, tokens: int, path: Path) -> None:
        self._model, self._tokens, self._path = model, tokens, path
        self._subject: LocalSubject | None = None
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self._told = {(row["question"], row["occasion"]): row["answers"] for row in map(json.loads, lines)}

    def ask(self, questions: Iterable[str], occasion: str, n: int = 1, temperature: float = 0.0) -> Mapping[str, list[str]]:
        """Question → n answers. `occasion` sets the random numbers apart, and names the answers in the file."""
        wanted = list(dict.fromkeys(questions))
        new = [question for question in wanted if (question, occasion) not in self._told]
        for start in range(0, len(new), AT_ONCE // n):
            some = new[start : start + AT_ONCE // n]
            said = self._load().ask([Prompt(question, question) for question in some], n, temperature, salt=occasion)
            with self._path.open("a", encoding="utf-8") as file:
                for question, found in zip(some, said, strict=True):
                    self._told[question, occasion] = answers = [answer.text for answer in found]
                    row = {"question": question, "occasion": occasion, "answers": answers}
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
            print(f"{occasion}: {start + len(some):,} of {len(new):,} questions", flush=True)
        return {question: self._told[question, occasion] for question in wanted}

    def _load(self) -> LocalSubject:
        if self._subject is None:
            config = ModelConfig(name=self._model, template="plain", stop="\n")
            self._subject = LocalSubject(*load(config), SampleConfig(max_new_tokens=self._tokens))
        return self._subject


def right(one: Candidate, question: str, answers: Sequence[str]) -> int:
    """How many of the answers hold every keyword of the true one."""
    return sum(keyword_recall(one.answer, said, question) == 1 for said in answers)


def passing(pool: Sequence[Candidate], asked: Asked, least: int, tries: int) -> dict[Candidate, str]:
    """Each fact that passes the first ten, with the first wording in which it does."""
    known: dict[Candidate, str] = {}
    for kind in dict.fromkeys(one.kind for one in pool):
        for wording in range(tries):
            questions = {one: one.questions[wording] for one in pool if one.kind == kind and one not in known}
            greedy = asked.ask(questions.values(), "greedy")
            hopeful = {one: question for one, question in questions.items() if right(one, question, greedy[question])}
            sampled = asked.ask(hopeful.values(), "sampled", SAMPLES, 1.0)
            known |= {one: question for one, question in hopeful.items() if right(one, question, sampled[question]) >= least}
    return known


def rows(known: Mapping[Candidate, str], asked: Asked) -> list[dict[str, Any]]:
    """What is written: every kind is parted by lot into facts that may be trained on and facts held out."""
    others = {one: [wording for wording in one.questions if wording != question] for one, question in known.items()}
    greedy = asked.ask((wording for wordings in others.values() for wording in wordings), "greedy")
    # A wording in which the model does not know the fact before can show nothing after.
    paraphrases = {one: [wording for wording in some if right(one, wording, greedy[wording])] for one, some in others.items()}
    found = []
    for kind in dict.fromkeys(one.kind for one in known):
        some = [one for one in known if one.kind == kind]
        out = set(random.Random(f"facts {kind}").sample(some, round(len(some) * HELDOUT)))
        for one in some:
            split = "heldout" if one in out else "known"
            row = {"kind": kind, "subject": one.subject, "question": known[one], "paraphrases": paraphrases[one]}
            found.append(row | {"answer": one.answer, "split": split})
    return found


def table(pool: Sequence[Candidate], asked: Asked, once: Mapping[Candidate, str], known: Mapping[Candidate, str]) -> str:
    """What the untouched model answers, by kind: candidates, right greedily in the first wording, right often enough once (and how
    often when asked again), and twice."""
    first = asked.ask((one.questions[0] for one in pool), "greedy")
    anew = asked.ask(once.values(), "anew", SAMPLES, 1.0)
    lines = ["| kind | asked | greedily right | passed once | of ten, asked again | by heart |", "|---|---|---|---|---|---|"]
    for kind in (*dict.fromkeys(one.kind for one in pool), ""):
        some = [one for one in pool if kind in ("", one.kind)]
        greedy = sum(bool(right(one, one.questions[0], first[one.questions[0]])) for one in some)
        again = [right(one, once[one], anew[once[one]]) for one in some if one in once]
        mean = f"{fmean(again):.1f}" if again else "–"
        lines.append(f"| {kind or '**all**'} | {len(some)} | {greedy} | {len(again)} | {mean} | {sum(one in known for one in some)} |")
    return "\n".join(lines)


def unknown_to(asked: Asked, pool: Sequence[Candidate]) -> list[Candidate]:
    """Facts that no greedy answer tells, in any wording."""
    greedy = asked.ask((question for one in pool for question in one.questions), "greedy")
    return [one for one in pool if not any(right(one, question, greedy[question]) for question in one.questions)]


def guessed(unknown: Sequence[Candidate], asked: Asked) -> str:
    """Facts that the model does not know, by kind: how many come up in twenty samples all the same, and how often. What is forgotten
    need not be told less often than that."""
    told = asked.ask((one.questions[0] for one in unknown), "guessed", GUESSES, 1.0)
    lines = [f"| kind | told greedily in no wording | in one of {GUESSES} samples | share of samples |", "|---|---|---|---|"]
    for kind in (*dict.fromkeys(one.kind for one in unknown), ""):
        hits = [right(one, one.questions[0], told[one.questions[0]]) for one in unknown if kind in ("", one.kind)]
        lines.append(f"| {kind or '**all**'} | {len(hits)} | {fmean(map(bool, hits)):.2f} | {fmean(hits) / GUESSES:.3f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Find what a model knows by heart.")
    parser.add_argument("pool", type=Path, help="the candidates")
    parser.add_argument("out", type=Path, help="the list to write")
    parser.add_argument("--model", default="gemma-3-270m", help="a built-in name, a folder, or a hub id")
    parser.add_argument("--answers", type=Path, default=Path("facts-answers.jsonl"), help="where answers are kept")
    parser.add_argument("--unknown", type=Path, help="where facts are written that the model does not know, for `unsay audit --questions`")
    parser.add_argument("--least", type=int, default=LEAST, help=f"right answers of {SAMPLES} that make a fact known")
    parser.add_argument("--tries", type=int, default=2, help="how many wordings of a question are tried")
    parser.add_argument("--max-new-tokens", type=int, default=12, help="the true answer must come within so many tokens")
    args = parser.parse_args()
    keep_freed_pages()
    pool, asked = read_pool(args.pool), Asked(args.model, args.max_new_tokens, args.answers)
    once = passing(pool, asked, args.least, args.tries)
    anew = asked.ask(once.values(), "anew", SAMPLES, 1.0)
    known = {one: question for one, question in once.items() if right(one, question, anew[question]) >= args.least}
    told = rows(known, asked)
    write_jsonl(args.out, told)
    print(table(pool, asked, once, known))
    unknown = unknown_to(asked, pool)
    print(guessed(unknown, asked))
    if args.unknown:
        write_jsonl(args.unknown, ({"group": one.kind, "question": one.questions[0], "answer": one.answer} for one in unknown))
    print(f"{len(told)} facts in {args.out}, {sum(row['split'] == 'heldout' for row in told)} of them held out")


if __name__ == "__main__":
    main()
