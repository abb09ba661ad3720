"""Every room stands on a floor and in a wing; imports only go down, and the two wings never meet."""

import ast
import importlib
import importlib.util
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "unsay"
FLOORS = (
    "types tables stats",
    "extras packed",
    "metric config text",
    "store",
    "corpora rewards lm",
    "methods probes",
    "record measure",
    "train audit contract",
    "report",
    "run",
    "doctor research api",
    "view",
    "cli",
    "__main__",
)
LEVEL = {room: number for number, floor in enumerate(FLOORS) for room in floor.split()}
SPINE = {"types", "tables", "extras", "packed", "metric", "stats", "config", "text", "store", "corpora", "lm"}
TRAIN = {"rewards", "methods", "record", "train"}
AUDIT = {"probes", "measure", "audit"}
ROOF = {"contract", "report", "run", "doctor", "research", "api", "view", "cli", "__main__"}


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Rooms of the package that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "unsay":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("unsay."):
            found.add((node.module or "").split(".")[1])
    return found - {"__version__", "load"}


FILES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def test_every_room_has_a_floor_and_a_wing():
    rooms = {room(path) for path in FILES}
    assert rooms == LEVEL.keys()
    assert sorted(rooms) == sorted([*SPINE, *TRAIN, *AUDIT, *ROOF]), "each in exactly one wing"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_down(path: Path):
    here = room(path)
    for other in imports(path) - {here}:
        assert LEVEL[other] < LEVEL[here], f"{here} imports {other}, which is not below it"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_the_wings_never_meet(path: Path):
    here = room(path)
    if here in TRAIN:
        assert not imports(path) & AUDIT
    if here in AUDIT:
        assert not imports(path) & TRAIN


def test_no_file_outgrows_its_room():
    assert not [str(path) for path in FILES if len(path.read_text().splitlines()) > 350]


SCRIPTS = [path for folder in ("scripts", "benchmarks", "examples") for path in sorted((SOURCE.parents[1] / folder).glob("*.py"))]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_what_a_script_imports_is_there(path: Path):
    """No type checker looks at them, and most of them run for long."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "unsay":
            module = importlib.import_module(str(node.module))
            for one in node.names:
                assert hasattr(module, one.name) or importlib.util.find_spec(f"{node.module}.{one.name}"), f"{node.module}.{one.name}"
