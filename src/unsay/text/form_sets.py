"""Sets of words by their forms, to find those that stand whole in a text. They lie in long arrays: small dicts with an index of lists
take three times as much room."""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

from unsay.packed import Places


class FormSets:
    """Sets of forms, each form with a weight, in their order. A set is found by the two rarest forms of it, for of 100,000 secrets very
    many share one."""

    def __init__(self, sets: Iterable[Mapping[str, float]]):
        self._numbers, self._names = Places(), list[str]()
        self._forms, self._weights, self._starts = array("I"), array("d"), array("Q", [0])
        for weights in sets:
            self._forms.extend(map(self._number, weights))
            self._weights.extend(weights.values())
            self._starts.append(len(self._forms))
        self._heads = array("I", bytes(4 * len(self._names)))
        """Of how many sets a form is the rarest."""
        self._last, self._same_head = array("q", [-1]) * len(self._names), array("q")
        """The last of these sets, and of each set the one before it; -1: there is none."""
        self._of_pair, self._same_pair = Places(), array("q")
        """The same by the two rarest forms."""
        self._equal: dict[int, array[int]] = {}
        """A set → it and its equals, where it has any that come after it."""
        self._index()

    def _number(self, form: str) -> int:
        number = self._numbers.get(form)
        if number is None:
            self._numbers.put(form, number := len(self._names))
            self._names.append(form)
        return number

    def _index(self) -> None:
        counts = array("I", bytes(4 * len(self._names)))
        for number in self._forms:
            counts[number] += 1
        known = Places()
        for place in range(len(self)):
            weights = frozenset(self[place].items())
            same = known.get(weights)
            self._same_head.append(-1)
            self._same_pair.append(-1)
            if same is not None:
                self._equal.setdefault(same, array("q", [same])).append(place)
                continue
            known.put(weights, place)
            if rarest := sorted(self._of(place), key=lambda number: (counts[number], number))[:2]:
                head, pair = rarest[0], _pair(rarest[0], rarest[-1])
                self._heads[head] += 1
                self._same_head[place], self._last[head] = self._last[head], place
                self._same_pair[place] = self._last_of(pair)
                self._of_pair.put(pair, place)

    def _last_of(self, pair: int) -> int:
        last = self._of_pair.get(pair)
        return -1 if last is None else last

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
        for head in said:
            # The shorter way: all sets with this rarest form, or those with any other form of the text beside it.
            if self._heads[head] <= len(said):
                places = _chain(self._last[head], self._same_head)
            else:
                places = chain.from_iterable(_chain(self._last_of(_pair(head, other)), self._same_pair) for other in said)
            yield from (self._equal.get(place, (place,)) for place in places if said.issuperset(self._of(place)))


def _chain(place: int, before: Sequence[int]) -> Iterator[int]:
    while place >= 0:
        yield place
        place = before[place]


def _pair(first: int, second: int) -> int:
    return first << 32 | second
