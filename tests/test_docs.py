"""The Python of README and of the guides is run as it stands, page by page, as a reader would paste it.

Four blocks have tests of their own: the worked example of docs/experiments.md in test_experiments.py, those of
docs/own_text.md and docs/own_model.md in test_text.py and test_llama_gguf.py, and PyTorch's of docs/elsewhere.md in
test_lstm.py, where PyTorch is installed.
"""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icl_synth import pretrained

ROOT = Path(__file__).parents[1]
ELSEWHERE = {"experiments.md", "own_text.md", "own_model.md", "elsewhere.md"}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page) and page.name not in ELSEWHERE], ids=lambda page: page.name
)
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # what a page writes stays there
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(64, 8)).astype(np.float32)
    names = {name: jnp.asarray(rng.normal(size=(4, 32)), jnp.float32) for name in ("x", "a")}
    names |= {"weight": jnp.asarray(rng.normal(size=(4, 8)), jnp.float32), "hessian": jnp.asarray(inputs.T @ inputs)}
    names |= {"b": jnp.asarray(rng.normal(size=(32, 4)), jnp.float32), "model": pretrained.load("draft")}
    names["folder"] = tmp_path / "model"
    for block in blocks(page):
        exec(block, names)
    CHECKS[page.name](names)


def check_readme(names: dict) -> None:
    assert names["log_probs"].shape == names["exact"].shape == (4, 63, 50)
    exact, ours = names["exact"], names["log_probs"]
    assert jnp.where(jnp.isfinite(exact), jnp.exp(exact) * (exact - ours), 0).sum(-1).mean() > 0
    assert jnp.allclose(names["posterior"].sum(-1), 1, atol=1e-4)


def check_train(names: dict) -> None:
    assert names["logits"].shape == (4, 64, 50) and jax.tree.leaves(names["state"])


def check_prune(names: dict) -> None:
    assert (names["mask"].reshape(4, 2, 4).sum(-1) == 2).all() and ((names["weight"] != 0) <= names["mask"]).all()


def check_generate(names: dict) -> None:
    target, prompt = names["target"], names["prompt"]
    assert (names["run"].tokens == names["generate"](target, prompt, 100)).all()


def check_formats(names: dict) -> None:
    x = names["x"]
    assert 0 < jnp.abs(names["quantize"](x, "msfp12") - x).max() < 0.2 * jnp.abs(x).max()
    tokens = jnp.arange(20)[None]
    assert (names["again"](tokens) == names["lowered"](tokens)).all()
    assert (names["again"](tokens) != names["model"](tokens)).any()


def check_scaling_laws(names: dict) -> None:
    assert np.allclose([names["law"].E, names["law"].alpha, names["law"].beta], [1.5, 0.5, 0.6], rtol=1e-3)
    assert np.allclose(names["exponent"], names["law"].a, atol=0.05) and names["floors"].shape == (20,)


CHECKS = {
    "README.md": check_readme,
    "train.md": check_train,
    "prune.md": check_prune,
    "formats.md": check_formats,
    "generate.md": check_generate,
    "scaling_laws.md": check_scaling_laws,
}
