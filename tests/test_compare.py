"""Runs side by side: literal findings give literal differences, and only over questions that are the same."""

import json
from pathlib import Path

import pytest

from tests.test_cli import call
from unsay import audit
from unsay.config import ConfigError
from unsay.report.compare import compare
from unsay.store.files import write_text
from unsay.store.folder import RunFolder
from unsay.types import Finding

QUESTIONS = [f"Who is Bo{i}?" for i in range(10)]


def run(
    path: Path, values: list[float | None], questions: list[str] | None = None, recipe: str = "", source: str = "ground truth"
) -> RunFolder:
    folder = RunFolder(path)
    write_text(folder.recipe_file, recipe or 'corpus = "files"\n[report]\npolicy = "no-such-policy"\n')
    findings = [Finding("sampling", "worst_keyword_recall", value, f"q{i}", "T=1", 5, source) for i, value in enumerate(values)]
    audit.write(folder.audit_file("after"), findings)
    if questions:
        folder.texts.write("corpus", ({"kind": "forget", "id": f"q{i}", "question": text} for i, text in enumerate(questions)))
    return folder


def test_a_difference_is_paired_over_the_same_questions(tmp_path: Path) -> None:
    first = run(tmp_path / "a", [0.0, 1.0] * 5, QUESTIONS)
    second = run(tmp_path / "b", [0.25, 1.0] * 5, QUESTIONS)
    one, two = compare([first, second])
    key = "sampling_worst_keyword_recall"
    assert (one.metrics[key], two.metrics[key]) == (0.5, 0.625)
    assert not one.differences
    found = two.differences[key]
    assert found.mean == 0.125
    # Unpaired, the questions' own spread would hide it: half of them at 0, half at 1.
    assert 0 < found.low < 0.125 < found.high <= 0.25
    assert two.questions[key] == 10
    assert one.intervals[key].low < 0.5 < one.intervals[key].high
    assert not two.notes


def test_one_id_for_two_questions_is_not_one_question(tmp_path: Path) -> None:
    first = run(tmp_path / "a", [0.0] * 10, QUESTIONS)
    other = [*QUESTIONS[:4], *(f"Who is Al{i}?" for i in range(6))]
    some, none = run(tmp_path / "b", [1.0] * 10, other), run(tmp_path / "c", [1.0] * 10, [f"What is {i}?" for i in range(10)])
    _, partly, never = compare([first, some, none])
    assert partly.questions["sampling_worst_keyword_recall"] == 4
    assert partly.differences["sampling_worst_keyword_recall"].mean == 1.0
    assert not never.differences
    assert "no question of the first run was asked here" in never.notes[0]


def test_an_id_that_two_sets_use_is_the_same_where_both_of_its_questions_are(tmp_path: Path) -> None:
    def crossed(name: str, forget: str, retain: str) -> RunFolder:
        folder = run(tmp_path / name, [0.5] * 2)
        questions = (("forget", "q0", forget), ("retain", "q0", retain), ("general", "q0", retain), ("forget", "q1", "Who is Bo?"))
        folder.texts.write("corpus", ({"kind": kind, "id": key, "question": text} for kind, key, text in questions))
        return folder

    jane, bob = crossed("a", "Where is Jane?", "What is rye?"), crossed("b", "Where is Bob?", "What is rye?")
    rye, again = crossed("c", "What is rye?", "What is rye?"), crossed("d", "What is rye?", "Where is Jane?")
    for other, shared in ((bob, 1), (rye, 1), (again, 2)):
        for pair in ([jane, other], [other, jane]):
            # A difference needs two questions.
            assert compare(pair)[1].questions == ({"sampling_worst_keyword_recall": 2} if shared == 2 else {})


def test_what_no_vault_knows_is_not_the_same_and_own_rows_are_told_by_their_text(tmp_path: Path) -> None:
    first, second = run(tmp_path / "a", [0.0] * 10, QUESTIONS), run(tmp_path / "b", [1.0] * 10, QUESTIONS)
    for folder, asked in ((first, "Who is Kim?"), (second, "Who is Lea?")):
        own = [{"question": text, "answer": "A baker.", "kind": "general", "heldout": False, "group": ""} for text in (asked, "Who is Mo?")]
        folder.texts.write("retain", own)
        rows = [Finding("utility", "utility", 0.5, identifier, "general") for identifier in ("own-000", "own-001", "token 17")]
        audit.write(folder.audit_file("after"), rows)
    _, found = compare([first, second])
    assert set(found.questions.values()) <= {1}


def test_without_the_vaults_the_corpus_decides(tmp_path: Path) -> None:
    first, same = run(tmp_path / "a", [0.0] * 4), run(tmp_path / "b", [1.0] * 4)
    other = run(tmp_path / "c", [1.0] * 4, recipe='corpus = "files"\n[files]\nforget = "others.jsonl"\n')
    _, alike, apart = compare([first, same, other])
    assert alike.questions["sampling_worst_keyword_recall"] == 4
    assert not apart.differences


def test_what_makes_numbers_hard_to_compare_is_said(tmp_path: Path) -> None:
    first = run(tmp_path / "a", [0.0] * 4, QUESTIONS)
    recipe = 'corpus = "files"\n[audit]\nlimit = 4\n[sampling]\nn = 3\n[deployment]\nmax_new_tokens = 9\n'
    _, second = compare([first, run(tmp_path / "b", [0.0] * 4, QUESTIONS, recipe, "baseline answers")])
    said = "; ".join(second.notes)
    for words in (
        "other knobs than in the first run: sampling",
        "audit.limit is 4",
        "at most 9 new tokens",
        "held against baseline answers",
    ):
        assert words in said


def test_two_texts_are_not_one(tmp_path: Path) -> None:
    def read(name: str, text: str, tokens: int) -> RunFolder:
        folder = run(tmp_path / name, [0.0] * 4, QUESTIONS)
        audit.write(folder.audit_file("after"), [Finding("drift", "inverse_perplexity", 0.03, "", text, tokens)])
        return folder

    first = read("a", "wikitext", 6666)
    _, alike, other, unread = compare([first, read("b", "wikitext", 6666), read("c", "built-in", 900), run(tmp_path / "d", [0.0] * 4)])
    assert not any("plain text" in note for note in (*alike.notes, *unread.notes))
    assert "the plain text read was built-in (900 word pieces), in the first run wikitext (6,666 word pieces)" in other.notes


def test_unscored_takes_no_part_and_is_shown_as_such(tmp_path: Path) -> None:
    first, second = run(tmp_path / "a", [0.5, None, 0.5], QUESTIONS), run(tmp_path / "b", [0.5, 1.0, None], QUESTIONS)
    _, two = compare([first, second])
    assert "sampling_worst_keyword_recall" not in two.differences  # one question is nothing to resample
    assert two.metrics["greedy_keyword_recall"] is None


def test_the_command_prints_a_table_and_json(tmp_path: Path) -> None:
    paths = [str(run(tmp_path / name, values, QUESTIONS).path) for name, values in (("a", [0.0, 0.5] * 5), ("b", [0.5, 1.0] * 5))]
    found = json.loads(call("compare", *paths, "--json"))
    metric = found["runs"][1]["metrics"]["sampling_worst_keyword_recall"]
    assert metric.pop("interval") == pytest.approx([0.51, 0.92], abs=0.01)
    low, high = (metric["difference"].pop(end) for end in ("low", "high"))
    assert metric == {"value": 0.75, "difference": {"mean": 0.5, "questions": 10}}
    assert low == pytest.approx(0.5 - 1.5 * 0.3085, abs=1e-3), "ten questions that moved alike leave room for others"
    assert high == pytest.approx(0.5 + 0.5 * 0.3085, abs=1e-3)
    table = call("compare", *paths)
    assert "Δ +0.50 (+0.04 to +0.65)" in " ".join(table.split())
    assert not [text for text in QUESTIONS if text in table]


def test_a_folder_is_called_by_its_whole_name(tmp_path: Path) -> None:
    """In rich's markup [b] is bold, and [/x] is a mistake."""
    paths = [str(run(tmp_path / name, [0.0, 0.5] * 5, QUESTIONS).path) for name in ("[b]", "[", "[/x]")]
    table = "".join(call("compare", *paths).split())
    assert "[b]" in table
    assert "[/x]" in table


def test_what_cannot_be_compared_ends_with_what_to_do(tmp_path: Path) -> None:
    one = run(tmp_path / "a", [0.0] * 3)
    with pytest.raises(ConfigError, match="at least two"):
        compare([one])
    assert "is not a run folder" in " ".join(call("compare", str(one.path), str(tmp_path / "none"), code=2).split())
    assert "has no audit 'retain_model'" in " ".join(
        call("compare", str(one.path), str(one.path), "--which", "retain_model", code=2).split()
    )
    one.audit_file("after").write_text("zebrafinch")
    assert "zebrafinch" not in call("compare", str(one.path), str(one.path), code=2)


def audited(path: Path, **models: float) -> RunFolder:
    folder = run(path, [], QUESTIONS)
    for which, value in models.items():
        rows = [Finding("greedy", "keyword_recall", value, f"q{i}", group=str(i // 2)) for i in range(10)]
        audit.write(folder.audit_file(which), rows)
    return folder


def test_every_run_is_held_against_the_first_ones_retain_model(tmp_path: Path) -> None:
    """The second is the audit of another retain model: what it gets is what two models that never knew give each other."""
    first = audited(tmp_path / "a", before=1.0, after=0.5, retain_model=0.1)
    one, other = compare([first, audited(tmp_path / "b", after=0.19)])
    assert one.never_knew is not None
    assert other.never_knew is not None
    assert (one.never_knew.index, other.never_knew.index) == (pytest.approx(1 - 0.4 / 0.9), pytest.approx(0.9))
    text = call("compare", str(tmp_path / "a"), str(tmp_path / "b"))
    assert "Never-knew index" in text
    assert "farthest off: Asked plainly" in text
    found = json.loads(call("compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json"))["runs"][1]["never_knew"]
    assert found["worst"] == "greedy_keyword_recall"
    assert found["interval"][0] < found["index"] < found["interval"][1]
    strangers = audited(tmp_path / "c", after=0.1)
    strangers.texts.write("corpus", ({"kind": "forget", "id": f"q{i}", "question": f"What is {i}?"} for i in range(10)))
    assert compare([first, strangers])[1].never_knew is None, "no question of both"


def test_a_model_is_told_from_retain_models(tmp_path: Path) -> None:
    first = audited(tmp_path / "a", before=1.0, after=0.5, retain_model=0.1)
    second = audited(tmp_path / "b", after=0.12)
    paths = [str(first.path), str(second.path)]
    found = json.loads(call("compare", *paths, "--distinguish", "--json"))["distinguisher"]
    assert found["area"] == 1.0, "every question says .5 here and .1 or .12 there"
    assert found["features"] == ["greedy_keyword_recall"]
    assert len(found["retain_models"]) == 2
    assert "Told from the retain models with an area of 1.00 on 10 questions" in " ".join(call("compare", *paths, "--distinguish").split())
    assert "two retain models" in " ".join(call("compare", paths[1], paths[1], "--distinguish", code=2).split())
