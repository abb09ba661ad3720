"""Rows with mixed names: what the model knows about somebody, asked with a name on the way to one that is to be forgotten.

Training that goes too far forgets known people with a similar name first. Near misses do not show it: they are names that nobody has, and
the model refuses them before and after. The known people with a similar name may not be at hand. So rows about any known name are moved
towards the forgotten one: the embeddings of the first word, of the others, or of all go a share of the way, drawn anew for each row. The
untouched model says how much of the row's answer should be left there (`train.retain_loss = "kl"`).

Trap: near the end of the way the untouched model often tells a secret, even where only a part of the name is moved. So what spells it is
capped: hardly likelier there than where the row is read with its own name (methods/retain_loss.py).
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

_LEAST, _MOST_OF_PART, _MOST = 0.1, 1.0, 0.4
"""Least share of the way, and the largest of a part of the name and of the whole. There only the forgotten one is at the end of it."""


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
    secret: Callable[[str], tuple[int, ...]],
    spared: Container[frozenset[str]],
    encoder: Encoder,
    n: int,
    draw: Callable[[int, str], float],
) -> list[Row]:
    """n rows of `known` names (`named`) that have one word or several, as the forgotten one has, moved towards it; none where there are
    no such names. `secret`: the ids that spell what is to be forgotten about anybody who shares a word with some names. `spared`: names,
    as the forms of their words, towards which nothing goes. `draw(number, what)`: a random number in [0, 1)."""
    some = known.get(" " in forgotten, ()) if forgotten else ()
    rows = []
    for number in range(n if some else 0):
        pair, name = some[int(draw(number, "pair") * len(some))]
        part, way = draw(number, "part"), draw(number, "share")
        first, _, rest = forgotten.partition(" ")
        mine, _, others = name.partition(" ")
        towards = forgotten if not rest else (f"{first} {others}", f"{mine} {rest}", forgotten)[int(3 * part)]
        capped = secret(f"{forgotten} {name}")
        # Somebody who shares a word with the forgotten name would be the forgotten one.
        whole = not rest or part >= 2 / 3 or bool(forms(name) & forms(forgotten))
        most = _MOST if whole or not capped else _MOST_OF_PART
        row = towards_name(encoder, pair, name, name if forms(towards) in spared else towards, _LEAST + (most - _LEAST) * way)
        rows.append(replace(row, capped=capped) if row.mixes else row)
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
