"""README as a package index shows it: links and pictures that are relative to the repository get its address.

The address is `Source` under [project.urls] in pyproject.toml, which the owner fills in, as GitHub writes it. Without one they stay as
they are, and the build says how many lead nowhere.
"""

import re
import sys
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_RELATIVE = re.compile(r"(!?)(\[[^\]]*\]\()(?!https?:|#)([^)]+)(?=\))")


def absolute(text: str, source: str) -> tuple[str, int]:
    """The text with whole addresses, and how many there were to make. An empty `source` changes nothing.

    >>> absolute("![all](docs/a.png) [b](docs/b.md#c) [d](https://e.f)", "https://g.h/i")[0]
    '![all](https://g.h/i/raw/main/docs/a.png) [b](https://g.h/i/blob/main/docs/b.md#c) [d](https://e.f)'
    """

    def whole(found: re.Match[str]) -> str:
        picture, before, path = found.groups()
        return f"{picture}{before}{source.rstrip('/')}/{'raw' if picture else 'blob'}/main/{path}" if source else found.group()

    return _RELATIVE.subn(whole, text)


class Readme(MetadataHookInterface):
    def update(self, metadata: dict[str, Any]) -> None:
        source = metadata.get("urls", {}).get("Source", "")
        text, relative = absolute(Path(self.root, "README.md").read_text(encoding="utf-8"), source)
        if not source and relative:
            print(f"README: {relative} links lead nowhere on a package index; put Source under [project.urls]", file=sys.stderr)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
