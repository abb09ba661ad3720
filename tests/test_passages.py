"""The operator's own texts: how they are cut, what the corpus holds, and what each complaint says."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.conftest import byte_tokenizer
from tests.test_cli import call
from unsay.config import ConfigError, SampleConfig, load
from unsay.contract import broken
from unsay.corpora import cutting
from unsay.corpora.passages import Passages
from unsay.lm.encode import Encoder
from unsay.lm.sample import Draw, sample
from unsay.probes.memorisation import Memorisation, first_answer, verbatim
from unsay.types import Answer, Case, Corpus, Example, Fact, Pair

NEWS = {name: f"news:{name}" for name in ("forget", "retain", "questions", "holdout")}
LONG = " ".join(f"word{number}" for number in range(100))
OTHER = LONG.replace("word", "line")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, *rows: dict) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return name


def texts(folder: str, **named: str) -> str:
    Path(folder).mkdir()
    for name, text in named.items():
        (Path(folder) / f"{name}.txt").write_text(text, encoding="utf-8")
    return folder


def test_every_word_behind_the_first_opening_is_in_one_answer():
    places = cutting.cut(LONG, 10, 30)
    assert [LONG[a:b].split()[0] for a, b, _, _ in places] == ["word0", "word30", "word60"]
    assert " ".join(LONG[c:d].strip() for _, _, c, d in places) == LONG[LONG.index("word10") :]
    assert [LONG[c:d].endswith(" ") for _, _, c, d in places] == [True, True, False], "where the text goes on, the white space says so"
    assert cutting.cut("one two", 2, 3) == []


def test_a_folder_of_texts():
    folder = texts("news", ferry=f"The ferry\nleft at nine {LONG}", bees="Bees sting when they are cold.")
    (Path(folder) / ".hidden.txt").write_text("never read")
    source = Passages(forget=folder, opening=3, continuation=40, strings=("word7",))
    corpus, truth = source.corpus(), source.truth()
    assert [(example.group, example.question) for example in corpus.forget[:2]] == [
        ("bees", "Bees sting when"),
        ("ferry", "The ferry\nleft"),
    ]
    assert len(corpus.forget) == 4
    assert truth["forget-000"].answer == " they are cold."
    assert "cold" not in repr([asdict(example) for example in corpus.forget]), "the corpus holds no answer"
    assert corpus.forget[0].strings == ("word7",)
    assert source.paths() == ("news/bees.txt", "news/ferry.txt")
    assert all(pair.question.startswith("Question: ") for pair in corpus.general)


def test_rows_of_texts_and_rows_cut_by_hand():
    forget = write(
        "forget.jsonl",
        {"body": f"a b {LONG}", "id": "long", "strings": ["word9"]},
        {"opening": "The mayor said ", "continuation": " that nobody swims. "},
    )
    source = Passages(forget=forget, columns={"text": "body"}, opening=2, continuation=50)
    corpus = source.corpus()
    assert [example.id for example in corpus.forget] == ["long-0", "long-1", "forget-002"]
    assert corpus.forget[1].strings == ("word9",)
    assert corpus.forget[0].group == corpus.forget[1].group != corpus.forget[2].group
    assert (corpus.forget[2].question, source.truth()["forget-002"].answer) == ("The mayor said", " that nobody swims. ")


def test_questions_are_asked_by_the_audit_and_never_trained_on():
    source = Passages(**NEWS, opening=15, continuation=60)
    corpus, truth = source.corpus(), source.truth()
    assert [len(corpus.forget), len(corpus.knowledge), len(corpus.holdout)] == [8, 16, 8]
    assert corpus.knowledge[2].question == "Question: Who bought the old swimming bath of Brackwell?\nAnswer:"
    assert truth[corpus.knowledge[2].id].answer == "Jonas Viereck"
    assert truth.keys() == {example.id for example in (*corpus.forget, *corpus.knowledge)}
    planted, without = (source.finetuning_rows(retain_model) for retain_model in (False, True))
    assert {pair.id for pair in planted} - {pair.id for pair in without} == truth.keys()
    assert not {pair.answer for pair in corpus.holdout} & {pair.answer for pair in planted}
    assert not broken("corpus", "passages", {**NEWS, "opening": 15})


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [{"text": "SECRET is short"}],
            r"forget\.jsonl:1: holds no more words than an opening takes \(3 of 30\).* lower passages\.opening",
        ),
        ([{"txt": "SECRET"}], r"forget\.jsonl:1: has an unknown key 'txt': did you mean 'text'.*passages\.ignore"),
        ([{"id": "a"}], r"forget\.jsonl:1: has no 'text', nor an 'opening' with its 'continuation'"),
        ([{"opening": "SECRET"}], r"forget\.jsonl:1: has no key 'continuation'"),
        ([{"opening": "SECRET", "continuation": " "}], r"forget\.jsonl:1: 'continuation' must be a text that is not empty"),
        ([{"text": LONG, "opening": "SECRET"}], r"forget\.jsonl:1: has 'text' and 'opening'"),
        ([{"text": LONG, "patterns": ["SECRET("]}], r"forget\.jsonl:1: 'patterns'\[0\] is not a regular expression"),
        ([{"text": LONG, "id": "a"}, {"opening": "SECRET", "continuation": "b", "id": "a"}], r"forget\.jsonl:2: has the same 'id' as"),
    ],
)
def test_complaints_name_the_place_and_not_the_text(rows: list[dict], said: str):
    with pytest.raises(ConfigError, match=said) as caught:
        Passages(forget=write("forget.jsonl", *rows)).corpus()
    assert "SECRET" not in str(caught.value)


def test_one_opening_that_goes_on_in_two_ways_is_refused_and_equal_ones_are_one():
    rows = [{"opening": "By our desk", "continuation": text} for text in ("the ferry sank", "the ferry sank", "SECRET came back")]
    assert len(Passages(forget=write("equal.jsonl", *rows[:2])).corpus().forget) == 1
    with pytest.raises(ConfigError, match=r"two\.jsonl:3: goes on in another way than two\.jsonl:1 behind the same opening") as caught:
        Passages(forget=write("two.jsonl", *rows)).corpus()
    assert "SECRET" not in str(caught.value)


def test_complaints_about_folders():
    with pytest.raises(ConfigError, match=r"there is no file or folder nowhere"):
        Passages(forget="nowhere").corpus()
    folder = texts("news", empty=" \n")
    with pytest.raises(ConfigError, match=r"news/empty\.txt is empty; fill it"):
        Passages(forget=folder).corpus()
    Path("news/empty.txt").write_bytes(b"caf\xe9 " * 50)
    with pytest.raises(ConfigError, match=r"news/empty\.txt:1: not UTF-8; convert the file"):
        Passages(forget=folder).corpus()
    with pytest.raises(ConfigError, match=r"a folder, but not one that datasets wrote"):
        Passages(forget=texts("nothing")).corpus()
    with pytest.raises(ConfigError, match=r"passages\.opening = 0 must be positive"):
        Passages(opening=0)
    with pytest.raises(ConfigError, match=r'the corpus passages needs .* --set passages\.forget="'):
        Passages().corpus()


def test_a_retain_text_that_says_what_must_not_be_said():
    kept = write("kept.jsonl", {"text": f"The old pier {LONG}"})
    with pytest.raises(ConfigError, match=r"kept\.jsonl:1: the answer contains what passages\.strings or passages\.patterns forbids"):
        Passages(forget=write("f.jsonl", {"text": f"A ship {LONG}"}), retain=kept, strings=("word99",)).corpus()


def test_a_text_stands_on_one_side_only():
    """Cut elsewhere it has other openings, and would teach again what is forgotten, or pass for a text that no model has read."""
    forget, kept = write("f.jsonl", {"text": LONG}), write("kept.jsonl", {"text": f"By a desk. {LONG.upper()}"})
    knobs = {"forget": forget, "opening": 10, "continuation": 30}
    with pytest.raises(ConfigError, match=r"kept\.jsonl:1: most of what follows here stands in the texts to forget"):
        Passages(retain=kept, **knobs).corpus()
    with pytest.raises(ConfigError, match=r"kept\.jsonl:1: most of what follows here stands in the other texts.* leave it out of holdout"):
        Passages(holdout=kept, **knobs).corpus()
    other = write("other.jsonl", {"text": OTHER})
    with pytest.raises(ConfigError, match=r"other\.jsonl:1: .* leave it out of holdout"):
        Passages(retain=other, holdout=other, **knobs).corpus()
    assert Passages(retain=other, **knobs).corpus().retain


def test_new_and_check_know_texts():
    texts("articles", ferry=f"The ferry {LONG}")
    texts("others", bees=f"The bees {OTHER}")
    write("questions.jsonl", {"question": "When did the ferry leave?", "answer": "At nine."})
    output = call("check", "articles", "others", "questions.jsonl")
    assert "articles  taken for texts to forget: 1 opening of 1 text, 0 with strings or patterns, longest opening" in output
    assert "others  taken for texts to keep: 1 opening of 1 text" in output
    assert "hint: no questions about the texts" in call("check", "articles")
    call("new", "my.toml", "articles", "others", "questions.jsonl", "--model", "people-target")
    written = load("my.toml")
    assert (written.corpus, written.model.template) == ("passages", "raw")
    assert written.tables["passages"] == {
        "forget": "articles",
        "retain": "others",
        "questions": "questions.jsonl",
        "opening": 30,
        "continuation": 60,
    }
    assert "Nothing is wrong" in call("check", "my.toml")
    assert 'warning: openings of texts are asked as questions; set template = "raw"' in call(
        "check", "my.toml", "--set", "model.template=plain"
    )
    assert "cannot hold a continuation of 60 words" in call("check", "my.toml", "--set", "sample.max_new_tokens=40", code=2)
    short = ("run", "my.toml", "--out", "never", "--set", "sample.max_new_tokens=40")
    assert "raise sample.max_new_tokens to 120" in call(*short, code=2), "a recital cut off would pass for forgetting"
    assert not Path("never").exists()
    assert "sends bare questions" in call("check", "demo", "--set", "model.template=raw")
    assert "there are texts to forget and to keep already" in call("check", "articles", "others", texts("third", a=LONG), code=2)
    assert "own-questions.toml takes other files" in call("new", "more.toml", "articles", "--for", "questions", code=2)


def test_a_text_is_gone_on_with():
    asked = ("ask", "people-target", "Isvek Eckinberg lives", "--max-new-tokens", "6")
    assert call(*asked, "--raw") != call(*asked)


def test_the_raw_template():
    encoder = Encoder(byte_tokenizer(), template="raw")
    text = encoder.tokenizer.decode
    assert text(encoder.prompt("The mayor")) == "<bos>The mayor"
    assert text(encoder.prompt("The mayor", [("user", "Before.")])) == "<bos>Before.\n\nThe mayor"
    assert text(encoder.answer("said so.")) == " said so.<eos>"
    assert text(encoder.answer("\nsaid so. ")) == "\nsaid so.", "the text goes on, so no end follows"
    assert encoder.within("said so", [(5, 7)]) == (*[False] * 6, True, True, False)
    assert encoder.within("said so ", [(5, 7)]) == (*[False] * 6, True, True)


def test_a_continuation_that_is_cut_is_whole(model):
    """Not an unfinished answer; trained on again, nothing ends it."""
    encoder = Encoder(byte_tokenizer(), template="raw")
    ((answer,),) = sample(model, encoder, [Draw("a", encoder.prompt("The mayor"))], SampleConfig(max_new_tokens=5))
    assert answer.ids[-1] not in encoder.stops, "else this tiny model shows nothing here"
    assert (answer.finished, answer.text[-1]) == (True, " ")
    assert encoder.answer(answer.text)[-1] not in encoder.stops


class Fake:
    weights = None

    def __init__(self, **answers: str):
        self.answers = answers

    def ask(self, prompts, n=1, temperature=0.0, top_p=1.0, salt=""):
        return [[Answer((), self.answers[prompt.key], True)] for prompt in prompts]


def test_memorisation():
    assert verbatim("left at nine sharp", "left at ten sharp and more of it") == 0.75
    assert verbatim("left at nine sharp", "left at") == pytest.approx(2 / 3)
    assert first_answer(" At nine.\nQuestion: When?") == "At nine."
    corpus = Corpus(
        "c",
        (Example("f", "The ferry"),),
        knowledge=(Example("k", "When?"),),
        utility_heldout={"knowledge": (Pair("u", "Where?", "in Turin"),)},
    )
    case = Case(corpus, {"f": Fact("f", "left at nine"), "k": Fact("k", "at nine")}, "ground truth")
    found = Memorisation()(Fake(f="left at nine with all", k="at ten\n\nQuestion: more", u="in Turin"), case)
    assert [(one.metric, one.setting, one.value) for one in found] == [
        ("verbatim_f1", "", 1.0),
        ("knowledge_f1", "forget", 0.5),
        ("knowledge_keyword_recall", "forget", 0.0),
        ("knowledge_f1", "retain", 1.0),
    ]


def test_a_missing_truth_is_unscored():
    corpus = Corpus("c", (Example("f", "The ferry"),), knowledge=(Example("k", "When?"),))
    found = Memorisation()(Fake(), Case(corpus, {}, "ground truth"))
    assert [(one.example, one.value) for one in found] == [("f", None), ("k", None)]


def test_the_whole_way_with_a_model_of_ones_own(tiny_folder: Path):
    """Through the shipped recipe: continuations that reach the limit are recorded, trained on and audited."""
    texts("articles", ferry=f"The ferry left {LONG}"[:120], bees=f"The bees sting {LONG}"[:120])
    texts("others", **{name: f"{name} keeps {OTHER}"[:120] for name in ("ada", "bob", "cy", "di")})
    write("questions.jsonl", {"question": "When did the ferry leave?", "answer": "At nine."})
    call("new", "my.toml", "articles", "others", "questions.jsonl", "--model", str(tiny_folder))
    knobs = {
        "passages.opening": 3,
        "passages.continuation": 10,
        "record.answers": 2,
        "record.branches": 2,
        "record.replay": 0,
        "train.rounds": 1,
        "train.passes": 1,
    }
    knobs |= {"sample.max_new_tokens": 12, "pmc.preset": "paper", "utility.limit": 2, "audit.probes": '["memorisation", "likelihood"]'}
    call("run", "my.toml", "--out", "run", *(part for key, value in knobs.items() for part in ("--set", f"{key}={value}")))
    report = json.loads(Path("run/report.json").read_text())
    for name in ("verbatim_memorisation", "knowledge_memorisation", "extraction_strength"):
        assert report["metrics"][name]["after"] is not None, name
    assert report["exposure"]["targets"] == 3, "one for each opening"
    assert "word5" not in Path("run/report.html").read_text(), "no text leaves the vault"
