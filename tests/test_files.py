"""The operator's own files: what is read, what is held out, and what each complaint says."""

import json
from pathlib import Path

import pytest

from unsay.config import ConfigError
from unsay.corpora import general
from unsay.corpora.files import Files


@pytest.fixture
def write(tmp_path: Path):
    def write(name: str, *rows: dict | str) -> str:
        path = tmp_path / name
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8")
        return str(path)

    return write


def asked(number: int) -> dict:
    return {"question": f"question {number}?"}


def kept(number: int) -> dict:
    return {"question": f"retain {number}?", "answer": f"answer {number}"}


def test_forget_rows(write):
    path = write(
        "forget.jsonl",
        {
            "question": "Where does Jane live?",
            "id": "jane",
            "paraphrases": ["Jane's address?"],
            "strings": ["Elm"],
            "patterns": ["\\d{5}"],
            "group": "Jane",
        },
        "",
        asked(1),
    )
    jane, other = Files(forget=path, strings=("everywhere",), patterns=("a+",), desired=("No.",)).corpus().forget
    assert (jane.id, jane.paraphrases, jane.group) == ("jane", ("Jane's address?",), "Jane")
    assert (jane.strings, jane.patterns) == (("everywhere", "Elm"), ("a+", "\\d{5}"))
    assert (other.id, other.strings, other.patterns) == ("forget-001", ("everywhere",), ("a+",))


def test_no_answers_are_known(write):
    source = Files(forget=write("forget.jsonl", asked(0)))
    assert source.truth() is None
    assert source.finetuning_rows(retain_model=False) == source.finetuning_rows(retain_model=True) == ()


def test_a_quarter_of_the_retain_rows_and_half_of_the_general_ones_are_held_out(write):
    source = Files(forget=write("forget.jsonl", asked(0)), retain=write("retain.jsonl", *map(kept, range(12))))
    corpus = source.corpus()
    ids = {pair.id for pair in corpus.retain}
    assert [len(corpus.utility["retain"]), len(corpus.utility_heldout["retain"])] == [9, 3]
    assert len(corpus.utility["general"]) + len(corpus.utility_heldout["general"]) == len(general.load())
    assert corpus.general == corpus.utility["general"]
    assert all(pair.id in ids for pairs in corpus.utility.values() for pair in pairs)
    assert not any(pair.id in ids for pairs in corpus.utility_heldout.values() for pair in pairs)
    assert source.corpus() == corpus


def test_without_retain_rows_the_general_ones_remain(write):
    corpus = Files(forget=write("forget.jsonl", asked(0))).corpus()
    assert set(corpus.utility) == set(corpus.utility_heldout) == {"general"}


def test_a_general_question_that_is_to_be_forgotten_is_not_replayed(write):
    known = general.load()[0].question
    corpus = Files(forget=write("forget.jsonl", {"question": known.upper()})).corpus()
    assert known not in repr((corpus.retain, corpus.utility_heldout))


def test_paraphrases_by_id_and_by_question(write):
    forget = write("forget.jsonl", asked(0), asked(1))
    more = write(
        "more.jsonl", {"id": "forget-001", "paraphrases": ["one?"]}, {"question": "Question  0?", "paraphrases": ["zero?", "nought?"]}
    )
    first, second = Files(forget=forget, paraphrases=more).corpus().forget
    assert (first.paraphrases, second.paraphrases) == (("zero?", "nought?"), ("one?",))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([asked(0), {"question": "q?", "answer": "SECRET"}], r"forget\.jsonl:2: has the key 'answer', but no answer belongs"),
        ([asked(0), '{"question": "SECRET'], r"forget\.jsonl:2: not one JSON object \(Unterminated string.* at column 14\)"),
        (['["SECRET"]'], r"forget\.jsonl:1: not one JSON object \(a list\)"),
        ([{"questoin": "SECRET"}], r"forget\.jsonl:1: has an unknown key 'questoin': did you mean 'question'"),
        ([{"id": "a"}], r"forget\.jsonl:1: has no key 'question'"),
        ([{"question": " "}], r"forget\.jsonl:1: 'question' must be a text"),
        ([{"question": 7}], r"forget\.jsonl:1: 'question' must be a text"),
        ([], r"forget\.jsonl is empty"),
        ([asked(0), "", {"question": "QUESTION 0? "}], r"forget\.jsonl:3: has the same 'question' as .*forget\.jsonl:1"),
        ([{**asked(0), "id": "a"}, {**asked(1), "id": "a"}], r"forget\.jsonl:2: has the same 'id' as .*:1"),
        ([{**asked(0), "strings": "SECRET"}], r"forget\.jsonl:1: 'strings' must be a list of texts"),
        ([{**asked(0), "strings": [""]}], r"forget\.jsonl:1: 'strings' must be a list of texts"),
        ([{**asked(0), "patterns": ["x", "SECRET("]}], r"forget\.jsonl:1: 'patterns'\[1\] is not a regular expression: .* at position"),
        ([{**asked(0), "patterns": ["x*"]}], r"forget\.jsonl:1: 'patterns'\[0\] matches the empty text"),
    ],
)
def test_complaints_name_the_place_and_not_the_text(write, rows, said):
    with pytest.raises(ConfigError, match=said) as caught:
        Files(forget=write("forget.jsonl", *rows)).corpus()
    assert "SECRET" not in str(caught.value)
    # A traceback prints the cause too, and a JSON error carries its whole document.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_wrong_encoding(tmp_path):
    path = tmp_path / "forget.jsonl"
    path.write_bytes(b'{"question": "a?"}\n{"question": "Z\xfcrich?"}\n')
    with pytest.raises(ConfigError, match=r"forget\.jsonl:2: not UTF-8; convert the file.*iconv"):
        Files(forget=str(path)).corpus()


def test_a_byte_order_mark_and_odd_separators_are_read(tmp_path):
    path = tmp_path / "forget.jsonl"
    path.write_bytes('\ufeff{"question": "one\u2028line?"}\r\n'.encode())
    assert Files(forget=str(path)).corpus().forget[0].question == "one\u2028line?"


def test_the_same_question_on_both_sides(write):
    source = Files(
        forget=write("forget.jsonl", asked(3)), retain=write("retain.jsonl", kept(0), {"question": "Question 3?", "answer": "x"})
    )
    with pytest.raises(ConfigError, match=r"retain\.jsonl:2: this question is to be forgotten at .*forget\.jsonl:1"):
        source.corpus()


def test_retain_rows_need_answers(write):
    source = Files(forget=write("forget.jsonl", asked(0)), retain=write("retain.jsonl", asked(1)))
    with pytest.raises(ConfigError, match=r"retain\.jsonl:1: has no key 'answer'"):
        source.corpus()


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"id": "forget-01", "paraphrases": ["x?"]}, "did you mean 'forget-001'"),
        ({"question": "unheard of?", "paraphrases": ["x?"]}, "is not among the questions"),
        ({"id": "forget-000"}, "has no 'paraphrases'"),
    ],
)
def test_paraphrases_that_belong_to_nothing(write, row, said):
    source = Files(forget=write("forget.jsonl", asked(0), asked(1)), paraphrases=write("more.jsonl", row))
    with pytest.raises(ConfigError, match=said):
        source.corpus()


def test_missing_files_and_wrong_knobs(tmp_path):
    with pytest.raises(ConfigError, match=r"--set files\.forget="):
        Files().corpus()
    with pytest.raises(ConfigError, match=r"there is no file .*nowhere\.jsonl"):
        Files(forget=str(tmp_path / "nowhere.jsonl")).corpus()
    with pytest.raises(ConfigError, match=r"files\.patterns\[0\] is not a regular expression"):
        Files(patterns=("(",))
    with pytest.raises(ConfigError, match=r"files\.heldout"):
        Files(heldout=1.0)


@pytest.mark.parametrize("string", ["14 Elm", "ＥＬＭ", "7 s", "王", "straße", "ß", "14\u00a0elm street!"])
def test_a_retain_answer_with_a_named_string_is_found_however_it_is_spelt(write, string):
    forget = write("forget.jsonl", asked(0), {**asked(1), "strings": ["elsewhere", string]})
    answer = {"question": "Who is 7?", "answer": "She lives at 14elm  STREET! (王街, STRASSE 7 S)"}
    with pytest.raises(ConfigError, match=r"retain\.jsonl:2: the answer contains what .*forget\.jsonl:2 forbids"):
        Files(forget=forget, retain=write("retain.jsonl", kept(0), answer)).corpus()
    Files(forget=forget, retain=write("retain.jsonl", {"question": "Who is 7?", "answer": "13 m"})).corpus()


def test_general_rows_that_say_what_is_forbidden_are_left_out(write):
    known = general.load()
    named = known[0].answer.rstrip(".").split()[-1]
    corpus = Files(forget=write("forget.jsonl", asked(0)), strings=(named,)).corpus()
    left = [pair.answer for pairs in (corpus.general, corpus.utility_heldout["general"]) for pair in pairs]
    assert 0 < len(left) < len(known)
    assert not [answer for answer in left if named.casefold() in answer.casefold()]


def test_without_a_retain_file_record_fills_the_rows(write):
    assert Files(forget=write("forget.jsonl", asked(0))).corpus().retain == ()
