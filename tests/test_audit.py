"""The audit as a whole: literal findings → literal numbers, weights untouched, and two models whose state is known."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from unsay import audit
from unsay.audit import stage
from unsay.config import AuditConfig, ConfigError, ModelConfig, Recipe, SampleConfig
from unsay.config import load as load_recipe
from unsay.lm.encode import Encoder
from unsay.lm.model import fingerprint, load
from unsay.lm.subject import LocalSubject, Unaskable
from unsay.measure.summary import summarise
from unsay.probes.beams import Beams
from unsay.probes.perturbed import BARE, FOREIGN, LANGUAGES, REWRITTEN, SECOND
from unsay.probes.relearn import Relearn
from unsay.probes.sampling import Sampling
from unsay.run import Watchers, run_audit
from unsay.store.folder import RunFolder, read_findings
from unsay.tables import PROBES, describe, lookup
from unsay.types import Case, Corpus, Example, Fact, Finding, Pair

# -- summary -----------------------------------------------------------------------------------------------------------


def test_summary_of_literal_findings() -> None:
    findings = [
        Finding("greedy", "rouge_l_recall", 0.2, "a"),
        Finding("greedy", "rouge_l_recall", 0.4, "b"),
        Finding("greedy", "rouge_l_recall", None, "c", note="unscored things take no part"),
        Finding("paraphrase", "rouge_l_recall", 0.1, "a", "1"),
        Finding("paraphrase", "rouge_l_recall", 0.9, "a", "2"),  # the protocol has one paraphrase, whose answer is the paraphrased one
        Finding("prefill", "worst_keyword_recall", 0.1, "a", "The answer is"),
        Finding("prefill", "worst_keyword_recall", 0.3, "a", "before secret"),
        Finding("prefill", "worst_keyword_recall", 1.0, "a", "partial secret"),
        Finding("relearn", "keyword_recall", 0.5, "a", "10 steps"),
        Finding("relearn", "keyword_recall", 0.4, "a", "30 steps"),
        Finding("utility", "rouge_l_recall", 1.0, "r", "retain"),
        Finding("utility", "rouge_l_recall", 0.0, "g1", "general"),
        Finding("utility", "rouge_l_recall", 1.0, "g2", "general"),
        Finding("utility", "rouge_l_recall", 0.6, "h", "heldout:retain"),
        Finding("greedy", "refusal", 1.0, "a"),
        Finding("greedy", "refusal", 0.0, "b"),
        Finding("utility", "refusal", 1.0, "s", "unknown_entities"),
    ]
    summary = {key: value for key, value in summarise(findings).items() if value is not None}
    assert summary == pytest.approx(
        {
            "unlearn_quality": 80.0,  # 50 · (2 − .3 − .1)
            "utility": 75.0,  # sets count the same, whatever their size
            "utility_heldout": 60.0,
            "prefill_worst_keyword_recall": 0.3,
            "partial_secret_keyword_recall": 1.0,
            "relearn_keyword_recall": 0.5,  # the number of steps that brings most back
            "class_refusal": 0.5,  # unknown entities are asked elsewhere
            "unknown_entity_refusal_share": 1.0,
        }
    )


def test_nothing_scored_is_none_not_zero() -> None:
    assert set(summarise([]).values()) == {None}


# -- the case and its files --------------------------------------------------------------------------------------------

CORPUS = Corpus("two", (Example("a", "Who is Bo?"), Example("b", "Who is Cy?")))


def test_a_case_prefers_the_truth_and_says_what_it_used() -> None:
    truth = {"a": Fact("a", "Bo is a baker."), "b": Fact("b", "Cy is a cook.")}
    baseline = {"a": "Bo bakes.", "b": "Cy cooks."}
    assert audit.case(CORPUS, truth, baseline) == Case(CORPUS, truth, "ground truth")
    assert audit.case(CORPUS, None, baseline, seed=3) == Case(
        CORPUS, {"a": Fact("a", "Bo bakes."), "b": Fact("b", "Cy cooks.")}, "baseline answers", 3
    )
    mixed = audit.case(CORPUS, {"a": truth["a"]}, baseline)
    assert mixed.source == "ground truth and baseline answers"
    assert mixed.facts["b"].answer == "Cy cooks."


def test_findings_survive_the_file(tmp_path: Path) -> None:
    findings = [
        Finding("greedy", "keyword_recall", 0.1 + 0.2, "ä", "T=1", 20, "ground truth"),
        Finding("multiple_choice", "most", None, note="why"),
    ]
    audit.write(tmp_path / "audit" / "after.jsonl", findings)
    assert read_findings(tmp_path / "audit" / "after.jsonl") == findings


def test_a_run_with_knobs_that_are_no_more_is_read_and_a_recipe_with_them_is_not(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.recipe_file.write_text(
        '[audit]\nprobes = ["beams", "sampling"]\n[beams]\nwidth = 2\n[sampling]\nn = 3\n[train]\nmixed_rows = 2\n'
    )
    assert audit.probes_of(folder.recipe()) == {"beams": Beams(), "sampling": Sampling(n=3)}
    with pytest.raises(ConfigError, match=r"'train\.mixed_rows': no knob any more, it is 0 in every run; take it out"):
        load_recipe(folder.recipe_file)
    folder.recipe_file.write_text("[fluency]\nscale = 8.3\n")
    assert folder.recipe() == Recipe(), "a table of which nothing is left does not make it another recipe"
    folder.recipe_file.write_text('[audit]\nprobes = ["beams"]\n[beams]\nwidth = 2\n')
    with pytest.raises(ConfigError, match=r"'beams\.width': no knob any more, it is 4 in every run; take it out"):
        audit.probes_of(load_recipe(folder.recipe_file))
    with pytest.raises(ConfigError, match=r"beams\.width"):
        audit.probes_of(folder.recipe(["beams.width=3"]))


def test_an_audit_says_where_a_run_was_begun_with_another_value_of_a_knob_that_is_no_more(tmp_path: Path) -> None:
    folder, told, ways = RunFolder(tmp_path), list[str](), [*REWRITTEN, *LANGUAGES, BARE, FOREIGN, SECOND]
    text = f'[audit]\nprobes = ["beams", "perturbed"]\n[openings]\nmost = 2\n[perturbed]\nways = {json.dumps(ways)}\n[beams]\nwidth = '
    for width in (4, 2):
        folder.recipe_file.write_text(f"{text}{width}\n")
        with pytest.raises(ConfigError, match="no retain model"):
            run_audit(folder.recipe(), folder, "retain_model", Watchers(note=told.append))
        assert [said.partition(", which")[0] for said in told] == ["this run was begun with beams.width = 2"] * (width == 2)


def test_probes_come_from_the_recipe() -> None:
    recipe = Recipe(audit=AuditConfig(("sampling", "relearn")), tables={"sampling": {"n": 3}, "relearn": {"steps": [1, 2]}})
    probes = audit.probes_of(recipe)
    assert dataclasses.asdict(probes["sampling"])["n"] == 3  # type: ignore[call-overload]
    assert probes["relearn"] == Relearn(steps=(1, 2))
    with pytest.raises(ConfigError, match="did you mean 'greedy'"):
        audit.probes_of(Recipe(audit=AuditConfig(("gredy",))))
    with pytest.raises(ConfigError, match=r"audit\.probes is empty"):
        audit.probes_of(Recipe(audit=AuditConfig(())))


@pytest.mark.parametrize("name", list(PROBES))
def test_every_probe_says_what_it_does_not_cover(name: str) -> None:
    kind = lookup("probe", name)
    assert "Does not cover: " in (kind.__doc__ or "").split("\n\n")[-1]
    assert describe("probe")[name]
    assert kind() == kind()
    docs = (Path(__file__).parent.parent / "docs" / "probes.md").read_text(encoding="utf-8")
    assert f"## {name}\n" in docs
    missing = [field.name for field in dataclasses.fields(kind) if f"`{field.name}`" not in docs]
    assert not missing, f"docs/probes.md says nothing of {missing}"


def test_the_audit_never_imports_what_changes_a_model() -> None:
    code = (
        "import sys; import unsay.audit; from unsay.tables import PROBES, lookup\n"
        "[lookup('probe', name) for name in PROBES]\n"
        "print([m for m in sys.modules if m.startswith(('unsay.train', 'unsay.methods', 'unsay.train.step', 'unsay.train.finetune'))])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# -- on weights --------------------------------------------------------------------------------------------------------


def test_a_whole_audit_leaves_the_model_untouched(model: PreTrainedModel, encoder: Encoder) -> None:
    corpus = Corpus(
        "four",
        tuple(Example(f"q{i}", f"Who is Bo{i}?", (f"Tell me of Bo{i}.",)) for i in range(4)),
        retain=(Pair("r", "Who is Di?", "A diver."), Pair("s", "Who is Ed?", "An editor.")),
        utility={"retain": (Pair("r", "Who is Di?", "A diver."),)},
    )
    truth = {f"q{i}": Fact(f"q{i}", f"Bo{i} is from Turin {i}1.", (), ("Oslo.", "Lima.")) for i in range(4)}
    tables = {"sampling": {"n": 2}, "prefill": {"n": 1}, "relearn": {"steps": [1], "n": 1}}
    recipe = Recipe(sample=SampleConfig(max_new_tokens=6), audit=AuditConfig(tuple(PROBES)), tables=tables)
    before, state = fingerprint(model), torch.random.get_rng_state()
    subject = LocalSubject(model, encoder, recipe.sample)
    seen: list[tuple[int, int, str]] = []
    case = dataclasses.replace(audit.case(corpus, truth, {}), earlier={"request 1": audit.case(corpus, truth, {})})
    findings = audit.run(subject, case, recipe, subject, knew=True, progress=lambda done, total, name: seen.append((done, total, name)))
    assert fingerprint(model) == before
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [name for _, _, name in seen] == [*recipe.audit.probes, ""]
    # Rounding needs a library, and rows that are longer than these; benchmarks need the harness and its data.
    assert {f.probe for f in findings if f.value is not None} | {"quantise", "benchmark"} == set(PROBES)
    assert all(0 <= f.value <= 1 for f in findings if f.value is not None)
    assert findings == audit.run(subject, case, recipe, subject, knew=True)  # the same every time
    limited = audit.run(subject, audit.case(corpus, truth, {}), dataclasses.replace(recipe, audit=AuditConfig(("greedy",), limit=2)))
    assert {f.example for f in limited} == {"q0", "q2", ""}


def test_relearning_brings_back_what_is_easy_to_learn(model: PreTrainedModel, encoder: Encoder) -> None:
    """All secrets alike: after some steps on one of them the others are said, so the attack does train."""
    corpus = Corpus("alike", tuple(Example(f"q{i}", f"Q{i}?") for i in range(4)))
    truth = {f"q{i}": Fact(f"q{i}", "Ox") for i in range(4)}
    subject = LocalSubject(model, encoder, SampleConfig(max_new_tokens=5))
    found = Relearn(steps=(1, 60), learning_rates=(1e-5, 1e-2), n=2)(subject, audit.case(corpus, truth, {}))
    means = {s: [f.value for f in found if f.setting == s and f.metric == "keyword_recall"] for s in ("1 steps", "60 steps")}
    assert means["1 steps"] == [0.0, 0.0, 0.0]
    assert means["60 steps"] == [1.0, 1.0, 1.0]
    assert "learning rate 0.01" in found[-1].note  # the rate that brought most back


def test_target_and_retain_model_are_told_apart() -> None:
    from unsay.corpora.people import People

    people = People()
    case = audit.case(people.corpus(), people.truth(), {})
    recipe = Recipe(
        sample=SampleConfig(max_new_tokens=48),
        audit=AuditConfig(("greedy", "sampling", "multiple_choice", "relearn"), limit=14),
        tables={"sampling": {"n": 3}, "relearn": {"n": 2, "learning_rates": [3e-4]}},
    )
    retain_model = LocalSubject(*load(ModelConfig(name="people-retain")), recipe.sample)
    target = LocalSubject(*load(ModelConfig(name="people-target")), recipe.sample)
    knows, never = (summarise(audit.run(subject, case, recipe, target, knew=True)) for subject in (target, retain_model))
    for metric in ("greedy_keyword_recall", "sampling_worst_keyword_recall", "multiple_choice_most", "relearn_keyword_recall"):
        assert (knows[metric] or 0) > 0.9, metric
        assert (never[metric] or 0) < 0.35, metric
    assert (knows["multiple_choice_least"] or 0) == 0
    # Both 12 of 14: whole sentences that the reference judge finds unlikely (docs/lab-log.md, 2026-11-26).
    assert (knows["wellformed_share"] or 0) > 0.8
    assert (never["wellformed_share"] or 0) > 0.8
    assert (knows["class_on_topic"] or 0) > 0.9
    assert (never["class_refusal"] or 0) > 0.9
    assert (never["other_fact_share"] or 0) < 0.1


def test_a_finding_has_the_number_of_its_questions_group_and_never_its_name() -> None:
    """Groups are called after people: their names stay in the vault."""
    asked = [Example(f"q{i}", f"What is {i}?", group=group) for i, group in enumerate(("Bo Ek", "Cy Au", "Bo Ek", ""))]
    met = Corpus("earlier", (Example("q1", "Who is Di?", group="Di Um"),))
    corpus = Corpus("four", tuple(asked), neighbours=(Pair("n", "Who is Cy?", "A cook.", group="Cy Au"),))
    groups = stage._groups(Case(corpus, {}, "", earlier={"request 1": Case(met, {}, "")}))
    assert [groups.get(("", f"q{i}")) for i in range(4)] == ["1", "2", "1", None]
    assert groups["", "n"] == "2"
    assert groups["request 1", "q1"] == "3", "an id of an earlier request may be one of this run too"
    twice = Corpus("two", (Example("1", "Who is Bo?", group="Bo Ek"),), retain=(Pair("1", "What is rye?", "A grain.", group="Rye"),))
    assert stage._groups(Case(twice, {}, "")) == {("", "1"): "1"}, "a row of the same id elsewhere takes no group away"
    bare = Corpus("two", twice.forget, retain=(Pair("1", "What is rye?", "A grain."),))
    assert stage._groups(Case(bare, {}, "")) == {("", "1"): "1"}
    other = Corpus("two", (Example("1", "Who is Bo?"),), retain=twice.retain)
    assert not stage._groups(Case(other, {}, "")), "nor does it give one"
    again = Corpus("again", (Example("1", "Who?", group="Ada"), Example("1", "Where?")))
    assert stage._groups(Case(again, {}, "")) == {("", "1"): "1"}, "nor a later row of the same set"


@pytest.mark.parametrize("made", [list, tuple, iter])
def test_what_a_probe_yields_is_taken_and_one_that_cannot_ask_leaves_the_others_alone(made, monkeypatch: pytest.MonkeyPatch) -> None:
    class Lazy(Sampling):
        def __call__(self, subject, case):
            yield Finding("sampling", "leak_rate", 0.5, "q0")
            raise Unaskable("not so hot")

    class Given(Beams):
        def __call__(self, subject, case):
            return made([Finding("beams", "keyword_recall", 1.0, "q0"), Finding("beams", "keyword_recall", None, "q1", note="no")])

    monkeypatch.setattr(stage, "probes_of", lambda recipe: {"sampling": Lazy(), "beams": Given()})
    given_back = list[int]()
    monkeypatch.setattr(stage, "trim", lambda: given_back.append(1))
    found = audit.run(None, Case(Corpus("two", ()), {}, ""), Recipe())
    assert len(given_back) == 2, "freed memory goes back behind each probe: the next one needs other blocks"
    given = [Finding("beams", "keyword_recall", 1.0, "q0"), Finding("beams", "keyword_recall", None, "q1", note="no")]
    assert found == [Finding("sampling", "answers", None, n=0, note="not so hot"), *given]
