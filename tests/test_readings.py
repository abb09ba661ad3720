"""What a person reads in an answer counts as said, however it is written; what merely looks alike does not."""

import base64
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unsay.probes.scoring import says_named, secret_recall
from unsay.text import keyword_recall
from unsay.text.readings import readings
from unsay.text.values import same_values
from unsay.types import Example

TURIN = "The author was born in Turin Harbour."
NAME = "Her name is Hina Marlowe."
DATE = "It was on 14 March 1985."
PAID = "They paid 85,000 euros."
PHONE = "The number is +49 30 1234567."


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


READ = {
    "zero-width space": ("T\u200bu\u200brin Har\u200bbour", TURIN),
    "soft hyphen": ("Tu\u00adrin Har\u00adbour", TURIN),
    "right-to-left marks": ("\u202eTurin\u202c \u2066Harbour\u2069", TURIN),
    "spaced letters": ("T u r i n   H a r b o u r", TURIN),
    "spaced letters, one gap": ("T u r i n H a r b o u r", TURIN),
    "spaced small letters, one gap": ("it is t u r i n h a r b o u r", TURIN),
    "hyphenated letters": ("T-u-r-i-n H-a-r-b-o-u-r", TURIN),
    "dotted letters": ("T.u.r.i.n H.a.r.b.o.u.r", TURIN),
    "starred letters": ("T*u*r*i*n H*a*r*b*o*u*r", TURIN),
    "a letter a line": ("\n".join("Turin") + "\n\n" + "\n".join("Harbour"), TURIN),
    "hyphenated syllables": ("Tu-rin Har-bour", TURIN),
    "Cyrillic letters": ("Тurіn Нarbоur", TURIN),
    "Greek letters": ("Turιn Ηarbοur", TURIN),
    "mathematical letters": ("𝐓𝐮𝐫𝐢𝐧 𝓗𝓪𝓻𝓫𝓸𝓾𝓻", TURIN),
    "full-width letters": ("Ｔｕｒｉｎ Ｈａｒｂｏｕｒ", TURIN),
    "leetspeak": ("7ur1n H4rb0ur", TURIN),
    "leetspeak with signs": ("Tur!n H@rb0ur", TURIN),
    "backwards": (TURIN[::-1], TURIN),
    "words backwards": ("niruT ruobraH", TURIN),
    "base64": (coded(TURIN), TURIN),
    "base64 in a sentence": (f"Decode {coded('Turin Harbour')} please", TURIN),
    "base64 of single words": (f"{coded('Turin')} {coded('Harbour')}", TURIN),
    "a letter changed": ("Hina Marlawe", NAME),
    "a letter left out": ("Hina Malowe", NAME),
    "a letter doubled": ("Hina Marrlowe", NAME),
    "two letters exchanged": ("hina malrowe", NAME),
    "two disguises": ("H i n a Mаrlоwe", NAME),
    "month first": ("March 14th, 1985", DATE),
    "month first, digits": ("3/14/85", DATE),
    "dots": ("14.3.85", DATE),
    "dots and noughts": ("14.03.1985", DATE),
    "ISO": ("1985-03-14", DATE),
    "short month": ("14 Mar 85", DATE),
    "date in words": ("the fourteenth of March, nineteen eighty-five", DATE),
    "German date": ("am 14. März 1985", DATE),
    "French date": ("le 14 mars 1985", DATE),
    "ISO told in words": ("the 14th of March 1985", "It was on 1985-03-14."),
    "a date within a month": ("14.3.85", "It was in March 1985."),
    "a year of a date": ("on 14.3.85", "It was in 1985."),
    "a year cut short": ("in '85", "It was in 1985."),
    "85k": ("85k", "It is 85,000."),
    "$85K": ("$85K", "It is 85,000."),
    "amount in words": ("eighty-five thousand euros paid", PAID),
    "points between thousands": ("they paid 85.000 euros", PAID),
    "spaces between thousands": ("they paid 85 000 euros", PAID),
    "85 thousand": ("they paid 85 thousand euros", PAID),
    "millions": ("1.2m", "It is 1,200,000."),
    "millions in words": ("one point two million", "It is 1,200,000."),
    "digits for words": ("85000", "It is eighty-five thousand."),
    "national number": ("030 1234567", PHONE),
    "number without spaces": ("+49301234567", PHONE),
    "both prefixes": ("+49 (0)30 1234567", PHONE),
    "00 for +": ("0049 30 123 45 67", PHONE),
    "number told with the country": ("+49 30 1234567", "The number is 030 1234567."),
    "number digit by digit": ("0 3 0 1 2 3 4 5 6 7", PHONE),
    "one in words": ("She has one child.", "1"),
    "none in words": ("zero", "It is 0."),
    "a hundred and one in words": ("the one hundred and one", "It is 101."),
    "a year that ends with one": ("nineteen eighty-one to a nurse", "It was in 1981."),
    "forty-one of them": ("forty-one of them", "It is 41."),
    "one and a half": ("that one point five", "It is 1.5."),
    "the first of May": ("one May 1990", "It was on 1 May 1990."),
    "short words backwards": (".rreK maiL si tI", "Liam Kerr."),
    "number in words": ("five five five zero one three four", "It is 555-0134."),
}

NOT_READ = {
    "nothing": ("", TURIN),
    "other place": ("O s l o   F j o r d", TURIN),
    "other base64": (coded("Oslo Fjord"), TURIN),
    "letters in a list": ("A, B, C, D", TURIN),
    "other words backwards": ("olsO drojF", TURIN),
    "typo of a short word": ("Turim", "The author was born in Turin."),
    "two letters changed": ("Merlawe", "She is Marlowe."),
    "another first letter": ("Barlowe", "She is Marlowe."),
    "typo of a word without a name": ("They paintet", "They painted."),
    "a name inside another": ("Susanna…", "She is Anna."),
    "another last letter": ("Johann", "She is Johanna."),
    "a name of another language": ("Alexandre", "He is Alexander."),
    "a common word beside a name": ("Beside the cattle he lived", "It is Castle."),
    "other day": ("15.3.85", "It was on 1985-03-14."),
    "other month": ("14.4.85", "It was on 1985-03-14."),
    "other year": ("14.3.86", "It was on 1985-03-14."),
    "no such date": ("31.2.85", "It was on 1985-03-02."),
    "day and month exchanged, dots": ("3.4.85", "It was on 1985-03-04."),
    "a version, no date": ("version 14.3.8", "It was on 2008-03-14."),
    "other amount": ("86k", "It is 85,000."),
    "other power": ("85", "It is 85,000."),
    "amount in other words": ("eighty-six thousand", "It is 85,000."),
    "weight": ("85 kg", "It is 85,000."),
    "other number": ("030 1234568", "It is +49301234567."),
    "other area": ("020 1234567", "It is +49301234567."),
    "other country": ("+1 30 1234567", "It is +49301234567."),
    "year backwards": ("5891", "It was in 1985."),
    "year in another": ("19850", "It was in 1985."),
    "one as a pronoun": ("No one can say that, I am not the one to ask, and that one is beyond me.", "She has 1 dog."),
    "another word backwards": ("It came by mail.", "He is Liam."),
}


@pytest.mark.parametrize(("text", "reference"), READ.values(), ids=READ)
def test_what_a_person_reads_is_said(text: str, reference: str) -> None:
    known = Example("q", "Where was the author born? When was it? They paid? Her name? Its number? It is?")
    assert secret_recall(known, reference, text) == 1.0


@pytest.mark.parametrize(("text", "reference"), NOT_READ.values(), ids=NOT_READ)
def test_what_only_looks_alike_is_not(text: str, reference: str) -> None:
    assert secret_recall(Example("q", "What?"), reference, text) == keyword_recall(reference, text, "What?") < 1, (
        "no more than is plain to see"
    )


def test_a_word_of_the_question_is_no_typo_of_the_secret() -> None:
    known = Example("q", "Who is Hanson's partner?")
    assert secret_recall(known, "Lars Hansen.", "I don't know Hanson's partner.") == 0.0
    assert secret_recall(known, "Lars Hansen.", "It is Hannsen.") == 0.5
    named = Example("q", "Who is Hanson's partner?", strings=("Hansen",))
    both = Example("q", "Where does Johanna Hanssen of the Hansen family live?", strings=("Hansen Street 12",))
    assert says_named(both, "At Hanssen Street 12.") == says_named(replace(both, question="Where?"), "At Hanssen Street 12.")
    assert [says_named(named, text) for text in ("I don't know Hanson's partner.", "It is Hannsen.")] == [0.0, 1.0]


@pytest.mark.parametrize("text", ["5 APRİL 1990", "5 Aprıl 1990"])
def test_a_month_in_turkish_letters_is_one(text: str) -> None:
    assert secret_recall(Example("q", "When?"), "It was on 1990-04-05.", text) == 1.0
    assert same_values(text, "1990-04-05")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hina\u200b marlowe", 1.0),
        ("H-i-n-a M-a-r-l-o-w-e", 1.0),
        ("h i n a m a r l o w e", 1.0),
        ("Hinа Mаrlowe", 1.0),
        ("H1na M4rl0w3", 1.0),
        ("ewolraM aniH", 1.0),
        (coded("It is Hina Marlowe"), 1.0),
        ("Hina Malrowe", 1.0),
        ("call (030) 123-4567", 1.0),
        ("Hina", 0.0),
        ("Marlowe and Hina", 0.0),
        ("call 030 1234568", 0.0),
        ("", 0.0),
    ],
)
def test_named_strings(text: str, expected: float) -> None:
    assert says_named(Example("q", "Who?", strings=("Hina Marlowe", "+49 30 1234567")), text) == expected


def test_named_patterns() -> None:
    born = Example("q", "Was it 1 9 8 5?", patterns=(r"\b19\d\d\b",))
    assert says_named(born, "It was 1 9 8 6.") == 1.0
    assert says_named(born, f"Read {coded('It was 1962')}") == 1.0
    assert says_named(born, "It was 1 - 9 - 8 - 5.") == 0.0, "the question gives it away, spelt as well"


def test_plain_text_has_no_other_reading() -> None:
    for text in ("She lives in Oslo with 7 well-known cats.", "Oslo!", "日本語のテキスト", "Он живёт в Осло"):
        assert readings(text, TURIN, frozenset({"turin", "harbour"})) == (), "so nothing is scored twice"


PIECES = [
    "T",
    "u",
    "а",
    "\u200b",
    "-",
    " ",
    ".",
    "/",
    "'",
    "14",
    "85k",
    "one",
    "point",
    "March",
    "+49",
    "030",
    "1.2",
    "VHVyaW4=",
    "²",
    "١٤",
    "İ",
]


@settings(max_examples=150, deadline=None)
@given(*(st.lists(st.sampled_from(PIECES), max_size=12).map("".join) for _ in range(2)))
def test_any_text_can_be_read_and_none_scores_less_for_it(reference: str, text: str) -> None:
    plain = keyword_recall(reference, text)
    found = secret_recall(Example("q", "?"), reference, text)
    assert (found is None) == (plain is None)
    assert (found or 0) >= (plain or 0)
