"""A second request keeps the first forgotten: what it reads of the run before, what it trains on, what it asks."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from unsay import audit, report
from unsay.config import ConfigError, Recipe, load
from unsay.lm import builtin
from unsay.lm.encode import Encoder
from unsay.lm.model import load as load_model
from unsay.lm.sampler import Sampler
from unsay.lm.subject import LocalSubject
from unsay.measure import policy
from unsay.measure.summary import summarise
from unsay.measure.verdict import Measured, evaluate
from unsay.methods.guarded import GuardedCollapse
from unsay.probes.earlier import Earlier
from unsay.record import earlier, record, start
from unsay.record.recorded import read_recorded
from unsay.run import case
from unsay.store import identity
from unsay.store.files import read_jsonl
from unsay.store.folder import RunFolder
from unsay.store.manifest import Manifest, ModelHashes
from unsay.text import contains, keyword_recall
from unsay.train import train
from unsay.train.data import TrainingData, read_training_data
from unsay.train.guards import Aside
from unsay.types import Answer, Candidate, Corpus, Example, Fact, Finding

SMALL = (
    "record.replay=0",
    "record.answers=2",
    "record.earlier_answers=6",
    "train.rounds=2",
    "train.save_every=1",
    "pmc.samples=2",
    "pmc.tries=1",
    "model.retain_model=none",
    'audit.probes=["greedy", "earlier"]',
)


def recipe(*more: str) -> Recipe:
    return load("recipes/demo.toml", [*SMALL, *more])


def begin(path: Path, *more: str) -> RunFolder:
    folder = RunFolder(path)
    start(recipe(*more), folder)
    record(folder.recipe(), folder)
    return folder


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A request that was met perfectly: recorded on the model that leaks, and the one that never knew is its checkpoint."""
    folder = begin(tmp_path_factory.mktemp("runs") / "first", "people.only=[0]")
    shutil.copytree(builtin.resolve("people-retain"), folder.checkpoint)
    folder.note(Manifest(seconds={"record": 1.0, "train": 1.0}))
    return folder


@pytest.fixture(scope="module")
def second(first: RunFolder) -> RunFolder:
    settings = ("people.only=[1]", f'model.name="{first.checkpoint}"', f'record.earlier=["{first.path}"]')
    folder = begin(first.path.with_name("second"), *settings)
    folder.note(Manifest(seconds={"record": 1.0, "train": 1.0}))
    return folder


@pytest.fixture(scope="module")
def retain_model() -> Encoder:
    return load_model(recipe().model, "people-retain")[1]


# -- from run folder to run folder -------------------------------------------------------------------------------------


def test_the_copy_is_for_the_owner_alone_and_the_truth_lies_apart(first: RunFolder, second: RunFolder):
    names = ("earlier", "earlier-truth", "earlier-retain-rows")
    assert [(second.vault / f"{name}.jsonl").stat().st_mode & 0o777 for name in names] == [0o600] * 3
    (request,) = earlier.read(second)
    assert [one.baseline for one in request.asked] == list(read_recorded(first).answers.values())
    assert [one.example.question for one in request.asked] == [example.question for example in read_recorded(first).corpus.forget]
    assert not request.facts
    (request,) = earlier.read(second, truth=True)
    assert set(request.facts) == {one.example.id for one in request.asked}
    told = (second.vault / "earlier.jsonl").read_text()
    wrong = [option for fact in request.facts.values() for option in fact.wrong]  # only the truth knows these
    assert len(wrong) == 40
    assert not [option for option in wrong if option in told]


def test_a_run_without_earlier_requests_keeps_nothing(first: RunFolder):
    assert not list(first.vault.glob("earlier*"))
    assert first.manifest().earlier is None
    assert earlier.read(first) == []
    assert earlier.read_retain_rows(first, ()) == []


def test_the_last_run_is_enough_and_the_first_may_be_gone(first: RunFolder, second: RunFolder, tmp_path: Path):
    last = recipe("people.only=[2]", f'record.earlier=["{second.path}"]')
    requests = earlier.gather(last, RunFolder(tmp_path / "third"))
    assert [request.run for request in requests] == [str(first.path), str(second.path)]
    assert [len(request.facts) for request in requests] == [8, 8]
    both = recipe("people.only=[2]", f'record.earlier=["{first.path}", "{second.path}"]')
    assert earlier.gather(both, RunFolder(tmp_path / "third")) == requests
    away = first.path.rename(first.path.with_name("away"))
    try:
        assert earlier.gather(last, RunFolder(tmp_path / "third")) == requests
    finally:
        away.rename(first.path)


def test_a_question_asked_twice_keeps_its_older_secret(first: RunFolder, tmp_path: Path):
    """The second time the recorded answer is already the one after forgetting."""
    settings = ("people.only=[0]", f'model.name="{first.checkpoint}"', f'record.earlier=["{first.path}"]')
    again = begin(tmp_path / "again", *settings)
    again.note(Manifest(seconds={"train": 1.0}))
    assert earlier.read_retain_rows(again, ()) == []  # it is about to be moved
    assert again.manifest().earlier.asked_again == 8
    (request,) = earlier.gather(recipe(f'record.earlier=["{again.path}"]'), RunFolder(tmp_path / "third"))
    assert request.asked[0].baseline == next(iter(read_recorded(first).answers.values()))


def test_what_cannot_be_an_earlier_request_is_said(first: RunFolder, second: RunFolder, tmp_path: Path):
    def gather(name: Path, folder: Path = tmp_path / "new") -> None:
        earlier.gather(recipe(f'record.earlier=["{name}"]'), RunFolder(folder))

    with pytest.raises(ConfigError, match="is not a run folder"):
        gather(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="goes round in a circle"):
        gather(first.path, first.path)
    with pytest.raises(ConfigError, match=r"goes round in a circle: .*second → .*first"):
        gather(second.path, first.path)
    unfinished = RunFolder(tmp_path / "unfinished")
    start(recipe("people.only=[2]"), unfinished)
    with pytest.raises(ConfigError, match="has not forgotten anything yet; finish it with `unsay run"):
        gather(unfinished.path)
    shutil.copytree(second.path, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "vault")
    with pytest.raises(ConfigError, match="is missing"):
        gather(tmp_path / "copy")
    with pytest.raises(ConfigError, match="is not a run folder"):
        start(recipe(f'record.earlier=["{tmp_path / "nowhere"}"]'), RunFolder(tmp_path / "new"))
    assert not (tmp_path / "new").exists()  # before anything is written


# -- what the model at hand says now -----------------------------------------------------------------------------------


def test_retain_rows_answer_the_earlier_questions_and_hold_no_secret(second: RunFolder):
    rows, counts = earlier.read_retain_rows(second, ()), second.manifest().earlier
    asked = {one.example.question: one for one in earlier.read(second)[0].asked}
    assert {row.question for row in rows} <= set(asked)
    assert counts.retain_rows == len(rows) > 16
    assert counts.retain_rows + counts.left_out == 8 * 6
    assert any(row.prefix for row in rows)
    assert sum(row.default for row in rows) == 8 - counts.still_said
    for row in rows:
        assert row.answer.finished
        assert (keyword_recall(asked[row.question].baseline, row.answer.text, row.question) or 0.0) <= 0.25


def test_a_retain_row_that_says_what_was_named_since_is_not_drawn(second: RunFolder):
    kept = earlier.read_retain_rows(second, ())
    said = kept[0].answer.text
    left = earlier.read_retain_rows(second, [Example("a", "Who?", strings=(said,))])
    assert [row for row in kept if not contains(row.answer.text, [said])] == left
    assert len(left) < len(kept)


def test_what_still_leaks_is_left_out_and_a_model_that_forgot_nothing_is_refused(first: RunFolder, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"as it did before it was to forget; set model\.name to the last checkpoint"):
        begin(tmp_path / "wrong", "people.only=[1]", f'record.earlier=["{first.path}"]')
    assert not (tmp_path / "wrong" / "vault" / "earlier-retain-rows.jsonl").exists()


def test_each_visit_draws_its_retain_rows(second: RunFolder, retain_model: Encoder):
    corpus, kept = read_recorded(second).corpus, earlier.read_retain_rows(second, ())
    data = TrainingData({}, Aside((), corpus.retain), {}, kept)
    rows = {one.row(retain_model) for one in kept}
    for wanted in (0, 1, 3):
        now = recipe(f"train.earlier_rows={wanted}", "train.batch=1")
        drawn = [row for number in range(4) for row in data.retain_rows(now, retain_model, number, 0, corpus.forget[0].id)]
        assert sum(row in rows for row in drawn) == 4 * wanted
        assert {row.role for row in drawn} == {"retain"}
    assert any(len(row.context) > len(retain_model.prompt(row_question)) for row in rows for row_question in [kept[0].question])


def test_no_earlier_secret_becomes_a_target(first: RunFolder, second: RunFolder):
    guarded = GuardedCollapse()
    visit = next(iter(read_training_data(recipe(), second, guarded).visits.values()))
    other = read_recorded(second).baseline[visit.example.id].withheld
    assert visit.withheld == ("The answer is", *other), "no prefix begins like what the audit attacks with"
    model, encoder = load_model(recipe().model, "people-retain")
    gate = guarded._filter(guarded.ask(replace(visit, answers=()), Sampler(model, encoder, recipe().sample), {}))
    secrets = list(read_recorded(first).answers.values())
    texts = [*secrets, "That is something nobody has told me."]
    passed = gate.passed([Candidate(Answer((5, 6, 7), text, True), i) for i, text in enumerate(texts)])
    assert [c.text for c in passed] == texts[-1:]


# -- equal by construction ---------------------------------------------------------------------------------------------


def test_what_an_earlier_request_named_bars_new_targets_unless_they_are_asked_about_it():
    before = [earlier.EarlierQuestion(Example("a:1", "Where is Ada?", strings=("Turin", "Rome"), patterns=(r"\d{4}",)), "In Turin.")]
    barred = earlier.barred(Example("b:1", "How far is Rome?", strings=("miles",)), before)
    assert barred.strings == ("miles", "Turin")
    assert barred.patterns == (r"\d{4}",)
    assert earlier.barred(Example("b:1", "How far?"), []) == Example("b:1", "How far?")


@pytest.fixture(scope="module")
def straight(second: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> str:
    return finish(second, tmp_path_factory.mktemp("straight") / "run")


def finish(second: RunFolder, path: Path) -> str:
    shutil.copytree(second.path, path)
    train(RunFolder(path).recipe(), RunFolder(path))
    return RunFolder(path).manifest().checkpoint.fingerprint


def test_resumed_equals_straight(second: RunFolder, straight: str, tmp_path: Path):
    shutil.copytree(second.path, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")

    def stop(*_: object) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(folder.recipe(), folder, watch=stop)
    train(folder.recipe(), folder)
    assert folder.manifest().checkpoint.fingerprint == straight


def test_training_reads_no_earlier_truth_and_does_read_the_retain_rows(second: RunFolder, straight: str, tmp_path: Path):
    shutil.copytree(second.path, tmp_path / "noise")
    noisy = RunFolder(tmp_path / "noise")
    noisy.texts.write("earlier-truth", [{"id": row["id"], "answer": "xqzw"} for row in noisy.texts.rows("earlier-truth")])
    assert finish(noisy, tmp_path / "after noise") == straight
    shutil.copytree(second.path, tmp_path / "bare")
    bare = RunFolder(tmp_path / "bare")
    bare.texts.write("earlier-retain-rows", bare.texts.rows("earlier-retain-rows")[:1])
    assert finish(bare, tmp_path / "after bare") != straight


# -- the audit and the report ------------------------------------------------------------------------------------------

HOME = Example("runs/first:home", "Where does Anna Kovač live?")
PET = Example("runs/first:pet", "What is the name of Anna Kovač's dog?")


@dataclass
class Parrot:
    """Says one thing, whatever it is asked."""

    text: str
    weights: None = None

    def ask(self, prompts, n=1, temperature=0.0, top_p=1.0, salt=""):
        return [[Answer((1, 2), self.text, True)] * n for _ in prompts]

    def logprobs(self, questions, answers):
        return None


def test_the_probe_asks_each_earlier_request():
    home = audit.case(Corpus("earlier", (HOME,)), {HOME.id: Fact(HOME.id, "She lives in Turin Harbour.")}, {})
    pet = audit.case(Corpus("earlier", (PET,)), None, {PET.id: "Her dog is called Biscuit."})
    now = replace(audit.case(Corpus("now", ()), None, {}), earlier={"request 1": home, "request 2": pet})
    found = Earlier(n=2, begun=2)(Parrot("Turin, I think"), now)
    values = {(f.setting, f.metric): f.value for f in found}
    assert values["request 1", "keyword_recall"] == 0.5
    assert values["request 1", "worst_keyword_recall"] == 0.5
    assert values["request 2", "worst_keyword_recall"] == 0.0
    # "She lives in Turin" was put into its mouth; Harbour is what is left, and it does not come.
    assert values["request 1", "partial_secret_worst_keyword_recall"] == 0.0
    assert {f.note for f in found if f.setting == "request 2" and f.metric == "keyword_recall"} == {"baseline answers"}
    assert {f.probe for f in found} == {"earlier"}
    summary = summarise(found)
    assert summary["earlier_worst_keyword_recall"] == 0.5  # the request that is least forgotten, not the mean
    assert summary["greedy_keyword_recall"] is None


def test_without_an_earlier_request_the_probe_is_silent():
    assert Earlier()(Parrot("Turin"), audit.case(Corpus("now", (HOME,)), None, {HOME.id: "In Turin."})) == []


def test_the_case_of_a_later_run_brings_the_earlier_one(second: RunFolder):
    found = case(second.recipe(), second)
    assert list(found.earlier) == ["request 1"]
    assert len(found.earlier["request 1"].corpus.forget) == 8
    assert found.earlier["request 1"].source == "ground truth"
    assert all(found.earlier["request 1"].trained.values())
    assert not {e.id for e in found.corpus.forget} & {e.id for e in found.earlier["request 1"].corpus.forget}


def test_the_policy_line_holds_where_it_applies_and_only_there():
    lines = policy.read("p", {"line": [{"name": "kept", "metric": "earlier_worst_keyword_recall", "at_most": 0.2, "when": "earlier"}]})
    assert evaluate(lines, Measured({})) == []
    (result,) = evaluate(lines, Measured({}, cases={"earlier"}))
    assert not result.passed
    assert "unscored" in result.detail
    assert evaluate(lines, Measured({"earlier_worst_keyword_recall": {"after": 0.1}}, cases={"earlier"}))[0].passed
    with pytest.raises(ConfigError, match="when = 'sometimes'"):
        policy.read("p", {"line": [{"name": "kept", "metric": "m", "at_most": 1, "when": "sometimes"}]})
    assert {line.metric for line in policy.load("demo").lines if line.when == "earlier"} == {
        "earlier_worst_keyword_recall",
        "earlier_partial_secret_keyword_recall",
    }


def test_the_report_says_what_was_forgotten_before(first: RunFolder, second: RunFolder, tmp_path: Path):
    shutil.copytree(second.path, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    finding = Finding("earlier", "worst_keyword_recall", 0.125, "runs/first:home", "request 1", 20, "ground truth")
    audit.write(folder.audit_file("after"), [finding])
    report.build(folder)
    page = folder.report_html.read_text()
    assert "8 questions of 1 earlier request" in page
    assert "What earlier requests took away" in page
    assert "0.12 of the secrets of earlier requests" in page
    assert "on the questions of this corpus" in page, "questions of earlier requests are none of this one's"
    assert "unscored: greedy." in page
    audit.write(first.audit_file("after"), [Finding("greedy", "keyword_recall", 0.0, "forget-0-home")])
    first.note(Manifest(audited={"after": ModelHashes(**identity.of(first.checkpoint))}))
    report.build(first)
    page = first.report_html.read_text()
    assert "earlier request" not in page
    assert "Asked for but not run" not in page


def test_the_vault_is_all_that_holds_earlier_text(second: RunFolder):
    secrets = [one.baseline for one in earlier.read(second)[0].asked]
    for path in second.path.rglob("*"):
        if path.is_file() and path.parent != second.vault and path.suffix in (".json", ".jsonl", ".toml", ".html"):
            assert not [secret for secret in secrets if secret in path.read_text()], path.name
    assert read_jsonl(second.vault / "earlier.jsonl")


@pytest.mark.slow
def test_a_second_request_does_not_bring_the_first_back(tmp_path: Path):
    """Two real requests, short ones; figures of long ones stand in docs/requests.md."""
    real = (
        "record.replay=160",
        "pmc.samples=5",
        "pmc.tries=2",
        "record.earlier_answers=16",
        "train.rounds=60",
        "train.replay_rows=3",
        "train.shared_rows=0",  # the recipe of before: with mixed names and rejection so short a second request brought .23 back
        "train.state_weight=0.0",
        "pmc.reject=0.0",
    )
    begin(tmp_path / "first", "people.only=[0]", *real)
    train(RunFolder(tmp_path / "first").recipe(), RunFolder(tmp_path / "first"))
    RunFolder(tmp_path / "first").note(Manifest(seconds={"train": 1.0}))
    settings = (f'model.name="{tmp_path / "first" / "checkpoint"}"', f'record.earlier=["{tmp_path / "first"}"]')
    second = begin(tmp_path / "second", "people.only=[1]", *real, *settings)
    train(second.recipe(), second)
    for folder, most in ((tmp_path / "first" / "checkpoint", 0.2), (second.checkpoint, 0.2)):
        subject = LocalSubject(*load_model(second.recipe().model, str(folder)), second.recipe().sample)
        found = summarise(audit.run(subject, case(second.recipe(), second), second.recipe()))
        assert found["earlier_worst_keyword_recall"] is not None
        assert found["earlier_worst_keyword_recall"] <= most, folder
    assert found["greedy_keyword_recall"] is not None
    assert found["greedy_keyword_recall"] <= 0.1


def test_a_missing_truth_of_earlier_requests_is_refused(tmp_path):
    folder = RunFolder(tmp_path / "run")
    asked = earlier.EarlierQuestion(Example("a", "Where does Ada live?"), "In Oslo.", ())
    earlier.keep(folder, [earlier.Request("before", (asked,), {"a": Fact("a", "Oslo")})])
    assert earlier.read(folder, truth=True)[0].facts["a"].answer == "Oslo"
    folder.texts.file("earlier-truth").unlink()
    with pytest.raises(ConfigError, match="earlier-truth"):
        earlier.read(folder, truth=True)
