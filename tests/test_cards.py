"""scripts/cards.py: what a wide model holds, from two narrow ones, is what is measured on it."""

from pathlib import Path

import pytest
from transformers import LlamaConfig

from scripts import cards
from unsay.doctor.bench import Bench

SHAPE = LlamaConfig(
    vocab_size=2048,
    hidden_size=256,
    intermediate_size=768,
    num_hidden_layers=3,
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=16,
    tie_word_embeddings=False,
)


def test_the_sizes_of_a_wide_model_lie_on_the_line_through_two_narrow_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("warm", "ask", "costs"):
        monkeypatch.setattr(Bench, name, getattr(Bench, name))  # so that what `untimed` sets goes away again
    cards.untimed()
    few, many, wide = (
        cards.sizes_of(cards.recipe_of(cards.narrowed(SHAPE, n), tmp_path / str(n))) for n in (cards.FEW, cards.MANY, cards.ALL)
    )
    found = cards.widened(few, many, SHAPE)
    for name in ("parameters", "embeddings", "largest", "vocabulary", "hidden", "layers", "itemsize"):
        assert getattr(found, name) == getattr(wide, name), name
    for name in ("token", "cached_row", "cached_token"):
        assert getattr(found, name) == pytest.approx(getattr(wide, name), rel=1e-3), name
    assert wide.token > 2 * many.token > 0, "the width is most of it"
