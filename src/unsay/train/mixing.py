"""Rows with mixed names: what the model knows about somebody, asked with a name on the way to one that is to be forgotten.

Training that goes too far forgets known people with a similar name first. Near misses do not show it: they are names that nobody has, and
the model refuses them before and after. The known people with a similar name may not be at hand. So rows about any known name are moved
towards the forgotten one: the embeddings of the first word, of the others, or of all go a share of the way, drawn anew for each row. The
untouched model says how much of the row's answer should be left there (`train.retain_loss = "kl"`).
"""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile

from unsay.lm.encode import Encoder
from unsay.lm.mixup import Mix
from unsay.lm.rows import Row
from unsay.text import forms
from unsay.text.names import subject, swapped
from unsay.types import Pair

_LEAST, _MOST, _MOST_OF_REST = 0.1, 0.4, 0.7
"""Least and largest share of the way, and the largest where only what follows the first word is moved. From about half of it on, to the
forgotten name or to its first word alone, the untouched model often tells what is to be forgotten (docs/lab-log.md)."""


def named(pairs: Iterable[Pair]) -> dict[bool, list[tuple[Pair, str]]]:
    """The pairs whose question is about a name without digits, with it, by whether it has several words."""
    found: dict[bool, list[tuple[Pair, str]]] = {True: [], False: []}
    for pair in pairs:
        name = subject(pair.question)
        if name and not any(character.isdigit() for character in name):
            found[" " in name].append((pair, name))
    return found


def mixed_rows(
    known: Mapping[bool, Sequence[tuple[Pair, str]]],
    forgotten: str,
    spared: Container[frozenset[str]],
    encoder: Encoder,
    n: int,
    draw: Callable[[int, str], float],
) -> list[Row]:
    """n rows of `known` names (`named`) that have one word or several, as the forgotten one has, moved towards it; none where there are
    no such names. `spared`: names, as the forms of their words, towards which nothing goes. `draw(number, what)`: a random number in
    [0, 1)."""
    some = known.get(" " in forgotten, ()) if forgotten else ()
    rows = []
    for number in range(n if some else 0):
        pair, name = some[int(draw(number, "pair") * len(some))]
        part, way = draw(number, "part"), draw(number, "share")
        first, _, rest = forgotten.partition(" ")
        mine, _, others = name.partition(" ")
        towards = forgotten if not rest else (f"{first} {others}", f"{mine} {rest}", forgotten)[int(3 * part)]
        # Somebody with the forgotten first name would be the forgotten one.
        of_rest = rest and 1 / 3 <= part < 2 / 3 and not forms(mine) & forms(forgotten)
        most = _MOST_OF_REST if of_rest else _MOST
        share = _LEAST + (most - _LEAST) * way
        rows.append(towards_name(encoder, pair, name, name if forms(towards) in spared else towards, share))
    return rows


def towards_name(encoder: Encoder, pair: Pair, old: str, new: str, share: float) -> Row:
    """The row of a pair, with the tokens of the name `old` in its question moved `share` of the way to those of `new`. Where the names
    differ in their number of tokens, each has its counterpart at about the same part of the other. Where the question names it twice, or
    `new` only adds to it or shortens it, nothing is moved."""
    row = encoder.pair(pair.question, pair.answer)
    if swapped(behind := pair.question.replace(old, "", 1), old, new) != behind:
        return row
    was, other = row.context, encoder.prompt(swapped(pair.question, old, new))
    start = sum(1 for _ in takewhile(lambda two: two[0] == two[1], zip(was, other, strict=False)))
    rest = min(len(was), len(other)) - start
    end = sum(1 for _ in takewhile(lambda two: two[0] == two[1], zip(was[::-1][:rest], other[::-1][:rest], strict=False)))
    here, there = range(start, len(was) - end), other[start : len(other) - end]
    if not here or not there:
        return row
    step = (len(there) - 1) / max(1, len(here) - 1)
    mixes = (Mix(place, there[round(number * step)], share) for number, place in enumerate(here))
    return replace(row, mixes=tuple(mixes))
