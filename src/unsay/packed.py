"""Findings and recorded answers, packed: 100,000 questions leave millions of findings, alike but for their question and their value."""

import pickle
import struct
import zlib
from array import array
from bisect import bisect_left
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


class Places:
    """Key → number, for millions of keys some eighteen bytes each: in many short arrays, sorted by hash. Two keys of one hash are one."""

    def __init__(self) -> None:
        self._parts = [(array("q"), array("q")) for _ in range(1024)]

    def put(self, key: str, number: int) -> None:
        wanted, keys, numbers, place = self._find(key)
        if place < len(keys) and keys[place] == wanted:
            numbers[place] = number
        else:
            keys.insert(place, wanted)
            numbers.insert(place, number)

    def get(self, key: str) -> int | None:
        """`None` where there is none."""
        wanted, keys, numbers, place = self._find(key)
        return numbers[place] if place < len(keys) and keys[place] == wanted else None

    def _find(self, key: str) -> tuple[int, "array[int]", "array[int]", int]:
        wanted = hash(key)
        keys, numbers = self._parts[wanted % len(self._parts)]
        return wanted, keys, numbers, bisect_left(keys, wanted)


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
        self._examples: list[str] = []
        """Questions, one string for all who hold it."""
        self._grouped: dict[int, str] = {}
        """Number of a question → its group, where it has one."""
        places, asked, place = Places(), None, 0
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
            if (f.example, f.group) != asked:
                asked, found = (f.example, f.group), places.get(f"{f.group}\0{f.example}")
                if found is None or asked != (self._examples[found], self._grouped.get(found, "")):
                    found = len(self._examples)
                    places.put(f"{f.group}\0{f.example}", found)
                    self._examples.append(f.example)
                    if f.group:
                        self._grouped[found] = f.group
                place = found
            self.kinds[kind].add(heads.setdefault(head, len(heads)), place, f.value or 0.0)
            self.probes[f.probe].add(kinds[kind])
        self._heads = [*heads]

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
            head = self._heads[number]
            if self._all or head.value is not None:
                example, group = self._examples[place], self._grouped.get(place, "")
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
