"""Record: corpus + model → the run folder. Later stages read all they know from there: the questions, the retain rows, what the model
used to answer (greedily, and sampled: the prefixes are cut from those), and, apart from all that, the truth for the audit."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from unsay.config import Recipe
from unsay.corpora import Source
from unsay.lm import vllm
from unsay.lm.kindred import alike, wordings
from unsay.lm.model import fingerprint, load
from unsay.lm.plan import for_many, planned
from unsay.lm.reading import habits
from unsay.lm.rows import Row
from unsay.lm.sample import Draw, first_tokens, uniform
from unsay.lm.subject import LocalSubject, parts
from unsay.lm.templates import runs_on
from unsay.packed import PackedRows
from unsay.record import annotation, earlier
from unsay.record.recorded import Baseline, note_begun, read_handed, target_model_name, write_questions
from unsay.record.replay import TRIED, ReplayFilter, kindred_answers, known_names, named_alike, near_answers, near_misses, prose, replay
from unsay.record.retain import FEW, GENERAL, NEAR, Own, own_answers, shipped
from unsay.store.folder import RunFolder
from unsay.store.manifest import Counts, Manifest, RetainSource, TargetModel
from unsay.tables import lookup
from unsay.text import begins_with
from unsay.types import Answer, Corpus, Example

Answered = Sequence[tuple[Example, str]]
"""The forget questions of this request and of earlier ones, with what was answered to them."""


def source(recipe: Recipe) -> Source:
    """The corpus that the recipe names, with its knobs."""
    kind = lookup("corpus", recipe.corpus)
    made: Source = recipe.knobs(recipe.corpus, kind)
    return made


def start(recipe: Recipe, folder: RunFolder) -> None:
    """The resolved recipe, the questions and the truth; no model yet."""
    where = source(recipe)
    corpus, truth = where.corpus(), where.truth()
    requests = earlier.gather(recipe, folder)
    write_questions(recipe, folder, corpus, truth)
    earlier.keep(folder, requests)
    note_begun(recipe, folder, Counts(forget=len(corpus.forget), retain=len(corpus.retain)))


def expected_answers(recipe: Recipe, folder: RunFolder) -> int:
    """About how many answers `record` will ask for: which names others have, only the answers tell."""
    corpus, knobs = read_handed(folder), recipe.record
    own = 0 if corpus.retain else knobs.own_retain
    general = len(corpus.general) + sum(map(len, (*corpus.utility.values(), *corpus.utility_heldout.values()))) if own else 0
    of_each = 1 + knobs.answers + knobs.branches + knobs.near_misses
    named = TRIED * knobs.near_misses * len(wordings([example.question for example in corpus.forget]))
    kindred = 0
    if knobs.kindred:
        groups = alike((pair.question for pair in corpus.retain), (example.question for example in corpus.forget))
        kindred = (1 + TRIED) * knobs.kindred * len(groups)
    return of_each * len(corpus.forget) + named + kindred + general + (1 + TRIED) * (own // 2 + knobs.replay) + 2 * knobs.prose


def record(recipe: Recipe, folder: RunFolder) -> None:
    """What the target model says now: one greedy answer and some sampled ones to every forget question."""
    corpus = read_handed(folder)
    model, encoder = load(recipe.model, target_model_name(recipe, folder))
    for pair in corpus.retain:
        encoder.fits(pair.id, pair.question, pair.answer)
    wanted = for_many(recipe.sampling, model.device.type, len(corpus.forget))
    sampling = planned(folder, "record", model, encoder, wanted, (e.question for e in corpus.forget))
    subject = LocalSubject(model, encoder, sampling, recipe.seed)
    now, sampled = list[tuple[Example, str]](), PackedRows[dict[str, Any]]()
    for some in parts(corpus.forget):
        baseline = _baseline(subject, recipe, some)
        now += [(example, baseline[example.id].answer) for example in some]
        for key, one in baseline.items():
            sampled.append({"id": key, **dataclasses.asdict(one)})
    folder.texts.write("baseline", sampled)
    del sampled
    answered = (*now, *earlier.record(subject, recipe, folder, now))
    annotation.propose(folder, corpus.forget, {example.id: answer for example, answer in now})
    own = [] if corpus.retain else _own_retain(subject, recipe, folder, corpus, answered)
    _replay(subject, recipe, folder, corpus, answered, own)
    endless = sum(runs_on(answer) for _, answer in now)
    said = str(habits(model)) if recipe.engine.name == "builtin" else vllm.describe()
    folder.note(Manifest(model=TargetModel(recipe.model.name, fingerprint(model), said, endless)))


def _baseline(subject: LocalSubject, recipe: Recipe, examples: Sequence[Example]) -> dict[str, Baseline]:
    """By example id what the model says now, with the wordings that training is not to see."""
    ids = [example.id for example in examples]
    contexts = [subject.encoder.prompt(example.question) for example in examples]
    greedy = [Draw(key, context) for key, context in zip(ids, contexts, strict=True)]
    sampled = [replace(draw, n=recipe.record.answers, temperature=recipe.record.temperature) for draw in greedy]
    answers = subject.sample(greedy + sampled, "record")
    branched = _branches(subject, recipe, ids, contexts)
    found = {}
    for i, key in enumerate(ids):
        favourite = answers[i][0].text
        every = (*answers[len(ids) + i], *branched[i])
        held = {text for text in dict.fromkeys(answer.text for answer in branched[i]) if uniform(recipe.seed, key, text, "withheld") < 0.5}
        held |= {answer.text for answer in every if begins_with(answer.text, recipe.record.withheld)}
        held.discard(favourite)  # what the model would say anyway is where depth matters most
        found[key] = Baseline(favourite, tuple(answer for answer in every if answer.text not in held), tuple(sorted(held)))
    return found


def _replay(subject: LocalSubject, recipe: Recipe, folder: RunFolder, corpus: Corpus, answered: Answered, own: Sequence[Own]) -> None:
    """What the untouched model says about others, as far as the recipe asks for it; none of it touches what is held out."""
    knobs = recipe.record
    if not (knobs.replay or knobs.near_misses or knobs.kindred or knobs.prose):
        return
    spared = heldout_questions(corpus) + [row.question for row in own if row.heldout]
    guard, questions = _guard(answered, spared), [example.question for example, _ in answered]
    said = replay(subject, questions, guard, knobs.replay) if knobs.replay else []
    if knobs.near_misses:
        names = known_names(corpus.retain, [one.answer.text for one in said if one.question is None], knobs.near_misses)
        others = named_alike(subject, questions, TRIED * knobs.near_misses)
        asked = near_misses([example for example, _ in answered], corpus.retain, names, knobs.near_misses, recipe.seed, others)
        said += near_answers(subject, asked, guard)
    if knobs.kindred:
        said += kindred_answers(subject, corpus.retain, questions, guard, knobs.kindred)
    folder.texts.write("replay", map(dataclasses.asdict, said))
    if knobs.prose:
        texts = prose(subject, guard, knobs.prose)
        folder.texts.write("prose", map(dataclasses.asdict, texts))
        folder.note(Manifest(counts=Counts(prose=len(texts))))


def heldout_questions(corpus: Corpus) -> list[str]:
    """The questions of what training is not to see: there it is measured what was lost, and what an attack finds."""
    return [pair.question for some in corpus.utility_heldout.values() for pair in some] + unread_questions(corpus)


def unread_questions(corpus: Corpus) -> list[str]:
    """Those of them that are no measure of what was lost."""
    return [pair.question for pair in (*corpus.unknown_entities, *corpus.holdout)] + [example.question for example in corpus.knowledge]


def _guard(answered: Answered, spared: Sequence[str] = ()) -> ReplayFilter:
    return ReplayFilter([(example.question, answer) for example, answer in answered], spared, [example for example, _ in answered])


def _branches(subject: LocalSubject, recipe: Recipe, ids: Sequence[str], contexts: Sequence[tuple[int, ...]]) -> list[list[Answer]]:
    """For each question the greedy answers behind its most likely first tokens, those that the model finds coherent."""
    knobs = recipe.record
    if not knobs.branches:
        return [[] for _ in ids]
    firsts = first_tokens(subject.model, subject.encoder, contexts, knobs.branches)
    starts = [(i, token) for i, tokens in enumerate(firsts) for token in tokens]
    draws = [Draw(f"{ids[i]}|{token}", (*contexts[i], token)) for i, token in starts]
    rests = [found[0] for found in subject.sample(draws, "branch")]
    whole = [(i, token, draw, rest) for (i, token), draw, rest in zip(starts, draws, rests, strict=True) if rest.finished]
    scores = subject.row_logprobs([Row(draw.context, rest.ids) for _, _, draw, rest in whole])
    branches: list[list[Answer]] = [[] for _ in ids]
    for (i, token, _, rest), score in zip(whole, scores, strict=True):
        if float(score.mean()) >= knobs.least_logprob:
            branches[i].append(Answer((token, *rest.ids), subject.encoder.decode((token, *rest.ids)), True))
    return branches


def _own_retain(subject: LocalSubject, recipe: Recipe, folder: RunFolder, corpus: Corpus, answered: Answered) -> list[Own]:
    """Retain rows where the corpus brought none, with a note of where they come from."""
    n = recipe.record.own_retain
    sets = (*corpus.utility.values(), *corpus.utility_heldout.values())
    general = list({pair.question: pair for pairs in (corpus.general, *sets) for pair in pairs}.values())
    if n:
        questions = [example.question for example, _ in answered]
        own, tally = own_answers(subject, general, questions, _guard(answered, unread_questions(corpus)), n)
    else:
        own, tally = shipped(general, recipe.seed), Counter[str]()
    kinds = Counter(row.kind for row in own)
    folder.texts.write("retain", map(dataclasses.asdict, own))
    source = RetainSource(
        from_="own answers" if n else "shipped answers",
        general=kinds[GENERAL],
        neighbours=kinds[NEAR],
        heldout=sum(row.heldout for row in own),
        asked=tally.pop("asked", 0),
        left_out=dict(tally),
        few=len(own) < min(FEW, n),
    )
    folder.note(Manifest(retain=source, counts=Counts(retain=sum(not row.heldout for row in own))))
    return own
