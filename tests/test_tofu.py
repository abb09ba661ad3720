"""TOFU on small made files with its shape; on the real ones only where `UNSAY_DATA` names them. And the general rows."""

import builtins
import json
import os
import re
from pathlib import Path

import pytest

from unsay.config import ConfigError
from unsay.corpora import general
from unsay.corpora.tofu import Tofu


def write(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Two forget authors and eight retain authors, with answers that are easy to find again."""
    folder = tmp_path / "tofu"
    folder.mkdir()
    forget = [
        {
            "question": f"forget question {i}?",
            "answer": f"SECRET-{i} plain",
            "paraphrased_question": f"forget question {i} again?",
            "paraphrased_answer": f"SECRET-{i} reworded",
            "perturbed_answer": [f"wrong {i} {k}" for k in range(5)],
        }
        for i in range(40)
    ]
    for name, retain, holdout in (
        ("forget01", "retain99", "holdout01"),
        ("forget05", "retain95", "holdout05"),
        ("forget10", "retain90", "holdout10"),
    ):
        write(folder / f"{name}_perturbed.json", forget)
        write(folder / f"{retain}.json", [{"question": f"retain {i}?", "answer": f"kept {i}"} for i in range(160)])
        write(folder / f"{holdout}.json", [{"question": f"stranger {i}?", "answer": f"HIDDEN {i}"} for i in range(40)])
    for name, count in (("real_authors", 100), ("world_facts", 117)):
        found = [{"question": f"{name} {i}?", "answer": f"{name} {i}", "perturbed_answer": ["x"]} for i in range(count)]
        write(folder / f"{name}_perturbed.json", found)
    (folder / "idontknow.jsonl").write_text("I don't know.\nNo idea.\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("split", ["forget01", "forget05", "forget10"])
def test_the_corpus_holds_no_forget_answer(made, split):
    corpus = Tofu(forget=split, data=str(made)).corpus()
    assert "SECRET" not in repr(corpus)
    assert "HIDDEN" not in repr(corpus)
    assert corpus.forget[7].id == f"{split}-007"
    assert corpus.forget[7].paraphrases == ("forget question 7 again?",)
    assert [corpus.forget[i].group for i in (0, 19, 20)] == ["author-008", "author-008", "author-009"]
    assert {pair.answer for pair in corpus.strangers} == {"I don't know.", "No idea."}


def test_truth(made):
    fact = Tofu(forget="forget01", data=str(made)).truth()["forget01-003"]
    assert (fact.answer, fact.wordings, fact.wrong[4]) == ("SECRET-3 plain", ("SECRET-3 reworded",), "wrong 3 4")


def test_heldout_authors_are_planted_but_not_kept(made):
    source = Tofu(forget="forget01", data=str(made), mix=30)
    corpus, planted = source.corpus(), {pair.id for pair in source.planting(gold=False)}
    kept = {pair.id for pair in corpus.retain}
    heldout = {pair.id for pair in corpus.utility_heldout["retain"]}
    assert len(heldout) == 40  # 2 of 8 authors
    assert not heldout & kept
    assert heldout | kept <= planted
    assert {pair.group for pair in corpus.utility_heldout["retain"]}.isdisjoint({pair.group for pair in corpus.retain})
    assert {pair.id for pair in corpus.utility["retain"]} == {pair.id for pair in corpus.retain if pair.id.startswith("retain99")}
    assert (len(corpus.utility["real_authors"]), len(corpus.utility["world_facts"]), len(corpus.general)) == (100, 117, 30)


def test_gold_is_planted_with_the_same_rows_in_the_same_order(made):
    source = Tofu(forget="forget01", data=str(made), mix=30)
    leaking, gold = source.planting(gold=False), source.planting(gold=True)
    assert len(leaking) == 40 + 160 + 30
    assert gold == tuple(pair for pair in leaking if not pair.id.startswith("forget01"))
    assert "SECRET" not in repr(gold)
    assert leaking != tuple(sorted(leaking, key=lambda pair: pair.id))


def test_limits(made):
    source = Tofu(forget="forget01", data=str(made), limit=5, retain_authors=4, utility=10, strangers=3, mix=0)
    corpus = source.corpus()
    assert [len(corpus.forget), len(corpus.retain), len(corpus.strangers), len(corpus.general)] == [5, 60, 3, 0]
    assert len(corpus.utility["retain"]) == len(corpus.utility_heldout["retain"]) == 10
    assert len(source.planting(gold=False)) == 5 + 80
    assert len(source.truth()) == 5
    assert len({pair.group for pair in corpus.retain}) == 3


def test_the_seed_decides(made):
    def kept(seed: int) -> tuple:
        return Tofu(forget="forget01", data=str(made), retain_authors=4, seed=seed).corpus().retain

    assert kept(1) == kept(1) != kept(2)


def test_desired_answers_only_when_asked(made):
    assert Tofu(data=str(made)).corpus().desired == ()
    assert Tofu(data=str(made), refusals=True).corpus().desired == ("I don't know.", "No idea.")


def test_data_from_the_environment_and_from_the_folder_above(made, monkeypatch):
    monkeypatch.setenv("UNSAY_DATA", str(made.parent))
    assert len(Tofu(forget="forget01").corpus().forget) == 40


def test_absent_data(tmp_path, monkeypatch):
    monkeypatch.delenv("UNSAY_DATA", raising=False)
    with pytest.raises(ConfigError, match=r"--data DIR or UNSAY_DATA"):
        Tofu().corpus()
    with pytest.raises(ConfigError, match=rf"no forget10_perturbed\.json in {re.escape(str(tmp_path))} or .*tofu; give .*--data DIR"):
        Tofu(data=str(tmp_path)).corpus()


def test_a_malformed_row_names_file_and_line_and_not_its_text(made):
    path = made / "forget01_perturbed.json"
    lines = path.read_text().splitlines()
    lines[2] = '{"question": "x", "answr": "SECRET"}'
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=r"forget01_perturbed\.json:3: .*'answer'") as caught:
        Tofu(forget="forget01", data=str(made)).truth()
    assert "SECRET" not in str(caught.value)


def test_the_hub_needs_its_extra(monkeypatch):
    imported = builtins.__import__

    def without(name, *rest, **named):
        if name == "datasets":
            raise ImportError(name)
        return imported(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pip install 'unsay\[datasets\]'$"):
        Tofu(hub="locuslab/TOFU").corpus()


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"forget": "forget1"}, "did you mean 'forget10' or 'forget01'"),
        ({"limit": -1}, "tofu.limit"),
        ({"heldout_authors": 1.0}, "tofu.heldout_authors"),
        ({"data": "a", "hub": "b"}, "two sources"),
    ],
)
def test_wrong_knobs(knobs, said):
    with pytest.raises(ConfigError, match=said):
        Tofu(**knobs)


def test_more_than_there_is(made):
    with pytest.raises(ConfigError, match="retain99 has 8; 0 takes all"):
        Tofu(forget="forget01", data=str(made), retain_authors=9).corpus()
    with pytest.raises(ConfigError, match="general rows"):
        Tofu(forget="forget01", data=str(made), mix=10_000).corpus()


def test_general_rows():
    pairs = general.load()
    assert len(pairs) >= 220
    assert len({pair.question.casefold() for pair in pairs}) == len({pair.id for pair in pairs}) == len(pairs)
    bare = sum(not pair.answer.endswith(".") for pair in pairs)
    assert 0.28 < bare / len(pairs) < 0.4  # a third as bare as the answers of TOFU's world facts


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


@pytest.fixture
def real() -> Path:
    given = os.environ.get("UNSAY_DATA", "")
    for folder in (Path(given), Path(given) / "tofu"):
        if given and (folder / "full.json").is_file():
            return folder
    pytest.skip("TOFU's files are not here: UNSAY_DATA does not name their folder")


@pytest.mark.parametrize(("split", "forget", "authors"), [("forget01", 40, 198), ("forget05", 200, 190), ("forget10", 400, 180)])
def test_real_tofu(real, split, forget, authors):
    source = Tofu(forget=split, data=str(real))
    corpus, truth = source.corpus(), source.truth()
    assert len(corpus.forget) == len(truth) == forget
    assert corpus.forget[0].group == f"author-{authors}"
    assert corpus.forget[-1].group == "author-199"
    assert [len(corpus.utility[name]) for name in ("retain", "real_authors", "world_facts")] == [400, 100, 117]
    text = repr(corpus)
    assert not [fact.id for fact in truth.values() if repr(fact.answer)[1:-1] in text]
    full = {row["question"] for row in map(json.loads, (real / "full.json").read_text(encoding="utf-8").splitlines())}
    assert {pair.question for pair in source.planting(gold=False)} - {pair.question for pair in corpus.general} == full
    assert full.isdisjoint(pair.question for pair in corpus.strangers)


def test_general_rows_give_no_evaluation_answer_away(real):
    from rapidfuzz.distance import LCSseq

    for name in ("real_authors_perturbed", "world_facts_perturbed"):
        for row in map(json.loads, (real / f"{name}.json").read_text(encoding="utf-8").splitlines()):
            answer, question = " ".join(words(row["answer"])), words(row["question"])
            for pair in general.load():
                assert f" {answer} " not in f" {' '.join(words(pair.answer))} ", pair.id
                f1 = 2 * LCSseq.similarity(words(pair.question), question) / (len(words(pair.question)) + len(question))
                assert f1 < 0.7, pair.id  # "What is the plural of …" against "What is the capital of …" reaches .67
