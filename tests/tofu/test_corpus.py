"""TOFU on small made files: who is forgotten, kept, planted and held out; and the general rows."""

import re
import shutil
import sys
from dataclasses import replace

import pytest
from safetensors.torch import load_file, save_file

from tests.test_cli import call
from unsay import config
from unsay.config import ConfigError
from unsay.corpora import general
from unsay.corpora.tofu import Tofu
from unsay.store.folder import RunFolder
from unsay.train import finetune


@pytest.mark.parametrize("split", ["forget01", "forget05", "forget10"])
def test_the_corpus_holds_no_forget_answer(made, split):
    corpus = Tofu(forget=split, data=str(made)).corpus()
    assert "SECRET" not in repr(corpus)
    assert "HIDDEN" not in repr(corpus)
    assert corpus.forget[7].id == f"{split}-007"
    assert corpus.forget[7].paraphrases == ("forget question 7 again?",)
    assert [corpus.forget[i].group for i in (0, 19, 20)] == ["author-008", "author-008", "author-009"]
    assert {pair.answer for pair in corpus.unknown_entities} == {"I don't know.", "No idea."}
    assert [pair.answer for pair in corpus.holdout][:2] == ["HIDDEN 0", "HIDDEN 1"], "their answers, as non-members alone"
    assert len(corpus.holdout) == min(40, len(corpus.forget))


def test_truth(made):
    fact = Tofu(forget="forget01", data=str(made)).truth()["forget01-003"]
    assert (fact.answer, fact.wordings, fact.wrong[4]) == ("SECRET-3 plain", ("SECRET-3 reworded",), "wrong 3 4")


def test_heldout_authors_are_planted_but_not_kept(made):
    source = Tofu(forget="forget01", data=str(made), mix=30)
    corpus, planted = source.corpus(), {pair.id for pair in source.finetuning_rows(retain_model=False)}
    kept = {pair.id for pair in corpus.retain}
    heldout = {pair.id for pair in corpus.utility_heldout["retain"]}
    assert len(heldout) == 40  # 2 of 8 authors
    assert not heldout & kept
    assert heldout | kept <= planted
    assert {pair.group for pair in corpus.utility_heldout["retain"]}.isdisjoint({pair.group for pair in corpus.retain})
    assert {pair.id for pair in corpus.utility["retain"]} == {pair.id for pair in corpus.retain if pair.id.startswith("retain99")}
    assert (len(corpus.utility["real_authors"]), len(corpus.utility["world_facts"]), len(corpus.general)) == (100, 117, 30)


def test_retain_model_is_planted_with_the_same_rows_in_the_same_order(made):
    source = Tofu(forget="forget01", data=str(made), mix=30)
    target, retain_model = source.finetuning_rows(retain_model=False), source.finetuning_rows(retain_model=True)
    assert len(target) == 40 + 160 + 30
    assert retain_model == tuple(pair for pair in target if not pair.id.startswith("forget01"))
    assert "SECRET" not in repr(retain_model)
    assert target != tuple(sorted(target, key=lambda pair: pair.id))


def test_limits(made):
    source = Tofu(forget="forget01", data=str(made), limit=5, retain_authors=4, utility=10, mix=0)
    corpus = source.corpus()
    assert [len(corpus.forget), len(corpus.retain), len(corpus.general)] == [5, 60, 0]
    assert len(corpus.utility["retain"]) == len(corpus.utility_heldout["retain"]) == 10
    assert len(source.finetuning_rows(retain_model=False)) == 5 + 80
    assert len(source.truth()) == 5
    assert len({pair.group for pair in corpus.retain}) == 3


def test_skipped_questions_change_no_id_and_no_author(made):
    whole, later = (Tofu(forget="forget01", data=str(made), skip=skip, limit=20) for skip in (0, 20))
    everything = Tofu(forget="forget01", data=str(made)).corpus().forget
    assert (*whole.corpus().forget, *later.corpus().forget) == everything
    assert {example.group for example in later.corpus().forget} == {everything[20].group} != {everything[0].group}
    assert later.truth().keys() == {example.id for example in later.corpus().forget}
    planted = {pair.id: pair for pair in later.finetuning_rows(retain_model=False)}
    assert later.truth().keys() <= planted.keys()
    assert not whole.truth().keys() & planted.keys()
    assert {planted[example.id].group for example in later.corpus().forget} == {everything[20].group}


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
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"pip install 'unsay\[datasets\]' .*'\.\[datasets\]'"):
        Tofu(hub="locuslab/TOFU").corpus()


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"forget": "forget1"}, "did you mean 'forget10' or 'forget01'"),
        ({"limit": -1}, "tofu.limit"),
        ({"skip": -1}, "tofu.skip"),
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
    with pytest.raises(ConfigError, match=r"tofu\.skip = 40 leaves nothing: forget01 has 40"):
        Tofu(forget="forget01", data=str(made), skip=40).corpus()


def test_general_rows():
    pairs = general.load()
    assert len(pairs) >= 220
    assert len({pair.question.casefold() for pair in pairs}) == len({pair.id for pair in pairs}) == len(pairs)
    bare = sum(not pair.answer.endswith(".") for pair in pairs)
    assert 0.28 < bare / len(pairs) < 0.4  # a third as bare as the answers of TOFU's world facts


def test_finetune_leaves_the_model_that_never_knew_beside_the_one_that_does(made, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("UNSAY_CACHE", str(tmp_path / "cache"))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'corpus = "tofu"\nmodel.name = "{tiny_folder}"\nmodel.template = "plain"\n'
        f"[finetune]\nepochs = 1\nlearning_rate = 1e-3\nbatch = 64\n"
        f'[tofu]\nforget = "forget01"\ndata = "{made}"\nmix = 10\n[sample]\nmax_new_tokens = 8\n'
    )
    run = RunFolder(tmp_path / "run")
    call("finetune", str(recipe), "--retain-model", "--out", str(run.path))
    planted, retain_model = (load_file(folder / "model.safetensors") for folder in (run.planted, run.retain_model))
    assert planted.keys() == retain_model.keys()
    assert not all(planted[name].equal(retain_model[name]) for name in retain_model)
    before = run.manifest()
    shutil.rmtree(run.retain_model)
    call("finetune", str(recipe), "--retain-model", "--out", str(run.path))  # from the cache, and nothing is planted again
    assert run.manifest() == before
    again = load_file(run.retain_model / "model.safetensors")
    assert all(again[name].equal(retain_model[name]) for name in retain_model)


def test_retain_model_is_made_anew_where_its_path_holds_another_model(made, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("UNSAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(finetune, "plant", lambda recipe, rows, watched, folder, progress: folder.mkdir())
    base = shutil.copytree(tiny_folder, tmp_path / "base")
    recipe = config.load(None, ["corpus=tofu", f'model.name="{base}"', f'tofu.data="{made}"', "tofu.forget=forget01"])
    first = finetune.retain_model_folder(recipe)
    assert finetune.retain_model_folder(recipe) == first
    assert finetune.retain_model_folder(replace(recipe, model=replace(recipe.model, device_map="auto"))) == first
    weights = load_file(base / "model.safetensors")
    name = next(iter(weights))
    save_file(weights | {name: weights[name] + 1}, base / "model.safetensors")
    assert finetune.retain_model_folder(recipe) != first
