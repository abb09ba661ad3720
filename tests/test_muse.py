"""MUSE's folder layout, on small made files and, where they are, on the benchmark's own questions."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

from unsay.config import ConfigError
from unsay.contract import broken
from unsay.corpora.muse import Muse

TEXT = " ".join(f"kept{number}" for number in range(60))
KNOBS = {"opening": 10, "continuation": 20}


def put(folder: Path, name: str, content: object) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content) if path.suffix == ".json" else str(content), encoding="utf-8")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    folder = tmp_path / "news"
    put(folder, "verbmem/forget.json", [{"prompt": f"opening {n}", "gt": f"SECRET {n}"} for n in range(4)])
    for part in ("forget", "retain2"):
        answer = {"forget": "HIDDEN", "retain2": "open"}[part]
        put(folder, f"knowmem/{part}_qa.json", [{"question": f"{part} {n}?", "answer": f"{answer} {n}"} for n in range(3)])
        put(folder, f"knowmem/{part}_qa_icl.json", [{"question": f"shot {part}?", "answer": "shown"}])
    put(folder, "raw/retain1.txt", TEXT)
    put(folder, "privleak/holdout.json", [f"unread {n} {TEXT}" for n in range(2)])
    return folder


def test_the_layout(made: Path):
    source = Muse(str(made), **KNOBS)
    corpus, truth = source.corpus(), source.truth()
    assert (corpus.name, corpus.forget[2].id, corpus.forget[2].question) == ("muse-news", "verbmem-002", "opening 2")
    assert truth["verbmem-002"].answer == "SECRET 2 "
    assert corpus.knowledge[0].question == "Question: shot forget?\nAnswer: shown\n\nQuestion: forget 0?\nAnswer:"
    assert truth[corpus.knowledge[0].id].answer == "HIDDEN 0"
    told = repr([asdict(one) for one in (*corpus.forget, *corpus.knowledge)])
    assert not [secret for secret in ("SECRET", "HIDDEN") if secret in told], "the corpus holds no forget answer"
    (kept, *_) = corpus.utility["texts"]
    assert (kept.question, len(kept.answer.split())) == (" ".join(TEXT.split()[:10]), 25)
    assert [pair.answer for pair in corpus.utility_heldout["knowledge"]] == ["open 0", "open 1", "open 2"]
    assert len(corpus.holdout) == 6
    planted, without = source.finetuning_rows(False), source.finetuning_rows(True)
    assert {pair.id for pair in planted} - {pair.id for pair in without} == truth.keys()
    assert not broken("corpus", "muse", {"data": str(made), **KNOBS})


def test_the_questions_may_be_what_is_forgotten(made: Path):
    corpus = Muse(str(made), forget="knowmem", limit=2, **KNOBS).corpus()
    assert ([example.id for example in corpus.forget], corpus.knowledge) == (["forget_qa-000", "forget_qa-001"], ())


def test_newer_names_and_missing_files(made: Path):
    for name in ("retain2_qa.json", "retain2_qa_icl.json"):
        (made / "knowmem" / name).rename(made / "knowmem" / name.replace("retain2", "retain"))
    assert Muse(str(made), **KNOBS).corpus().utility_heldout["knowledge"][0].id == "retain_qa-000"
    (made / "privleak" / "holdout.json").unlink()
    (made / "raw" / "retain1.txt").unlink()
    corpus = Muse(str(made)).corpus()
    assert (corpus.holdout, set(corpus.utility)) == ((), {"general"})
    (made / "verbmem" / "forget.json").unlink()
    with pytest.raises(ConfigError, match=r"news has no verbmem/ with something to forget; set muse\.forget to the other"):
        Muse(str(made)).corpus()


def test_where_the_data_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("UNSAY_DATA", raising=False)
    with pytest.raises(ConfigError, match=r"does not come with the package; give the folder"):
        Muse().corpus()
    with pytest.raises(ConfigError, match=r"has neither verbmem/ nor knowmem/"):
        Muse(str(tmp_path)).corpus()


def test_the_benchmarks_own_questions():
    folder = Path(os.environ.get("UNSAY_DATA", "")) / "muse_news"
    if not os.environ.get("UNSAY_DATA") or not folder.is_dir():
        pytest.skip("MUSE's files are not here: UNSAY_DATA does not name the folder above muse_news/")
    source = Muse(forget="knowmem")
    corpus, truth = source.corpus(), source.truth()
    assert [len(corpus.forget), len(truth), len(corpus.utility_heldout["knowledge"])] == [100, 100, 100]
    assert all(example.question.count("Question: ") == 11 for example in corpus.forget), "ten answered ones are shown before each"
    assert truth["forget_qa-000"].answer == "1472"
