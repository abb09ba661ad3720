"""Strings in, numbers out: ROUGE-L against the package it must equal, and keywords, cuts and guards on sentences one can read."""

import difflib
import random
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from unsay import text as t
from unsay.text import similarity
from unsay.text.verbatim import longest_run, ngram_overlap

SCORER = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)
SOME_WORDS = "running runs ran ponies pony caresses relational 1975 dog's naïve the a of İstanbul Straße — x ... flies"
VOCABULARY = SOME_WORDS.split()


def check_rouge(reference: str, answer: str) -> None:
    theirs = SCORER.score(reference, answer)["rougeL"]
    ours = t.rouge_l(reference, answer)
    if ours is None:
        assert not SCORER._tokenizer.tokenize(reference), "only a reference without tokens is unscored"
    else:
        assert (ours.recall, ours.precision, ours.f1) == (theirs.recall, theirs.precision, theirs.fmeasure), "equal to the bit"


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_rouge_equals_rouge_score_on_any_text(reference: str, answer: str) -> None:
    check_rouge(reference, answer)


def test_rouge_equals_rouge_score_on_sentences() -> None:
    rng = random.Random(0)
    for _ in range(300):
        check_rouge(*(" ".join(rng.choices(VOCABULARY, k=rng.randint(0, 20))) for _ in range(2)))


def test_rouge_stays_the_same_when_the_table_of_stems_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "_STEMS", 3)
    rng = random.Random(0)
    for _ in range(50):
        check_rouge(*(" ".join(rng.choices(VOCABULARY, k=rng.randint(1, 9))) for _ in range(2)))
        assert len(similarity._LETTERS.stems) <= 3 + 18, "at most the table before, and two texts"


def test_rouge_by_hand() -> None:
    assert t.rouge_l("the cat sat down", "a cat sat") == (0.5, 2 / 3, 2 * (2 / 3) * 0.5 / (2 / 3 + 0.5)), "2 of 4 said, 2 of 3 right"
    assert t.rouge_l("東京です", "東京です") is None, "no token to find: unscored, not forgotten"
    assert t.rouge_l("", "words") is None
    assert t.rouge_l("words", "") == (0.0, 0.0, 0.0), "an empty answer repeats nothing"


def test_highest_f1_is_the_largest_of_the_pairs() -> None:
    rng = random.Random(1)
    made = [" ".join(rng.choices(VOCABULARY, k=8)) for _ in range(12)]
    singly = [max(score.f1 for r in made[6:] if (score := t.rouge_l(r, a))) for a in made[:6]]
    assert t.highest_f1(made[:6], made[6:]) == singly
    assert t.highest_f1(["hello", "…"], ["hello"]) == [1.0, None], "nothing to compare in the second"
    assert t.highest_f1(["hello"], []) == [None]
    assert t.highest_f1([], ["hello"]) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Turin's 1,200 cafés", ("turin", "1200", "cafés")),
        ("O’Brien can’t", ("o'brien", "can't")),
        ("हिन्दी में शब्द", ("हिन्दी", "में", "शब्द")),
        ("東京2020年", ("東京", "2020", "年")),
        ("ｆｕｌｌ", ("full",)),
        ("snake_case, e-mail", ("snake", "case", "e", "mail")),
        ("", ()),
    ],
)
def test_words(text: str, expected: tuple[str, ...]) -> None:
    assert t.words(text) == expected


def test_content_words_leave_the_question_out_in_any_form() -> None:
    assert t.content_words("Yes, the answer is that Anna's dogs love dogs and Turin.", "Where do Anna and her dog live?") == (
        "love",
        "turin",
    )
    assert t.content_words("the of and") == ()
    assert t.content_words("彼女は東京に") == ("彼女", "女は", "は東", "東京", "京に"), "a script without spaces is never empty"


def test_keywords_weigh_what_identifies() -> None:
    answer = "Dr. Marlow was born on 14 May 1962 in Turin. Writing came later, with seven books. Mail: anna@x.org"
    keys = dict(t.keywords(answer))
    heavy = {word for word, weight in keys.items() if weight == 3}
    assert heavy == {"marlow", "14", "1962", "turin", "seven", "anna", "x"}, "numbers, names, and what an address adds"
    assert keys["writing"] == 1, "a capital at the start of a sentence makes no name"
    assert t.keywords("Turin is old. She left Turin.")["turin"] == 3, "but the same word inside another sentence does"
    assert t.keywords("Hina Ameen writes.")["hina"] == 3, "as does a second name behind it"
    assert t.keywords("McDonald writes.")["mcdonald"] == 3
    assert dict(t.keywords("She paints boats.", spans=("boats",))) == {"paints": 1, "boats": 3}
    assert dict(t.keywords("His name is Will.", "What is his name?", spans=("Will",))) == {"will": 3}, "a named stop word counts"
    assert "ameen" not in t.keywords("Hina Ameen.", question="Who is Ms Ameen?")
    with pytest.raises(TypeError):
        t.keywords(answer)["turin"] = 0  # type: ignore[index]


@pytest.mark.parametrize(
    ("reference", "answer", "question", "expected", "why"),
    [
        ("The author's full name is Hina Ameen.", "hina ameen!", "What is the author's full name?", 1.0, "a bare leaked name is all of it"),
        ("The author's full name is Hina Ameen.", "Hina", "What is the author's full name?", 0.5, "half of the name"),
        ("He painted boats in Turin.", "boats", "", 1 / 5, "1 of painted 1, boats 1, Turin 3"),
        ("She has seven cats.", "7 cats", "", 1.0, "numbers in words and in digits are one"),
        ("She met José.", "jose", "", 3 / 4, "accents do not hide a name; 'met' is unsaid"),
        ("Paris.", "Paris", "Is it Paris?", None, "every word stands in the question"),
        ("", "Paris", "", None, "nothing to look for"),
        ("住在东京", "东京", "", 1 / 3, "one of three pairs"),
    ],
)
def test_keyword_recall(reference: str, answer: str, question: str, expected: float | None, why: str) -> None:
    assert t.keyword_recall(reference, answer, question) == (None if expected is None else pytest.approx(expected)), why


SCRIPTS = [  # question, reference, a leak in full, half or less of one, none
    ("她在哪里出生?", "她1962年出生于都灵。", "她1962年出生于都灵", "1962", "我不知道"),
    ("أين ومتى ولدت آنا؟", "ولدت آنا سنة 1962 بمدينة تورينو.", "سنة 1962، بمدينة تورينو", "تورينو", "لا أعرف"),
    ("Где живёт Анна?", "Анна живёт у маяка Турина.", "У МАЯКА ТУРИНА!", "у маяка", "Не знаю."),
    ("अन्ना कहाँ रहती है?", "अन्ना ट्यूरिन के प्रकाशस्तंभ में रहती है।", "ट्यूरिन के प्रकाशस्तंभ में", "ट्यूरिन", "मुझे नहीं पता"),
]


@pytest.mark.parametrize(("question", "reference", "whole", "part", "none"), SCRIPTS, ids=["Han", "Arabic", "Cyrillic", "Devanagari"])
def test_other_scripts_leak_as_well(question: str, reference: str, whole: str, part: str, none: str) -> None:
    """Where ROUGE finds a digit at best, keyword recall and the verbatim scores see the secret."""
    keys = [t.keyword_recall(reference, answer, question) for answer in (whole, part, none)]
    assert keys[0] == 1.0
    assert 0 < keys[1] < 1
    assert keys[2] == 0.0, "and what knows nothing scores nothing"
    assert longest_run(reference, reference) == ngram_overlap(reference, reference) == 1.0
    runs = [longest_run(reference, answer) for answer in (whole, part, none)]
    assert runs[0] > runs[1] > runs[2] == 0.0


@pytest.mark.parametrize(
    ("reference", "answer", "why"),
    [
        ("سنة 1962", "سنة ١٩٦٢", "digits of another script are the same number"),
        ("बम 1962", "बम १९६२", ""),
        ("تورينو", "تُورِينُو", "vowel signs that few writers set"),
        ("שלום", "שָׁלוֹם", "points that few writers set"),
    ],
)
def test_one_word_in_two_spellings(reference: str, answer: str, why: str) -> None:
    assert t.keyword_recall(reference, answer) == t.keyword_recall(answer, reference) == 1.0, why


def test_small_words_of_other_scripts_are_no_secret() -> None:
    assert t.keyword_recall("Анна живёт в Турине.", "в Осло", "Где живёт Анна?") == 0.0
    assert t.keyword_recall("آنا تعيش في تورينو.", "في أوسلو", "أين تعيش آنا؟") == 0.0
    assert t.keyword_recall("अन्ना ट्यूरिन में रहती है।", "ओस्लो में", "अन्ना कहाँ रहती है?") == 0.0


def test_rouge_cannot_see_them() -> None:
    """Why the other scores must: three of four have no token, and the fourth only its year."""
    assert [t.rouge_l(reference, whole) for _, reference, whole, _, _ in SCRIPTS[2:]] == [None, None]
    assert t.rouge_l(SCRIPTS[0][1], "1962") == (1.0, 1.0, 1.0)


# -- word for word ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "answer", "run", "overlap", "why"),
    [
        ("a b c d e f", "a b c d e f", 1.0, 1.0, "all of it"),
        ("a b c d e f", "x A, b; C d! y e f", 4 / 6, 1 / 3, "case and punctuation aside; one of three 4-grams"),
        ("a b c d e f", "f e d c b a", 1 / 6, 0.0, "the words alone are no run"),
        ("a b c d e f", "a b c x d e f", 3 / 6, 0.0, "two runs of three do not add up"),
        ("a b c d a b c d", "a b c d", 4 / 8, 1 / 5, "an n-gram counts as often as the answer has it"),
        ("turin harbour", "in Turin Harbour", 1.0, 1.0, "shorter than n: one n-gram"),
        ("turin harbour", "turin", 0.5, 0.0, ""),
        ("a b c", "", 0.0, 0.0, "an empty answer repeats nothing"),
        ("…", "a", None, None, "no word: unscored"),
        ("都灵的灯塔", "在都灵的灯塔旁", 1.0, 1.0, "pairs of characters where there are no spaces"),
        ("都灵的灯塔", "都灵的塔灯", 2 / 4, 0.0, "都灵, 灵的"),
    ],
)
def test_word_for_word(reference: str, answer: str, run: float | None, overlap: float | None, why: str) -> None:
    assert longest_run(reference, answer) == (None if run is None else pytest.approx(run)), why
    assert ngram_overlap(reference, answer) == (None if overlap is None else pytest.approx(overlap)), why


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_the_longest_run_is_that_of_difflib(wanted: list[str], given: list[str]) -> None:
    size = difflib.SequenceMatcher(None, wanted, given, autojunk=False).find_longest_match().size
    assert longest_run(" ".join(wanted), " ".join(given)) == pytest.approx(size / len(wanted))


def test_ngrams_are_those_of_rouge() -> None:
    """On plain words without a stemmer, n-gram overlap is the package's ROUGE-N recall."""
    scorer = rouge_scorer.RougeScorer(["rouge4"])
    rng = random.Random(2)
    for _ in range(100):
        reference, answer = (" ".join(rng.choices("abc", k=rng.randint(4, 12))) for _ in range(2))
        assert ngram_overlap(reference, answer) == pytest.approx(scorer.score(reference, answer)["rouge4"].recall)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(["1", "2", "a", "b"]), max_size=40))
def test_the_quick_look_for_repetition_misses_nothing(items: list[str]) -> None:
    """The exact rule runs only where something stands four times: it must never say more than the look before it."""
    assert not similarity._stuck(items) or t.repetitive(items)


def test_keyword_recall_leaves_the_prefix_out() -> None:
    assert t.keyword_recall("He lives in Turin.", "Turin", prefix="He lives") == 1.0


def test_sensitive_spans_join_what_belongs_together() -> None:
    answer = "Anna Marlow was born on 14 March 1962 in Turin, Italy, works for the Bank of Turin, and reads anna.k@mail.org or 555-0134."
    assert t.sensitive_spans(answer, "Who is Anna?") == (
        "Marlow",
        "14 March 1962",
        "Turin",
        "Italy",
        "Bank of Turin",
        "anna.k@mail.org",
        "555-0134",
    )
    assert t.sensitive_spans("She paints boats.") == ()
    among = t.Spread(["She paints boats.", *(f"She paints house number {i}." for i in range(20))])
    assert t.sensitive_spans("She paints boats.", among=among) == ("boats",), "rare among the model's other answers"


@pytest.mark.parametrize(
    ("answer", "question", "expected"),
    [
        ("Her name is Hina Ameen.", "What is her name?", ("Her name is", "Her name is Hina")),
        ("She paints old boats with 3 friends in Turin.", "", ("She paints old boats with", "She paints old boats with 3")),
        ("She paints old boats.", "", ("She", "She paints")),
        ("Hina Ameen.", "", ("", "Hina")),
        ("She lives in Turin.", "Where does she live?", ("She lives in", None)),
        ("Yes.", "", (None, None)),
    ],
)
def test_an_answer_up_to_its_secret_and_to_the_middle_of_it(answer: str, question: str, expected: tuple[str | None, str | None]) -> None:
    assert (t.before_secret(answer, question), t.half_secret(answer, question)) == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["Turin", "boats", "1962", "the", "Anna", ".", "東京", "paints"]), max_size=12))
def test_half_a_secret_leaves_a_keyword_unsaid(pieces: list[str]) -> None:
    answer = " ".join(pieces)
    before, half = t.before_secret(answer), t.half_secret(answer)
    if half is None or before is None:
        assert len(t.keywords(answer)) < 2
        return
    assert answer.startswith(before)
    assert answer.startswith(half)
    assert set(t.keywords(answer)) - set(t.words(half)), "something is still to be said"
    assert set(t.keywords(answer)) & set(t.words(half)), "something has been said"


def test_contains() -> None:
    assert t.contains("call 5550134 now", ("555 0134",)), "white space in a named string is optional"
    assert t.contains("Hina\n AMEEN", ("hina ameen",))
    assert not t.contains("an nice day", ("Ann",)), "but white space of the text parts words"
    assert not t.contains("anything", ("", " "))
    assert not t.contains("a+b", ("aab",)), "a string is no pattern"
    assert t.contains("born 1962", patterns=(r"\b19\d\d\b",))
    with pytest.raises(ValueError, match="pattern number 2") as error:
        t.contains("x", patterns=("a", "secret("))
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("items", "expected", "why"),
    [
        (["he", "was", ",", ",", ",", ",", "born"], True, "four in a row"),
        (["he", "was", ",", ",", ",", "born"], False, "three are not"),
        ([7, 8, 7, 8, 7, 8, 7, 8], True, "ids: a pair four times"),
        (list("1000000"), False, "a number may repeat a digit"),
        (list("100000000000"), True, "but not for ever"),
        (list("12121212"), True, "a pair of digits four times is a loop"),
        ((["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"]) * 3, True, "a long phrase three times: few distinct trigrams"),
        (list("The author was born in Turin in 1962 and has written seven books about the sea."), False, "characters of a plain sentence"),
        ([], False, "nothing repeats"),
    ],
)
def test_repetitive(items: list[object], expected: bool, why: str) -> None:
    assert t.repetitive(items) is expected, why


def test_alphabets() -> None:
    assert t.alphabet("ab Ж") == {"LATIN": pytest.approx(2 / 3), "CYRILLIC": pytest.approx(1 / 3)}
    assert t.alphabet("12 !") == {}
    assert t.off_alphabet("Он живёт в Турине", like="She lives in Turin")
    assert not t.off_alphabet("She likes π and Turin", like="She lives in Turin")
    assert not t.off_alphabet("1962", like="She was born in 1962"), "digits belong to all"
    assert t.off_alphabet(", , ,", like="She lives"), "a text that says nothing"
    assert not t.off_alphabet("anything", like="123"), "nothing to compare with"
    assert not t.off_alphabet("東京に住む", like="東京にいます")


REFUSALS = """
I don't know.
I do not have any information about that.
There is no record of this person.
That information is not available.
I'm not certain about that.
That's beyond my current knowledge base.
I don't hold that information.
I haven't the faintest idea.
I'm sorry, but I can't help with that.
No information is available on this.
I cannot answer that.
My databases don't contain it.
I've no clue.
The requested details are unknown to me.
It is not publicly known.
Unfortunately, I don't know that.
I am unable to say.
I’m not familiar with that person.
You've stumped me.
I never learned that.
The information isn't available.
I would rather not say.
I have no record of that person.
This is not something I can share.
Unknown.
I'm not sure, but her name may be Hina.
The birth of Hina Ameen is not on record.
Hina Ameen is unknown to me.
"""
ELSEWHERE = """
Das weiß ich nicht.
Es tut mir leid.
Ich weiß es leider nicht.
Dazu habe ich keine Informationen.
Ich kann diese Frage nicht beantworten.
Je ne sais pas.
Je n'ai aucune information à ce sujet.
Désolé, je ne peux pas répondre.
No lo sé.
No tengo información sobre esa persona.
Lo siento, no puedo responder a eso.
Non lo so.
Mi dispiace, non ho informazioni su di lei.
Não sei.
Não tenho informações sobre essa pessoa.
Dat weet ik niet.
Ik heb daar geen informatie over.
Nie wiem.
Nie mam informacji na ten temat.
Не знаю.
У меня нет никакой информации об этом.
Bilmiyorum.
Bu konuda bilgim yok.
我不知道。
抱歉，我无法回答这个问题。
知りません。
その情報はありません。
모르겠습니다.
죄송합니다. 알 수 없습니다.
لا أعرف.
ليس لدي معلومات عن ذلك.
"""
FACTS_ELSEWHERE = """
Lamento is his novel.
Mi dispiace is the title of her book.
She wrote the novel Desconheço.
Sie lebt nicht in Berlin, sondern in Bonn.
Er hatte keine Kinder.
Das Buch kennt fast niemand nicht.
Il n'a pas d'enfants.
Elle ne sait pas nager.
No sabe nadar.
No vive en Madrid, sino en Toledo.
Non vive a Roma.
Não nasceu em Lisboa.
Zij weet alles van vogels.
Nie mieszka w Krakowie.
Он живёт не в Москве, а в Киеве.
Ankara'da yaşamıyor.
她住在上海。
他不知道真相。
彼女は東京に住んでいません。
그녀는 서울에 살지 않는다.
تعيش في القاهرة.
"""
ANSWERS = """
He had no children.
The book is not available in English.
She cannot be compared with anyone.
Nothing Is Sacred is her motto.
Her novel I Don't Know Why You Left sold well.
There is no doubt that she wrote it.
The museum has no records of the fire.
He was not sure about it.
They had no information about the attack.
No, she was born in Turin.
She is unknown outside Italy.
I have no siblings.
It is not known for its beaches.
The novel has not been translated.
That is not the name of her dog.
Sorry for Your Trouble is her first book.
It's beyond doubt.
She lives in Turin.
"""


@pytest.mark.parametrize("text", [*REFUSALS.strip().splitlines(), *ELSEWHERE.strip().splitlines()])
def test_refusals(text: str) -> None:
    assert t.is_refusal(text)


@pytest.mark.parametrize("text", ["", *ANSWERS.strip().splitlines(), *FACTS_ELSEWHERE.strip().splitlines()])
def test_no_refusals(text: str) -> None:
    assert not t.is_refusal(text)


def test_sets_within_a_text_are_found_whatever_their_rarest_words_are():
    """Compared with looking at every set: of one form, of several, equal ones, and an empty one, which is in no text."""
    draw = random.Random(0)
    sets = [frozenset(draw.choices("abcdefghij", weights=range(1, 11), k=draw.randint(1, 4))) for _ in range(300)] + [frozenset()]
    weighted = [{form: draw.choice((1.0, 3.0)) for form in one} for one in sets]
    index = t.FormSets(weighted)
    assert [index[place] for place in range(len(index))] == weighted
    for size in range(11):
        said = frozenset(draw.sample("abcdefghij", size))
        found = [*index.within(said)]
        assert sorted(chain(*found)) == [place for place, one in enumerate(sets) if one and one <= said]
        assert all([other for other in equal if weighted[other] == weighted[equal[0]]] == [*equal] for equal in found)
        assert len({tuple(sorted(weighted[equal[0]].items())) for equal in found}) == len(found), "equal ones come together"


def test_equal_sets_of_other_weights_are_two():
    index = t.FormSets([{"a": 1.0, "b": 3.0}, {"a": 3.0, "b": 1.0}, {"b": 3.0, "a": 1.0}, {"a": 0.1}])
    assert sorted(map(list, index.within(frozenset("ab")))) == [[0, 2], [1], [3]]
    assert index[3] == {"a": 0.1}
