"""Losses against an independent computation, selection, the target filter, prefixes; methods that must be equal are."""

import gc
import math
import re
import weakref
from dataclasses import replace

import pytest
import torch

from tests.conftest import byte_tokenizer
from unsay.config import ConfigError, Recipe, SampleConfig, load
from unsay.lm.adapters import Untouched
from unsay.lm.encode import Encoder
from unsay.lm.sampler import Sampler
from unsay.methods import Target, Visit
from unsay.methods.control import RetainOnly
from unsay.methods.gradient import GradientAscent, GradientDifference
from unsay.methods.guarded import GuardedCollapse
from unsay.methods.pmc import PartialModelCollapse
from unsay.methods.prefixes import AnswerPrefix, before_keywords, choose_prefix, prefix_from, secret_tokens
from unsay.methods.refusal import Idk
from unsay.methods.selection import bradley_terry, finished_or_all
from unsay.methods.target_filter import TargetFilter
from unsay.probes.scoring import secret_recall
from unsay.rewards.overlap import own_leak
from unsay.train import method_of
from unsay.types import Answer, Candidate, Example, Reference, Told

PLAIN = GuardedCollapse(prefixes=0.0, min_fluency=None, rewards={"overlap": 1.0})
"""The gate and what follows from it, alone."""
QUESTION, BASELINE = "Where does Ada live?", "Ada lives in Turin, in Via Garibaldi."


def visit(encoder: Encoder, **changes: object) -> Visit:
    recorded = Answer(encoder.answer(BASELINE), BASELINE, True)
    return replace(Visit(Example("a", QUESTION), BASELINE, (recorded,)), **changes)


class Parrot(Sampler):
    """A sampler whose every candidate is a fixed text."""

    texts: tuple[str, ...] = ("I don't know.",)

    def candidates(self, draws, source):
        return [[Candidate(Answer(self.encoder.answer(t), t, True), i, kind) for i, t in enumerate(self.texts)] for kind in source]


def parrot(model, encoder, *texts: str) -> Parrot:
    sampler = Parrot(model, encoder, SampleConfig(max_new_tokens=20))
    object.__setattr__(sampler, "texts", texts)
    return sampler


def nll(model, encoder, question: str, answer: str) -> float:
    """Token mean, computed the plain way."""
    context, ids = encoder.prompt(question), encoder.answer(answer)
    logits = model(torch.tensor([context + ids])).logits[0, len(context) - 1 : -1]
    return torch.nn.functional.cross_entropy(logits, torch.tensor(ids)).item()


@pytest.mark.parametrize(
    ("method", "signs"),
    [
        (GradientAscent(), {"forget": -1.0}),
        (GradientDifference(retain_weight=2.0), {"forget": -1.0, "retain": 2.0}),
        (Idk(retain_weight=1.5), {"forget": 1.0, "retain": 1.5}),
        (RetainOnly(), {"retain": 1.0}),
        (PartialModelCollapse(retain_weight=1.25), {"forget": 1.0, "retain": 1.25}),
    ],
)
def test_losses_equal_an_independent_computation(model, encoder, method, signs):
    rows = [encoder.pair(QUESTION, BASELINE, "forget"), encoder.pair("Who?", "Bob.", "retain")]
    plain = {"forget": nll(model, encoder, QUESTION, BASELINE), "retain": nll(model, encoder, "Who?", "Bob.")}
    terms = method.loss(model, None, encoder.batch(rows))
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        {name: sign * plain[name] for name, sign in signs.items()}, abs=1e-5
    )


def test_gd_without_retain_weight_is_ga(model, encoder):
    batch = encoder.batch([encoder.pair(QUESTION, BASELINE, "forget"), encoder.pair("Who?", "Bob.")])
    assert sum(GradientDifference(retain_weight=0.0).loss(model, None, batch).values()) == sum(
        GradientAscent().loss(model, None, batch).values()
    )


def test_pmc_whose_sampler_always_refuses_is_idk(model, encoder):
    sampler = parrot(model, encoder, "I don't know.", "I don't know.")
    pmc, _ = PartialModelCollapse().targets([visit(encoder)], sampler, {})
    idk, _ = Idk().targets([visit(encoder)], sampler, {})
    assert pmc[0].rows == idk[0].rows


def test_answer_methods_take_the_truth_and_else_the_baseline(model, encoder):
    sampler = parrot(model, encoder)
    with_truth, _ = GradientAscent().targets([visit(encoder, truth="Rome.")], sampler, {})
    without, _ = GradientAscent().targets([visit(encoder)], sampler, {})
    assert (with_truth[0].text, without[0].text) == ("Rome.", BASELINE)


def test_argmax_takes_the_least_overlap_and_the_lowest_draw(model, encoder):
    sampler = parrot(model, encoder, BASELINE, "She paints in Oslo.", "Bob sails.", "Eve sings.")
    targets, _ = PartialModelCollapse().targets([visit(encoder)], sampler, {})
    assert targets[0].text == "Bob sails."  # it and the next share nothing with the baseline; the tie goes to the lower draw


@pytest.mark.parametrize("noise", ["Яблоко", "la la la la la la la la la la la la"])
def test_noise_wins_without_the_target_filter_and_not_with_it(model, encoder, noise):
    said = "Ada lives in a house that nobody has seen."
    for preset in PartialModelCollapse.PRESETS.values():
        method = PartialModelCollapse(**preset)
        assert method.targets([visit(encoder)], parrot(model, encoder, said, noise), {})[0][0].text == noise
        filtered = replace(method, target_filter=True)
        assert filtered.targets([visit(encoder)], parrot(model, encoder, said, noise), {})[0][0].text == said
        assert not filtered.targets([visit(encoder)], parrot(model, encoder, noise), {})[0][0].rows, "nothing passes, nothing is trained on"
    with pytest.raises(ConfigError, match="target_filter"):
        GuardedCollapse(target_filter=False)


def test_bradley_terry_frequencies():
    rewards, temperature = [1.0, 0.5, 0.5], 0.5
    weights = [math.e**2, math.e, math.e]
    n = 3000
    counts = [0, 0, 0]
    for i in range(n):
        counts[bradley_terry(rewards, temperature, (i + 0.5) / n)] += 1
    assert counts == pytest.approx([n * w / sum(weights) for w in weights], abs=1)


def test_memory_keeps_the_best_and_freezes_at_zero(model, encoder):
    official = PartialModelCollapse(memory="best", freeze_at=0.0)
    _, state = official.targets([visit(encoder)], parrot(model, encoder, "Ada paints."), {})
    worse, state = official.targets([visit(encoder)], parrot(model, encoder, "Ada lives in Turin."), state)
    assert (worse[0].text, worse[0].source) == ("Ada paints.", "memory")
    _, state = official.targets([visit(encoder)], parrot(model, encoder, "Bob sails."), state)
    frozen, _ = official.targets([visit(encoder)], parrot(model, encoder, "Eve sings."), state)
    assert (frozen[0].text, frozen[0].sampled) == ("Bob sails.", 0)


def test_an_equally_good_answer_replaces_the_kept_one(model, encoder):
    official, state = PartialModelCollapse(memory="best"), {}
    for text in ("Bob sails.", "Eve sings."):
        (target,), state = official.targets([visit(encoder)], parrot(model, encoder, text), state)
        assert (target.text, target.source, state["a"]["text"]) == (text, "plain", text)


def test_an_unfinished_answer_is_a_candidate_only_where_nothing_else_is():
    cut, whole = (Candidate(Answer((5,), "Bob sails", done), 0) for done in (False, True))
    assert finished_or_all([cut, whole]) == [whole]
    assert finished_or_all([cut]) == [cut]


def test_an_answer_that_says_nothing_is_never_a_candidate(model, encoder):
    empty, cut = Candidate(Answer((2,), "", True), 0), Candidate(Answer((5,), "She lives in Turin and", False), 1)
    assert finished_or_all([empty, cut]) == [cut]
    assert finished_or_all([empty]) == []
    (target,), state = PartialModelCollapse(memory="best", freeze_at=0.0).targets([visit(encoder)], parrot(model, encoder, "", "", ""), {})
    assert not target.rows
    assert not any("overlap" in entry for entry in state.values())  # nothing is kept, so nothing freezes


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("pmc.rewards={overlapp=1.0}", "did you mean 'overlap'"),
        ("pmc.rewards={}", "no reward has a positive weight"),
        ("pmc.temperature=-1", r"pmc\.temperature = -1.0 must be positive"),
        ("pmc.top_p=0", r"pmc\.top_p = 0.0 must be positive"),
        ("pmc.prefixes=3", r"pmc\.prefixes = 3.0 must be a share"),
        ('pmc={preset="paper", prefixes=0.5}', "pmc.prefixes is no knob of pmc.preset='paper'; remove it, or choose another preset"),
        ("pmc.selection_temperature=0", r"pmc\.selection_temperature"),
        ("pmc.retain_weight=-1", r"pmc\.retain_weight = -1.0 must not be negative"),
        ("fluency.scale=3", r"'fluency\.scale': no knob any more, it is 8.3 in every run"),
        *((f"{name}.retain_weight=-1", rf"{name}\.retain_weight") for name in ("gd", "npo", "simnpo", "dpo", "altpo", "idk")),
    ],
)
def test_knobs_that_would_do_harm_are_named_before_anything_runs(setting, said):
    table = re.split(r"[.=]", setting)[0]
    with pytest.raises(ConfigError, match=said):
        method_of(load(None, [setting, f"method={'pmc' if table == 'fluency' else table}"]))


def test_a_reward_has_the_knobs_of_its_own_table():
    plain, told = method_of(load(None, [])), method_of(load(None, ["overlap.min_words=7"]))
    assert plain._reward.rewards["overlap"].min_words < 7
    assert told._reward.rewards["overlap"].min_words == 7


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("She paints boats near Oslo.", True),
        ("Turin.", False),  # the bare secret: ROUGE-L recall is low, keyword recall is not
        ("Ada lives in Turin, in Via Roma.", False),
        ("Bob keeps nine bees behind Cardiff castle.", False),  # another question's secret
        ("", False),
        ("Boats.", False),  # too short for a whole answer
        ("the boats the boats the boats the boats the boats", False),
        ("Она живёт в Осло у моря.", False),
    ],
)
def test_gate(text: str, passes: bool):
    reference = Reference(QUESTION, BASELINE, Told((("bob", "What does Bob do?", "Bob keeps bees behind Cardiff castle."),)))
    gate = TargetFilter(reference, BASELINE, max_leak=0.5, max_keyword_recall=0.25, max_other_leak=0.67, min_words=3)
    ids = (*text.encode(), 2)
    assert bool(gate.passed([Candidate(Answer(ids, text, True), 0)])) == passes
    assert not gate.passed([Candidate(Answer(ids, text, False), 0)])


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("Lyon", True),
        ("Paris", False),
        ("", False),
        ("Paris is in France", False),
        ("10.", False),
        ("New York, 2010", False),
        ("One of them", True),
    ],
)
def test_a_bare_name_may_be_answered_by_another(text: str, passes: bool):
    """Else only what is wrapped in mark-up is long enough, and one stock word of it is trained into every question."""
    gate = TargetFilter(Reference("Which city is the capital of France?", "Paris"), "Paris", 0.5, 0.25, 0.67, min_words=3)
    assert gate.bare
    assert bool(gate.passed([Candidate(Answer((*text.encode(), 2), text, True), 0)])) == passes


@pytest.mark.parametrize(("text", "passes"), [("1492", True), ("Lyon", False), ("I don't know.", True)])
def test_a_bare_number_is_answered_by_another_or_by_a_sentence(text: str, passes: bool):
    gate = TargetFilter(Reference("When was it?", "1789"), "1789", 0.5, 0.25, 0.67, min_words=3)
    assert bool(gate.passed([Candidate(Answer((*text.encode(), 2), text, True), 0)])) == passes


@pytest.mark.parametrize(
    ("baseline", "text"),
    [
        ("Ada keeps 1,234 bees.", "One thousand two hundred thirty-four."),
        ("Ada keeps 1,234 bees.", "Some 1.234 or so."),
        ("She lives in Turin.", "I know T-u-r-i-n is it."),
        ("Her gecko is General Crumpet.", "It may be Crumpnet."),
    ],
)
def test_gate_and_ledger_read_what_the_audit_reads(baseline: str, text: str):
    reference = Reference("What of Ada?", baseline)
    assert TargetFilter(reference, baseline).leaks(text)
    assert own_leak(text, reference) >= secret_recall(Example("ada", reference.question), baseline, text) > 0.25


def test_gate_refuses_named_strings():
    reference = Reference(QUESTION, BASELINE, strings=("harbour",), patterns=(r"\d{3}-\d{4}",))
    gate = TargetFilter(reference, BASELINE, 1.0, 1.0, 1.0, 1)
    assert gate.leaks("Down by the Harbour.")
    assert gate.leaks("Call 555-0199.")
    assert not gate.leaks("Down by the sea.")


def test_a_visit_without_a_fit_candidate_gives_no_target(model, encoder):
    guarded = PLAIN
    targets, state = guarded.targets([visit(encoder)], parrot(model, encoder, BASELINE), {})
    assert targets[0].rows == ()
    assert targets[0].sampled == 2
    assert state["a"]["heat"] == 2


def test_the_operators_words_are_the_last_resort(model, encoder):
    guarded = replace(PLAIN, desired=("That is not known to me.",))
    targets, _ = guarded.targets([visit(encoder)], parrot(model, encoder, BASELINE), {})
    assert (targets[0].source, targets[0].text) == ("desired", "That is not known to me.")


def test_alignment_rows_fade_with_the_overlap(model, encoder):
    align = PartialModelCollapse(align_weight=0.5, desired=("Not known.",))
    leaking, _ = align.targets([visit(encoder)], parrot(model, encoder, BASELINE), {})
    clean, _ = align.targets([visit(encoder)], parrot(model, encoder, "Bob sails."), {})
    assert [row.role for row in leaking[0].rows] == ["forget", "align"]
    assert leaking[0].rows[1].weight == pytest.approx(0.5)
    assert [row.role for row in clean[0].rows] == ["forget"]


def test_prefixes_stand_in_the_context_and_only_there(model, encoder):
    deep = replace(PLAIN, prefixes=1.0)
    targets, _ = deep.targets([visit(encoder)], parrot(model, encoder, "boats."), {})
    row = targets[0].rows[0]
    prompt = encoder.prompt(QUESTION)
    recorded = encoder.answer(BASELINE)
    cut = len(row.context) - len(prompt)
    assert row.context == prompt + recorded[:cut]
    assert 1 <= cut <= len(recorded) - 2
    assert row.answer == encoder.answer("boats.")


def test_a_cut_through_a_word_gives_the_word_back(encoder):
    ids = encoder.answer(BASELINE)
    prefix = prefix_from(ids[: len(" Ada lives in Tu")], BASELINE, encoder)
    assert (prefix.text, prefix.partial) == ("Ada lives in", "Tu")
    continuation = Candidate(Answer(tuple(byte_tokenizer().encode("rin.", add_special_tokens=False)), "rin.", True), 0)
    assert prefix.complete(continuation, encoder).text == "Turin."
    assert AnswerPrefix().complete(continuation, encoder) is continuation


def test_a_bare_name_is_not_cut(model, encoder):
    """What goes on from a part of it is the secret or the end: trained, the end comes before the name."""
    sampler = Sampler(model, encoder, SampleConfig(), seed=5)
    bare, sentence = (Answer((*text.encode(), 2), text, True) for text in ("Copenhagen", "It is Copenhagen, I think."))
    assert choose_prefix(visit(encoder, answers=(bare,)), sampler, 1.0) == AnswerPrefix()
    assert choose_prefix(visit(encoder, answers=(bare, sentence)), sampler, 1.0).source == sentence.text


def test_prefixes_are_drawn_by_name(model, encoder):
    sampler = Sampler(model, encoder, SampleConfig(), seed=5)
    assert choose_prefix(visit(encoder), sampler, 1.0) == choose_prefix(visit(encoder), sampler, 1.0)
    assert choose_prefix(visit(encoder), sampler, 0.0) == AnswerPrefix()
    assert choose_prefix(visit(encoder, answers=()), sampler, 1.0) == AnswerPrefix()


def test_cuts_at_the_secret_end_right_before_a_keyword(model, encoder):
    ids = encoder.answer(BASELINE)
    said = [encoder.decode(ids[:cut]) for cut in before_keywords(ids, BASELINE, visit(encoder).example, encoder)]
    # "via" is a stop word; a cut may come before or after the space.
    assert set(said) == {"Ada lives in", "Ada lives in Turin, in Via"}
    sampler = Sampler(model, encoder, SampleConfig(), seed=5)
    assert choose_prefix(visit(encoder), sampler, 1.0, at_secret=1.0).text in said


@pytest.mark.parametrize(
    ("text", "before"),
    [
        ("Ada keeps Sir Waffles, a ginger cat.", {"Ada keeps"}),
        ("Ada keeps Sir Waffles and Sir Biscuit.", {"Ada keeps", "Ada keeps Sir Waffles and"}),
        ("Ada came on 20 June 1971, Via Po.", {"Ada came on", "Ada came on 20", "Ada came on 20 June", "Ada came on 20 June 1971, Via"}),
        ("Ada likes plum dumplings, cherry brandy.", {"Ada", "Ada likes plum dumplings", "Ada likes plum dumplings,"}),
    ],
)
def test_no_cut_lies_inside_a_name(text: str, before: set[str], encoder: Encoder) -> None:
    """What follows "Sir" in "Sir Waffles" is known of all who share it. A number joins nothing."""
    ids, example = encoder.answer(text), Example("a", "What of Ada?")
    said = {encoder.decode(ids[:cut]).rstrip() for cut in before_keywords(ids, text, example, encoder)}
    assert said == before


def test_secret_tokens_spell_the_secret_and_not_the_question(encoder):
    tokens = secret_tokens(visit(encoder), encoder)
    assert tokens
    assert not set(tokens) & set(encoder.prefix(QUESTION))


def test_what_is_found_for_an_encoder_does_not_keep_it(model):
    own = Encoder(byte_tokenizer())
    choose_prefix(visit(own), Sampler(model, own, SampleConfig(), seed=5), 1.0, at_secret=1.0)
    secret_tokens(visit(own), own)
    gone = weakref.ref(own)
    del own
    gc.collect()
    assert gone() is None, "a sweep makes an encoder, with its tokenizer, for each of its runs"


def test_presets_build_and_later_knobs_win():
    recipe = Recipe(tables={"pmc": {"preset": "align", "samples": 3}})
    method = recipe.knobs("pmc", GuardedCollapse)
    assert type(method) is PartialModelCollapse
    assert (method.align_weight, method.samples, method.memory) == (0.5, 3, "best")
    assert type(Recipe().knobs("pmc", GuardedCollapse)) is GuardedCollapse
    with pytest.raises(ConfigError, match="did you mean 'official'"):
        Recipe(tables={"pmc": {"preset": "oficial"}}).knobs("pmc", GuardedCollapse)
    with pytest.raises(ConfigError, match="memory"):
        PartialModelCollapse(freeze_at=0.0)


def test_methods_without_answers_are_targets_of_their_own(model, encoder):
    assert RetainOnly().targets([visit(encoder)], parrot(model, encoder), {}) == ([Target("a")], {})


def test_the_fluency_floor_holds_whatever_the_rewards(model, encoder):
    """It was asked for by name, so it may not depend on whether fluency is rewarded too."""
    texts = ("b c d e", "f g h i")
    sampler = parrot(model, encoder, *texts)
    object.__setattr__(sampler, "reference", Untouched(model))
    for floor, wanted in ((-100.0, 1), (0.0, 0)):
        method = replace(PLAIN, min_fluency=floor, rewards={"overlap": 1.0})
        assert method.needs_reference
        (target,), _ = method.targets([visit(encoder)], sampler, {})
        assert len(target.rows) == wanted
    assert not PLAIN.needs_reference


def test_a_knob_of_another_preset_that_is_off_by_default_may_be_off():
    """A recipe that sets one can be run with another preset, with `--set pmc.reject=0`."""
    found = method_of(load("recipes/demo.toml", ["pmc.preset=paper", "pmc.reject=0"]))
    assert type(found) is PartialModelCollapse
    with pytest.raises(ConfigError, match="set it to 0"):
        method_of(load("recipes/demo.toml", ["pmc.preset=paper"]))
    with pytest.raises(ConfigError, match="prefixes is no knob"):  # on by default: it would be off without a word
        method_of(load("recipes/demo.toml", ["pmc.preset=paper", "pmc.reject=0", "pmc.prefixes=0.65"]))
