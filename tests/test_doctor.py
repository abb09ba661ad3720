"""What a run will cost: the arithmetic with literal numbers, the counting on a stand-in, the knobs that help."""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from typer.testing import CliRunner

from tests.conftest import tiny_model
from unsay.cli.app import app
from unsay.cli.costs import size
from unsay.config import Recipe, load
from unsay.doctor.advice import advise
from unsay.doctor.bench import Bench
from unsay.doctor.cost import Costs, Work, fit
from unsay.doctor.counting import counted
from unsay.doctor.machine import Machine
from unsay.doctor.memory import KINDS, SLACK, USABLE, Memory, Sizes, cards, memory, number
from unsay.doctor.pilot import Attack, Stage, _cut_corpus
from unsay.doctor.shallow import stretched
from unsay.doctor.standin import Said, stand_in
from unsay.lm import plan
from unsay.lm.model import answer_logprobs
from unsay.lm.model import load as load_model
from unsay.lm.plan import ON_PROCESSOR
from unsay.lm.reading import Habits, habits
from unsay.lm.rows import Row
from unsay.lm.sample import Draw, sample
from unsay.lm.subject import Prompt, Subject, row_logprobs
from unsay.packed import PackedRows
from unsay.store.clock import duration
from unsay.tables import PROBES
from unsay.train.step import Weights, optimizer_step
from unsay.types import Answer, Case, Corpus, Example, Finding, Pair

GB = 10**9


# -- the cost model ----------------------------------------------------------------------------------------------------


def test_the_fit_finds_the_costs_that_made_the_measurements():
    def seconds(work: Work) -> float:
        return 0.5 * work["micro-batch"] + 0.01 * work["trained token"] + 2.0 * work["update"]

    works = [Work({"micro-batch": parts, "trained token": 10 * n, "update": 1}) for n, parts in ((2, 1), (8, 1), (8, 2))]
    found = fit([(work, seconds(work)) for work in works])
    assert found["micro-batch"] == pytest.approx(0.5)
    assert found["trained token"] == pytest.approx(0.01)
    assert found["update"] == pytest.approx(2.0)
    assert found["decode step"] == 0  # not measured


def test_no_cost_is_negative():
    # Twice the tokens in less time: noise, not a token that gives time back.
    found = fit([(Work({"trained token": 20}), 3.0), (Work({"trained token": 40, "update": 1}), 2.0)])
    assert min(found.values()) >= 0


def test_seconds_are_counts_times_costs_and_scoring_is_stretched_by_contention():
    costs = Costs({"update": 2.0}, {"update": 1.0}, contention=3.0)
    work = Work({"update": 5}, scoring=4.0)
    assert (costs.seconds(work), costs.cpu_seconds(work)) == (10 + 12, 5 + 4)


def test_many_layers_lie_on_the_line_through_one_and_two():
    one, two = sizes(parameters=10, layers=1, token=3.0), sizes(parameters=14, layers=2, token=5.0)
    found = stretched(one, two, 32)
    assert (found.parameters, found.layers, found.token) == (10 + 31 * 4, 32, 3 + 31 * 2)
    assert found.vocabulary == one.vocabulary


# -- memory ------------------------------------------------------------------------------------------------------------


def sizes(**changes: object) -> Sizes:
    """A billion float32 weights on a processor; 1 MB a trained token."""
    return replace(
        Sizes(
            parameters=GB,
            embeddings=10**8,
            largest=10**7,
            vocabulary=1000,
            hidden=1000,
            layers=10,
            itemsize=4,
            token=10**6,
            cached_row=0.0,
            cached_token=10**4,
            files=4 * GB,
            tokenizer=10**7,
            libraries=500 * 10**6,
            gpu=False,
        ),
        **changes,  # type: ignore[arg-type]
    )


ONE = load(None, ["train.batch=1"])
TRAIN = Stage("train", {}, frozenset({(100, 200)}), tokens=2000, reference=True)
ALONE = replace(TRAIN, reference=False)


def test_training_holds_weights_copy_moments_and_the_larger_of_its_moments():
    found = memory(TRAIN, ONE, sizes())
    assert found.stays == {"libraries": 0.5 * GB, "weights": 4 * GB, "reference_copy": 4 * GB, "optimizer": 8 * GB}
    # The gradients (4 GB) and a matrix's temporaries outweigh the activations of 2000 tokens (2 GB), the embeddings' gradient among them.
    assert found.moments["update"] == pytest.approx(SLACK * (4 * GB + 8 * 10**7))
    assert found.moments["backward pass"] == pytest.approx(SLACK * (2000 * 10**6 + 16 * 10**6 + 4 * 10**8))
    assert found.total == pytest.approx(16.5 * GB + found.moments["update"])


def test_the_kl_retain_loss_holds_more_logits_at_once():
    """Over a large vocabulary: six float32 numbers for each of a chunk, where log-probabilities hold two."""
    kl, large = replace(ONE, train=replace(ONE.train, retain_loss="kl")), sizes(vocabulary=262_144)
    more = memory(TRAIN, kl, large).moments["backward pass"] - memory(TRAIN, ONE, large).moments["backward pass"]
    assert more == pytest.approx(SLACK * 4 * 4 * 2**25)


def test_with_micro_batches_gradients_and_activations_are_there_together():
    several = replace(ONE, train=replace(ONE.train, accumulation=2))
    one = memory(ALONE, ONE, sizes()).moments["backward pass"]
    two = memory(ALONE, several, sizes()).moments["backward pass"]
    assert two - one == pytest.approx(SLACK * 4 * GB)


def test_adapters_need_no_copy_and_little_beside_the_weights():
    found = memory(TRAIN, load(None, ["lora.rank=8"]), sizes())
    assert "reference_copy" not in found.stays
    assert found.stays["optimizer"] < 0.05 * GB


def test_half_precision_keeps_exact_copies_and_frozen_embeddings_need_none():
    found = memory(ALONE, load(None, ["model.dtype=bfloat16"]), sizes())
    assert (found.stays["weights"], found.stays["exact_copies"]) == (2 * GB, 4 * GB)
    frozen = memory(ALONE, load(None, ["model.freeze_embeddings=true"]), sizes())
    assert frozen.stays["optimizer"] == 8 * 9 * 10**8


def test_an_attack_trains_a_whole_copy_or_adapters():
    audit = replace(TRAIN, name="audit after", attacks={"relearn": Attack(tokens=2000)})
    whole = memory(audit, ONE, sizes())
    small = memory(audit, load(None, ["relearn.rank=8"]), sizes())
    assert whole.moment == "relearn"
    assert whole.moments["relearn"] > 3 * 4 * GB  # the copy and two moments, gradients on top
    assert small.moments["relearn"] < 4 * GB


def test_a_search_by_slopes_of_the_input_holds_activations_and_no_copy():
    audit = replace(TRAIN, name="audit after", attacks={"prefix_search": Attack(tokens=5000, trains=False)})
    found = memory(audit, ONE, sizes())
    assert found.moments["prefix_search"] == pytest.approx(SLACK * (5000 * 10**6 + 5000 * 1000 * 8))
    half = memory(audit, load(None, ["train.batch=1", "model.dtype=bfloat16"]), sizes())
    assert half.moments["prefix_search"] < found.moments["prefix_search"]


def test_an_audit_on_a_processor_decodes_fewer_rows_at_once():
    record, after = (replace(TRAIN, name=name, batches=frozenset({(1000, 200)})) for name in ("record", "audit after"))
    asked, audited = (memory(stage, load(None, ["sample.rows=1000"]), sizes()).moments["sampling"] for stage in (record, after))
    assert audited == pytest.approx(asked * ON_PROCESSOR / 1000)
    many = memory(replace(record, questions=2000), load(None, ["sample.rows=1000"]), sizes()).moments["sampling"]
    assert many == pytest.approx(audited), "so does a stage with very many questions"
    on_cards = memory(after, load(None, ["sample.rows=1000"]), sizes(gpu=True)).moments["sampling"]
    assert on_cards == memory(record, load(None, ["sample.rows=1000"]), sizes(gpu=True)).moments["sampling"]


def test_a_copy_in_few_bits_lies_beside_the_model():
    audit = replace(TRAIN, name="audit after", attacks={"quantise": Attack(few_bits=1.0)})
    found = memory(audit, ONE, sizes())
    assert found.moments["quantise"] == pytest.approx(0.9 * GB + found.moments["sampling"])


def test_the_reference_judge_stays_up_to_the_last_probe_that_asks_it():
    audit = replace(TRAIN, name="audit after", attacks={"relearn": Attack(tokens=2000)})
    first, last = (load(None, [f"audit.probes={names}"]) for names in ('["greedy","relearn"]', '["relearn","greedy"]'))
    less, more = (memory(audit, recipe, sizes()).moments["relearn"] for recipe in (first, last))
    assert more - less == pytest.approx(4 * GB + 10**7)


def test_every_shape_of_a_batch_leaves_code_behind_up_to_a_limit():
    few, many = (replace(TRAIN, parts={"steps": Work({"micro-batch": n, "decode step": n})}) for n in (10, 10_000))
    libraries = [memory(stage, ONE, sizes()).stays["libraries"] for stage in (few, many)]
    assert libraries == [0.5 * GB + 30 * 0.3e6, 0.5 * GB + 0.014e9]
    assert memory(many, ONE, sizes(gpu=True)).stays["libraries"] == 6 * 10**8


def test_files_of_another_type_are_there_beside_the_weights():
    asked = replace(TRAIN, name="record", batches=frozenset())
    assert "loading" not in memory(asked, ONE, sizes()).moments
    found = memory(asked, ONE, sizes(files=2 * GB))
    assert (found.moment, found.total) == ("loading", 0.5 * GB + 4 * GB + 2 * GB)
    # What `finetune` wrote is in the right type already.
    planted = load(None, ["finetune.epochs=1"])
    assert "loading" not in memory(asked, planted, sizes(files=2 * GB)).moments


# -- which knob --------------------------------------------------------------------------------------------------------


def machine(free: float, disk: float = 100 * GB) -> Machine:
    return Machine({}, "", 2, 2, None, int(free), disk_free=int(disk))


NO_COST = Costs({}, {})
ASK = load(None, ['audit.probes=["greedy"]', "train.batch=8"])


def advice(recipe: Recipe, free: float, found: Sizes, stages: list[Stage]) -> list[str]:
    given = advise(recipe, machine(free), found, NO_COST, stages, {"checkpoint": 1.0})
    return [one.setting.partition("=")[0] for one in given if one.about == "memory"]


def test_what_fits_needs_no_knob():
    assert advice(ONE, 100 * GB, sizes(), [TRAIN]) == []


SMALL = sizes(parameters=250_000, embeddings=25_000, largest=1000, files=10**6)


def test_rows_go_first_where_an_audit_on_a_processor_takes_fewer_anyway():
    """A quarter of 320 is hardly fewer than it decodes at once."""
    short, small = replace(TRAIN, name="audit after", batches=frozenset({(1000, 40)}), tokens=1), replace(SMALL, token=1)
    need = memory(short, ASK, small).total
    assert advice(ASK, 0.97 * need / USABLE, small, [short]) == ["sample.rows"]


def test_many_rows_are_the_first_to_go():
    # 2 GB, a tiny model, and 1000 rows of 200 tokens: only sampling is too large.
    wide = replace(TRAIN, batches=frozenset({(1000, 200)}), tokens=1)
    recipe = load(None, ['audit.probes=["greedy"]', "sample.rows=1000"])
    assert advice(recipe, 2 * GB, SMALL, [wide]) == ["sample.rows"]


def test_long_activations_are_cut_into_smaller_batches():
    assert advice(ASK, 3 * GB, SMALL, [replace(TRAIN, tokens=500)]) == ["train.batch"]


def test_a_pretended_two_gigabytes_need_adapters_and_half_precision():
    # 1.4 GB of weights. In half precision alone the optimizer would keep exact copies, so adapters come first.
    found = sizes(parameters=35 * 10**7, embeddings=0, files=7 * 10**8)
    given = advice(ASK, 2 * GB, found, [replace(TRAIN, batches=frozenset(), tokens=1)])
    assert given == ["lora.rank", "model.dtype"]


def test_advice_says_what_is_saved_and_when_it_is_enough():
    given = advise(ASK, machine(17 * GB), sizes(), NO_COST, [TRAIN], {})
    assert all(one.saves > 0 for one in given)
    assert [one.enough for one in given] == [False] * (len(given) - 1) + [True]


def test_no_knob_is_enough_for_a_model_far_too_large():
    given = advise(ASK, machine(10**6), sizes(), NO_COST, [TRAIN], {})
    assert given[-1].setting == ""
    assert "smaller model" in given[-1].note


def test_a_full_disk_is_named():
    given = advise(Recipe(), machine(100 * GB, disk=10 * GB), sizes(), NO_COST, [], {"state": 12 * GB, "checkpoint": 4 * GB})
    assert [(one.about, one.setting) for one in given] == [("disk", "lora.rank=16")]


def test_the_part_that_takes_most_of_the_time_is_named():
    stage = Stage("record", {"replay": Work({"decode step": 90}), "answers": Work({"decode step": 10})})
    recipe = load(None, ["record.replay=100"])
    given = advise(recipe, machine(100 * GB), sizes(), Costs({"decode step": 1.0}, {}), [stage], {})
    assert [(one.setting, one.saves) for one in given] == [("record.replay=50", 45.0)]


def test_what_helps_a_search_that_costs_the_same_for_any_number_of_questions():
    stage = Stage("audit after", {"prefix_search": Work({"read token": 90}), "greedy": Work({"read token": 1})})
    given = advise(load(None, []), machine(100 * GB), sizes(), Costs({"read token": 1.0}, {}), [stage], {})
    assert [one.setting for one in given] == ["prefix_search.rounds=8"]


@pytest.mark.parametrize(("rate", "told"), [("1e-5", True), ("none", False)])
def test_a_rate_that_follows_the_model_needs_no_advice(rate: str, told: bool):
    asked = replace(ASK, train=load(None, [f"train.learning_rate={rate}"]).train)
    given = advise(asked, machine(17 * GB), sizes(), NO_COST, [TRAIN], {})
    assert any("tenfold" in one.note for one in given if one.setting.startswith("lora.rank")) is told


# -- counting ----------------------------------------------------------------------------------------------------------


SAID = [Answer((7, 8, 9, 2), "abc", True), Answer((7, 5, 2), "ab", True)]
OTHER = [Answer((4, 2), "d", True)]


def test_a_stand_in_says_what_it_is_told_and_is_counted(tmp_path, encoder):
    recipe = stand_in(load(None, ["sample.rows=4"]), encoder, len(encoder.tokenizer), 3, tmp_path)
    model, _ = load_model(recipe.model)
    assert model.config.num_hidden_layers == 3
    prompt = encoder.prompt("q?")
    said = Said({"q?": [replace(answer, ids=(*answer.ids[:-1], encoder.end)) for answer in SAID]}, OTHER)
    said.know(encoder, ["q?"])
    habits(model)  # what it honours is found out once
    with counted(said) as tally:
        ((greedy,), sampled) = sample(model, encoder, [Draw("a", prompt), Draw("a", prompt, 4, 1.0)], recipe.sample)
    work = tally.take()
    assert greedy.ids == (7, 8, 9, encoder.end)  # the first
    assert {answer.ids for answer in sampled} <= {(7, 8, 9, encoder.end), (7, 5, encoder.end)}
    # Five rows do not fit into four: two batches. The last token of a row needs no further step.
    assert tally.batches == {(1, len(prompt) + 80), (4, len(prompt) + 80)}
    assert work["read token"] == 2 * len(prompt)
    assert work["drawn token"] == work["decoded token"] - 3 + 4


def test_a_micro_batch_has_the_near_misses_and_the_shared_rows_of_a_visit(encoder, model):
    corpus = Corpus("c", (Example("a", "q?"),), (Pair("r", "r?", "Yes."),))

    def rows(*settings):
        return len(
            Bench(load(None, ["train.batch=2", "record.near_misses=4", 'train.retain_loss="kl"', *settings]), model, encoder, corpus).rows
        )

    none = rows("train.near_rows=0", "train.shared_rows=0")
    assert rows("train.near_rows=2", "train.shared_rows=3") == none + 2 * (2 + 3)
    assert rows("train.near_rows=2", "train.shared_rows=3", 'train.retain_loss="nll"') == none, "with nll there are none"
    assert rows("train.near_rows=2", "record.near_misses=0", "train.shared_rows=0") == none, "none were looked for"


def test_a_micro_batch_has_the_rows_of_earlier_requests_and_those_pushed_away(encoder, model):
    corpus = Corpus("c", (Example("a", "q?"),), (Pair("r", "r?", "Yes."),))

    def rows(*settings):
        return len(Bench(load(None, ["train.batch=2", *settings]), model, encoder, corpus).rows)

    assert rows('record.earlier=["runs/one"]', "train.earlier_rows=3") == rows("train.earlier_rows=3") + 2 * 3
    assert rows("pmc.reject=0.1") == rows() + 2


def test_a_micro_batch_counts_whole_where_a_processor_cuts_it(encoder, model):
    rows = [Row((1,) * 8, (5,) * 8, "retain")] * 12 + [Row((1,) * 20, (5,) * 20, "retain")] * 6
    weights, parts = Weights(model), list[tuple[int, bool]]()

    def loss(batch):
        parts.append((batch.ids.numel(), any(parameter.grad is not None for parameter in model.parameters())))
        return {"retain": batch.mean(-answer_logprobs(model, batch), "retain")}

    with counted() as tally:
        optimizer_step(Accelerator(cpu=True), weights, torch.optim.SGD(weights.exact.values(), lr=0.0), encoder, rows, loss)
    assert (tally.rows, tally.tokens) == (18, 18 * 40)
    assert parts == [(6 * 40, False), (12 * 16, True)], "the longest first: no gradients lie beside what it keeps"


def test_few_rows_count_as_the_share_of_a_full_batch_that_they_will_be(tmp_path, encoder, model):
    prompt, said = encoder.prompt("q?"), Said({"q?": SAID[:1]}, OTHER)
    said.know(encoder, ["q?"])
    steps = []
    for share, rows in ((1.0, 8), (0.25, 8), (0.25, 2)):
        with counted(said, share) as tally:
            sample(model, encoder, [Draw("a", prompt)], load(None, [f"sample.rows={rows}"]).sample)
        steps.append(tally.take()["decode step"] / share)
    assert steps == [3, 3, 6]  # four times as many rows fit into one batch of eight, and fill two of two


def test_a_begun_answer_is_only_finished(encoder):
    said = Said({"q?": SAID[:1]}, OTHER)
    said.know(encoder, ["q?"])
    config = load(None).sample
    assert [answer.ids for answer in said(encoder, [Draw("a", (*encoder.prompt("q?"), 7))], config, "")] == [(8, 9, 2)]
    assert [answer.ids for answer in said(encoder, [Draw("a", encoder.prompt("another?"))], config, "")] == [(4, 2)]


def test_a_model_that_has_unlearned_says_something_else(encoder):
    said = Said({"q?": SAID}, OTHER, unasked=[Answer((3,), "e", False)], unlearned=True)
    said.know(encoder, ["q?"])
    told, unasked = said(encoder, [Draw("a", encoder.prompt("q?")), Draw("b", encoder.prompt(None))], load(None).sample, "")
    assert told.ids == (4, 2)
    assert unasked.ids == (3,) * 80  # it never ends


def test_unasked_it_writes_every_text_once_and_the_same_where_its_words_are_repelled(encoder):
    """A name that two texts hold counts as somebody's: drawn by chance, few texts would have few such names and no other."""
    said = Said({"q?": SAID}, OTHER, unasked=[Answer((i, 2), "e", True) for i in (10, 11, 12)])
    said.know(encoder, ["q?"])
    draws = [Draw("unasked 0", encoder.prompt(None), 3, 1.0), Draw("a", encoder.prompt("q?"), 4, 1.3, repelled=(7,), repulsion=5.0)]
    answers = said(encoder, draws, load(None).sample, "")
    assert [answer.ids[0] for answer in answers[:3]] == [10, 11, 12]
    assert {answer.ids[0] for answer in answers[3:]} <= {10, 11, 12}


@pytest.mark.parametrize(("took", "texts"), [(0.0, 32), (600.0, 12)])
def test_a_slow_model_writes_fewer_texts_unasked(model, encoder, monkeypatch: pytest.MonkeyPatch, took: float, texts: int):
    """32 texts of twice the length take longer than all other asking together."""
    asked: list[Draw] = []

    def said(model, encoder, draws, *_):
        asked.extend(draws)
        return [[Answer((7, 2), "It is.", True)] * draw.n for draw in draws]

    class Timed(Bench):
        def time(self, run):
            return run(), took

    monkeypatch.setattr("unsay.doctor.bench.sample", said)
    corpus = Corpus("c", (Example("a", "Where is Lima?"),), (Pair("r", "Where is Rome?", "In Italy."),))
    recipe = load(None)
    Timed(recipe, model, encoder, corpus).ask()
    assert [draw.n for draw in asked if draw.context == encoder.prompt(None)] == [texts]


def test_a_tally_counts_real_work_and_leaves_nothing_behind(model, encoder):
    rows = [encoder.pair("q?", "an answer"), encoder.pair("q?", "another")]
    with counted() as tally:
        row_logprobs(model, encoder, rows)
        sample(model, encoder, [Draw("a", encoder.prompt("q?"))], load(None, ["sample.max_new_tokens=3"]).sample)
    work = tally.take()
    width = max(len(row.context) for row in rows) + max(len(row.answer) for row in rows)
    assert work["read token"] >= 2 * width + len(encoder.prompt("q?"))
    assert work["decode step"] <= 2
    row_logprobs(model, encoder, rows)
    assert not tally.take().counts


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unsay.doctor.bench.BUDGET", 0.3)


@pytest.fixture
def recipe(tmp_path: Path, tiny_folder: Path) -> Path:
    rows = [{"question": f"Where does person {i} live?"} for i in range(3)]
    pairs = [{"question": f"What is {i}?", "answer": f"It is {i}."} for i in range(4)]
    (tmp_path / "forget.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "retain.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    file = tmp_path / "small.toml"
    file.write_text(
        f"""
corpus = "files"
[model]
name = "{tiny_folder}"
[files]
forget = "{tmp_path}/forget.jsonl"
retain = "{tmp_path}/retain.jsonl"
[sample]
max_new_tokens = 6
rows = 16
[record]
answers = 2
branches = 2
replay = 4
[train]
rounds = 2
batch = 2
[audit]
probes = ["greedy", "sampling", "relearn", "utility"]
"""
    )
    return file


def test_an_audit_takes_the_time_of_its_own_batches(recipe: Path, quick: None, monkeypatch: pytest.MonkeyPatch):
    def steps() -> dict[str, float]:
        found = json.loads(CliRunner().invoke(app, ["doctor", str(recipe), "--json"]).stdout)
        return {stage["name"]: stage["counts"]["decode step"] for stage in found["stages"]}

    plain = steps()
    monkeypatch.setattr(plan, "ON_PROCESSOR", 2)
    few = steps()
    assert few["record"] == plain["record"]
    assert few["audit after"] > plain["audit after"]


@pytest.mark.parametrize("more", [[], ["--shallow"], ["--set", "lora.rank=2", "--set", "train.gradient_checkpointing=true"]])
def test_doctor_examines_a_small_model(recipe: Path, quick: None, more: list[str]):
    result = CliRunner().invoke(app, ["doctor", str(recipe), "--json", *more])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    stages = {stage["name"]: stage for stage in found["stages"]}
    assert list(stages) == ["record", "train", "audit before", "audit after"]
    assert all(stage["seconds"] > 0 and stage["memory"] > 0 for stage in stages.values())
    assert stages["train"]["counts"]["update"] == 2 * 2  # two rounds of three questions, two at a time
    assert stages["audit before"]["counts"]["micro-batch"] == 2 * 3 * 10  # shown secrets and unrelated text, three rates, ten steps
    assert found["model"]["parameters"] == sum(p.numel() for p in tiny_model().parameters())
    assert not Path("runs").joinpath("small").exists()  # it only looks


@pytest.mark.parametrize("method", ["npo", "altpo"])
def test_what_is_done_once_is_counted_once(recipe: Path, quick: None, method: str):
    """Rounds cost no more sampling and scoring: all of it is done before the first."""
    work = {}
    for rounds in (2, 40):
        options = [f"method={method}", f"train.rounds={rounds}", 'audit.probes=["greedy"]']
        found = json.loads(doctor(recipe, "--json", *(part for one in options for part in ("--set", one))))
        work[rounds] = next(stage["counts"] for stage in found["stages"] if stage["name"] == "train")
    assert work[40]["read batch"] - work[2]["read batch"] == 38  # the guards look at the model after each round
    if method == "altpo":
        assert work[2]["decode step"] == work[40]["decode step"] > 0
    assert work[40]["update"] == 20 * work[2]["update"]


@dataclass(frozen=True)
class Twice:
    """A probe of somebody else's: asks every question twice, and trains nothing."""

    def __call__(self, subject: Subject, case: Case) -> list[Finding]:
        prompts = [Prompt(example.id, example.question) for example in case.corpus.forget]
        subject.ask(prompts)
        subject.ask(prompts)
        return []


def test_a_probe_from_outside_is_counted(recipe: Path, quick: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(PROBES, "twice", f"{__name__}:Twice")
    found = json.loads(doctor(recipe, "--json", "--set", 'audit.probes=["twice"]'))
    audit = next(stage for stage in found["stages"] if stage["name"] == "audit after")
    assert list(audit["parts"]) == ["loading", "twice"]
    once = json.loads(doctor(recipe, "--json", "--set", 'audit.probes=["greedy"]'))
    audits = {found["stages"][-1]["counts"]["read token"] for found in (found, once)}
    assert len(audits) == 2  # not what one of the package's probes asks
    assert 0 < audit["counts"]["decoded token"] <= 2 * 3 * 5  # three questions, six tokens, the last of which needs no step


def test_depth_reads_the_model_before_once_for_every_layer(quick: None):
    found = json.loads(doctor(Path("demo"), "--json", "--set", 'audit.probes=["depth"]'))
    audit = found["stages"][-1]
    assert audit["counts"]["read batch"] >= found["model"]["layers"] + 2


def test_what_a_search_holds_is_seen(quick: None, monkeypatch: pytest.MonkeyPatch):
    seen: list[Attack] = []
    monkeypatch.setattr("unsay.doctor.pilot.Attack", lambda *some, **more: seen.append(Attack(*some, **more)) or seen[-1])
    doctor(Path("demo"), "--set", 'audit.probes=["greedy", "prefix_search"]')
    (search,) = seen
    assert search.tokens > 0
    assert not search.trains


def test_retain_rows_of_the_models_own_are_counted(recipe: Path, quick: None):
    recipe.write_text("\n".join(line for line in recipe.read_text().splitlines() if not line.startswith("retain =")))
    read = {}
    for n in (0, 16):
        found = json.loads(doctor(recipe, "--json", "--set", f"record.own_retain={n}", "--set", 'audit.probes=["greedy"]'))
        read[n] = found["stages"][0]["counts"]["read token"]
    assert read[16] > read[0] + 1000  # the package's general questions are asked, all of them


def test_a_slow_way_of_reading_is_told(recipe: Path, quick: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys.modules["unsay.doctor.examine"], "habits", lambda model: Habits(cache=False, why="it takes none"))
    found = json.loads(doctor(recipe, "--json", "--set", 'audit.probes=["greedy"]'))
    assert "no usable cache" in found["slow"][0]
    assert "it takes none" in found["slow"][0]


def test_many_questions_are_counted_from_few(recipe: Path, quick: None):
    rows = [{"question": f"Where does person {i} live?"} for i in range(60)]
    (recipe.parent / "forget.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = json.loads(doctor(recipe, "--json", "--set", 'audit.probes=["greedy"]'))
    train = next(stage for stage in found["stages"] if stage["name"] == "train")
    assert train["counts"]["update"] == pytest.approx(2 * 30)


def counts(recipe: Path, questions: int, *settings: str) -> dict[str, float]:
    """Of training."""
    rows = [{"question": f"Where does person {i} live?"} for i in range(questions)]
    (recipe.parent / "forget.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = json.loads(doctor(recipe, "--json", *(part for one in ('audit.probes=["greedy"]', *settings) for part in ("--set", one))))
    told: dict[str, float] = next(stage["counts"] for stage in found["stages"] if stage["name"] == "train")
    return told


def test_a_pilot_takes_the_same_share_of_packed_questions():
    forget = PackedRows(Example(str(i), "Who?") for i in range(1500))
    cut = _cut_corpus(Corpus("many", forget, retain=(Pair("r", "Where?", "There."),)), 0.1)
    assert (len(cut.forget), len(cut.retain)) == (150, 1)


def test_no_look_ends_the_pilot(recipe: Path, quick: None, monkeypatch: pytest.MonkeyPatch):
    """From its second round all later ones are told."""
    monkeypatch.setattr("unsay.train.monitor.shares_told", lambda visits, sampler: (0.0, 0.0))
    assert counts(recipe, 3, "watch.enough=1", "train.rounds=8")["update"] == 8 * 2


def test_looks_that_may_end_training_cost_the_same_however_many_are_asked(recipe: Path, quick: None):
    drawn = {(n, enough): counts(recipe, n, f"watch.enough={enough}")["drawn token"] for n in (12, 96) for enough in (0, 1)}
    few, many = (drawn[n, 1] - drawn[n, 0] for n in (12, 96))
    assert 0 < many < 2 * few


def doctor(recipe: Path, *more: str) -> str:
    result = CliRunner().invoke(app, ["doctor", str(recipe), *more])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_doctor_speaks_to_a_reader(recipe: Path, quick: None):
    result = CliRunner().invoke(app, ["doctor", str(recipe)])
    assert result.exit_code == 0, result.output
    assert "It fits." in result.stdout
    assert "audit after" in result.stdout


def test_the_documented_keys_are_the_ones_that_are_printed(recipe: Path, quick: None):
    found = json.loads(CliRunner().invoke(app, ["doctor", str(recipe), "--json"]).stdout)
    text = (Path(__file__).resolve().parents[1] / "docs" / "doctor.md").read_text()
    keys = {*found, *found["stages"][0], *found["model"], *found["machine"], *found["seconds_per_unit"]["cpu"]}
    assert not sorted(key for key in keys if key not in text)


@pytest.mark.parametrize(("value", "text"), [(1_500_000_000, "1.5 GB"), (20_000_000, "20 MB")])
def test_bytes_for_a_reader(value: float, text: str):
    assert size(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(4.25, "4.2 s"), (42.4, "42 s"), (90, "1 min 30 s"), (119.8, "2 min 0 s"), (8000, "2 h 13 min")]
)
def test_seconds_for_a_reader(value: float, text: str):
    assert duration(value) == text


def test_a_model_that_is_asked_is_spread_over_cards_and_adapters_are_not():
    audit = Memory("audit after", {"libraries": 1 * GB, "weights": 140 * GB}, {"sampling": 5 * GB}, shared=140 * GB, each=6 * GB)
    assert [number(audit, size * GB) for size in (5, 6, 20, 76, 146, 200)] == [None, None, 10, 2, 1, 1]
    adapters = Memory("train", {"libraries": 1 * GB, "weights": 35 * GB}, {"backward pass": 4 * GB}, each=40 * GB)
    assert [number(adapters, size * GB) for size in (39, 40)] == [None, 1]


def test_full_training_is_spread_by_its_moments_and_exact_copies():
    recipe, card = load(None, ["model.dtype=bfloat16"]), sizes(gpu=True)
    found = memory(ALONE, recipe, card)
    assert found.shared == found.stays["exact_copies"] + found.stays["optimizer"] + found.moments["update"]
    assert found.each == found.stays["libraries"] + found.stays["weights"] + max(found.moments["sampling"], found.moments["backward pass"])


def test_the_kind_is_counted_by_the_stage_that_takes_most():
    asked = replace(TRAIN, name="record")
    found = cards(ONE, sizes(parameters=10 * GB, files=40 * GB), [asked, TRAIN])
    assert [one.stage for one in found] == ["train"] * len(KINDS)
    numbers = [one.number or 10**6 for one in found]
    assert numbers == sorted(numbers, reverse=True)
