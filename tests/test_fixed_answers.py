"""Every fixed answer that a method can be told to give is one that the built-in models can say, with their embeddings frozen."""

from pathlib import Path

import pytest

from scripts.build_people import SENTENCES
from tests.test_train import begin
from unsay.config import ModelConfig
from unsay.lm.model import load
from unsay.lm.rows import Row
from unsay.lm.sample import Draw, sample
from unsay.lm.subject import row_logprobs
from unsay.methods.pmc import PartialModelCollapse
from unsay.methods.refusal import Idk
from unsay.methods.refusals import HUNDRED
from unsay.train import train


def test_the_models_were_taught_all_of_them():
    told = {*HUNDRED, *Idk().answers, *(text for preset in PartialModelCollapse.PRESETS.values() for text in preset.get("desired", ()))}
    assert told <= set(SENTENCES), "build_people.py teaches the others; then train the built-in models again"


@pytest.mark.parametrize("name", ["people-target", "people-retain"])
def test_they_find_each_of_them_likely(name: str):
    model, encoder = load(ModelConfig(name=name))
    found = row_logprobs(model, encoder, [Row(encoder.prompt(None), encoder.answer(text)) for text in SENTENCES])
    # A token that was never trained costs ten nats and more wherever it stands.
    assert not [text for text, values in zip(SENTENCES, found, strict=True) if float(values.mean()) < -2.5]


def test_idk_says_its_sentence(tmp_path: Path):
    """With embeddings that never met the apostrophe it said "I donfesst know.", and was no IDK."""
    settings = [
        *("corpus=people", "people.only=[0]", "model.name=people-target", "model.freeze_embeddings=true", "method=idk"),
        *("record.answers=0", "record.branches=0", "sample.max_new_tokens=24", "train.rounds=10", "train.learning_rate=1e-3"),
    ]
    recipe, folder = begin(tmp_path / "run", settings)
    train(recipe, folder)
    model, encoder = load(recipe.model, str(folder.checkpoint))
    questions = [row["question"] for row in folder.texts.rows("corpus") if row["kind"] == "forget"]
    answers = sample(model, encoder, [Draw("", encoder.prompt(question)) for question in questions], recipe.sample)
    assert {found[0].text for found in answers} == {"I don't know."}
