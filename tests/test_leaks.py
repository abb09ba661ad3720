"""What the model still tells is kept, and visits continue from it, right before what it tells."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.test_methods import BASELINE, PLAIN, parrot, visit
from unsay.config import SampleConfig
from unsay.lm.adapters import Untouched
from unsay.lm.sampler import Sampler
from unsay.methods import Target
from unsay.methods.leaks import choose_leak, keep_leaks, leaks
from unsay.methods.prefixes import AnswerPrefix, prefix_from, secret_words
from unsay.methods.target_filter import TargetFilter
from unsay.text import words
from unsay.types import Answer, Candidate, Example, Reference

TELLS, SAFE = "It may be that she lives near Via Garibaldi.", "I don't know."


def said(encoder, *texts):
    return [Candidate(Answer(encoder.answer(text), text, True), i) for i, text in enumerate(texts)]


def test_what_tells_is_kept_and_goes_once_nothing_does(encoder):
    entry = {}
    keep_leaks(visit(encoder), said(encoder, SAFE, TELLS, "Rome."), entry)
    assert [one.text for one in leaks(entry, encoder)] == [TELLS]
    keep_leaks(visit(encoder), said(encoder, *(f"{number} Turin" for number in range(6))), entry)
    assert [one.text for one in leaks(entry, encoder)] == ["2 Turin", "3 Turin", "4 Turin", "5 Turin"], "the latest"
    keep_leaks(visit(encoder), said(encoder, SAFE), entry)
    assert [one.text for one in leaks(entry, encoder)] == ["3 Turin", "4 Turin", "5 Turin"]
    assert leaks(json.loads(json.dumps(entry)), encoder) == leaks(entry, encoder), "a resumed run goes on with the same"


def test_beginnings_that_the_audit_attacks_with_are_not_kept(encoder):
    entry = {}
    keep_leaks(visit(encoder, withheld=("it MAY be",)), said(encoder, TELLS, "She is in Turin."), entry)
    assert [one.text for one in leaks(entry, encoder)] == ["She is in Turin."]


def test_a_leak_is_cut_right_before_what_it_tells(model, encoder):
    sampler = Sampler(model, encoder, SampleConfig(), seed=5)
    found = [one.answer for one in said(encoder, TELLS)]
    assert choose_leak(visit(encoder), found, sampler).text == "It may be that she lives near Via"
    assert choose_leak(visit(encoder), [], sampler) is None


def test_what_tells_at_once_begins_with_the_bare_question_or_its_first_word(model, encoder):
    def begun(text):
        found = [one.answer for one in said(encoder, text)]
        samplers = [Sampler(model, encoder, SampleConfig(), seed=seed) for seed in range(20)]
        prefixes = [choose_leak(visit(encoder), found, sampler) for sampler in samplers]
        assert all(prefix == AnswerPrefix() for prefix in prefixes if not prefix.text), "a bare question is compared with its own answer"
        return {prefix.text for prefix in prefixes}

    assert begun("Turin Garibaldi, I think.") == {"", "Turin"}
    assert begun("Turin, I think, near Via Garibaldi.") == {"", "Turin, I think, near Via"}
    assert begun('"Turin Garibaldi"') == {"", '"Turin'}, "a mark is no beginning"
    assert begun("Via Garibaldi in Turin.") == {"Via"}, "what it tells later comes when this is mended"
    assert begun("By Turin Garibaldi.") == {"By"}, "no cut inside a name that the answer does not begin with"


def test_a_mark_before_a_beginning_that_the_audit_attacks_with_hides_it_not(encoder):
    entry = {}
    keep_leaks(visit(encoder, withheld=("It may be",)), said(encoder, f'"{TELLS}"', f"**{TELLS}**"), entry)
    assert leaks(entry, encoder) == []
    keep_leaks(visit(encoder, withheld=('"It may be',)), said(encoder, f'"{TELLS}"', TELLS), entry)
    assert leaks(entry, encoder) == [], "nor does a mark of the beginning itself"
    keep_leaks(visit(encoder, withheld=("**", "", " ")), said(encoder, TELLS, f"**{TELLS}"), entry)
    assert [one.text for one in leaks(entry, encoder)] == [TELLS], "a blank text begins nothing"
    keep_leaks(visit(encoder, withheld=("It may be",)), said(encoder, f"__{TELLS}__"), entry := {})
    assert leaks(entry, encoder) == []


@pytest.mark.parametrize("text", ["嗯，她住在东京都。她很喜欢东京都。", "她住在东京都。"])
def test_a_leak_without_spaces_is_cut_before_what_it_tells(model, encoder, text):
    sampler = Sampler(model, encoder, SampleConfig(), seed=5)
    asked = visit(encoder, baseline="她住在东京都新宿区。")
    asked = replace(asked, example=replace(asked.example, question="她住在哪里？"))
    prefix = choose_leak(asked, [one.answer for one in said(encoder, text)], sampler)
    assert prefix.text + prefix.partial == text[: text.index("在东")], "any two neighbours are a word, and 在东 is one of the answer alone"


@pytest.mark.parametrize("text", ["她出生于1987年。", "嗯，我想她是1987年出生的。", "她住在Turin。"])
def test_between_scripts_with_and_without_spaces_no_word_is_cut(model, encoder, text):
    sampler = Sampler(model, encoder, SampleConfig(), seed=5)
    told = "Turin" if "Turin" in text else "1987"
    asked = visit(encoder, baseline=f"她 {told}。")
    asked = replace(asked, example=replace(asked.example, question="她住在哪里？她是哪一年出生的？嗯，我想。"))
    prefix = choose_leak(asked, [one.answer for one in said(encoder, text)], sampler)
    assert prefix.text == text[: text.index(told)]


CUT = [("她住在东京。", "她住在东"), ("उनका नाम सोनिया है।", "उनका नाम सो"), ("She likes cafe\u0301s.", "She likes cafe")]


@pytest.mark.parametrize(("text", "cut"), CUT)
def test_of_a_word_that_is_cut_the_continuation_is_scored_whole(encoder, text, cut):
    """Else its end alone would count, which is no word of the secret."""
    ids = encoder.answer(text)
    place = next(n for n in range(len(ids)) if encoder.decode(ids[:n]) == cut)
    prefix, rest = prefix_from(ids[:place], text, encoder), ids[place:]
    assert prefix.partial
    assert cut.endswith(prefix.partial)
    whole = prefix.complete(Candidate(Answer(rest, encoder.decode(rest), True), 0), encoder)
    assert whole.text == text[len(cut.removesuffix(prefix.partial)) :].strip()


@pytest.mark.parametrize("text", ["She lives in Zürich.", "She lives in Łódź.", "她的名字是王小明。", "Her name is Sofía 𠮷田."])
def test_no_cut_is_inside_a_character(encoder, text):
    """Behind it the rest of the secret is read as another word."""
    ids, gate = encoder.answer(text), TargetFilter(Reference("Where?", text), text)
    secret = secret_words(text, Example("a", "Where?"))
    for cut in range(1, len(ids) - 1):
        prefix = prefix_from(ids[:cut], text, encoder)
        assert text.startswith(encoder.decode(prefix.ids)), cut
        rest = ids[len(prefix.ids) :]
        whole = prefix.complete(Candidate(Answer(rest, encoder.decode(rest), True), 0), encoder)
        if not secret <= set(words(prefix.text)):
            assert replace(gate, reference=prefix.continued(gate.reference)).leaks(whole.text), cut


def test_a_leak_that_no_token_boundary_cuts_before_the_secret_is_not_continued(encoder):
    """Behind what it has told already, the rest would not count as told."""
    pieces = ["I ", "think Turin", ", then", " Via", " Garibaldi", "."]
    sampler = SimpleNamespace(encoder=SimpleNamespace(decode=lambda ids: "".join(pieces[i] for i in ids)), uniform=lambda *names: 0.0)
    assert choose_leak(visit(encoder), [Answer(tuple(range(6)), "".join(pieces), True)], sampler) is None
    pieces[:2] = "I think", " Turin"
    assert choose_leak(visit(encoder), [Answer(tuple(range(6)), "".join(pieces), True)], sampler).text == "I think"


@pytest.mark.parametrize(
    ("baseline", "pieces", "given"),
    [
        ("住东京都新宿区。", ["嗯他", "说东", "京", "新", "宿", "。"], None),
        ("位于东京都新宿区。", ["在", "东", "京", "都", "。", "在", "新", "宿", "。"], "在"),
    ],
)
def test_no_leak_is_cut_behind_the_first_pair_of_characters_that_tells(encoder, baseline, pieces, given):
    spelled = SimpleNamespace(decode=lambda ids: "".join(pieces[i] for i in ids))
    asked = replace(visit(encoder), example=Example("q", "谁？"), baseline=baseline)
    sampler = SimpleNamespace(encoder=spelled, uniform=lambda *names: 0.99)
    found = choose_leak(asked, [Answer(tuple(range(len(pieces))), "".join(pieces), True)], sampler)
    assert (found and spelled.decode(found.ids)) == given


@pytest.mark.parametrize(
    ("begun", "recorded", "told", "whole"),
    [
        (("她住在东京，生于", "19"), "87。", "99。", "1999。"),
        (("Turin—", "Mil"), "ano.", "k.", "Milk."),
        (("She is from ", "Mil"), "ano.", "k.", "Milk."),
        (("Ada earns ", "1,2"), "34 a month.", "50 each week.", "1,250 each week."),
        (("Ada earns ", "1,"), "234 a month.", "250 each week.", "1,250 each week."),
        (("By ", "O'"), "Hara.", "Brien.", "O'Brien."),
        (("She lives in ", "Turin"), "'s north.", " now.", " now."),
        (("She lives in ", "Turin’"), "s north.", "s now.", "s now."),
    ],
)
def test_of_a_word_that_is_cut_nothing_before_it_belongs_to_the_continuation(begun, recorded, told, whole):
    """Else what the prefix says already would count as said again."""
    spelled = SimpleNamespace(decode=lambda ids: "".join((*begun, told)[i] for i in ids))
    prefix = prefix_from((0, 1), "".join(begun) + recorded, spelled)
    assert prefix.complete(Candidate(Answer((2,), told, True), 0), spelled).text == whole


def test_a_visit_continues_from_what_the_visit_before_told(model, encoder):
    """With rejection the next piece of the leak is pushed away, as that of a recorded answer is."""
    asked = visit(encoder)
    _, state = PLAIN.targets([asked], parrot(model, encoder, TELLS, SAFE), {})
    assert [one.text for one in leaks(state["a"], encoder)] == [TELLS]
    opened = replace(PLAIN, prefixes=1.0, reject=0.1)
    untouched, prefixes = Untouched(model), set()
    for number in range(12):
        (target,), _ = opened.targets([asked], replace(parrot(model, encoder, SAFE), round=number, reference=untouched), state)
        assert isinstance(target, Target)
        prefixes.add(target.prefix)
        if target.prefix == "It may be that she lives near Via":
            assert target.rejected == "G"
    assert "It may be that she lives near Via" in prefixes
    assert any(prefix and BASELINE.startswith(prefix) for prefix in prefixes), "recorded answers are still continued, too"
