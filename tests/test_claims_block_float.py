"""Block float's experiments: verdicts turn with their rows, and what they measure agrees with cases worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from compression.block_float import FORMATS, find, matmul, quantize
from compression.block_float.mixed import in_two_formats, mixed_matmul
from figures.block_float import common, exponents, models, noise, training
from figures.block_float.common import MIXED
from figures.lab.tables import Table
from icl_synth import checkpoints
from icl_synth.documents import sample_documents
from icl_synth.evaluate import token_losses
from icl_synth.lstm import LSTMConfig
from icl_synth.transformer import TransformerConfig

SMALL = 1e-6 * np.array([-1.0, 0.0, 1.0])  # spread of seeds
WIDE = np.array([-1.0, 0.0, 1.0])


def seeds(table: Table, *cell, values) -> None:
    """A row for each seed, of one document each."""
    for seed, value in enumerate(values):
        table.add(*cell, seed=seed, values=np.array([value]))


def verdict(claims, beginning: str) -> str:
    (found,) = [claim.verdict for claim in claims if claim.claim.startswith(beginning)]
    return found


def trained(**costs) -> pd.DataFrame:
    table = Table("format", "quantity", "step")
    for format, values in costs.items():
        seeds(table, format, "cost", 9, values=values)
        if format == "mx6":
            seeds(table, format, "above mx9", 9, values=values - np.float64(0.001))
    return table.rows()


@pytest.mark.parametrize(
    ("cost", "spread", "expected"),
    [(0.02, SMALL, "holds"), (0.03, 0 * SMALL, "holds"), (0.031, SMALL, "fails"), (0.03, 0.01 * WIDE, "inconclusive")],
)
def test_training_in_mxfp6_is_held_against_the_most_that_ocp_prints(cost, spread, expected):
    claims = training.claims(trained(mxfp6_e3m2=cost + spread))
    assert [claim.verdict for claim in claims] == [expected] and not claims[0].own


@pytest.mark.parametrize(
    ("cost", "expected"), [(0.009, "holds"), (-0.009, "holds"), (0.011, "fails"), (-0.011, "fails")]
)
def test_training_in_mx9_is_our_own_question_on_either_side(cost, expected):
    claims = training.claims(trained(mx9=cost + SMALL, mx6=0.002 + SMALL))
    assert verdict(claims, "training in mx9 ends within") == expected and all(claim.own for claim in claims)
    assert verdict(claims, "training in MX6 ends above") == "holds"
    assert verdict(training.claims(trained(mx9=cost + SMALL, mx6=0 * SMALL)), "training in MX6 ends above") == "fails"


def test_published_costs_of_training_are_differences_of_the_printed_losses():
    assert training.published_costs("mxfp6_e3m2") == [0.03, 0.02, 0.01, 0.01]


def test_training_begins_at_the_given_weights_and_learns():
    recipe = training.Sizes((0,), steps=80, batch=4, depth=1).recipe
    graph, weights = checkpoints.split(training.fresh(recipe, "float32", 3))
    weights["head.kernel"] += 0.3 * jax.random.normal(jax.random.key(2), weights["head.kernel"].shape)  # fresh: zeros
    key = jax.random.key(5)
    first, _ = sample_documents(recipe.data.build()[0], jax.random.fold_in(key, 0), 4, recipe.data.length)
    exact = token_losses(graph, weights, np.asarray(first)).mean()
    _, losses = training.trainer(recipe, graph)(weights, key)
    assert losses[0] == pytest.approx(exact, abs=1e-4) and abs(exact - np.log(50)) > 0.1
    assert losses[-1] < losses[0] - 0.3


def drawn(**changed) -> list:
    """Claims of rows in which every distribution does as the papers say, but for what is changed."""
    values = {"above fp8_e4m3": 16.0, "above fp8_e5m2": 3.0, "above mx6": 3.0, "above msfp16": 3.6, "slope": 6.02}
    values |= {"least above bound": 0.1} | {name.replace("_", " "): value for name, value in changed.items()}
    values = {name.replace("fp8 ", "fp8_"): value for name, value in values.items()}
    table = Table("quantity", "distribution", "format", "x")
    for name in noise.DISTRIBUTIONS:
        for quantity, value in values.items():
            table.add(quantity, name, "mx9", 0.0, values=value + 1e-3 * np.array([-1, 0, 1]))
    for name in ("mx9", "mxfp8_e4m3"):
        table.add("qsnr", noise.NORMAL, name, 0.0, values=np.array([40.0]))
    table.add("gain of sub-blocks", noise.NORMAL, "mx9", 0.0, values=np.array([2.4]))
    return noise.claims(table.rows())


@pytest.mark.parametrize(
    ("beginning", "turned"),
    [
        ("MX9 is about 16 dB", {"above_fp8_e4m3": 15.4}),
        ("MX6 lies between FP8's", {"above_fp8_e5m2": -1.0, "above_mx6": -1.0}),
        ("MX6 lies between E4M3 and E5M2 for", {"above_fp8_e5m2": -1.0, "above_mx6": -1.0}),
        ("a bit of MSFP", {"slope": 5.8}),
        ("every vector stays", {"least_above_bound": -0.01}),
    ],
)
def test_noise_turned_round_turns_the_verdict(beginning, turned):
    assert verdict(drawn(), beginning) == "holds"
    assert verdict(drawn(**turned), beginning) == "fails"


def test_what_no_public_copy_bears_judges_nothing():
    claims = drawn(above_msfp16=-5.0)
    assert verdict(claims, "MX9 above MSFP16") == "not judged" == verdict(claims, "MX9 with sub-blocks")


def cast(name: str, **changed) -> list:
    """Claims about a model whose formats all do well, but for what is changed."""
    values = {
        "mxint8": 0.001,
        "mx9": 0.0,
        "mx6": 0.002,
        "saved": 0.01,
        "lost": 0.0,
        "good": 0.01,
        "after": 0.0,
    } | changed
    table = Table("model", "format", "tuned", "quantity")
    for format in ("mxint8", "mx9", "mx6"):
        seeds(table, name, format, False, "cost", values=values[format] + SMALL)
    seeds(table, name, MIXED, False, "cost", values=SMALL)
    seeds(table, name, MIXED, False, "saved", values=values["saved"] + SMALL)
    for format in ("msfp16", "msfp11"):
        seeds(table, name, format, False, "lost_accuracy", values=values["lost"] + SMALL)
    seeds(table, name, "mx6", True, "made_good", values=values["good"] + SMALL)
    seeds(table, name, "mx6", True, "cost", values=values["after"] + SMALL)
    return models.claims(table.rows())


@pytest.mark.parametrize(
    ("part", "turned", "after"),
    [
        ("MXINT8", {"mxint8": 0.0018}, "fails"),
        ("MSFP loses", {"lost": 0.011}, "fails"),
        ("MX formats of 6 to 9", {"mx6": 0.011, "mx9": -0.011}, "fails"),
        ("MX formats of 6 to 9", {"mx6": 0.011}, "partly"),
        ("MXFP4 weights", {"saved": -0.01}, "partly"),
        ("fine-tuning leaves", {"good": -0.01}, "fails"),
        ("after fine-tuning", {"after": 0.011}, "fails"),
    ],
)
def test_costs_turned_round_turn_the_verdict(part, turned, after):
    assert verdict(cast("transformer"), f"transformer: {part}") == "holds"
    assert verdict(cast("transformer", **turned), f"transformer: {part}") == after


def test_ocps_claim_is_about_transformers():
    own = {claim.claim.split(":")[0]: claim.own for name in ("LSTM", "transformer") for claim in cast(name)[:1]}
    assert own == {"LSTM": True, "transformer": False}


def test_orders_within_a_block_by_hand():
    """8, 1, 0.9 and 0.5 lie 0, 3, 4 and 4 binary orders deep, 12 more numbers are 0; 0.8 is a decimal order below 8."""
    block = np.zeros((1, 16), np.float32)
    block[0, :4] = 8, 1, 0.9, 0.5
    counted = {(quantity, x): share for quantity, x, share in exponents.counted(block)}
    assert counted["zero", 0.0] == 12 / 16 and counted["within", 0.0] == 3 / 16
    assert counted["within of others", 0.0] == 3 / 4
    assert [counted["below", float(x)] for x in (0, 3, 4, 5)] == [1 / 16, 1 / 16, 2 / 16, 0]


def test_the_bound_by_hand():
    assert common.bound(FORMATS["msfp16"], 1024) == pytest.approx(7 * 6.02 - 10 * np.log10(16))
    assert common.bound(FORMATS["mx9"], 1024) == pytest.approx(7 * 6.02 + 10 * np.log10(4 / (16 + 3 * 2)))
    assert common.bound(FORMATS["msfp16"], 4) == pytest.approx(7 * 6.02 - 10 * np.log10(4))


@pytest.mark.parametrize("name", noise.integer_formats())
def test_a_vector_made_for_the_bound_comes_near_it_and_truncation_falls_below(name):
    format = FORMATS[name]
    x = common.worst_vector(format, 64)[None]
    near = common.above_bound(x, np.asarray(quantize(x, format)), format)
    assert 0 <= near < 4 and (near < 0.2 or format.element.magnitude < 7)  # half a step is little only in fine ones
    beyond = x + 0.9 * (x - np.asarray(quantize(x, format)))  # nearly a step above, and not a half
    truncated = np.asarray(quantize(beyond, format, rounding="truncate"))
    assert common.above_bound(beyond, truncated, format) < 0 or format.element.magnitude == 2


def test_mxfp6_holds_every_value_of_mxfp4():
    """So that a model's weights in MXFP4 are read as they are by layers in MXFP6."""
    rng = np.random.default_rng(0)
    x = (rng.standard_t(2, (400, 64)) * 2.0 ** rng.integers(-100, 100, (400, 1))).astype(np.float32)
    held = quantize(x, "mxfp4")
    for name in ("mxfp6_e3m2", "mxfp6_e2m3"):
        np.testing.assert_array_equal(quantize(held, name), held)


def test_a_mixed_product_quantises_each_operand_in_its_format_along_what_is_summed():
    keys = jax.random.split(jax.random.key(1), 3)
    x, kernel, gradient = (jax.random.normal(k, s) for k, s in zip(keys, ((40, 64), (64, 96), (40, 96)), strict=True))
    formats = find("mxfp4"), find("mxfp6_e3m2")
    out, pull = jax.vjp(lambda x, kernel: mixed_matmul(x, kernel, *formats), x, kernel)
    to_x, to_kernel = pull(gradient)
    four, six = ((lambda a, name=name: quantize(a, name)) for name in ("mxfp4", "mxfp6_e3m2"))
    np.testing.assert_allclose(out, six(x) @ four(kernel.T).T, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(to_x, six(gradient) @ four(kernel).T, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(to_kernel, six(x.T) @ six(gradient.T).T, rtol=1e-4, atol=1e-4)
    same = mixed_matmul(x, kernel, find("mx9"), find("mx9"))
    np.testing.assert_allclose(same, matmul(x, kernel, "mx9", precision="float32"), rtol=1e-5, atol=1e-5)


def test_two_formats_leave_the_given_model_and_refuse_what_they_cannot_do():
    model = checkpoints.create(TransformerConfig(50, 16, 1, 32, 1))
    tokens = jnp.arange(16)[None]
    before = np.asarray(model(tokens))
    mixed = in_two_formats(model, "mxfp4", "mxfp6_e3m2", keep_head=False)
    assert type(mixed.head).__name__ == type(mixed.blocks[0].qkv).__name__ == "MixedLinear"
    assert mixed(tokens).shape == before.shape
    np.testing.assert_array_equal(model(tokens), before)
    with pytest.raises(TypeError, match="only a transformer"):
        in_two_formats(checkpoints.create(LSTMConfig(50, 32, 1, 16)), "mxfp4", "mxfp6_e3m2")
    with pytest.raises(ValueError, match="leave keep_head True"):
        in_two_formats(
            checkpoints.create(TransformerConfig(50, 16, 1, 32, 1, "gpt2")), "mxfp4", "mxfp6_e3m2", keep_head=False
        )
