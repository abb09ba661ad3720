"""The run folder: the only way in which stages speak to each other. Key by key in docs/run-folder.md.

What may hold sensitive text goes through `vault`, whose files only their owner can read.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unsay.config import ConfigError, Recipe, load
from unsay.files import jsonl, read_jsonl, write_text
from unsay.memory import peak_memory
from unsay.types import Finding


class RunFolder:
    """Paths, and reading and writing of whole files."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.recipe_file = self.path / "recipe.toml"
        self.manifest_file = self.path / "manifest.json"
        self.vault = self.path / "vault"
        self.steps_file = self.path / "train" / "steps.jsonl"
        self.state = self.path / "train" / "state"
        self.planted = self.path / "planted"
        """The leaking model that `finetune` made; absent where the recipe names one."""
        self.checkpoint = self.path / "checkpoint"
        self.adapter = self.path / "adapter"
        """The adapters alone; absent where the weights themselves were trained."""
        self.report_html = self.path / "report.html"
        self.report_json = self.path / "report.json"

    def audit_file(self, which: str) -> Path:
        """Findings on one model: `before`, `after`, `gold` or `endpoint`."""
        return self.path / "audit" / f"{which}.jsonl"

    def recipe(self) -> Recipe:
        if not self.recipe_file.exists():
            raise ConfigError(f"{self.path} is not a run folder (no recipe.toml); start one with `unsay record RECIPE --out {self.path}`")
        return load(self.recipe_file)

    def manifest(self) -> dict[str, Any]:
        if not self.manifest_file.exists():
            return {}
        manifest: dict[str, Any] = json.loads(self.manifest_file.read_text(encoding="utf-8"))
        return manifest

    def note(self, **entries: Any) -> None:
        """Merge entries into the manifest; mappings are merged one level deep."""
        manifest = self.manifest()
        for key, value in entries.items():
            manifest[key] = manifest.get(key, {}) | value if isinstance(value, dict) else value
        write_text(self.manifest_file, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage and note it as done if it ends well, with the most memory that the process has had up to its end."""
        start, cpu = time.perf_counter(), time.process_time()
        yield
        self.note(
            peak_memory={name: peak_memory()},
            cpu_seconds={name: round(time.process_time() - cpu, 2)},
            seconds={name: round(time.perf_counter() - start, 2)},
        )

    def done(self, stage: str) -> bool:
        return stage in self.manifest().get("seconds", {})

    def undo(self, stage: str) -> None:
        """Take back that a stage is done, with what the manifest says of its cost; its files are the caller's."""
        manifest = self.manifest()
        for key in ("seconds", "cpu_seconds", "peak_memory"):
            manifest.get(key, {}).pop(stage, None)
        write_text(self.manifest_file, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")

    def keep(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows to `vault/name.jsonl`, readable by the owner alone."""
        self.vault.mkdir(parents=True, exist_ok=True)
        self.vault.chmod(0o700)
        write_text(self.vault / f"{name}.jsonl", jsonl(rows), mode=0o600)

    def kept(self, name: str) -> list[dict[str, Any]]:
        """The rows of `vault/name.jsonl`; raises `ConfigError` where a stage before has not run."""
        path = self.vault / f"{name}.jsonl"
        if not path.exists():
            raise ConfigError(f"{path} is missing; run `unsay record` on this folder first")
        return read_jsonl(path)


def read_findings(path: Path) -> list[Finding]:
    """What an audit found; nothing where it has not run."""
    return [Finding(**row) for row in read_jsonl(path)] if path.exists() else []
