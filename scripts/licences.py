"""What is installed for unsay: versions, licences, and what constraints.txt does not pin. Asks no network.

    python scripts/licences.py            # the tables of docs/supply-chain.md, from the installed packages' metadata
    python scripts/licences.py --unpinned # what is installed and not pinned or pinned otherwise; exits 1 where a pin is missing

A licence is what a package says of itself: its License-Expression, else its License line, else its classifier.
What a package's wheel holds besides (torch, numpy and scipy carry others' code) is in the licence files that it installs.
"""

import argparse
import importlib.metadata as metadata
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT, CONSTRAINTS = ROOT / "pyproject.toml", ROOT / "constraints.txt"
OF_CUDA_TORCH = ("nvidia-", "cuda-", "triton")
"""What torch's CUDA build brings and pins itself; constraints.txt is of the CPU build."""
_LONGEST = 120
"""Some packages put the whole text of their licence where its name belongs."""


@dataclass(frozen=True)
class Direct:
    """A package that pyproject.toml names. `groups`: "all" for what every installation needs, else the extras."""

    requirement: Requirement
    range: str
    groups: tuple[str, ...]

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)


def direct(pyproject: Path = PYPROJECT) -> list[Direct]:
    """All dependencies and extras, in the order of the file; a package in two extras is there once."""
    project = tomllib.loads(pyproject.read_text())["project"]
    groups: Mapping[str, list[str]] = {"all": project["dependencies"], **project.get("optional-dependencies", {})}
    found: dict[str, Direct] = {}
    for group, lines in groups.items():
        for line in lines:
            one = Requirement(line)
            name = canonicalize_name(one.name)
            before = found[name].groups if name in found else ()
            found[name] = Direct(one, line.removeprefix(one.name), (*before, group))
    return list(found.values())


def pins(constraints: Path = CONSTRAINTS) -> dict[str, str]:
    """Name → version."""
    lines = [line.strip() for line in constraints.read_text().splitlines()]
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def installed(name: str) -> metadata.Distribution | None:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def licence(package: metadata.Distribution) -> str:
    """Its own word for it, or "not stated"."""
    said = (package.metadata["License-Expression"], package.metadata["License"])
    classifiers = [line.split(" :: ")[-1] for line in package.metadata.get_all("Classifier") or () if line.startswith("License ::")]
    found = next((" ".join(text.split()) for text in said if text and len(text) <= _LONGEST and "\n" not in text), "")
    return found or ", ".join(classifiers) or "not stated"


def needed(requirement: Requirement) -> Iterator[str]:
    """The names that a requirement brings with it on this machine, its extras' included."""
    package = installed(requirement.name)
    for line in (package.requires or ()) if package else ():
        other = Requirement(line)
        if other.marker is None or any(other.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)):
            yield line


def transitive(roots: list[Direct]) -> dict[str, set[str]]:
    """Everything installed that is not named in pyproject.toml → the packages that ask for it."""
    named, waiting = {one.name for one in roots}, [one.requirement for one in roots]
    asked: dict[str, set[str]] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        here = waiting.pop()
        if (canonicalize_name(here.name), frozenset(here.extras)) in seen:
            continue
        seen.add((canonicalize_name(here.name), frozenset(here.extras)))
        for other in map(Requirement, needed(here)):
            waiting.append(other)
            if (name := canonicalize_name(other.name)) not in named and installed(name):
                asked.setdefault(name, set()).add(canonicalize_name(here.name))
    return dict(sorted(asked.items()))


def unpinned(pyproject: Path = PYPROJECT, constraints: Path = CONSTRAINTS) -> dict[str, str]:
    """What is installed for unsay and has no line in constraints.txt → the line that it should have."""
    roots = direct(pyproject)
    names = {one.name for one in roots} | transitive(roots).keys()
    return {
        name: f"{package.metadata['Name']}=={package.version.partition('+')[0]}"
        for name in sorted(names - pins(constraints).keys())
        if not name.startswith(OF_CUDA_TORCH) and (package := installed(name))
    }


def differing() -> dict[str, tuple[str, str]]:
    """Name → the version pinned, the version installed."""
    pairs = {name: (version, package.version.partition("+")[0]) for name, version in pins().items() if (package := installed(name))}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def tables() -> str:
    """Two Markdown tables: what pyproject.toml names, and what comes along."""
    roots = direct()
    lines = ["| package | range | for | licence |", "|---|---|---|---|"]
    for one in roots:
        package = installed(one.name)
        lines.append(f"| {one.name} | {one.range} | {', '.join(one.groups)} | {licence(package) if package else 'not installed here'} |")
    lines += ["", "| package | licence | asked for by |", "|---|---|---|"]
    for name, askers in transitive(roots).items():
        lines.append(f"| {name} | {licence(metadata.distribution(name))} | {', '.join(sorted(askers))} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--unpinned", action="store_true", help="what constraints.txt lacks, instead of the tables")
    if not parser.parse_args().unpinned:
        print(tables())
        return
    for name, (pinned, here) in differing().items():
        print(f"{name}: pinned {pinned}, installed {here}")
    missing = unpinned()
    print("\n".join(["missing from constraints.txt:", *missing.values()]) if missing else "every installed dependency is pinned")
    raise SystemExit(bool(missing))


if __name__ == "__main__":
    main()
