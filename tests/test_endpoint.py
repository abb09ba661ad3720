"""A deployed model behind a server: against a small server whose every habit is known, then against a real one."""

import itertools
import json
import logging
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.test_cli import call
from tests.test_report import fake_run
from unsay.audit import endpoint
from unsay.audit.endpoint import EndpointConfig, EndpointError, EndpointSubject, client
from unsay.config import ConfigError, Recipe, SampleConfig
from unsay.lm.subject import Prompt, Unaskable
from unsay.probes.prefill import Prefill
from unsay.store.manifest import Endpoint, Manifest
from unsay.types import Case, Corpus, Example, Fact

pytest.importorskip("openai")
SECRET = "Where does Quillfeather hide?"
LONG = "It is the old town of Paris on the river."


# -- a small server with habits ----------------------------------------------------------------------------------------


@dataclass
class Habits:
    """What the server does, and what it was sent."""

    answer: str = LONG
    statuses: list[int] = field(default_factory=list)
    """Of the first replies; then all is well."""
    body: str = ""
    """Sent in place of every reply."""
    unknown: tuple[str, ...] = ()
    """Options that it refuses with 422."""
    honours_n: bool = True
    samples: bool = True
    one_seed: bool = False
    """The seed makes every answer of a request the same."""
    continues: str = "flag"
    """A begun answer: `flag` where it is asked to, `always`, or `never`: it answers afresh."""
    finish: str = "stop"
    hottest: float = 2.0
    """Above this temperature it answers 400."""
    banned: str = ""
    """A filter refuses what holds this."""
    onward: str = ""
    """Where it sends every request on to."""
    models: tuple[str, ...] = ("served",)
    count: Iterator[int] = field(default_factory=itertools.count)
    requests: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def reply(self, path: str, sent: dict[str, Any]) -> tuple[int, str]:
        path = path.partition("?")[0]
        if self.onward:
            return 307, "{}"
        if self.statuses:
            status = self.statuses.pop(0)
            return status, json.dumps({"error": {"message": f"you sent {json.dumps(sent)}"}})
        if self.body:
            return 200, self.body
        if (
            any(name in sent for name in self.unknown)
            or sent["temperature"] > self.hottest
            or (self.banned and self.banned in json.dumps(sent))
        ):
            return 422, json.dumps({"error": {"message": f"you sent {json.dumps(sent)}"}})
        chat = path.endswith("/chat/completions")
        if chat:
            last = sent["messages"][-1]
            goes_on = self.continues == "always" or (self.continues == "flag" and sent.get("continue_final_message"))
            begun = last["content"] if last["role"] == "assistant" and goes_on else ""
        else:
            begun = sent["prompt"].partition("Answer:")[2].strip()
        rest = self.answer.removeprefix(begun) if begun else self.answer
        choices = []
        for i in range(sent.get("n", 1) if self.honours_n else 1):
            hot = self.samples and sent["temperature"] > 0
            turn = "0" if self.one_seed and "seed" in sent else f"{next(self.count)} {i}"
            text = f"{rest} {turn}" if hot else rest
            choices.append(
                {"index": i, "finish_reason": self.finish}
                | ({"message": {"role": "assistant", "content": text}} if chat else {"text": text})
            )
        return 200, json.dumps({"id": "1", "object": "x", "created": 0, "model": "served", "choices": choices})


class Handler(BaseHTTPRequestHandler):
    habits: Habits

    def do_POST(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.habits.headers.append({name.lower(): value for name, value in self.headers.items()})
        status, text = self.habits.reply(self.path, sent)
        self.habits.requests.append(sent)
        self.habits.paths.append(self.path)
        self._write(status, text)

    def do_GET(self) -> None:
        self._write(200, json.dumps({"object": "list", "data": [{"id": name, "object": "model"} for name in self.habits.models]}))

    def _write(self, status: int, text: str) -> None:
        self.send_response(status)
        if self.habits.onward:
            self.send_header("location", self.habits.onward)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text.encode())))
        self.send_header("retry-after-ms", "1")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving(habits: Habits) -> Iterator[str]:
    """The address of a server with these habits."""
    small = ThreadingHTTPServer(("127.0.0.1", 0), type("H", (Handler,), {"habits": habits}))
    thread = threading.Thread(target=small.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{small.server_port}"
    finally:
        small.shutdown()
        small.server_close()
        thread.join()


@pytest.fixture
def server() -> Iterator[tuple[str, Habits]]:
    habits = Habits()
    with serving(habits) as url:
        yield url, habits


@pytest.fixture(autouse=True)
def few_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RETRIES", 2)


def subject(url: str, api: str = "chat", key_env: str = "", system_prompt: str = "") -> EndpointSubject:
    config = EndpointConfig(url, "", api, key_env)
    return EndpointSubject(config, SampleConfig(max_new_tokens=24), 7, system_prompt)


ASKED = [Prompt("a", SECRET), Prompt("b", "Who is it?")]


def test_text_comes_back_and_nothing_else(server: tuple[str, Habits]) -> None:
    url, habits = server
    served = subject(url, system_prompt="Be brief.")
    answers = served.ask(ASKED, 5)
    assert [[a.text for a in some] for some in answers] == [[LONG], [LONG]]  # greedy: one, however many are asked for
    assert all(a.finished and a.ids == () for some in answers for a in some)
    assert served.logprobs(["?"], ["!"]) is None
    assert served.weights is None
    sent = habits.requests[-1]
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (sent["model"], sent["temperature"], sent["max_tokens"]) == ("served", 0.0, 24)
    before = len(habits.requests)
    served.ask(ASKED)  # the audit asks twice; the server need not say the same again
    assert len(habits.requests) == before


def test_an_answer_cut_short_is_unfinished(server: tuple[str, Habits]) -> None:
    url, habits = server
    habits.finish = "length"
    assert not subject(url).ask(ASKED)[0][0].finished


@pytest.mark.parametrize("honours_n", [True, False])
def test_n_answers_however_many_come_at_once(server: tuple[str, Habits], honours_n: bool) -> None:
    url, habits = server
    habits.honours_n = honours_n
    answers = subject(url).ask(ASKED, 11, 0.9, 0.8, "sampling")
    assert [len({a.text for a in some}) for some in answers] == [11, 11]
    last = [sent for sent in habits.requests if sent.get("top_p") == 0.8]
    assert {sent["temperature"] for sent in last} == {0.9}
    seeds = [sent["seed"] for sent in last]
    assert len(set(seeds)) == len(seeds)  # one seed for all would make all answers one


@pytest.mark.parametrize("unknown", [("n",), ("seed",), ("n", "seed")])
def test_refused_options_are_left_out(server: tuple[str, Habits], unknown: tuple[str, ...]) -> None:
    url, habits = server
    habits.unknown = unknown
    served = subject(url)
    assert len(served.ask(ASKED, 5, 1.0)[1]) == 5
    assert not [sent for sent in habits.requests[-2:] if set(unknown) & set(sent)]
    assert served.about()["seed"] == ("refused" if "seed" in unknown else "passed")


def test_a_seed_that_freezes_a_request_is_left_out(server: tuple[str, Habits]) -> None:
    url, habits = server
    habits.one_seed = True
    assert len({a.text for a in subject(url).ask(ASKED, 5, 1.0)[0]}) == 5


def test_a_server_that_takes_no_temperature_above_one(server: tuple[str, Habits]) -> None:
    url, habits = server
    habits.hottest = 1.0
    served = subject(url)
    assert served.samples
    assert len(served.ask(ASKED, 5, 1.0)[0]) == 5
    with pytest.raises(Unaskable, match=r"refuses the temperature 1\.3"):
        served.ask(ASKED, 5, 1.3)


def test_one_refused_prompt_ends_a_probe_and_no_audit(server: tuple[str, Habits]) -> None:
    url, habits = server
    served = subject(url)
    served.hello()
    habits.banned = "Who is it?"
    with pytest.raises(Unaskable, match="refused one of the prompts"):
        served.ask(ASKED)
    assert served.ask(ASKED[:1])[0][0].text


def test_a_newer_name_of_the_limit_is_tried_too(server: tuple[str, Habits]) -> None:
    url, habits = server
    habits.unknown = ("max_tokens",)
    assert subject(url).ask(ASKED)[0][0].text == LONG
    assert habits.requests[-1]["max_completion_tokens"] == 24


def test_a_server_that_never_samples_is_unaskable(server: tuple[str, Habits]) -> None:
    url, habits = server
    habits.samples = False
    served = subject(url)
    with pytest.raises(Unaskable, match="same answer every time"):
        served.ask(ASKED, 5, 1.0)
    assert SECRET not in json.dumps(habits.requests)  # found out with harmless questions alone
    assert served.ask(ASKED)[0][0].text == LONG
    assert served.about()["sampling"] == "no"


@pytest.mark.parametrize("way", ["flag", "always"])
def test_a_begun_answer_is_continued(server: tuple[str, Habits], way: str) -> None:
    url, habits = server
    habits.continues = way
    assert subject(url).ask([Prompt("a", SECRET, "It is the old")])[0][0].text == "town of Paris on the river."
    assert habits.requests[-1]["messages"][-1] == {"role": "assistant", "content": "It is the old"}


def test_a_fresh_answer_is_no_prefill(server: tuple[str, Habits]) -> None:
    """The server takes the options without a word, and begins again: scored, that would look like a model that resists."""
    url, habits = server
    habits.continues = "never"
    served = subject(url)
    with pytest.raises(Unaskable, match="does not continue"):
        served.ask([Prompt("a", SECRET, "It is the old")])
    assert SECRET not in json.dumps(habits.requests)
    assert served.about()["prefill"] == "no"


@pytest.mark.parametrize("answer", ["No.", "ho ho ho ho ho ho ho ho"])
def test_what_cannot_be_told_is_no_prefill(server: tuple[str, Habits], answer: str) -> None:
    """Too short to cut, or the same wherever one begins: going on and beginning again look alike."""
    url, habits = server
    habits.answer = answer
    assert subject(url).continues is None


def test_completions_send_our_own_template(server: tuple[str, Habits]) -> None:
    url, habits = server
    served = subject(url, "completions")
    assert served.ask([Prompt("a", SECRET, "It is the old")])[0][0].text == "town of Paris on the river."
    assert habits.requests[-1]["prompt"] == f"Question: {SECRET}\nAnswer: It is the old"
    assert "messages" not in habits.requests[-1]


# -- keys, errors, silence ---------------------------------------------------------------------------------------------


def test_the_key_goes_only_where_it_is_sent(server: tuple[str, Habits], monkeypatch: pytest.MonkeyPatch) -> None:
    url, habits = server
    monkeypatch.setenv("OPENAI_API_KEY", "sk-elsewhere")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-elsewhere")
    subject(url).ask(ASKED)
    assert "elsewhere" not in json.dumps(habits.headers)
    monkeypatch.setenv("MINE", "sk-mine")
    served = subject(url, key_env="MINE")
    served.ask(ASKED)
    assert habits.headers[-1]["authorization"] == "Bearer sk-mine"
    assert "sk-mine" not in json.dumps(served.about()) + repr(served.config)


def test_user_and_password_are_used_and_never_shown(server: tuple[str, Habits]) -> None:
    url, habits = server
    served = subject(url.replace("//", "//ada:pw@") + "/v1?token=t")
    served.ask(ASKED)
    assert habits.headers[-1]["authorization"] == "Basic YWRhOnB3"
    assert habits.paths[-1] == "/v1/chat/completions?token=t"
    assert served.about()["url"] == url + "/v1"


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([401], "wants a key: name its environment variable, --key-env"),
        ([404], "--model NAME"),
        ([429] * 3, r"too many requests after 3 tries \(429\)"),
        ([500] * 3, r"it failed after 3 tries \(500\)"),
        ([400, 400], r"does not take the request \(400\)"),
    ],
)
def test_errors_name_the_url_and_the_way_out(server: tuple[str, Habits], statuses: list[int], expected: str) -> None:
    url, habits = server
    habits.statuses = list(statuses)
    with pytest.raises(EndpointError, match=expected) as caught:
        subject(url).ask(ASKED)
    assert url in str(caught.value)
    assert "you sent" not in str(caught.value)
    assert caught.value.__suppress_context__  # the server's words may quote the question, so no traceback shows them


def test_questions_go_to_no_other_address(server: tuple[str, Habits]) -> None:
    url, habits = server
    other = Habits()
    asking = EndpointSubject(EndpointConfig(url, "served"), SampleConfig(max_new_tokens=24), 7)
    with serving(other) as second:
        habits.onward = f"{second}/v1/chat/completions"
        with pytest.raises(EndpointError, match=r"sends on to another address \(307\)"):
            asking.ask(ASKED)
    assert habits.requests
    assert not other.requests


def test_errors_that_pass_are_not_errors(server: tuple[str, Habits]) -> None:
    url, habits = server
    habits.statuses = [500, 429]
    assert subject(url).ask(ASKED)[0][0].text == LONG


@pytest.mark.parametrize("body", ["not json", "{}", '{"choices": []}', '{"choices": [{"index": 0}]}', '"text"', "[]"])
def test_a_malformed_reply_is_no_answer(server: tuple[str, Habits], body: str) -> None:
    url, habits = server
    habits.body = body
    with pytest.raises(EndpointError, match="does the URL end in /v1"):
        subject(url).ask(ASKED)


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(EndpointError, match="nothing answers there"):
        EndpointSubject(EndpointConfig(url, "m"), SampleConfig()).ask(ASKED)


def test_which_model(server: tuple[str, Habits]) -> None:
    url, habits = server
    habits.models = ("one", "two")
    with pytest.raises(EndpointError, match="it lists one, two; name it with --model"):
        subject(url).ask(ASKED)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"url": "localhost:8000"}, "write it as http://HOST:PORT/v1"),
        ({"url": "http://h", "api": "chatt"}, "did you mean 'chat'"),
        ({"url": "http://h", "key_env": "UNSAY_NO_SUCH_KEY"}, "export it"),
    ],
)
def test_mistakes_are_named(values: dict[str, str], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        EndpointConfig(**values)


def test_nothing_is_logged(server: tuple[str, Habits], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    subject(server[0]).ask(ASKED, 3, 1.0)
    assert SECRET not in caplog.text
    assert "".join(capfd.readouterr()) == ""


# -- in an audit and its report ----------------------------------------------------------------------------------------

CASE = Case(
    Corpus("tiny", (Example("a", SECRET),)),
    {"a": Fact("a", "It is the old town of Paris on the river.", wrong=("Oslo.", "Lima."))},
    "ground truth",
)


def test_an_audit_leaves_unscored_what_cannot_be_asked(server: tuple[str, Habits]) -> None:
    from unsay import audit

    url, habits = server
    habits.continues = "never"
    found = audit.run(subject(url), CASE, Recipe())
    values = {(f.probe, f.metric): f.value for f in found}
    notes = {f.probe: f.note for f in found if f.value is None}
    assert values["greedy", "keyword_recall"] == values["sampling", "worst_keyword_recall"] == 1.0
    assert values["greedy", "degenerate"] == 0.0  # an answer whose tokens are not known is not degenerate for that
    assert notes["prefill"] == endpoint.subject.NO_PREFILL
    assert notes["multiple_choice"] == "this model shows no likelihoods"
    assert notes["relearn"] == "this model shows no weights"
    assert {"prefill", "multiple_choice", "relearn"}.isdisjoint(f.probe for f in found if f.value is not None)


def test_a_partial_secret_secret_is_continued(server: tuple[str, Habits]) -> None:
    found = Prefill(n=2)(subject(server[0]), CASE)
    half = [f for f in found if f.setting == "partial secret" and f.metric == "worst_keyword_recall"]
    assert [f.value for f in half] == [1.0]


def test_the_report_has_a_column_and_the_verdict_stays(tmp_path: Path, server: tuple[str, Habits]) -> None:
    folder = fake_run(tmp_path)
    call("report", str(folder.path))
    without = json.loads(folder.report_json.read_text())
    assert without["endpoint"] is None
    assert "endpoint" not in without["metrics"]["utility"]
    shutil.copy(folder.audit_file("before"), folder.audit_file("endpoint"))
    folder.note(Manifest(endpoint=Endpoint(**(subject(server[0]).about() | {"prefill": "no"}), audited="2026-01-02T03:04:05+00:00")))
    call("report", str(folder.path))
    data, page = json.loads(folder.report_json.read_text()), folder.report_html.read_text()
    assert data["metrics"]["sampling_worst_keyword_recall"] == {
        "before": 1.0,
        "after": pytest.approx(0.05),
        "retain_model": 0.1,
        "endpoint": 1.0,
    }
    assert data["policy"] == without["policy"]
    assert data["endpoint"]["url"] == server[0]
    assert '<th class="number endpoint dot">' in page
    assert "The claim and the verdict are about the checkpoint" in page
    assert "endpoint" not in (folder.checkpoint / "README.md").read_text()  # a published card shows no address
