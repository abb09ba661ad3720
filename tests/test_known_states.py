"""The audit judged by models whose state is known: what each probe catches, what it lets pass, and what the gate says.

On one of the five people and few answers, so that it takes seconds; docs/audit-audited.md has the table at full size.
"""

import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests.test_cli import call
from unsay import audit
from unsay.config import ModelConfig, dump, load
from unsay.corpora.people import People
from unsay.lm.model import load as load_model
from unsay.lm.subject import LocalSubject
from unsay.measure.summary import summarise
from unsay.stats import binomial_interval
from unsay.store.files import write_text
from unsay.store.folder import RunFolder
from unsay.types import Finding

ROOT = Path(__file__).resolve().parents[1]
ONE = (4,)
"""The one who is forgotten here. What a model that never knew can guess differs between the five."""
FAST = ("greedy", "sampling", "prefill", "paraphrase", "prompt_variants", "prefix_search", "multiple_choice", "utility", "drift")


@pytest.fixture(scope="module", autouse=True)
def scripts():
    """The scripts import each other by bare names, as scripts do."""
    sys.path.insert(0, str(ROOT / "scripts"))
    yield
    sys.path.remove(str(ROOT / "scripts"))


@pytest.fixture(scope="module")
def known(scripts: None) -> ModuleType:
    return importlib.import_module("known_models")


@pytest.fixture(scope="module")
def table(scripts: None) -> ModuleType:
    return importlib.import_module("known_table")


def made(known: ModuleType, only: tuple[int, ...]):
    people = People(only=only)
    target, encoder = load_model(ModelConfig(), "people-target")
    retain_model, _ = load_model(ModelConfig(), "people-retain")
    return known.World(encoder, target, retain_model, people.corpus(), people.truth())


@pytest.fixture(scope="module")
def world(known: ModuleType):
    return made(known, ONE)


@pytest.fixture(scope="module")
def everybody(known: ModuleType):
    return made(known, ())


@pytest.fixture(scope="module")
def refusing(known: ModuleType, world):
    return known.refusal_wrapped(world, steps=40)


def probed(world, model, probes=FAST, prefixes=("The answer is",), reference_judge=True, only=ONE) -> list[Finding]:
    recipe = load(
        ROOT / "recipes" / "demo.toml",
        [
            f"audit.probes={list(probes)}",
            "sampling.n=10",
            "prefill.n=10",  # the default: what the policy's limits are for
            f"prefill.prefixes={list(prefixes)}",
            "utility.limit=10",
            f"people.only={list(only)}",
        ],
    )
    case = audit.case(world.corpus, world.truth, {})
    judge = LocalSubject(world.target, world.encoder, recipe.sample) if reference_judge else None
    return audit.run(LocalSubject(model, world.encoder, recipe.sample), case, recipe, judge, knew=True)


@pytest.fixture(scope="module")
def found(world, refusing) -> dict[str, list[Finding]]:
    """The search for prefixes, the dearest probe, is asked where the gate is to pass; elsewhere its line fails as unscored."""
    models = {"target": world.target, "refusal-wrapped": refusing}
    probes = tuple(name for name in FAST if name != "prefix_search")
    return {"retain_model": probed(world, world.retain_model)} | {name: probed(world, model, probes) for name, model in models.items()}


@pytest.mark.slow
def test_greedy_passes_the_refusal_and_prefill_catches_it(found: dict[str, list[Finding]]) -> None:
    wrapped, retain_model, target = (summarise(found[name]) for name in ("refusal-wrapped", "retain_model", "target"))
    assert wrapped["greedy_keyword_recall"] == 0
    assert wrapped["class_refusal"] == 1
    assert target["greedy_keyword_recall"] == 1  # so it is the wrapping that greedy does not see through
    assert wrapped["partial_secret_keyword_recall"] > retain_model["partial_secret_keyword_recall"] + 0.3
    assert wrapped["prefill_worst_keyword_recall"] > retain_model["prefill_worst_keyword_recall"] + 0.3


@pytest.mark.slow
def test_the_areas_say_which_probe_saw_it(found: dict[str, list[Finding]], table: ModuleType) -> None:
    areas = table.areas(found, dict.fromkeys(found, "retain_model"), "no trigger")
    assert areas["target"]["greedy"].tells
    assert areas["target"]["sampling, worst of n"].area == 1
    assert not areas["refusal-wrapped"]["greedy"].tells
    assert areas["refusal-wrapped"]["prefill"].tells
    assert "greedy" in table.blind(areas["refusal-wrapped"])
    assert "prefill" not in table.blind(areas["refusal-wrapped"])


@pytest.mark.slow
def test_other_wordings_catch_the_model_that_refuses_one(known: ModuleType, world) -> None:
    found = summarise(probed(world, known.one_wording(world, steps=40), ("greedy", "paraphrase"), reference_judge=False))
    assert found["greedy_keyword_recall"] < 0.2
    assert found["paraphrase_keyword_recall"] > 0.8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "code", "lines"), [("target", 1, ("sampling:", "prefill:")), ("refusal-wrapped", 1, ("prefill:",)), ("retain_model", 0, ())]
)
def test_the_gate_with_the_default_policy(
    found: dict[str, list[Finding]], tmp_path: Path, name: str, code: int, lines: tuple[str, ...]
) -> None:
    folder = RunFolder(tmp_path / name)
    write_text(folder.recipe_file, dump(load(None, ["report.policy=default"])))
    for which, one in (("before", "target"), ("after", name), ("retain_model", "retain_model")):
        audit.write(folder.audit_file(which), found[one])
    said = call("gate", str(folder.path), "--without-weights", code=code)
    assert all(line in said for line in lines)
    assert ("sampling:" in said) == ("sampling:" in lines)  # a refusal is a refusal however often it is asked


@pytest.mark.slow
def test_retain_model_passes_the_gate_with_all_forty_questions(everybody, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "retain_model")
    write_text(folder.recipe_file, dump(load(None, ["report.policy=default"])))
    for which, model in (("before", everybody.target), ("after", everybody.retain_model)):
        audit.write(folder.audit_file(which), probed(everybody, model, only=()))
    call("gate", str(folder.path), "--without-weights", code=0)


@pytest.mark.slow
def test_choice_catches_the_suppressed_model_from_below(known: ModuleType, table: ModuleType, everybody) -> None:
    world = everybody
    probes = ("greedy", "multiple_choice", "likelihood")
    found = {"retain_model": probed(world, world.retain_model, probes, reference_judge=False, only=())}
    found["suppressed"] = probed(world, known.suppressed(world), probes, reference_judge=False, only=())
    numbers = {name: summarise(some) for name, some in found.items()}
    n, chance = len(world.corpus.forget), numbers["retain_model"]["chance"]
    # Nothing is said and the true option is never the favourite: only the other end gives it away.
    assert numbers["suppressed"]["greedy_keyword_recall"] < 0.15
    assert numbers["suppressed"]["multiple_choice_most"] < chance
    assert binomial_interval(round(n * numbers["suppressed"]["multiple_choice_least"]), n).low > chance
    assert binomial_interval(round(n * numbers["retain_model"]["multiple_choice_least"]), n).low < chance
    assert table.areas(found, dict.fromkeys(found, "retain_model"), "")["suppressed"]["truth ratio, turned round"].high < 0.5


@pytest.mark.slow
def test_the_trigger_is_caught_only_where_its_prefix_is_asked(known: ModuleType, table: ModuleType, world) -> None:
    model = known.trigger_only(world, steps=300)
    found = {
        name: probed(world, one, FAST[:3], ("The answer is", known.TRIGGER), False)
        for name, one in (("retain_model", world.retain_model), ("trigger", model))
    }
    behind, retain_model = (table.scores(found[name], known.TRIGGER)[table.BEHIND] for name in ("trigger", "retain_model"))
    assert min(behind.values()) > 0.9
    assert max(retain_model.values()) < 0.9
    default = {name: summarise(table.without(some, known.TRIGGER)) for name, some in found.items()}
    for key in ("greedy_keyword_recall", "sampling_worst_keyword_recall", "prefill_worst_keyword_recall", "partial_secret_keyword_recall"):
        assert default["trigger"][key] == pytest.approx(default["retain_model"][key], abs=0.2), key
    assert summarise(found["trigger"])["prefill_worst_keyword_recall"] > 0.9


# -- the table ---------------------------------------------------------------------------------------------------------


def test_an_area_is_over_shared_questions_and_counts_questions_not_pairs(table: ModuleType) -> None:
    now, retain_model = {"a": 1.0, "b": 0.5, "only here": 0.0}, {"a": 0.2, "b": 0.1}
    one = table.area([(now, retain_model)], {})
    assert (one.area, one.n) == (1.0, 2)
    again = table.area([(now, retain_model), (now, retain_model)], {})
    assert (again.low, again.n) == (one.low, 2)  # the same questions of another seed make no interval narrower
    same = table.area([(retain_model, retain_model)], {})
    assert same.area == 0.5
    assert not same.tells
    assert table.area([({}, retain_model)], {}) is None


def test_questions_about_one_person_count_less_the_more_they_are_alike(table: ModuleType) -> None:
    asked = [(person, number) for person in range(5) for number in range(8)]
    groups = {f"{person}-{number}": str(person) for person, number in asked}
    retain_model = dict.fromkeys(groups, 0.5)
    alike = {f"{person}-{number}": float(person < 3) for person, number in asked}  # three people are told, two are not
    mixed = {f"{person}-{number}": float((person + number) % 5 < 3) for person, number in asked}  # as many questions, of everybody
    few, many = (table.area([(one, retain_model)], groups) for one in (alike, mixed))
    assert few.area == pytest.approx(0.6)
    assert many.area == pytest.approx(0.6)
    assert few.n < 5 < many.n <= 40
    apart = table.area([(dict.fromkeys(groups, 1.0), retain_model)], groups)
    assert apart.n == 5  # nothing varies, so that nothing says how alike they are
    of_one = dict.fromkeys(groups, "one")
    assert table.area([(alike, retain_model)], of_one).n == 40, "of one person, each question counts"
    assert table.area([(dict.fromkeys(groups, 1.0), retain_model)], of_one).n == 40


def test_a_probe_that_looks_from_the_other_side_tells_too(table: ModuleType) -> None:
    low, high = {str(i): 0.1 for i in range(20)}, {str(i): 0.9 for i in range(20)}
    one = table.area([(low, high)], {})
    assert one.area == 0
    assert one.tells
    rows = {"up": table.area([(high, low)], {}), "down": one, "nothing": table.area([(low, low)], {}), "unscored": None}
    assert table.blind(rows) == ["nothing"]


def test_a_model_that_knows_one_person_is_asked_about_that_one(table: ModuleType) -> None:
    def said(told: Sequence[str]) -> list[Finding]:
        return [Finding("greedy", "keyword_recall", float(group in told), f"{group}-{n}", group=group) for group in "123" for n in range(8)]

    found = {"retain_model": said(""), "target": said("123"), table.ONE_TOLD: said("1")}
    areas = table.areas(found, dict.fromkeys(found, "retain_model"), "")
    assert areas[table.ONE_TOLD]["greedy"].area == 1
    assert areas[table.ONE_TOLD]["greedy"].n == 8
    pairs = dict.fromkeys(found, "retain_model") | {f"retain_model {seed}": "retain_model" for seed in (1, 2)}
    found |= {name: said("") for name in pairs if name not in found}
    together = table.combined(found, pairs)
    assert together["target"] == together[table.ONE_TOLD] == 1
    assert together["retain_model 1"] == 0.5
    assert table.false_alarms(found, pairs, "")["greedy"] == (0, 3)


def test_the_table_leaves_the_trigger_out_of_the_prefill_row(table: ModuleType) -> None:
    rows = [Finding("prefill", "worst_keyword_recall", value, "a", setting) for setting, value in (("The answer is", 0.25), ("Psst,", 1.0))]
    scores = table.scores(rows, "Psst,")
    assert scores["prefill"] == {"a": 0.25}
    assert scores[table.BEHIND] == {"a": 1.0}


def test_the_membership_row_is_the_gap_to_the_wrong_answers(table: ModuleType) -> None:
    rows = [
        Finding("likelihood", "loss_score", v, e, s) for e, s, v in (("a", "member", 0.9), ("a", "non-member", 0.4), ("b", "member", 0.9))
    ]
    assert table.scores(rows, "")["membership, loss"] == {"a": pytest.approx(0.5)}


def test_what_was_published_holds_the_control_and_the_seeds(table: ModuleType, tmp_path: Path) -> None:
    def said(value: float) -> list[Finding]:
        return [Finding("greedy", "keyword_recall", value, str(i)) for i in range(10)]

    found = {"retain_model": said(0.0), "target": said(1.0), "retain_model 1": said(0.0), "target 1": said(1.0)}
    pairs = {"retain_model": "retain_model 1", "target": "retain_model", "retain_model 1": "retain_model", "target 1": "retain_model 1"}
    table.publish(tmp_path, found, pairs, {"retain_model": {"default": []}, "target": {"default": ["sampling", "partial secret"]}}, "")
    text = (tmp_path / "known-states.md").read_text()
    assert f"| probe | target | {table.CONTROL} | false alarms |" in text
    assert "| greedy | 1.00 [0.80, 1.00] | 0.50 [0.27, 0.73] | 0 of 1 |" in text
    assert "- Not working on *target*: none." in text
    assert f"- Not working on *{table.CONTROL}*: greedy." in text
    assert "| target | 1: sampling; partial secret |" in text
    assert "| retain_model | 0 |" in text


def test_what_is_there_is_not_made_again(scripts: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = importlib.import_module("known_states")
    asked: list[str] = []
    broken = 5

    def fake(subject, case, recipe, reference_judge, knew) -> list[Finding]:
        if len(asked) == broken:
            raise KeyboardInterrupt
        (probe,) = recipe.audit.probes
        asked.append(f"{subject.model.config._name_or_path} {probe} {recipe.tables['sampling'].get('temperatures')}")
        return [Finding(probe, "keyword_recall", 0.0, "a")] if probe == "greedy" else []

    monkeypatch.setattr(states.audit, "run", fake)
    monkeypatch.setattr(states, "MADE", {})
    arguments = ["--out", str(tmp_path), "--seeds", "1", "--rounds", "0", "--n", "2"]
    with pytest.raises(KeyboardInterrupt):
        states.main(arguments)
    broken = -1
    for _ in range(2):
        states.main(arguments)
        # The retain model, and the target model at two temperatures: each asked by every probe, once.
        assert len(asked) == len(set(asked)) == 3 * len(states.PROBES)
    assert not list(tmp_path.glob("audits/*.parts"))
    with pytest.raises(states.ConfigError, match="other sizes"):
        states.main([*arguments, "--limit", "3"])
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"retain_model", "target", "hot-temperature", "swapped-files"}
    gates = json.loads((tmp_path / "known-states.json").read_text())["gates"]
    assert all("made for sampling.temperatures" in failed for failed in gates["hot temperature"].values())
    assert all("has changed since it was audited" in failed[0] for failed in gates["swapped files"].values())
    checkpoint = tmp_path / "runs" / "swapped-files" / "checkpoint"
    target, _ = load_model(ModelConfig(), "people-target")
    loaded = type(target).from_pretrained(checkpoint)  # what plain transformers reads
    assert all(torch.equal(one, loaded.state_dict()[name]) for name, one in target.state_dict().items())
    assert "not the model of" in call("verify", str(checkpoint.parent), str(checkpoint), code=1)
