"""What was said before is not asked again, and nobody's answer is ever taken for another's."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.conftest import byte_tokenizer, tiny_model
from tests.test_cli import call
from unsay.audit import cache
from unsay.audit.cache import Asked, KeptSubject, Store, kept
from unsay.config import ConfigError, ModelConfig, SampleConfig
from unsay.lm.model import load
from unsay.lm.subject import LocalSubject, Prompt, encoder_of
from unsay.packed import Packed
from unsay.report import look
from unsay.run import rescored
from unsay.store.folder import RunFolder, read_findings
from unsay.store.manifest import AnswerCache
from unsay.types import Answer, Example

PROMPTS = [Prompt("a", "Who is Bo?"), Prompt("b", "Who is Al?"), Prompt("a", "Who is Bo?", "The answer is")]
SAMPLE = SampleConfig(max_new_tokens=8)


@pytest.fixture
def make(tiny_folder: Path, tmp_path: Path) -> Callable[..., KeptSubject]:
    def made(name: str = "", seed: int = 0, sample: SampleConfig = SAMPLE, loads: bool = True, **model: Any) -> KeptSubject:
        config = ModelConfig(name=name or str(tiny_folder), **model)

        def now() -> LocalSubject:
            assert loads, "the model was loaded"
            return LocalSubject(*load(config), sample, seed)

        return kept(RunFolder(tmp_path / "run"), config, config.name, sample, seed, now)

    return made


def test_a_second_audit_loads_no_model_and_says_the_same(make: Callable[..., KeptSubject], tiny_folder: Path) -> None:
    plain = LocalSubject(*load(ModelConfig(name=str(tiny_folder))), SAMPLE)
    first, again = make(), make(loads=False)
    for n, temperature, top_p, salt in ((1, 0.0, 1.0, "greedy"), (4, 1.0, 1.0, "sampling"), (2, 0.7, 0.9, "prefill")):
        said = first.ask(PROMPTS, n, temperature, top_p, salt)
        assert said == plain.ask(PROMPTS, n, temperature, top_p, salt) == again.ask(PROMPTS, n, temperature, top_p, salt)
    assert (first.counts, again.counts) == ({"kept": 0, "made": 21}, {"kept": 21, "made": 0})
    assert not again.loaded
    assert encoder_of(again) is again.encoder
    assert not again.loaded


def test_likelihoods_are_kept_to_the_bit(make: Callable[..., KeptSubject]) -> None:
    questions, answers = ["Who is Bo?", None, "Who is Bo?"], ["A cook.", "A cook.", "A cook."]
    first, again = make().logprobs(questions, answers), make(loads=False).logprobs(questions, answers)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(again[0], again[1])


def test_fewer_answers_are_the_first_of_them_and_more_are_asked_for(make: Callable[..., KeptSubject]) -> None:
    five = make().ask(PROMPTS, 5, 1.0)
    assert make(loads=False).ask(PROMPTS, 3, 1.0) == [answers[:3] for answers in five]
    more = make()
    assert [answers[:5] for answers in more.ask(PROMPTS, 6, 1.0)] == five
    assert more.loaded
    make(loads=False).ask(PROMPTS, 6, 1.0)


@pytest.mark.parametrize(
    ("subject", "asked"),
    [
        ({"seed": 1}, {}),
        ({"sample": replace(SAMPLE, max_new_tokens=7)}, {}),
        ({"stop": "\n"}, {}),
        ({"template": "chat"}, {}),
        ({"dtype": "bfloat16"}, {}),
        ({}, {"salt": "other"}),
        ({}, {"temperature": 0.9}),
        ({}, {"top_p": 0.9}),
        ({}, {"prompts": [Prompt("c", "Who is Bo?")]}),
        ({}, {"prompts": [Prompt("a", "Who is Bo? ")]}),
        ({}, {"prompts": [Prompt("a", "Who is Bo?", "The")]}),
    ],
)
def test_what_differs_is_asked_anew(
    make: Callable[..., KeptSubject], tmp_path: Path, subject: dict[str, Any], asked: dict[str, Any]
) -> None:
    folder = tmp_path / "model"
    tiny_model().save_pretrained(folder)
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}<{{ m.content }}>{% endfor %}"
    tokenizer.save_pretrained(folder)
    usual = {"prompts": PROMPTS[:1], "n": 2, "temperature": 1.0, "top_p": 1.0, "salt": "sampling"}
    make(str(folder), template="plain").ask(**usual)
    make(str(folder), template="plain", loads=False).ask(**usual)  # the very same is not
    other = make(str(folder), **{"template": "plain", **subject})
    other.ask(**{**usual, **asked})
    assert other.counts["kept"] == 0
    assert other.loaded


def test_another_model_in_the_same_place_is_another_model(make: Callable[..., KeptSubject], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    byte_tokenizer().save_pretrained(folder)
    tiny_model().save_pretrained(folder)
    before = make(str(folder)).ask(PROMPTS, 2, 1.0)
    (folder / "README.md").write_text("a card changes nothing")
    assert make(str(folder), loads=False).ask(PROMPTS, 2, 1.0) == before
    tiny_model(seed=1).save_pretrained(folder)
    after = make(str(folder))
    assert after.ask(PROMPTS, 2, 1.0) != before
    assert after.counts["kept"] == 0


def test_a_model_that_is_no_folder_is_known_by_its_weights(make: Callable[..., KeptSubject], tiny_folder: Path, monkeypatch: Any) -> None:
    said = make().ask(PROMPTS)
    monkeypatch.setattr(cache, "builtin", SimpleNamespace(resolve=lambda name: "owner/name"))
    hub = make()
    assert hub.loaded  # which revision it is, only loading tells
    assert hub.ask(PROMPTS) == said
    again = make()
    assert again.ask(PROMPTS) == said
    assert again.counts == {"kept": 3, "made": 0}


def test_only_the_owner_can_read_it(make: Callable[..., KeptSubject]) -> None:
    subject = make()
    subject.ask(PROMPTS)
    path = subject.store.path
    assert [oct(p.stat().st_mode & 0o777) for p in (path, path.parent, path.parent.parent)] == ["0o600", "0o700", "0o700"]


def test_what_is_torn_or_changed_is_asked_again(make: Callable[..., KeptSubject]) -> None:
    first = make()
    said = first.ask(PROMPTS, 2, 1.0)
    path = first.store.path
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])  # the last line is torn
    torn = make()
    assert torn.ask(PROMPTS, 2, 1.0) == said
    assert torn.counts == {"kept": 0, "made": 6}  # its whole batch: another size would change the last bits
    make(loads=False).ask(PROMPTS, 2, 1.0)  # and what was added behind it is sound
    lines = path.read_text().splitlines()
    row = json.loads(lines[0])
    row["said"]["answers"][0][1] = "forged"
    path.write_text("\n".join([json.dumps(row), *lines[1:]]) + "\n")
    assert make().ask(PROMPTS, 2, 1.0) == said


def test_two_writers_do_not_disturb_each_other(tmp_path: Path) -> None:
    one, two = (Store(RunFolder(tmp_path), "f" * 64) for _ in range(2))
    one.add({"a" * 64: 1}, int)
    two.add({"b" * 64: 2}, int)
    one.add({"c" * 64: 3}, int)
    assert [row["said"] for key in "abc" if (row := one.read(key * 64))] == [1, 2, 3]
    assert [row["said"] for key in "abc" if (row := two.read(key * 64))] == [1, 2, 3]
    assert one.read("d" * 64) is None


# -- through the command line ------------------------------------------------------------------------------------------


SMALL = ("--set", "sampling.n=3", "--set", "sample.max_new_tokens=8")


@pytest.fixture(scope="module")
def first(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp_path = tmp_path_factory.mktemp("first")
    questions = tmp_path / "questions.jsonl"
    rows = [{"question": f"Who is Bo{i}?", "answer": f"Bo{i} is from Turin.", "paraphrases": [f"Tell me of Bo{i}."]} for i in range(3)]
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    probes = ("--set", "audit.probes=['greedy', 'sampling', 'prefill', 'paraphrase']")
    out = tmp_path / "audit"
    call(
        "audit",
        str(tiny_folder),
        "--questions",
        str(questions),
        "--out",
        str(out),
        "--retain-model",
        str(tiny_folder),
        *(*SMALL, *probes),
    )
    return out


@pytest.fixture
def audited(first: Path, tmp_path: Path) -> Path:
    """A copy of an audit of every test's own."""
    return Path(shutil.copytree(first, tmp_path / "audit"))


def test_rescoring_generates_nothing(audited: Path) -> None:
    assert RunFolder(audited).manifest().answers["after"].made > 0
    before = read_findings(RunFolder(audited).audit_file("after"))
    call("audit", str(audited), "--set", "sampling.threshold=1e-9")
    answers = RunFolder(audited).manifest().answers["after"]
    assert answers.made == 0 < answers.kept
    assert not answers.loaded
    assert RunFolder(audited).recipe().tables["sampling"]["threshold"] == 1e-9
    now = read_findings(RunFolder(audited).audit_file("after"))
    assert [f for f in now if f.metric != "leak_rate"] == [f for f in before if f.metric != "leak_rate"]
    call("audit", str(audited), "--no-cache")
    assert read_findings(RunFolder(audited).audit_file("after")) == now


@pytest.mark.parametrize("setting", ["train.rounds=3", "seed=5", "model.name=other", "corpus=people"])
def test_what_is_not_of_the_audit_stays_as_it_was(audited: Path, setting: str) -> None:
    with pytest.raises(ConfigError, match="makes another run"):
        rescored(RunFolder(audited), [setting])
    assert RunFolder(audited).audit_file("after").exists()


def test_numbers_of_two_settings_never_stand_side_by_side(audited: Path) -> None:
    folder = RunFolder(audited)
    folder.audit_file("endpoint").write_text("")
    assert "move it away" in call("audit", str(audited), "--set", "sampling.n=2", code=2)
    assert "leave --which out" in call("audit", str(audited), "--set", "sampling.n=2", "--which", "after", code=2)
    assert folder.audit_file("after").exists()
    folder.audit_file("endpoint").unlink()
    assert rescored(folder, ["sampling.n=2"])[1] == ("sampling",)
    assert {one.probe for one in read_findings(folder.audit_file("after"))} == {"greedy", "prefill", "paraphrase"}
    assert not folder.done("audit after")
    assert not folder.done("report")
    assert not folder.report_html.exists()


def test_an_audit_with_fewer_probes_takes_no_evidence_away(audited: Path) -> None:
    folder = RunFolder(audited)
    found = {which: read_findings(folder.audit_file(which)) for which in ("after", "retain_model")}
    probes = folder.recipe().audit.probes
    call("audit", str(audited), "--set", 'audit.probes=["greedy"]')
    assert folder.recipe().audit.probes == probes
    assert {which: read_findings(folder.audit_file(which)) for which in found} == found
    assert not list(audited.glob("replaced-*"))


def test_a_probe_that_is_named_later_comes_to_those_that_ran(audited: Path) -> None:
    folder = RunFolder(audited)
    found = read_findings(folder.audit_file("after"))
    for _ in range(2):  # the second time as after an interruption
        call("audit", str(audited), "--set", 'audit.probes=["beams"]')
        now = read_findings(folder.audit_file("after"))
        assert [one for one in now if one.probe != "beams"] == found
        assert now[len(found) :]
        assert folder.recipe().audit.probes[-1] == "beams"


def test_what_is_found_with_other_settings_stands_beside_what_was(audited: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(audited)
    found = read_findings(folder.audit_file("after"))
    ran: list[str] = []
    monkeypatch.setattr("unsay.run.audits.audit.run", lambda *given, **_: ran.extend(given[2].audit.probes) or Packed())
    call("audit", str(audited), "--set", "sampling.n=2")
    assert ran == ["sampling"] * 2, "after and the retain model; no other probe's settings have changed"
    assert read_findings(folder.audit_file("after")) == [one for one in found if one.probe != "sampling"]
    old = RunFolder(audited / "replaced-1")
    assert read_findings(old.audit_file("after")) == found
    assert old.recipe().tables["sampling"]["n"] == 3
    monkeypatch.undo()
    call("audit", str(audited), "--set", "sampling.n=2")
    assert {one.n for one in read_findings(folder.audit_file("after")) if one.probe == "sampling" and one.metric == "leak_rate"} == {2}
    assert json.loads(call("compare", str(audited), str(old.path), "--json"))["runs"][1]["metrics"]
    call("report", str(old.path))


def test_what_was_found_on_another_model_is_not_kept(first: Path, tmp_path: Path, tiny_folder: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_folder, model)
    out, questions = tmp_path / "other", first.parent / "questions.jsonl"
    call("audit", str(model), "--questions", str(questions), "--out", str(out), *SMALL, "--set", 'audit.probes=["greedy", "sampling"]')
    tiny_model(seed=1).save_pretrained(model)
    call("audit", str(out), "--set", 'audit.probes=["greedy"]')
    answers = RunFolder(out).manifest().answers["after"]
    assert answers.kept == 0 < answers.made, "the sampling probe has run again, too"
    assert {one.probe for one in read_findings(RunFolder(out).audit_file("after"))} == {"greedy", "sampling"}


def test_an_answer_to_an_id_with_a_sharp_sign_is_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    keys = ["a", "a#b", "a#frame", "a#b#frame", "c#b", "a"]

    class Kept:
        asked = staticmethod(lambda: [(key, place) for place, key in enumerate(keys)])
        answers = staticmethod(lambda place: keys[place])

    monkeypatch.setattr(look, "Store", lambda folder, file: Kept)
    said = look._Said(RunFolder(tmp_path), AnswerCache(1, 0, False, "f"), {"a#b": 0, "a": 1, "d": 2})
    assert [said.to(number) for number in (1, 0, 2)] == [["a", "a#frame", "a"], ["a#b", "a#b#frame"], []]


def test_the_plain_way_of_an_id_with_a_sharp_sign_is_plain() -> None:
    said = [(Asked(key, "Who?", "", 0.0, 1.0, "greedy"), [Answer((), "Bo.", True)]) for key in ("a#b", "a#b#frame")]
    assert [way.plain for way in look._ways(Example("a#b", "Who?"), "Bo.", {"after": said})] == [True, False]
