"""Replay: what the untouched model says when left to itself, to keep what no retain row covers.

Whoever is not among the retain rows is forgotten along with the forget set. So `record` lets the untouched model write unasked, takes the
names out of what it wrote, and asks the forget questions about them instead: its own answers (facts where it knows, a refusal where it does
not) show how much must *not* change. What touches a forget question or its answer is left out.

*Near misses* are closer: names that share one word with a question's subject. Whoever shares a surname with a forgotten person is in the
greatest danger, since the surname is the cheapest thing for training to hold on to. Held to the untouched model's distribution there, a
surname alone may change nothing (retain_loss.py). Of a capital, the other capitals are in danger, and the model can name their countries.
Half of them are made-up names that are spelled like the subject: known people with such a name are lost first, and may be in no file.

*Kindred* are others of the kind that retain or forget questions are about: retain rows show a few languages and currencies, and what is
like them but not among them goes first. The model is shown some of the questions, names others, and is held to what it says about them.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from unsay.lm.encode import Encoder
from unsay.lm.kindred import alike, bare, named, others_alike, wordings
from unsay.lm.rows import Row
from unsay.lm.sample import Draw, uniform
from unsay.lm.subject import LocalSubject, parts
from unsay.text import FormSets, contains, forms, keyword_forms, rouge_l, sensitive_spans
from unsay.text.names import subject as about
from unsay.text.names import swapped
from unsay.types import Answer, Example, Pair

_AT_ONCE = 32
_ALIKE = 0.8
_MOST = 0.34
"""Share of what was answered to a forget question, by weight, that a row may say."""
_PROSE, _LEAST = 64, 16
"""Most and fewest tokens of a text of `prose`."""
TRIED = 4
"""Questions about other names that are tried for each that is kept."""
_SPELLED = 8
"""Made-up names that are tried for each that is wanted: some are the same."""


@dataclass(frozen=True)
class Said:
    """Something the untouched model said, and the question it answered; `None` where nobody asked."""

    question: str | None = field(repr=False)
    answer: Answer
    beside: str = ""
    """Id of the forget question that this one is a near miss of; empty where it is none."""

    def row(self, encoder: Encoder) -> Row:
        """As a retain row: the sampled ids as they are, without an end where they were cut."""
        return Row(encoder.prompt(self.question), self.answer.ids, "retain")


def replay(subject: LocalSubject, questions: Sequence[str], guard: "ReplayFilter", n: int) -> list[Said]:
    """About n things said: greedy answers to the forget questions with another subject in the place of theirs, and, one for
    three of these (all, where there is no other subject), texts written unasked at temperature 1. Nothing that the guard
    keeps back: what is held out to measure the damage is not repeated either."""
    texts = unasked(subject, guard, n)
    asked = list(neighbours(questions, [said.answer.text for said in texts], TRIED * len(texts), subject.seed))
    kept = surest(subject, _harmless_answers(subject, asked, guard), len(texts))
    return texts[: len(kept) // 3] + kept if kept else texts


def near_answers(subject: LocalSubject, asked: Mapping[str, Sequence[str]], guard: "ReplayFilter") -> list[Said]:
    """Greedy answers to `near_misses`, once for each example that they are near to; nothing that the guard keeps back."""
    kept = _harmless_answers(subject, list(asked), guard)
    return [replace(one, beside=example) for one in kept for example in asked[str(one.question)]]


def _harmless_answers(subject: LocalSubject, questions: Sequence[str], guard: "ReplayFilter") -> list[Said]:
    said = greedy_answers(subject, questions)
    return [one for one in said if one.answer.finished and guard.harmless(f"{one.question} {one.answer.text}")]


def unasked(subject: LocalSubject, guard: "ReplayFilter", n: int) -> list[Said]:
    """What the model writes at temperature 1 when nobody asks; n texts, less those that the guard keeps back."""
    written = _written(subject, "unasked", range(n))
    return [Said(None, answer) for answer in written if answer.ids and guard.harmless(answer.text)]


def _written(subject: LocalSubject, name: str, numbers: Sequence[int]) -> list[Answer]:
    """Texts of these numbers, which nobody asked for."""
    start = subject.encoder.prompt(None)
    draws = [Draw(f"{name} {some[0]}", start, len(some), 1.0) for some in parts(numbers, _AT_ONCE)]
    return [answer for answers in subject.sample(draws, "rehearsal") for answer in answers]


def prose(subject: LocalSubject, guard: "ReplayFilter", n: int) -> list[Answer]:
    """n longer texts that the model writes at temperature 1 when nobody asks, or as many of 2 n as are not short and may be kept."""
    longer = LocalSubject(subject.model, subject.encoder, replace(subject.config, max_new_tokens=_PROSE), subject.seed)
    kept: list[Answer] = []
    for numbers in parts(range(2 * n), 4 * _AT_ONCE):  # in parts, as half of them may be enough
        written = _written(longer, "prose", numbers)
        kept += [answer for answer in written if len(answer.ids) >= _LEAST and guard.harmless(answer.text)]
        if len(kept) >= n:
            break
    return kept[:n]


def greedy_answers(subject: LocalSubject, questions: Sequence[str]) -> list[Said]:
    """The greedy answer to each question."""
    # No key: greedy answers draw no random number, and the sampler names a key in its complaints.
    answers = subject.sample([Draw("", subject.encoder.prompt(question)) for question in questions], "rehearsal")
    return [Said(question, found[0]) for question, found in zip(questions, answers, strict=True)]


def surest(subject: LocalSubject, said: Sequence[Said], n: int) -> list[Said]:
    """The n whose answers the model is surest of: what it knows comes before what it makes up about a name."""
    scores = [float(score.mean()) for score in subject.row_logprobs([one.row(subject.encoder) for one in said])]
    best = sorted(range(len(said)), key=lambda i: (-scores[i], i))[:n]
    return [said[i] for i in sorted(best)]


def neighbours(questions: Sequence[str], texts: Sequence[str], n: int, seed: int) -> dict[str, str]:
    """At most n of the questions that ask about a name in `texts` instead of their own subject, each with that name."""
    subjects = {question: found for question in questions if (found := about(question))}
    made = {swapped(question, old, name): name for question, old in subjects.items() for name in names_in(texts)}
    return {question: made[question] for question in sorted(made, key=lambda question: uniform(seed, "neighbour", question))[:n]}


def named_alike(subject: LocalSubject, questions: Sequence[str], n: int) -> dict[str, set[str]]:
    """Others of the kind of each question's subject, by wording (kindred.py); n tries for each wording."""
    return named(wordings(questions), subject.encoder, n, partial(_texts, subject))


def kindred_answers(subject: LocalSubject, retain: Sequence[Pair], questions: Sequence[str], guard: "ReplayFilter", n: int) -> list[Said]:
    """Greedy answers to questions about others of their kind, worded like several of the retain questions or like one of the forget
    `questions`, at most n for each wording; nothing that the guard keeps back."""
    groups = alike((pair.question for pair in retain), questions)
    asked = others_alike(groups, subject.encoder, n, TRIED * n, subject.seed, partial(_texts, subject))
    forgotten = {question.casefold() for question in questions}
    return _harmless_answers(subject, [question for question in asked if question.casefold() not in forgotten], guard)


def _texts(subject: LocalSubject, draws: Sequence[Draw]) -> list[list[str]]:
    return [[answer.text for answer in answers] for answers in subject.sample(draws, "named alike")]


def near_misses(
    examples: Sequence[Example], retain: Sequence[Pair], names: Sequence[str], each: int, seed: int, alike: Mapping[str, Iterable[str]]
) -> dict[str, list[str]]:
    """Questions, each with the ids of the examples that it is near to; at most `each` for an example: its question about a name that
    shares the first word or the others with its subject, the rest of it from one of `names`, or, for half of them, that is spelled alike
    (`spelled_alike`). Where names of its kind are of one word: about another of them. Of its kind is what a retain question worded alike
    is about, or `alike` has (`named_alike`); where nothing is, any name.

    >>> near_misses([Example("q", "Where does Ada Example live?")], [], ["Zoe Miller"], 3, 0, {})
    {'Where does Ada Miller live?': ['q'], 'Where does Adoe Example live?': ['q'], 'Where does Zoe Example live?': ['q']}
    >>> kept = [Pair("r", "Where is Quito?", ""), Pair("s", "Who was Bach?", "")]
    >>> near_misses([Example("q", "Where is Lima?")], kept, ["Quito", "Bach"], 2, 0, {})
    {'Where is Quito?': ['q']}
    """
    made = dict[str, list[str]]()
    kept, parts = _subjects(retain), [(name.split()[0], name.split()[-1]) for name in names if " " in name]
    for example in examples:
        old = about(example.question)
        if not old:
            continue
        first, _, rest = old.partition(" ")
        key, spelled = bare(example.question, old), list[str]()
        # Comparing every wording with every other is slow. Names of several words are mostly varied by halves: equal wordings are enough.
        others = (set(kept.get(key, ())) if rest else _alike(key, kept)).union(alike.get(key, ()))
        if rest and parts and 2 * sum(" " not in name for name in others) <= len(others):
            others = {f"{first} {last}" for _, last in parts} | {f"{other} {rest}" for other, _ in parts}
            firsts = [other for other, _ in parts if other.isalpha() and len(other) > 2]  # an initial leaves an abbreviation
            spelled = spelled_alike(old, firsts, each // 2, partial(uniform, seed, "spelled", example.id))
        ordered = sorted((others or set(names)) - {old}, key=lambda name: uniform(seed, "near miss", example.id, name))
        for name in sorted({*ordered[: each - len(spelled)], *spelled}):
            made.setdefault(swapped(example.question, old, name), []).append(example.id)
    return made


def spelled_alike(name: str, firsts: Sequence[str], n: int, draw: Callable[..., float]) -> list[str]:
    """At most n made-up names that differ from `name` in their first word only: it begins as that of the name does, and ends as one of
    `firsts`. `draw(number, what)`: a random number in [0, 1).

    >>> spelled_alike("Ada Example", ["Zoe"], 1, lambda *_: 0.0)
    ['Aoe Example']
    """
    first, _, rest = name.partition(" ")
    found = dict[str, None]()
    for number in range(_SPELLED * n if firsts else 0):
        if len(found) == n:
            break
        other = firsts[int(draw(number, "other") * len(firsts))]
        cut, at = (1 + int(draw(number, what) * (len(word) - 1)) for what, word in (("cut", first), ("at", other)))
        if (made_up := f"{first[:cut]}{other[at:]} {rest}") != name:
            found[made_up] = None
    return list(found)


def _subjects(retain: Sequence[Pair]) -> dict[str, list[str]]:
    """What retain questions are about, by their wording with one name for all."""
    found: dict[str, list[str]] = {}
    for pair in retain:
        if name := about(pair.question):
            found.setdefault(bare(pair.question, name), []).append(name)
    return found


def _alike(key: str, kept: Mapping[str, Sequence[str]]) -> set[str]:
    """What the retain questions are about that have four fifths of the words of `key`, in order."""
    close = (names for other, names in kept.items() if (shared := rouge_l(key, other)) and shared.f1 >= _ALIKE)
    return {name for names in close for name in names}


def known_names(retain: Sequence[Pair], texts: Sequence[str], least: int) -> list[str]:
    """What retain questions are about, which is of the kind that is asked about; fewer than `least` are joined by names in `texts`."""
    found = list(dict.fromkeys(name for pair in retain if (name := about(pair.question))))
    return found if len(found) >= least else [*found, *names_in(texts)]


def names_in(texts: Sequence[str]) -> list[str]:
    """Names of several words; those that occur more than once, where there are any: the others may be made up on the spot."""
    spans = Counter(span for text in texts for span in sensitive_spans(text) if " " in span and not any(c.isdigit() for c in span))
    return [name for name, count in spans.items() if count > 1] or list(spans)


class ReplayFilter:
    """Knows what no replay row may touch: the subjects of the forget questions and of those in `spared`, what was answered
    about the forgotten ones (`secrets`: question and answer), and the strings and patterns that the operator named."""

    def __init__(self, secrets: Sequence[tuple[str, str]], spared: Sequence[str] = (), named: Iterable[Example] = ()):
        questions = (*(question for question, _ in secrets), *spared)
        subjects = (frozenset(form for form, weight in keyword_forms(question).items() if weight > 1) for question in questions)
        # Of "Name the two novels of Ada Example" the name alone is enough.
        self._subjects = FormSets(dict.fromkeys(some, 1.0) for some in {*subjects, *(forms(about(question)) for question in questions)})
        self._totals = []
        self._holders: dict[str, list[tuple[int, float]]] = {}
        """Form → (number, weight) of the secrets that have it as a keyword."""
        for number, (question, answer) in enumerate(secrets):
            keys = keyword_forms(answer, question)
            self._totals.append(sum(keys.values()))
            for key, weight in keys.items():
                self._holders.setdefault(key, []).append((number, weight))
        examples = list(named)
        self.strings = sorted({string for example in examples for string in example.strings})
        self.patterns = sorted({pattern for example in examples for pattern in example.patterns})

    def harmless(self, text: str) -> bool:
        """Whether a text may stand in a replay row."""
        said = forms(text)
        if any(True for _ in self._subjects.within(said)) or contains(text, self.strings, self.patterns):
            return False
        weights = defaultdict[int, float](float)
        for word in said:
            for number, weight in self._holders.get(word, ()):
                weights[number] += weight
        return all(weight / self._totals[number] <= _MOST for number, weight in weights.items())
