"""`unsay view`: it shows numbers, names and reports to whoever has its address, and nothing else to nobody else."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="the extra unsay[view] is not installed")
from starlette.testclient import TestClient

from tests.browser import Chromium, needs_chromium
from tests.test_cli import call
from tests.test_report import CANARY, RECIPE, fake_run
from unsay.config import ConfigError
from unsay.report import build
from unsay.report.compare import compare
from unsay.store.files import jsonl, write_text
from unsay.store.folder import RunFolder
from unsay.store.manifest import Manifest
from unsay.view.app import application, serve
from unsay.view.below import Below

TOKEN, PORT = "a-token-of-the-test", 8017
BASE = f"/{TOKEN}/"
OUTSIDE = "a-text-that-lies-outside"
HOSTILE = "<!doctype html><p id=mark>m</p><script>document.title = 'it ran'</script><img src=x onerror=\"document.title = 'it ran'\">"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs, one that trains now, one that cannot be read, one of somebody else; a sweep; links that lead out."""
    above = tmp_path_factory.mktemp("above")
    root = above / "runs"
    for name in ("one", "deep/er/two"):
        folder = fake_run(root / name)
        folder.texts.write("corpus", [{"id": f"q{i}", "question": f"{CANARY} {i}"} for i in range(20)])
        build(folder)
    fake_run(root / "trains", audits=(), trained=False)
    steps = [{"step": step, "round": step // 3} for step in range(36)]
    write_text(root / "trains" / "train" / "steps.jsonl", jsonl(steps))
    write_text(root / "trains" / ".lock", f"{os.getpid()} on {socket.gethostname()}\n")
    write_text(root / "torn" / "recipe.toml", f'title = "{CANARY}')
    write_text(root / "torn" / "manifest.json", "{}")
    theirs = fake_run(root / "theirs")
    write_text(theirs.report_html, HOSTILE)
    policy = {"passed": True, "lines": [{"passed": "yes"}, {"passed": True}]}
    metrics = {"utility": {"after": float("nan")}, "utility_heldout": {"after": f"<b>{CANARY}</b>"}}
    write_text(theirs.report_json, json.dumps({"metrics": metrics, "policy": policy, "title": CANARY}))
    away = fake_run(above / "away")
    build(away)
    write_text(above / "secret.html", OUTSIDE)
    (root / "linked").symlink_to(away.path)
    half = fake_run(root / "half")
    half.report_html.symlink_to(above / "secret.html")
    write_text(above / "audit" / "after.jsonl", (half.path / "audit" / "after.jsonl").read_text())
    (half.path / "audit" / "before.jsonl").unlink()
    (half.path / "audit" / "before.jsonl").symlink_to(above / "audit" / "after.jsonl")
    write_text(root / "sweep" / "sweep.toml", "budget = 10.0\n")
    trial = {"number": 0, "method": "pmc", "settings": {}, "state": "complete", "why": "", "seeds": [0, 1]}
    write_text(root / "sweep" / "pmc" / "000" / "trial.json", json.dumps(trial))
    for seed, utility in enumerate((90.0, 80.0)):
        place = root / "sweep" / "pmc" / "000" / f"seed-{seed}"
        curve = [
            {"checkpoint": i, "round": i, "cpu_seconds": float(i), "gpu_seconds": None}
            | {"metrics": {"greedy_keyword_recall": 1 - i / 4, "utility_heldout": utility - i, "utility": utility}}
            for i in (1, 2)
        ]
        write_text(place / "curve.jsonl", jsonl(curve))
        write_text(place / "recipe.toml", RECIPE)
        write_text(place / "manifest.json", "{}")
    return root


@pytest.fixture
def client(root: Path) -> TestClient:
    return TestClient(application(Below(root), TOKEN, PORT), base_url=f"http://127.0.0.1:{PORT}", follow_redirects=False)


def test_every_run_is_a_row_of_numbers_and_names(root: Path) -> None:
    rows = {row.name: row for row in Below(root).rows()}
    swept = {f"sweep/pmc/000/seed-{seed}" for seed in (0, 1)}
    assert rows.keys() == {"one", "deep/er/two", "trains", "torn", "theirs", "half", *swept}, "no link was followed"
    one = rows["one"]
    told = json.loads((root / "one" / "report.json").read_text())
    failed = sum(not line["passed"] for line in told["policy"]["lines"])
    assert one.verdict == (f"failed {failed} of {len(told['policy']['lines'])}" if failed else "passed")
    assert one.metrics == {key: told["metrics"][key]["after"] for key in one.metrics}
    assert (one.model, one.method, one.reported, one.audited) == ("people-target", "pmc", True, True)
    assert (rows["trains"].state, rows["trains"].progress) == ("trains, round 12 of 30", 0.4)
    assert rows["torn"].state == "of another version, or damaged"
    assert rows["theirs"].verdict == "failed 1 of 2", "each line counts, not what the file says of all"
    assert set(rows["theirs"].metrics.values()) == {None}, "neither a text nor what is no number"
    assert rows["sweep/pmc/000/seed-0"].metrics["utility_heldout"] == 88.0, "of the last checkpoint"
    assert not rows["half"].reported


def test_a_run_that_is_over_runs_no_more(root: Path, tmp_path: Path) -> None:
    folder, below = fake_run(tmp_path / "run"), Below(tmp_path)
    with folder.claimed():
        assert below.rows()[0].state.startswith("runs, done: nothing")
    assert below.rows()[0].state == "begun", "this process still lives, but writes there no more"
    write_text(folder.path / ".lock", f"{2**22 + 1} on {socket.gethostname()}\n")
    assert below.rows()[0].state == "begun", "that process is dead"
    folder.note(Manifest(finished={"train": "2026-01-01T00:00:00+00:00"}))
    assert below.rows()[0].state == "stopped after train", "read anew"


def test_an_old_report_says_so(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "run")
    folder.note(Manifest(reported="2026-01-01T00:00:00+00:00", finished={"audit after": "2026-01-02T00:00:00+00:00"}))
    build(folder)
    (row,) = Below(tmp_path).rows()
    assert (row.verdict, row.passed) == ("report is older than the audit", None)


def test_no_page_shows_a_secret(client: TestClient) -> None:
    for page in (
        "",
        "report/one",
        "compare?run=one&run=deep/er/two",
        "compare?run=one&run=torn",
        "front/sweep",
        "compare?run=half&run=one",
    ):
        answer = client.get(BASE + page)
        assert answer.status_code == 200, page
        assert CANARY not in answer.text, page
        assert OUTSIDE not in answer.text, page


@pytest.mark.parametrize(
    ("path", "host"),
    [
        ("/", f"127.0.0.1:{PORT}"),
        ("//", f"127.0.0.1:{PORT}"),
        (f"/{TOKEN[:-1]}/", f"127.0.0.1:{PORT}"),
        (f"/{TOKEN}x/", f"127.0.0.1:{PORT}"),
        (f"/ü{TOKEN}/", f"127.0.0.1:{PORT}"),
        (BASE, "evil.example"),
        (BASE, f"evil.example:{PORT}"),
        (BASE, "127.0.0.1"),
        (BASE, f"127.0.0.1:{PORT + 1}"),
        (BASE, f"127.0.0.1:{PORT}.evil.example"),
        (BASE, ""),
    ],
)
def test_who_does_not_name_token_and_machine_is_turned_away(client: TestClient, path: str, host: str) -> None:
    answer = client.get(path, headers={"host": host})
    assert (answer.status_code, answer.text) == (404, "not found")


def test_both_names_of_this_machine_will_do_and_nothing_is_changed(client: TestClient) -> None:
    assert client.get(BASE, headers={"host": f"localhost:{PORT}"}).status_code == 200
    assert client.post(BASE).status_code == 405
    twice = [("host", f"localhost:{PORT}"), ("host", "evil.example")]
    assert client.get(BASE, headers=twice).status_code == 404


ELSEWHERE = [
    "report/%2e%2e",
    "report/%2e%2e/one",
    "report/%2e%2e/%2e%2e/secret",
    "report//etc/passwd",
    "report/%2Fetc%2Fpasswd",
    "report/one/%2e%2e/half",
    "report/one/report.html",
    "report/one%00",
    "report/",
    "report/half",
    "report/linked",
    "report/torn",
    "report/away",
    "front/one",
    "front/%2e%2e",
    "vault/one",
    "one/vault/corpus.jsonl",
    "report.css",
    "compare?run=../away&run=one",
    "compare?run=linked&run=one",
]


@pytest.mark.parametrize("path", ELSEWHERE)
def test_nothing_is_served_but_what_was_found(client: TestClient, path: str) -> None:
    answer = client.get(BASE + path)
    assert answer.status_code == 404, "a path is looked up, never opened"
    assert OUTSIDE not in answer.text


def test_what_leads_out_is_not_compared(client: TestClient, root: Path) -> None:
    text = client.get(f"{BASE}compare?run=half&run=one").text
    assert "leads out of the folder" in text
    assert "name at least two" in client.get(f"{BASE}compare?run=one&run=one").text
    (root / "sweep" / "pmc" / "000" / "seed-2").symlink_to(root.parent / "away")
    assert "leads out of the folder" in client.get(f"{BASE}front/sweep").text
    (root / "sweep" / "pmc" / "000" / "seed-2").unlink()


def test_runs_are_set_side_by_side_as_compare_does(client: TestClient, root: Path) -> None:
    text = client.get(f"{BASE}compare?run=one&run=deep/er/two").text
    columns = compare([RunFolder(root / "one"), RunFolder(root / "deep" / "er" / "two")])
    change = columns[1].differences["greedy_keyword_recall"]
    assert f"Δ {change.mean:+.2f} ({change.low:+.2f} to {change.high:+.2f})" in text
    assert str(root) not in text, "named by their path below the folder"


def test_every_checkpoint_of_a_sweep_is_a_point_that_opens_its_run(client: TestClient, root: Path) -> None:
    spots = Below(root).spots("sweep", root / "sweep")
    places = [(one.x, round(one.y, 2), one.front) for one in spots]
    assert places == [(0.25, 0.89, True), (0.5, 0.88, True), (0.25, 0.79, False), (0.5, 0.78, False)]
    text = client.get(f"{BASE}front/sweep").text
    assert text.count(f'href="{BASE}#sweep/pmc/000/seed-0"') == 2
    assert f'<a href="{BASE}front/sweep">' in client.get(BASE).text


def test_pages_are_closed_to_others(client: TestClient) -> None:
    for path in (BASE, f"{BASE}report/one", f"{BASE}nowhere", "/"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; base-uri 'none'; frame-ancestors 'none'")
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "no-referrer", "the token stands in the address"
        assert "access-control-allow-origin" not in headers
    assert "sandbox allow-scripts;" in client.get(f"{BASE}report/one").headers["content-security-policy"]


def test_what_cannot_be_served_is_said(tmp_path: Path) -> None:
    assert "is not a folder" in call("view", str(tmp_path / "nowhere"), code=2)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="choose another --port"):
            serve(tmp_path, taken.getsockname()[1], print)


@pytest.fixture
def address(root: Path) -> Iterator[str]:
    """The command itself."""
    command = [sys.executable, "-m", "unsay", "view", str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout
        assert server.stderr
        yield server.stdout.readline().strip()
        server.terminate()
        assert server.wait(60) == 143
        assert "Traceback" not in server.stderr.read()


@pytest.mark.slow
@needs_chromium
def test_in_a_browser(root: Path, address: str, chromium: Chromium) -> None:
    """Sort, tick two, see a third move on meanwhile, compare, read a report."""
    chromium.open(address)
    assert chromium.complaints() == []
    names = "[...document.querySelectorAll('#runs tbody tr')].filter(one => one.checkVisibility()).map(one => one.id)"
    first = chromium.says(names)
    chromium.says("[...document.querySelectorAll('#runs thead button')].find(one => one.textContent === 'Utility, held out').click()")
    ordered = chromium.says(names)
    assert ordered[:2] == ["sweep/pmc/000/seed-1", "sweep/pmc/000/seed-0"]
    assert ordered != first
    chromium.says("document.querySelector('th[aria-sort] button').click()")
    ordered_again = chromium.says(names)
    assert {*ordered_again[:2]} == {"one", "deep/er/two"}, "the other way round, and what is not known last"
    for name in ("one", "deep/er/two"):
        chromium.says(f"document.getElementById('{name}').querySelector('input').click()")
    with (root / "trains" / "train" / "steps.jsonl").open("a") as lines:
        lines.write(jsonl([{"step": 36, "round": 14}]))
    state = "document.getElementById('trains').cells[2].textContent"
    for _ in range(40):
        chromium.read(0.5)
        if "round 15" in chromium.says(state):
            break
    assert "trains, round 15 of 30" in chromium.says(state)
    assert chromium.says("document.querySelectorAll('input:checked').length") == 2, "what was ticked stays ticked"
    chromium.says("document.querySelector('.filter').value = 'people-target sweep'")
    chromium.says("document.querySelector('.filter').dispatchEvent(new Event('input'))")
    assert len(chromium.says(names)) == 2
    chromium.events.clear()
    chromium.says("document.querySelector('.go').click()")
    chromium.loaded()
    heads = chromium.says("[...document.querySelectorAll('#compared thead th')].slice(1).map(one => one.firstChild.textContent)")
    assert heads == [name for name in ordered_again if name in ("one", "deep/er/two")], "in the order of the table"
    chromium.open(f"{address}front/sweep")
    assert chromium.says("document.querySelectorAll('.front circle').length") == 4
    chromium.open(f"{address}report/one")
    assert [line for line in chromium.complaints() if "sandbox" not in line] == []
    assert chromium.says("document.querySelectorAll('#worst .filter').length") == 1
    assert chromium.says("getComputedStyle(document.body).maxWidth") == "960px"
    chromium.open(f"{address}report/theirs")
    assert chromium.says("document.getElementById('mark').textContent") == "m"
    assert chromium.says("document.title") != "it ran"
