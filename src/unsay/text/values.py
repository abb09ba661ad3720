"""Dates, numbers, amounts and telephone numbers as values: "March 14th, 1985" = "14.3.85", "85k" = "eighty-five thousand".

A mention that can be read in two ways (3/4/85, 85.000) has both values. Not covered: weekdays, ages, units and currencies
("85,000" is found in "$85k" and in "€85k"), numbers in words of other languages than English.
"""

import datetime
import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import product

_MONTH_NAMES = """
    jan january januar janvier enero gennaio janeiro|feb february februar février febrero febbraio fevereiro
    mar march märz mars marzo março|apr april avril abril aprile|may mai mayo maggio maio|jun june juni juin junio giugno junho
    jul july juli juillet julio luglio julho|aug august août agosto|sep sept september septembre septiembre settembre setembro
    oct october oktober octobre octubre ottobre outubro|nov november novembre noviembre novembro
    dec december dezember décembre diciembre dicembre dezembro"""
_MONTHS = {name: i for i, names in enumerate(re.split(r"[|\n]", _MONTH_NAMES.strip()), start=1) for name in names.split()}
_MONTH = rf"(?P<name>{'|'.join(sorted(_MONTHS, key=len, reverse=True))})\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th|er|º|\.)?"
_YEAR = r"(?P<year>\d{4}|['’]?\d\d)"
_OF = r"(?:\s+(?:of|de|di)\s+|[\s-]+)"
_DATES = [
    re.compile(rf"(?<![\w.,/-]){form}(?![\w/-]|[.,:]\d)", re.IGNORECASE)
    for form in (
        r"(?P<year>\d{4})([-/.])(?P<month>\d\d?)\2(?P<day>\d\d?)",
        r"(?P<day>\d\d?)([-/.])\s?(?P<month>\d\d?)\2\s?(?P<year>\d{4}|\d\d)",
        rf"{_DAY}{_OF}{_MONTH}(?:,?{_OF}{_YEAR})?",
        rf"{_MONTH}\s+{_DAY}(?:,?\s+{_YEAR})?",
        rf"{_MONTH},?{_OF}(?P<year>\d{{4}})",
        r"(?P<year>1[5-9]\d\d|20\d\d)",
        r"(?P<year>['’]\d\d)",
    )
]
_POWERS = {"k": 3, "thousand": 3, "m": 6, "mn": 6, "mio": 6, "million": 6, "bn": 9, "billion": 9}
_NUMBER = re.compile(
    rf"(?<![\w.,])(?P<whole>\d{{1,3}}(?:[,.'’\s]\d{{3}})+|\d+)(?:[.,](?P<part>\d+))?(?:\s?(?P<power>{'|'.join(_POWERS)}))?(?![\w]|[.,]\d)",
    re.IGNORECASE,
)
_PHONE = re.compile(r"(?<!\w)(?:\+\s?)?\(?\d[\d\s().\-/]{5,20}\d(?!\w)")
_DIGITS, _LARGER = (
    words.split()
    for words in (
        "zero one two three four five six seven eight nine",
        """ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy
        eighty ninety hundred thousand million billion first second third fourth fifth sixth seventh eighth ninth tenth eleventh
        twelfth thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth thirtieth""",
    )
)
_WORD = rf"(?:{'|'.join(sorted((*_DIGITS, *_LARGER), key=len, reverse=True))})"
_IN_WORDS = re.compile(rf"\b{_WORD}(?:(?:[\s-]+|\s+and\s+|\s+point\s+){_WORD})*\b", re.IGNORECASE)
# "No one can say that." and "I am not the one to ask." name no number.
_BEFORE = re.compile(r"\b(?:no|any|every|some|each|the|this|that|which)[\s-]+$", re.IGNORECASE)
_BEHIND = re.compile(rf"\s+(?:of|who|cannot|can|could|knows?|might|must|should|would|(?-i:may)|to(?!\s+(?:\d|{_WORD}\b)))\b", re.IGNORECASE)

Date = tuple[int | None, int | None, int | None]
"""Year, month and day; `None` where it is not told."""


@lru_cache(maxsize=1024)
def _as_digits(run: str) -> str:
    """Number words as digits; those told digit by digit in one piece, a year told in two halves ("nineteen eighty-five") too."""
    from text_to_num import alpha2digit

    words = re.findall(r"[a-z]+", run.casefold())
    if len(words) >= 4 and all(word in _DIGITS for word in words):
        return "".join(str(_DIGITS.index(word)) for word in words)
    digits: str = alpha2digit(run.replace(" and ", " "), "en", 0)
    digits = re.sub(r"^(1[5-9]|20) (\d\d)$", r"\1\2", digits)
    return re.sub(r"([\d.]+) (10{3,9})\b", lambda found: f"{float(found[1]) * int(found[2]):.0f}", digits)


def _dates(text: str) -> Iterator[tuple[str, set[Date]]]:
    for form in _DATES:
        for found in form.finditer(text):
            part = found.groupdict()
            # Trap: without case, "İ" and "ı" are an i for the search, but not for casefold.
            name = (part.get("name") or "").casefold().replace("\u0307", "").replace("ı", "i")
            month = _MONTHS[name] if name else int(part["month"]) if part.get("month") else None
            day = int(part["day"]) if part.get("day") else None
            year = (part.get("year") or "").strip("'’")
            years = [int(year)] if len(year) == 4 else [1900 + int(year), 2000 + int(year)] if year else [None]
            # 3/4/85 is either; an ISO date is not, nor one with dots.
            either = re.match(r"\d\d?[/-]", found.group()) and part.get("month")
            orders = [(month, day), (day, month)] if either else [(month, day)]
            dates = {(y, m, d) for y, (m, d) in product(years, orders)}
            if dates := {date for date in dates if _exists(date)}:
                yield found.group(), dates


def _exists(date: Date) -> bool:
    year, month, day = date
    try:
        return bool(datetime.date(2000 if year is None else year, month or 1, day or 1))
    except ValueError:
        return False


def _numbers(text: str) -> Iterator[tuple[str, set[float]]]:
    for found in _NUMBER.finditer(text):
        whole, part, power = found["whole"], found["part"] or "", (found["power"] or "").casefold()
        digits = re.sub(r"\D", "", whole)
        if len(digits) > 30:
            continue
        numbers = {float(f"{digits}.{part or 0}")}
        if not part and re.fullmatch(r"\d{1,3}[.]\d{3}", whole):
            numbers.add(float(whole))
        times: float = 10 ** _POWERS.get(power, 0)
        yield found.group(), {round(number * times, 6) for number in numbers} | (numbers if power == "m" else set())


def _is_pronoun(run: re.Match[str]) -> bool:
    """Whether the number word is a "one" that stands for somebody or something."""
    text, (start, end) = run.string, run.span()
    return run.group().casefold() == "one" and bool(_BEFORE.search(text[max(0, start - 10) : start]) or _BEHIND.match(text, end))


class Values:
    """What a text mentions, each as it is written there with its values."""

    def __init__(self, text: str) -> None:
        spoken = _IN_WORDS.sub(lambda found: found.group() if _is_pronoun(found) else _as_digits(found.group()), text)
        both = (text,) if spoken == text else (text, spoken)
        self.dates = [date for one in both for date in _dates(one)]
        self.numbers = [number for one in both for number in _numbers(one)]
        spelt = (found.group() for found in _IN_WORDS.finditer(text) if not _is_pronoun(found))
        self.numbers += [(run, set().union(*(numbers for _, numbers in _numbers(_as_digits(run))))) for run in spelt]
        phones = [found.group().strip() for one in both for found in _PHONE.finditer(one)]
        self.phones = [phone for phone in dict.fromkeys(phones) if 7 <= sum(c.isdigit() for c in phone) <= 15]

    def __bool__(self) -> bool:
        return bool(self.dates or self.numbers or self.phones)


_SIGN = re.compile(rf"\d|\b{_WORD}\b", re.IGNORECASE)


@lru_cache(maxsize=1024)
def values(text: str) -> Values | None:
    found = Values(text) if _SIGN.search(text) else None
    return found or None


def same_values(reference: str, text: str) -> list[str]:
    """The dates, numbers and telephone numbers of `reference`, as it writes them, whose value stands in `text` in any form.

    A date of the text must agree in all that the reference tells of it: year, month, day.

    >>> same_values("She earns 85,000 euros.", "about 85k")
    ['85,000']
    """
    wanted = values(reference)
    given = values(text) if wanted else None
    if not wanted or not given:
        return []
    dates = {date for _, some in given.dates for date in some}
    numbers = {number for _, some in given.numbers for number in some}
    pairs = ((mention, zip(one, date, strict=True)) for mention, some in wanted.dates for one, date in product(some, dates))
    found = [mention for mention, parts in pairs if all(told is None or told == other for told, other in parts)]
    found += [mention for mention, some in wanted.numbers if some & numbers]
    found += [mention for mention in wanted.phones if any(_same_phone(mention, other) for other in given.phones)]
    return list(dict.fromkeys(found))


@lru_cache(maxsize=1024)
def _same_phone(one: str, other: str) -> bool:
    """Whether two numbers may be one, where only one of them tells the country."""
    import phonenumbers

    # 00 stands for + in most of the world.
    one, other = (re.sub(r"^00", "+", re.sub(r"[^\d+]", "", re.sub(r"\(0\)", "", phone))) for phone in (one, other))
    match = phonenumbers.is_number_match(one, other)
    return match in (phonenumbers.MatchType.EXACT_MATCH, phonenumbers.MatchType.NSN_MATCH)
