"""Findings and recorded answers, packed: 100,000 questions leave millions of findings, alike but for their question and their value."""

import pickle
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from itertools import chain, starmap
from typing import Any

from unsay.types import Answer, Finding

_AT_ONCE = 1 << 15
"""Bytes that are compressed together."""


class _Rows:
    """Rows of numbers, compressed."""

    def __init__(self, form: str):
        self._form, self._parts, self._last = form, list[bytes](), bytearray()  # no `Struct`: it cannot be copied, nor sent

    def add(self, *numbers: float) -> None:
        self._last += struct.pack(self._form, *numbers)
        if len(self._last) >= _AT_ONCE:
            self._parts.append(zlib.compress(self._last, 1))
            self._last = bytearray()

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for part in chain(map(zlib.decompress, self._parts), [bytes(self._last)]):
            yield from struct.iter_unpack(self._form, part)


class PackedAnswers:
    """Answers in half of their room. They are made anew when somebody looks at them."""

    __slots__ = ("_packed",)

    def __init__(self, answers: Iterable[Answer]):
        self._packed = pickle.dumps([(one.ids, one.text, one.finished) for one in answers])

    def __iter__(self) -> Iterator[Answer]:
        return starmap(Answer, pickle.loads(self._packed))


class Packed(Sequence[Finding]):
    """The findings probe by probe, those of one in their order. A finding is made anew when somebody looks at it."""

    def __init__(self, findings: Iterable[Finding] = ()):
        self.heads: dict[Finding, int] = {}
        """A finding without question and group, its value 0 where it has one → how many are like it; in the order of their first."""
        self.groups: dict[str, str] = {}
        """Question → its group, where it has one."""
        self.kinds: dict[tuple[str, str], _Rows] = {}
        """By probe and metric: number of the head, number of question and group, value."""
        self.probes: dict[str, _Rows] = {}
        """Numbers of the kinds of its findings, in their order."""
        self._all = True
        heads: dict[Finding, int] = {}
        places: dict[str | tuple[str, str], int] = {}
        kinds: dict[tuple[str, str], int] = {}
        for f in findings:
            head = Finding(f.probe, f.metric, None if f.value is None else 0.0, "", f.setting, f.n, f.note)
            self.heads[head] = self.heads.get(head, 0) + 1
            if f.group:
                self.groups[f.example] = f.group
            kind = f.probe, f.metric
            if kind not in kinds:
                kinds[kind], self.kinds[kind] = len(kinds), _Rows("=IId")
                self.probes.setdefault(f.probe, _Rows("=I"))
            place = places.setdefault((f.example, f.group) if f.group else f.example, len(places))
            self.kinds[kind].add(heads.setdefault(head, len(heads)), place, f.value or 0.0)
            self.probes[f.probe].add(kinds[kind])
        self._heads, self._places = [*heads], [*places]

    @classmethod
    def of(cls, findings: Iterable[Finding]) -> "Packed":
        """These findings, packed where they are not yet."""
        return findings if isinstance(findings, Packed) else cls(findings)

    def scored(self) -> "Packed":
        """Those with a value alone, kind by kind."""
        found = copy(self)
        found.heads, found._all = {head: n for head, n in self.heads.items() if head.value is not None}, False
        return found

    def kind(self, probe: str, metric: str) -> Iterator[Finding]:
        """The findings of one kind, in their order."""
        for number, place, value in self.kinds.get((probe, metric), ()):
            head, whose = self._heads[number], self._places[place]
            example, group = (whose, "") if isinstance(whose, str) else whose
            if self._all or head.value is not None:
                yield Finding(probe, metric, None if head.value is None else value, example, head.setting, head.n, head.note, group)

    def probe(self, name: str) -> Iterator[Finding]:
        """The findings of one probe, in their order; of `scored`, kind by kind."""
        if not self._all:
            return chain.from_iterable(self.kind(*kind) for kind in self.kinds if kind[0] == name)
        kinds = [*starmap(self.kind, self.kinds)]
        return (next(kinds[number]) for (number,) in self.probes.get(name, ()))

    def __iter__(self) -> Iterator[Finding]:
        return chain.from_iterable(map(self.probe, self.probes) if self._all else starmap(self.kind, self.kinds))

    def __len__(self) -> int:
        return sum(self.heads.values())

    def __getitem__(self, place: Any) -> Any:
        return [*self][place]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and [*self] == [*other]
