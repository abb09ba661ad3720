"""Sets of words by their forms, to find those that stand whole in a text. They lie in long arrays: as many small dicts take four times as
much room."""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence


class FormSets:
    """Sets of forms, each form with a weight, in their order. A set is found by the two rarest forms of it, for of 100,000 secrets very
    many share one."""

    def __init__(self, sets: Iterable[Mapping[str, float]]):
        self._numbers: dict[str, int] = {}
        self._forms, self._weights, self._starts = array("I"), array("f"), array("Q", [0])
        for weights in sets:
            self._forms.extend([self._numbers.setdefault(form, len(self._numbers)) for form in weights])
            self._weights.extend(weights.values())
            self._starts.append(len(self._forms))
        self._names = [*self._numbers]
        self._rarest, self._latest, self._before = bytearray(len(self._names)), dict[int, int](), array("q")
        """Whether a form is the rarest of a set; two rarest forms → the last of their sets; of each set the one before it, or -1."""
        self._equal: dict[int, array[int]] = {}
        """A set → it and its equals, where it has any that come after it."""
        self._index()

    def _index(self) -> None:
        counts = array("I", bytes(4 * len(self._names)))
        for number in self._forms:
            counts[number] += 1
        known: dict[str, int] = {}
        for place in range(len(self)):
            same = known.setdefault(repr(sorted(self[place].items())), place)
            self._before.append(-1)
            if same < place:
                self._equal.setdefault(same, array("q", [same])).append(place)
            elif rarest := sorted(self._of(place), key=lambda number: (counts[number], number))[:2]:
                self._rarest[rarest[0]] = True
                pair = _pair(rarest[0], rarest[-1])
                self._before[place] = self._latest.get(pair, -1)
                self._latest[pair] = place

    def _of(self, place: int) -> Sequence[int]:
        return self._forms[self._starts[place] : self._starts[place + 1]]

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, place: int) -> Mapping[str, float]:
        """Form → weight, made anew."""
        weights = self._weights[self._starts[place] : self._starts[place + 1]]
        return dict(zip([self._names[number] for number in self._of(place)], weights, strict=True))

    def within(self, forms: frozenset[str]) -> Iterator[Sequence[int]]:
        """Places of the sets, none of them empty, all of whose forms are among these; equal ones, weights included, together."""
        said = {number for form in forms if (number := self._numbers.get(form)) is not None}
        for first in said:
            if not self._rarest[first]:
                continue
            for second in said:
                place = self._latest.get(_pair(first, second), -1)
                while place >= 0:
                    if said.issuperset(self._of(place)):
                        yield self._equal.get(place, (place,))
                    place = self._before[place]


def _pair(first: int, second: int) -> int:
    return first << 32 | second
