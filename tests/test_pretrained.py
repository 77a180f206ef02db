"""The models that ship score what their cards say."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from icl_synth import checkpoints, pretrained
from icl_synth.config import DataConfig, TrainConfig
from icl_synth.pretrained.__main__ import scores


@pytest.mark.parametrize("name", pretrained.names())
def test_a_model_scores_what_its_card_says(name):
    card, model = pretrained.card(name), pretrained.load(name)
    config = TrainConfig(
        evaluation_documents=card["training"]["evaluation_documents"],
        data=DataConfig(**card["training"]["data"]),
    )
    for quantity, value in scores(model, config).items():
        assert value == pytest.approx(card[quantity], abs=2e-3), quantity
    assert sum(w.size for w in checkpoints.split(model)[1].values()) == card["parameters"]
    assert {"preset", "seed", "command", "commit", "minutes", "device", "tokens"} <= card.keys()
    assert model(jnp.zeros((1, 5), int)).shape == (1, 5, 50)


def test_they_are_small_and_the_draft_is_smaller():
    files = list(Path(pretrained.HERE).rglob("*.safetensors"))
    assert len(files) == 3 and sum(file.stat().st_size for file in files) < 8 * 2**20
    assert pretrained.card("draft")["parameters"] < pretrained.card("transformer")["parameters"] / 4


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="unknown pretrained model 'gpt5': choose one of transformer, draft, lstm"):
        pretrained.load("gpt5")


def test_the_lines_of_the_guide_run_the_lstm_in_pytorch(monkeypatch):
    torch = pytest.importorskip("torch")
    root = Path(__file__).parents[1]
    code = next(
        part for part in (root / "docs" / "elsewhere.md").read_text().split("```python")[1:] if "torch.nn.LSTM" in part
    )
    tokens = np.random.default_rng(0).integers(0, 50, (2, 40))
    found = {"tokens": torch.as_tensor(tokens)}
    monkeypatch.chdir(root)
    exec(code.split("```")[0], found)
    np.testing.assert_allclose(found["logits"].detach(), pretrained.load("lstm")(tokens), atol=2e-4)
