"""Findings, questions and answers, packed: 100,000 questions leave millions of findings, alike but for their question and their value."""

import pickle
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from itertools import chain, starmap
from typing import Any, TypeVar, overload

import numpy as np

from unsay.types import Answer, Finding

T = TypeVar("T")

_PART = 1024
"""Rows that are compressed together."""


class _Rows:
    """Rows of numbers, compressed column by column; of a column `q` the steps, since most of them are alike."""

    def __init__(self, kinds: str):
        self._kinds, self._parts = kinds, list[bytes]()
        self._last: list[array[Any]] = [array(kind) for kind in kinds]

    def add(self, *numbers: float) -> None:
        for column, number in zip(self._last, numbers, strict=True):
            column.append(number)
        if len(self._last[0]) == _PART:
            steps = (np.diff(column, prepend=0) if column.typecode == "q" else column for column in self._last)
            self._parts.append(zlib.compress(b"".join(some.tobytes() for some in steps), 1))
            self._last = [array(kind) for kind in self._kinds]

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for part in map(zlib.decompress, self._parts):
            columns, start = list[list[float]](), 0
            for kind in self._kinds:
                column = np.frombuffer(part, kind, _PART, start)
                columns.append((np.cumsum(column) if kind == "q" else column).tolist())
                start += column.nbytes
            yield from zip(*columns, strict=True)
        yield from zip(*self._last, strict=True)


class PackedAnswers:
    """Answers in half of their room. They are made anew when somebody looks at them."""

    __slots__ = ("_packed",)

    def __init__(self, answers: Iterable[Answer]):
        self._packed = pickle.dumps([(one.ids, one.text, one.finished) for one in answers])

    def __iter__(self) -> Iterator[Answer]:
        return starmap(Answer, pickle.loads(self._packed))


class PackedRows(Sequence[T]):
    """Rows in a tenth of their room, `_PART` of them packed together; the last few are as they were. A part is made anew when somebody
    looks into it, and stays until the next one is: whoever goes through them in their order makes each once. For whoever jumps about, one
    more part stays after each jump, in the end all."""

    def __init__(self, rows: Iterable[T] = ()):
        self._parts, self._last = list[bytes](), list[T]()
        self._open: dict[int, list[T]] = {}
        self._next, self._room = 0, 1
        for row in rows:
            self.append(row)

    def append(self, row: T) -> None:
        self._last.append(row)
        if len(self._last) == _PART:
            self._parts.append(zlib.compress(pickle.dumps(self._last), 1))
            self._last = []

    def _part(self, number: int) -> list[T]:
        if number == len(self._parts):
            return self._last
        if number not in self._open:
            self._room += number != self._next
            if len(self._open) >= self._room:
                del self._open[next(iter(self._open))]
            self._open[number] = pickle.loads(zlib.decompress(self._parts[number]))
            self._next = (number + 1) % len(self._parts)
        return self._open[number]

    def __iter__(self) -> Iterator[T]:
        return chain.from_iterable(map(self._part, range(len(self._parts) + 1)))

    def __len__(self) -> int:
        return _PART * len(self._parts) + len(self._last)

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> list[T]: ...
    def __getitem__(self, place: int | slice) -> T | list[T]:
        if isinstance(place, slice):
            return [self[one] for one in range(len(self))[place]]
        if place < 0:
            place = range(len(self))[place]
        return self._part(place // _PART)[place % _PART]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and [*self] == [*other]


class Places:
    """A number for each key: for millions of keys some eighteen bytes each, in many short arrays, sorted by hash. Two keys of one hash are
    one: of 100,000 with a chance of one in three thousand million."""

    def __init__(self) -> None:
        self._parts = [(array("q"), array("q")) for _ in range(1024)]

    def put(self, key: Hashable, number: int) -> None:
        wanted, keys, numbers, place = self._find(key)
        if place < len(keys) and keys[place] == wanted:
            numbers[place] = number
        else:
            keys.insert(place, wanted)
            numbers.insert(place, number)

    def get(self, key: Hashable) -> int | None:
        """`None` where there is none."""
        wanted, keys, numbers, place = self._find(key)
        return numbers[place] if place < len(keys) and keys[place] == wanted else None

    def _find(self, key: Hashable) -> tuple[int, "array[int]", "array[int]", int]:
        wanted = hash(key)
        keys, numbers = self._parts[wanted % len(self._parts)]
        return wanted, keys, numbers, bisect_left(keys, wanted)


class PackedMap(Mapping[str, T]):
    """The same of what is found by its id."""

    def __init__(self, rows: Iterable[tuple[str, T]] = ()):
        self._rows, self._places = PackedRows[tuple[str, T]](), Places()
        for name, row in rows:
            self.put(name, row)

    def __reduce__(self) -> tuple[Any, ...]:
        return PackedMap, ([*self.items()],)  # hashes of texts are others in another process

    def put(self, name: str, row: T) -> None:
        """A row of a name that has none yet."""
        self._places.put(name, len(self._rows))
        self._rows.append((name, row))

    def __getitem__(self, key: str) -> T:
        number = self._places.get(key)
        if number is not None:
            name, row = self._rows[number]
            if name == key:
                return row
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return self._places.get(key) is not None

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._rows)

    def __len__(self) -> int:
        return len(self._rows)


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
        places, self._places = Places(), PackedRows[str | tuple[str, str]]()
        kinds: dict[tuple[str, str], int] = {}
        for f in findings:
            head = Finding(f.probe, f.metric, None if f.value is None else 0.0, "", f.setting, f.n, f.note)
            self.heads[head] = self.heads.get(head, 0) + 1
            if f.group:
                self.groups[f.example] = f.group
            kind = f.probe, f.metric
            if kind not in kinds:
                kinds[kind], self.kinds[kind] = len(kinds), _Rows("Iqd")
                self.probes.setdefault(f.probe, _Rows("I"))
            whose = (f.example, f.group) if f.group else f.example
            place = places.get(whose)
            if place is None:
                places.put(whose, place := len(self._places))
                self._places.append(whose)
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
