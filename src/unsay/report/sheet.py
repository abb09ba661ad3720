"""What all pages are made with: the templates, one style sheet a page, and the content-security policy that lets a browser take
nothing else.

matplotlib puts a style attribute on nearly every element. A policy that allows those ('unsafe-inline') allows everybody's, so they
become classes of the page's own sheet, which the policy names by its hash (W3C, Content Security Policy Level 3, section 2.3.1), like
the one script.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from html import unescape
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

HERE = Path(__file__).parent
FILTER = (HERE / "filter.js").read_text(encoding="utf-8")
_TAG = re.compile(r"<\w[^>]*>")
_STYLE = re.compile(r' style="([^"]*)"')
_INNER = re.compile(r"<style[^>]*>(.*?)</style>\s*", re.DOTALL)


def lifted(drawings: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """SVG texts without style attributes or sheets of their own, and the rules that say the same.

    `style="fill: none"` becomes `class="d1"` and the rule `.d1{fill: none}`, numbered by first appearance.
    Only tags are looked at: text that merely spells such an attribute stays text.
    """
    rules: dict[str, str] = {}
    inner = {rule: None for svg in drawings.values() for rule in _INNER.findall(svg)}

    def named(style: re.Match[str]) -> str:
        return f' class="{rules.setdefault(unescape(style[1]), f"d{len(rules) + 1}")}"'

    bare = {name: _TAG.sub(lambda tag: _STYLE.sub(named, tag[0]), _INNER.sub("", svg)) for name, svg in drawings.items()}
    sheet = "".join(f"{rule}\n" for rule in (*inner, *(f".{name}{{{style}}}" for style, name in rules.items())))
    if "<" in sheet:
        raise ValueError("a drawing's style holds a '<', which could end the sheet that it goes into")
    return bare, sheet


def environment(templates: Path = HERE) -> Environment:
    """Templates in which everything is escaped and nothing may be missing."""
    return Environment(loader=FileSystemLoader(templates), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def rules(*names: str) -> str:
    """The text of some style sheets of this folder."""
    return "".join((HERE / name).read_text(encoding="utf-8") for name in names)


def digest(text: str) -> str:
    """How a policy names a sheet or a script, byte for byte as it stands between its tags."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def content_policy(sheet: str) -> str:
    """Everything is forbidden but this sheet and the pages' script; base and form do not fall back."""
    return f"default-src 'none'; style-src {digest(sheet)}; script-src {digest(FILTER)}; base-uri 'none'; form-action 'none'"
