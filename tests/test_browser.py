"""The report in a browser: it loads nothing, runs nothing but its filter, and its content-security policy would stop whoever tried."""

import base64
import dataclasses
import hashlib
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.browser import Chromium, needs_chromium
from tests.test_report import RECIPE, fake_run
from unsay.probes import declared
from unsay.report import build
from unsay.report.sheet import content_policy, lifted
from unsay.store.files import jsonl, write_text
from unsay.store.folder import RunFolder, read_findings
from unsay.store.manifest import Machine, Manifest, Request
from unsay.tables import OPT_IN
from unsay.types import Finding

PLANTED = "<script>document.title='it ran'</script><img src=x onerror=\"document.title='it ran'\">"
LOADING = {"src", "srcset", "data", "poster", "background", "action", "formaction", "manifest", "ping", "codebase"}


class Page(HTMLParser):
    """What a page consists of, as far as a browser may load or run it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.sheets: list[str] = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute twice in <{tag}>: a browser drops the second"
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def policy(self) -> str:
        (policy,) = [attrs["content"] for tag, attrs in self.tags if tag == "meta" and "http-equiv" in attrs]
        return policy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A whole run, with markup wherever a run folder's own words reach the page."""
    folder = fake_run(tmp_path_factory.mktemp("planted"))
    write_text(folder.recipe_file, RECIPE.replace("Forget <b>four</b> people & more", PLANTED.replace('"', '\\"')))
    folder.note(Manifest(versions={"unsay": PLANTED}, machine=Machine(PLANTED, 1, PLANTED)))
    with folder.audit_file("after").open("a") as lines:
        lines.write(jsonl([dataclasses.asdict(Finding("paraphrase", "keyword_recall", 0.5, "q0", PLANTED))]))
    build(folder)
    return folder


@pytest.fixture(scope="module")
def page(folder: RunFolder) -> Page:
    return Page(folder.report_html.read_text())


def test_nothing_is_loaded_from_outside(folder: RunFolder, page: Page) -> None:
    assert not {tag for tag, _ in page.tags} & {"img", "image", "link", "iframe", "object", "embed", "form", "base", "video"}
    assert [attributes for tag, attributes in page.tags if tag == "script"] == [{}], "its own filter, which stands in the page"
    for tag, attributes in page.tags:
        assert not LOADING & attributes.keys(), tag
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        links = [value for name, value in attributes.items() if name in ("href", "xlink:href")]
        assert all(value.startswith("#") for value in links), "no element of the page links anywhere but into it"
    text = folder.report_html.read_text()
    assert text.count("it ran") == 2 * text.count("&lt;script&gt;") >= 8, "what was planted is there, as text"
    assert not re.search(r"@import|url\(\s*[^#\s]", text)
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) <= {"http://www.w3.org/1999/xlink", "http://www.w3.org/2000/svg"}, (
        "names, not loads"
    )


def test_the_policy_allows_this_sheet_the_filter_and_nothing_else(folder: RunFolder, page: Page) -> None:
    (sheet,) = page.sheets
    (script,) = re.findall(r"<script>(.*?)</script>", folder.report_html.read_text(), re.DOTALL)
    named = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (sheet, script)]
    allowed = f"style-src 'sha256-{named[0]}'; script-src 'sha256-{named[1]}'"
    assert page.policy() == f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"
    names = [attributes.get("http-equiv", tag) for tag, attributes in page.tags]
    assert names.index("Content-Security-Policy") < names.index("style"), "a policy holds for what follows it"


def test_the_hash_is_that_of_the_standard() -> None:
    # sha256("") in hexadecimal is e3b0c442 98fc1c14 …, as in FIPS 180-4's examples.
    assert "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='" in content_policy("")


def test_every_class_of_a_drawing_has_its_rule(page: Page) -> None:
    (sheet,) = page.sheets
    rules = set(re.findall(r"^\.(d\d+)\{", sheet, re.MULTILINE))
    used = {attributes["class"] for _, attributes in page.tags if re.fullmatch(r"d\d+", attributes.get("class", ""))}
    assert used == rules
    assert len(rules) > 10


def test_styles_become_classes_and_text_stays_text() -> None:
    text = '<text style="fill: red"> style="fill: blue"</text>'
    bare, rules = lifted(
        {"a": f'<svg><style type="text/css">*{{x: y}}</style>{text}</svg>', "b": '<path style="fill: red"/><path style="x"/>'}
    )
    assert bare == {"a": '<svg><text class="d1"> style="fill: blue"</text></svg>', "b": '<path class="d1"/><path class="d2"/>'}
    assert rules == "*{x: y}\n.d1{fill: red}\n.d2{x}\n"
    with pytest.raises(ValueError, match="could end the sheet"):
        lifted({"a": '<path style="&lt;/style&gt;"/>'})


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """The outside: a server on this machine that writes down what it is asked for."""
    asked: list[str] = []

    class Outside(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    outside = ThreadingHTTPServer(("127.0.0.1", 0), Outside)
    Thread(target=outside.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{outside.server_port}", asked
    outside.shutdown()
    outside.server_close()


@pytest.mark.slow
@needs_chromium
def test_it_renders_under_its_policy(folder: RunFolder, chromium: Chromium) -> None:
    chromium.open(folder.report_html)
    assert chromium.complaints() == []
    assert chromium.requests() == [folder.report_html.as_uri()]
    assert chromium.says("document.title") == PLANTED, "markup in a title is text"
    assert chromium.says("document.scripts.length + document.images.length") == 1
    style = "getComputedStyle(document.querySelector({!r})).{}"
    assert chromium.says(style.format("body", "maxWidth")) == "960px", "the page's own rules hold"
    assert chromium.says(style.format("figure svg text", "fontSize")) == "8px", "and those that were the drawings' attributes"
    assert chromium.says("[...document.querySelectorAll('figure svg')].every(one => one.getBoundingClientRect().height > 40)")
    assert chromium.says("document.querySelectorAll('figure svg').length") >= 4


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("guarded", [True, False], ids=["with the policy", "without it: the test can see"])
def test_what_slips_in_neither_runs_nor_loads(
    folder: RunFolder, chromium: Chromium, server: tuple[str, list[str]], tmp_path: Path, guarded: bool
) -> None:
    """As if the escaping had failed: live markup in the body, one tag for each way out."""
    address, asked = server
    live = f"""<script>document.title = 'it ran'; fetch('{address}/fetch')</script><script src="{address}/script.js"></script>
    <img src="{address}/picture.png" onerror="document.title = 'it ran'"><link rel="stylesheet" href="{address}/sheet.css">
    <iframe src="{address}/frame"></iframe><style>@font-face {{ font-family: f; src: url({address}/font) }} h1 {{ font-family: f }}</style>
    <style>#mark {{ color: rgb(1, 2, 3) }}</style><object data="{address}/object"></object><p id="mark" style="width: 7px">m</p>"""
    text = folder.report_html.read_text().replace("<header", live + "<header", 1)
    if not guarded:
        text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    write_text(tmp_path / "report.html", text)
    chromium.open(tmp_path / "report.html")
    mark = "getComputedStyle(document.getElementById('mark'))"
    styled = [chromium.says(f"{mark}.color === 'rgb(1, 2, 3)'"), chromium.says(f"{mark}.width === '7px'")]
    if guarded:
        assert asked == []
        assert chromium.says("document.title") == PLANTED
        assert styled == [False, False]
        assert len([line for line in chromium.complaints() if "Content Security Policy" in line]) >= 8
    else:
        assert {"/fetch", "/script.js", "/picture.png", "/sheet.css", "/frame", "/font", "/object"} <= set(asked)
        assert chromium.says("document.title") == "it ran"
        assert styled == [True, True]


LONG = "A right answer in many words that says again what was asked and then a little more than that"


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A report as long as the demo's: every attack that runs by default, with settings of its own, a verdict that failed, and answers
    about what should stay."""
    folder = fake_run(tmp_path_factory.mktemp("long"))
    write_text(folder.recipe_file, RECIPE.replace('policy = "demo"', 'policy = "default"'))
    run = {name: probe for name, probe in declared().items() if name not in OPT_IN}
    settings = [(name, f"{name.replace('_', ' ')} {number}") for name, probe in run.items() if probe.by_setting for number in range(3)]
    for which in ("before", "after", "retain_model"):
        known = read_findings(folder.audit_file(which))
        places = {(f.probe, f.metric, f.setting, f.example) for f in known}
        more = [
            Finding(name, declared()[name].by_setting, 0.5, f"q{i}", setting, 100, group=str(i % 3))
            for name, setting in settings
            for i in range(4)
        ]
        for probe_name, probe in run.items():
            for one in probe.metrics:
                fits = [setting for setting in ("", "T=1", "10 steps, unrelated text") if one.finding and one.where(setting)]
                more += [Finding(probe_name, one.finding, 0.4, f"q{i}", setting, 20) for setting in fits[:1] for i in range(2)]
        more += [Finding("sampling", "leak_rate", 0.01, f"q{i}", "T=0.7", 100) for i in range(20)]
        found = known + [f for f in dict.fromkeys(more) if (f.probe, f.metric, f.setting, f.example) not in places]
        unique = {(f.probe, f.metric, f.setting, f.example): f for f in found}
        write_text(folder.audit_file(which), jsonl(map(dataclasses.asdict, unique.values())))
        rows = [
            {
                "id": f"r{i}",
                "set": "retain",
                "question": f"What is kept under the number {i}?",
                "answer": LONG,
                "said": LONG,
                "recall": i / 20,
            }
            for i in range(20)
        ]
        write_text(folder.kept_answers_file(which), jsonl(rows))
    folder.note(Manifest(request=Request("7f5ff75c-4a37-4a1e-95c7-d3be8a3f0bc5", "2026-11-26T10:00:00+00:00")))
    build(folder)
    return folder


CUT = """[...document.querySelectorAll('body *')].filter(one => {
    const box = one.getBoundingClientRect(), style = getComputedStyle(one);
    return !one.closest('svg, .stack thead') && box.width && (box.right > EDGE + 1 || box.left < -1
        || (style.overflowX !== 'visible' && one.scrollWidth > one.clientWidth + 1));
}).map(one => one.tagName + '.' + one.className + ' ' + one.textContent.slice(0, 40))"""
"""Elements that stick out of a page EDGE pixels wide, or hide a part of themselves."""


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("width", [1280, 760, 390])
def test_nothing_is_cut_off_and_nothing_scrolls_sideways(long: RunFolder, chromium: Chromium, width: int) -> None:
    chromium.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
    chromium.open(long.report_html)
    chromium.says("document.querySelectorAll('details').forEach(one => one.open = true)")
    inner = chromium.says("document.documentElement.clientWidth")
    assert chromium.says("document.documentElement.scrollWidth") <= inner <= width
    assert chromium.says(CUT.replace("EDGE", str(inner))) == []
    chromium.ask("Emulation.clearDeviceMetricsOverride")


@pytest.mark.slow
@needs_chromium
def test_it_prints_on_eight_pages_and_the_first_is_whole(long: RunFolder, chromium: Chromium) -> None:
    width, height = (round(mm * 96 / 25.4) for mm in (210 - 2 * 13, 297 - 2 * 12))  # A4 less the margins of the sheet
    chromium.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
    chromium.ask("Emulation.setEmulatedMedia", media="print")
    chromium.open(long.report_html)
    assert chromium.says("document.querySelector('.cover').getBoundingClientRect().bottom") <= height
    assert chromium.says(CUT.replace("EDGE", str(width))) == []
    folded = "[...document.querySelectorAll('details:not(.screen)')].every(one => one.lastElementChild.getBoundingClientRect().height > 0)"
    assert chromium.says(folded), "what is folded on the screen is printed"
    assert chromium.says("[...document.querySelectorAll('.filter, .screen')].map(one => one.offsetHeight)") == [0, 0, 0]
    chromium.ask("Emulation.setEmulatedMedia", media="")
    chromium.ask("Emulation.clearDeviceMetricsOverride")
    printed = base64.b64decode(chromium.ask("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"])
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 8


TYPED = """(text => { const field = document.querySelector('#worst .filter'); field.value = text; field.dispatchEvent(new Event('input'));
    const seen = [...document.querySelectorAll('#worst tbody tr')].filter(one => one.checkVisibility());
    return [seen.map(one => one.cells[0].textContent), document.querySelector('#worst output').textContent]; })"""


@pytest.mark.slow
@needs_chromium
def test_a_question_is_found_and_without_scripts_all_are_there(long: RunFolder, chromium: Chromium) -> None:
    chromium.open(long.report_html)
    assert chromium.says("document.querySelectorAll('#worst tbody tr').length") == 20
    assert len(chromium.says(f"{TYPED}('')")[0]) == 8, "the others are folded"
    assert chromium.says(f"{TYPED}('Q17')") == [["q17"], " 1 of 20"]
    assert chromium.says(f"{TYPED}('no such question')") == [[], " 0 of 20"]
    assert len(chromium.says(f"{TYPED}(' ')")[0]) == 8
    assert chromium.complaints() == []
    chromium.ask("Emulation.setScriptExecutionDisabled", value=True)
    chromium.open(long.report_html)
    chromium.ask("Emulation.setScriptExecutionDisabled", value=False)
    assert chromium.says("document.querySelectorAll('.filter').length") == 0, "no field that does nothing"
