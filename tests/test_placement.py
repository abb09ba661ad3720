"""A model in several places (memory and disk here, where no cards are at hand) answers as on one device, and nothing changes it."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.conftest import small_run
from unsay import run as runs
from unsay.config import ConfigError, ModelConfig, Recipe, SampleConfig, load
from unsay.lm import placement
from unsay.lm.adapters import load_to_train
from unsay.lm.cache import SlabLayer
from unsay.lm.model import fingerprint
from unsay.lm.model import load as load_model
from unsay.lm.subject import LocalSubject, Prompt
from unsay.probes.scoring import NO_COPY
from unsay.store import ranks
from unsay.store.folder import RunFolder, read_findings
from unsay.tables import lookup
from unsay.types import Case, Corpus, Example, Fact

SPLIT = ModelConfig(device_map="auto")
PROMPTS = [Prompt("a", "Where does Hirel Vonduin live?"), Prompt("b", "Who is Tosa Merling?", "It ")]
QUESTIONS = tuple(Example(str(i), f"Where does person {i} live?") for i in range(8))
CASE = Case(Corpus("made up", QUESTIONS), {one.id: Fact(one.id, "In Ashdown.", wrong=("In Marlow.",)) for one in QUESTIONS}, "ground truth")


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for the embeddings and the first of the four layers of `people-target`."""
    monkeypatch.setattr(placement, "room", lambda: {"cpu": 2_500_000})


def test_it_says_what_it_says_on_one_device(half: None) -> None:
    subjects = [LocalSubject(*load_model(config), SampleConfig(max_new_tokens=8)) for config in (ModelConfig(), SPLIT)]
    one, split = (subject.model for subject in subjects)
    assert [placement.is_split(model) for model in (one, split)] == [False, True]
    assert any(parameter.is_meta for parameter in split.parameters())  # some layers are on disk
    assert fingerprint(one) == fingerprint(split)
    answers = [subject.ask(PROMPTS) + subject.ask(PROMPTS, n=3, temperature=1.0, salt="x") for subject in subjects]
    assert answers[0] == answers[1]
    told = [subject.logprobs(["Where?", None], ["In Ashdown.", "A text."]) for subject in subjects]
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(*told, strict=True))


def test_rows_of_a_cache_are_chosen_on_the_device_of_their_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    def two_cards(slab: torch.Tensor, dim: int, rows: torch.Tensor, out: torch.Tensor) -> None:
        assert rows.device == slab.device  # two cards want it; two stand-ins for them would not

    layer = SlabLayer(8)
    layer.update(*torch.empty(2, 4, 2, 3, 5, device="meta"))
    monkeypatch.setattr(torch, "index_select", two_cards)
    layer.reorder_cache(torch.tensor([2, 0]))
    assert layer.keys.shape == (2, 2, 3, 5)


@pytest.mark.parametrize(("free", "expected"), [({0: 100, "cpu": 7}, {0: 80, "cpu": 40}), ({"mps": 100}, {"mps": 80}), ({0: 100}, {0: 80})])
def test_memory_that_a_card_shares_with_the_processor_counts_once(
    monkeypatch: pytest.MonkeyPatch, free: dict[int | str, int], expected: dict[int | str, int]
) -> None:
    monkeypatch.setattr(placement, "get_max_memory", lambda: dict(free))
    monkeypatch.setattr(placement, "free_memory", lambda: 50)
    assert placement.room() == expected


def test_where_it_fits_it_lies_in_one_place() -> None:
    assert not placement.is_split(load_model(SPLIT)[0])


def test_of_two_cards_the_second_is_used_where_the_first_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *_, **options: asked.append(options))
    with pytest.raises(ConfigError, match="cannot load"):
        load_model(SPLIT)
    # `auto` would give each card a half of a model that one of them holds, and no attack could then copy it.
    assert asked[0]["device_map"] == "sequential"


def test_a_weight_on_disk_that_is_no_number_is_found(half: None, tmp_path: Path) -> None:
    model, encoder = load_model(ModelConfig())
    with torch.no_grad():
        model.get_decoder().layers[3].mlp.up_proj.weight[0, 0] = float("nan")
    model.save_pretrained(tmp_path)
    encoder.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"layers\.3\.mlp\.up_proj\.weight holds NaN"):
        load_model(SPLIT, str(tmp_path))


def test_no_room_for_the_embeddings_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "room", lambda: {"cpu": 1000})
    with pytest.raises(ConfigError, match="no device has room even for its embeddings"):
        load_model(SPLIT)


def test_several_processes_do_not_share_the_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "count", lambda: 2)
    with pytest.raises(ConfigError, match="without --processes"):
        load_model(SPLIT)


def test_training_has_it_on_one_device(half: None) -> None:
    model, _ = load_to_train(Recipe(model=SPLIT))
    assert not placement.is_split(model)


@pytest.mark.parametrize("name", ["relearn", "quantise", "damage", "likelihood", "prefix_search"])
def test_what_changes_a_copy_is_unscored_and_says_why(half: None, name: str) -> None:
    subject = LocalSubject(*load_model(SPLIT), SampleConfig(max_new_tokens=8))
    found = [one for one in lookup("probe", name)()(subject, CASE) if name != "likelihood" or one.metric.endswith("gradient_norm")]
    assert {one.value for one in found} == {None}
    assert {one.note for one in found} == {NO_COPY} or name in ("likelihood", "prefix_search")


@pytest.mark.slow
def test_a_whole_run_finds_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_folder: Path) -> None:
    monkeypatch.setattr(placement, "room", lambda: {"cpu": 90_000})
    findings = []
    for where in ("one", "auto"):
        folder = RunFolder(tmp_path / where)
        settings = [
            *small_run(tiny_folder, tmp_path, 3, 4),
            'audit.probes=["greedy", "sampling"]',
            "train.rounds=1",
            "record.replay=0",
            "record.near_misses=0",
        ]
        recipe = load(None, [*settings, f"model.device_map={where}"])
        runs.run(recipe, folder)
        assert placement.is_split(load_model(recipe.model)[0]) is (where == "auto")
        findings.append([read_findings(folder.audit_file(which)) for which in ("before", "after")])
    assert findings[0] == findings[1]
