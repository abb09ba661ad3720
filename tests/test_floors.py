"""Imports only go down, and the two wings never meet."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "unsay"
FLOORS = (
    "types tables spans linear stats memory clock interrupt",
    "text config theory logprobs moments metric",
    "files",
    "semantic membership overlap vault redact identity",
    "manifest",
    "folder rewards deployment",
    "encode builtin cache",
    "reading",
    "model corpora plan",
    "sample adapters review",
    "subject anchor",
    "sampler rehearsal endpoint generations",
    "retain",
    "methods probes recorded",
    "earlier step ledger standalone widen summary guards",
    "record resume interpolate policy front training_data",
    "monitor",
    "train finetune audit report",
    "gate look contract",
    "run compare",
    "doctor",
    "sweep par",
    "cli",
    "__main__",
)
LEVEL = {room: number for number, floor in enumerate(FLOORS) for room in floor.split()}
TRAIN_WING = {
    "methods",
    "anchor",
    "sampler",
    "rehearsal",
    "retain",
    "recorded",
    "earlier",
    "record",
    "step",
    "ledger",
    "guards",
    "resume",
    "interpolate",
    "train",
    "training_data",
    "monitor",
    "finetune",
}
AUDIT_WING = {"front", "probes", "audit", "summary", "gate", "compare", "widen"}


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Rooms of the package that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "unsay":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("unsay."):
            found.add(node.module.split(".")[1])
    return found - {"__version__"}


FILES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_down(path: Path):
    here = room(path)
    for other in imports(path) - {here}:
        assert LEVEL[other] < LEVEL[here], f"{here} imports {other}, which is not below it"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_the_wings_never_meet(path: Path):
    here = room(path)
    if here in TRAIN_WING:
        assert not imports(path) & AUDIT_WING
    if here in AUDIT_WING:
        assert not imports(path) & TRAIN_WING


def test_no_file_outgrows_its_room():
    assert not [str(path) for path in FILES if len(path.read_text().splitlines()) > 350]
