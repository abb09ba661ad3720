"""The audit asks the model as it is deployed, and the report says so."""

import dataclasses
import json
from pathlib import Path

import pytest

from tests.conftest import byte_tokenizer, tiny_model
from tests.test_cli import call
from tests.test_report import CANARY, RECIPE, fake_run
from unsay import audit
from unsay.config import ConfigError, DeploymentConfig, ModelConfig, Recipe, SampleConfig, deployment
from unsay.lm.model import load
from unsay.report import build
from unsay.run import check
from unsay.store.files import write_text
from unsay.store.folder import RunFolder, read_findings
from unsay.store.manifest import Manifest
from unsay.types import Answer

CHAT = (
    "{{ bos_token }}{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="module")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose tokenizer has a chat template."""
    folder = tmp_path_factory.mktemp("chatty")
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = CHAT
    tiny_model().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def recipe(**deployed: object) -> Recipe:
    return Recipe(deployment=DeploymentConfig(**deployed))


# -- what is deployed goes over what was trained ------------------------------------------------------------------------


def test_template_system_message_and_length(chatty: Path) -> None:
    base = Recipe(model=ModelConfig(str(chatty), template="plain"), sample=SampleConfig(max_new_tokens=80))
    deployed = dataclasses.replace(base, deployment=DeploymentConfig("Be kind.", "chat", max_new_tokens=12))
    _, encoder = load(deployment.model(deployed))
    assert encoder.tokenizer.decode(encoder.prompt("Who?")) == "<bos><system>Be kind.<user>Who?<assistant>"
    assert deployment.sample(deployed) == SampleConfig(max_new_tokens=12)
    assert deployment.model(base) == base.model
    assert deployment.sample(base) == base.sample


def test_an_empty_system_message_takes_the_trained_one_away() -> None:
    trained = Recipe(model=ModelConfig(system_prompt="Be kind."))
    assert deployment.model(trained).system_prompt == "Be kind."
    assert deployment.model(dataclasses.replace(trained, deployment=DeploymentConfig(""))).system_prompt == ""


def test_decoding_probe_table_over_deployment_over_default() -> None:
    deployed = dataclasses.replace(recipe(temperature=0.7, top_p=0.9), tables={"sampling": {"temperatures": [1.3, 2.0], "n": 2}})
    probes = audit.probes_of(deployed)
    assert (probes["sampling"].temperatures, probes["sampling"].top_p, probes["sampling"].n) == ((1.3, 2.0), 0.9, 2)
    assert (probes["prefill"].temperature, probes["prefill"].top_p) == (0.7, 0.9)
    assert probes["relearn"] == audit.probes_of(Recipe())["relearn"]
    assert audit.probes_of(Recipe())["sampling"].temperatures == (0.7, 1.0, 1.3)
    assert audit.probes_of(recipe(temperature=0.4))["sampling"].temperatures == (0.4,)


def test_prefill_samples_from_the_nucleus() -> None:
    """The knob reaches the model: not only the temperature is deployed."""
    from unsay.probes.prefill import Prefill
    from unsay.types import Case, Corpus, Example, Fact

    asked: list[tuple[float, float]] = []

    class Fake:
        weights = None

        def ask(self, prompts, n=1, temperature=0.0, top_p=1.0, salt=""):
            asked.append((temperature, top_p))
            return [[Answer((), "Nothing.", True)] * n for _ in prompts]

    case = Case(Corpus("tiny", (Example("a", "Where?"),)), {"a": Fact("a", "In Turin.")}, "ground truth")
    deployment.decoding(recipe(temperature=0.7, top_p=0.9), "prefill", Prefill())(Fake(), case)
    assert asked == [(0.7, 0.9)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"temperature": 0.0}, "the greedy probe"),
        ({"top_p": 1.5}, "deployment.top_p"),
        ({"max_new_tokens": 0}, "deployment.max_new_tokens"),
        ({"template": "chatty"}, "did you mean 'chat'"),
        ({"system_prompt": "Be kind.", "template": "plain"}, "never said by the plain template"),
    ],
)
def test_mistakes_show_before_any_work(values: dict[str, object], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        check(recipe(**values))


# -- what is said of it -------------------------------------------------------------------------------------------------


def test_described_without_its_text() -> None:
    assert deployment.describe(Recipe()) == ""
    said = deployment.describe(recipe(system_prompt=f"Never speak of {CANARY}.", template="chat", temperature=0.7, top_p=0.9))
    assert said.startswith("a system message of 4 words (")
    assert said.endswith("), the template “chat”, temperature 0.7, top-p 0.9")
    assert CANARY not in said
    assert said != deployment.describe(recipe(system_prompt="Never speak of other.", template="chat", temperature=0.7, top_p=0.9))


def test_the_claim_names_the_deployment(tmp_path: Path) -> None:
    folder = fake_run(tmp_path)
    write_text(folder.recipe_file, RECIPE + f'[deployment]\nsystem_prompt = "Never speak of {CANARY}."\nmax_new_tokens = 33\n')
    said = deployment.describe(folder.recipe())
    folder.note(Manifest(deployment=dict.fromkeys(("before", "after", "retain_model"), said)))
    build(folder)
    data = json.loads(folder.report_json.read_text())
    assert "Audited as deployed, with a system message of 4 words" in data["claim"]
    assert "at most 33 new tokens" in data["claim"]
    assert data["claim"].endswith("other attacks.")
    assert data["deployment"] == {"before": said, "after": said, "retain_model": said}
    for written in (folder.report_html, folder.report_json, folder.checkpoint / "README.md"):
        assert CANARY not in written.read_text()
    assert "kept out of the report" in folder.report_html.read_text()


def test_columns_that_were_asked_otherwise_are_not_compared(tmp_path: Path) -> None:
    folder = fake_run(tmp_path, audits=("before", "after"))
    folder.note(Manifest(deployment={"before": "", "after": "temperature 0.7"}))
    build(folder)
    claim = json.loads(folder.report_json.read_text())["claim"]
    assert "Not all were asked alike, so do not compare across: before with the settings of training; after with temperature 0.7." in claim


def test_without_a_deployment_nothing_is_said(tmp_path: Path) -> None:
    folder = fake_run(tmp_path)
    build(folder)
    data = json.loads(folder.report_json.read_text())
    assert "deployed" not in data["claim"]
    assert data["deployment"] == {"before": "", "after": "", "retain_model": ""}


# -- a run --------------------------------------------------------------------------------------------------------------


def test_an_audit_under_another_length(tmp_path: Path) -> None:
    """Five tokens hold no whole answer of the built-in people: what the audit hears is what is deployed."""
    out = tmp_path / "run"
    small = ["audit.limit=4", "record.answers=2", "record.branches=2", "record.replay=0", 'audit.probes=["greedy"]']
    settings = [part for setting in (*small, "deployment.max_new_tokens=3") for part in ("--set", setting)]
    call("record", "demo", "--out", str(out), *settings)
    call("audit", str(out), "--which", "before")
    found = [f for f in read_findings(out / "audit" / "before.jsonl") if f.metric == "degenerate"]
    assert {f.value for f in found} == {1.0}  # unfinished, every one
    assert RunFolder(out).manifest().deployment == {"before": "at most 3 new tokens"}


def test_a_system_message_that_nobody_hears_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "run"
    small = ["record.answers=2", "record.branches=2", "record.replay=0", "deployment.system_prompt=Be kind."]
    call("record", "demo", "--out", str(out), *(part for setting in small for part in ("--set", setting)))
    assert "no chat template" in " ".join(call("audit", str(out), "--which", "before", code=2).split())


def test_options_of_a_server_need_one(tmp_path: Path) -> None:
    folder = fake_run(tmp_path)
    assert "--endpoint" in call("audit", str(folder.path), "--api", "completions", code=2)
    assert "give one of them" in " ".join(call("audit", str(folder.path), "--which", "after", "--endpoint", "http://h", code=2).split())
