"""docs/supply-chain.md, constraints.txt and pyproject.toml say the same, and nothing is fetched that was not asked for."""

import ast
import importlib
import importlib.metadata as metadata
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import httpx2
import huggingface_hub
import pytest
from packaging.utils import canonicalize_name

from tests.test_cli import SMALL, call
from unsay.config import load
from unsay.lm import builtin, model
from unsay.record import source

ROOT = Path(__file__).resolve().parents[1]
DOC = (ROOT / "docs" / "supply-chain.md").read_text()
BROUGHT = {"markupsafe": "jinja2"}
"""Imported, and a part of what is named: jinja2's autoescaping is markupsafe's."""


@pytest.fixture(scope="module")
def licences() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "scripts"))
    yield importlib.import_module("licences")
    sys.path.remove(str(ROOT / "scripts"))


def table(heading: str) -> dict[str, list[str]]:
    """First cell → the other cells, of the table under a heading of the page."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", DOC, re.DOTALL | re.MULTILINE)
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if line.startswith("| ")]
    assert len(rows) > 3
    return {name.strip(): cells for name, *cells in rows[1:]}


def test_every_dependency_has_a_row_with_its_range_and_why(licences: ModuleType) -> None:
    rows, pins = table("Packages that pyproject.toml names"), licences.pins()
    named = licences.direct()
    assert {one.name for one in named} == rows.keys(), "python scripts/licences.py prints the rows"
    for one in named:
        bounds, groups, licence, why = rows[one.name]
        assert bounds == one.range
        assert groups == ", ".join(one.groups)
        assert licence
        assert len(why.rstrip(" |")) > 3, f"why {one.name} is needed"
        package = licences.installed(one.name)
        if package and package.version.partition("+")[0] == pins.get(one.name):  # another version may say it otherwise
            assert licence == licences.licence(package)


def test_so_has_everything_that_comes_along(licences: ModuleType) -> None:
    rows, pins = table("Packages that come along"), licences.pins()
    for name in licences.transitive(licences.direct()):
        if name.startswith(licences.OF_CUDA_TORCH):
            continue
        assert name in rows, "python scripts/licences.py prints the row"
        package = metadata.distribution(name)
        if package.version.partition("+")[0] == pins.get(name):
            assert rows[name][0] == licences.licence(package)


def test_everything_installed_is_pinned(licences: ModuleType) -> None:
    assert licences.unpinned() == {}, "these lines are missing from constraints.txt"
    assert len(licences.pins()) > 50


def test_pins_and_what_is_installed_lie_within_the_ranges(licences: ModuleType) -> None:
    pins = licences.pins()
    for one in licences.direct():
        here = licences.installed(one.name)
        for version in filter(None, (pins.get(one.name), here and here.version)):
            assert one.requirement.specifier.contains(version, prereleases=True), f"{one.name} {version} is outside of {one.range}"


def test_what_is_missing_is_found(licences: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def package(name: str, *lines: str) -> None:
        place = tmp_path / f"{name}-2.0+cpu.dist-info"
        place.mkdir()
        (place / "METADATA").write_text("\n".join(["Metadata-Version: 2.4", f"Name: {name}", "Version: 2.0+cpu", *lines, ""]))

    package("Unsay_One", "License-Expression: MIT", "Requires-Dist: unsay-two", 'Requires-Dist: unsay-three; extra == "more"')
    package("unsay_two", "License: Permission is granted\n        to all", "Classifier: License :: OSI Approved :: BSD License")
    package("unsay_three", "License: BSD", 'Requires-Dist: unsay-two; python_version < "3"')
    monkeypatch.syspath_prepend(str(tmp_path))
    project, constraints = tmp_path / "pyproject.toml", tmp_path / "constraints.txt"
    project.write_text('[project]\ndependencies = ["unsay-one>=1,<3"]\n[project.optional-dependencies]\nx = ["unsay-one[more]>=1,<3"]\n')
    constraints.write_text("# pins\nunsay-one==1.9\n")
    (one,) = licences.direct(project)
    assert (one.name, one.groups) == ("unsay-one", ("all", "x"))
    assert licences.transitive([one]) == {"unsay-two": {"unsay-one"}, "unsay-three": {"unsay-one"}}
    assert licences.unpinned(project, constraints) == {"unsay-two": "unsay_two==2.0", "unsay-three": "unsay_three==2.0"}
    assert [licences.licence(metadata.distribution(name)) for name in ("unsay-one", "unsay-two", "unsay-three")] == [
        "MIT",
        "BSD License",
        "BSD",
    ]


def test_the_package_imports_nothing_that_it_does_not_name(licences: ModuleType) -> None:
    installed = metadata.packages_distributions()
    named = {one.name for one in licences.direct()}
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            absolute = [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else absolute
            for top in {(module or "").split(".")[0] for module in modules} - sys.stdlib_module_names - {"unsay"}:
                packages = {canonicalize_name(name) for name in installed.get(top, [top])} | {BROUGHT.get(top, top)}
                assert packages & named, f"{path.name} imports {top}, which pyproject.toml does not name"


def test_built_in_models_have_a_licence_on_the_page() -> None:
    names = " ".join(table("Weights"))
    assert all(f"`{name}`" in names for name in builtin.describe())


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Who was to be reached, by name or address; nobody is."""
    asked: list[object] = []

    def refuse(*arguments: object, **_: object) -> None:
        asked.append(arguments)
        raise OSError("no network in this test")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)  # other tests forbid the hub from asking at all
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return asked


def test_the_demo_s_models_and_corpus_open_no_connection(dialled: list[object]) -> None:
    recipe = load(ROOT / "recipes" / "demo.toml", [])
    for name in (recipe.model.name, recipe.model.retain_model):
        model.load(recipe.model, name)
    assert source(recipe).corpus().forget
    assert dialled == []
    with pytest.raises(httpx2.ConnectError, match="no network"):  # the trap is a trap: a hub id goes out, and is caught
        huggingface_hub.HfApi().model_info("nobody/nothing")
    assert dialled


@pytest.mark.slow
def test_nor_does_the_whole_demo(dialled: list[object], tmp_path: Path) -> None:
    call("demo", "--out", str(tmp_path / "run"), *SMALL)
    assert (tmp_path / "run" / "report.html").exists()
    assert dialled == []
