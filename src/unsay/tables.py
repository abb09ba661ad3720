"""The parts that a recipe names: for each kind a literal table plus entry points, looked up by name.

A table maps a name to `"module:attribute"`, so listing names imports nothing. Another package adds an entry by declaring an
entry point in the group of its kind (`unsay.methods`, `unsay.rewards`, `unsay.probes`, `unsay.corpora`).
"""

import difflib
import importlib
import inspect
from collections.abc import Iterable
from functools import cache
from importlib.metadata import entry_points
from typing import Any

METHODS = {
    "pmc": "unsay.methods.guarded:GuardedCollapse",
    "ga": "unsay.methods.gradient:GradientAscent",
    "gd": "unsay.methods.gradient:GradientDifference",
    "idk": "unsay.methods.refusal:Idk",
    "dpo": "unsay.methods.preference:DirectPreference",
    "npo": "unsay.methods.preference:NegativePreference",
    "simnpo": "unsay.methods.preference:SimpleNegativePreference",
    "altpo": "unsay.methods.alternatives:AlternatePreference",
    "retain-only": "unsay.methods.control:RetainOnly",
}
PROBES = {
    "greedy": "unsay.probes.greedy:Greedy",
    "depth": "unsay.probes.depth:Depth",
    "sampling": "unsay.probes.sampling:Sampling",
    "prefill": "unsay.probes.prefill:Prefill",
    "paraphrase": "unsay.probes.paraphrase:Paraphrase",
    "prompt_variants": "unsay.probes.prompt_variants:PromptVariants",
    "perturbed": "unsay.probes.perturbed:Perturbed",
    "indirect": "unsay.probes.indirect:Indirect",
    "openings": "unsay.probes.openings:Openings",
    "prefix_search": "unsay.probes.prefix_search:PrefixSearch",
    "beams": "unsay.probes.beams:Beams",
    "multiple_choice": "unsay.probes.multiple_choice:MultipleChoice",
    "likelihood": "unsay.probes.likelihood:Likelihood",
    "drift": "unsay.probes.drift:Drift",
    "relearn": "unsay.probes.relearn:Relearn",
    "quantise": "unsay.probes.quantise:Quantise",
    "damage": "unsay.probes.damage:Damage",
    "earlier": "unsay.probes.earlier:Earlier",
    "memorisation": "unsay.probes.memorisation:Memorisation",
    "utility": "unsay.probes.utility:Utility",
    "benchmark": "unsay.probes.benchmark:Benchmark",
}
REWARDS = {
    "overlap": "unsay.rewards.overlap:Overlap",
    "keys": "unsay.rewards.overlap:Keys",
    "fluency": "unsay.rewards.coherence:Fluency",
    "length": "unsay.rewards.coherence:Length",
    "topic": "unsay.rewards.topic:Topic",
    "distinct": "unsay.rewards.topic:Distinct",
    "diversity": "unsay.rewards.diversity:Diversity",
    "semantic": "unsay.rewards.semantic:Semantic",
    "refusal": "unsay.rewards.refusal:Refusal",
    "blocklist": "unsay.rewards.blocklist:Blocklist",
    "harmless": "unsay.rewards.harmless:Harmless",
}
CORPORA = {
    "people": "unsay.corpora.people:People",
    "tofu": "unsay.corpora.tofu:Tofu",
    "facts": "unsay.corpora.facts:Facts",
    "files": "unsay.corpora.files:Files",
    "passages": "unsay.corpora.passages:Passages",
    "muse": "unsay.corpora.muse:Muse",
}
PARTS = {
    "probe": (PROBES, "unsay.probes"),
    "reward": (REWARDS, "unsay.rewards"),
    "method": (METHODS, "unsay.methods"),
    "corpus": (CORPORA, "unsay.corpora"),
}
"""Each kind of part: its table, and the group in which other packages declare more."""
OPT_IN = ("beams", "damage", "memorisation", "benchmark")
"""Probes that run only where a recipe names them; all others run where it names none."""


class ConfigError(ValueError):
    """Something given that cannot be used. The message names it and the way out."""


def near(name: str, known: Iterable[str]) -> str:
    """A sentence that helps someone who mistyped `name`: the close names, then the full list."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(repr(c) for c in close)}? " if close else ""
    return f"{hint}known: {', '.join(names)}"


def entries(kind: str) -> dict[str, str]:
    """What there is of a kind: what installed packages declare, and the table, which wins a clash."""
    table, group = PARTS[kind]
    return _installed(group) | table


@cache
def _installed(group: str) -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=group)}


def lookup(kind: str, name: str) -> Any:
    """The object that `name` stands for. Raises `ConfigError`."""
    known = entries(kind)
    if name not in known:
        raise ConfigError(f"{PARTS[kind][1].split('.')[-1]} has no {name!r}: {near(name, known)}")
    module, _, attribute = known[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def describe(kind: str) -> dict[str, str]:
    """Name → first line of its docstring, for the listing commands."""
    return {name: (inspect.getdoc(lookup(kind, name)) or "").partition("\n")[0] for name in entries(kind)}
