"""What decoding's public functions are given wrongly is refused early, by name; whole numbers of any type are taken.

The types that pytest enforces would stop much of it earlier, so they are off: a user's code runs without them.
"""

import dataclasses
import functools
import math
import warnings

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compression.block_float.block_model import in_format
from decoding import speedup
from decoding.assisted import assisted_generate
from decoding.compare import compare, in_turns, timed
from decoding.drafts import LARGEST, PromptLookup, first_layers, fit_ngram
from decoding.generate import generate
from decoding.readers import BayesReader
from decoding.speedup import Costs
from decoding.variants import in_bfloat16, in_int8, weight_bytes, widened
from icl_synth import checkpoints
from icl_synth.concept_hmm import official_ginc
from icl_synth.lstm import LSTMConfig
from icl_synth.transformer import TransformerConfig

few = settings(max_examples=20, deadline=None)
below_1 = st.integers(-99, 0)
no_whole = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from(
    ["3", (3,), 3j, np.float32(2), True, np.True_, jnp.array(True), np.array([3])]
)
no_number = st.sampled_from([math.nan, math.inf, -math.inf])
no_kind = st.sampled_from(["0.5", None, True, np.True_, [0.5], 0.5j, np.array([0.5]), jnp.array(True), 10**400])
no_share = no_number | st.floats(1.001, 9) | st.floats(-9, -0.001)
READER, OTHER = PromptLookup(6), PromptLookup(7)
PROMPT = np.array([[1, 2, 3, 1, 2], [4, 5, 4, 5, 4]])
KEY = jax.random.key(0)
ALONE = functools.partial(generate, READER)
HELPED = functools.partial(assisted_generate, READER, READER)
both = pytest.mark.parametrize("function", [ALONE, HELPED])


@pytest.fixture(autouse=True, scope="module")
def no_types():
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def refused(message, function, *arguments, error=ValueError, **named):
    with warnings.catch_warnings(), pytest.raises(error, match=message):
        warnings.simplefilter("error")
        function(*arguments, **named)


@functools.cache
def model(kind="modern", dtype="float32"):
    config = LSTMConfig(6, 12, 1, 4) if kind == "lstm" else TransformerConfig(6, 12, 1, 4, 1, style=kind)
    return checkpoints.create(config, dtype=dtype)


@both
@few
@given(no_whole | st.integers(-99, -1))
def test_what_is_no_whole_number(function, wrong):
    refused("num_tokens must be a whole number, at least 1", function, PROMPT, wrong)
    refused("stop must be a whole number from 0 to 5", function, PROMPT, 3, stop=wrong)
    refused("top_k must be a whole number from 1 to 6", function, PROMPT, 3, top_k=wrong, temperature=1.0, key=KEY)
    refused("num_draft must be a whole number, at least 1", HELPED, PROMPT, 3, num_draft=wrong)


@both
@few
@given(no_number | st.floats(max_value=-1e-9) | st.floats(1e-320, 0.9e-4) | st.floats(min_value=4e38))
def test_a_temperature_that_float32_does_not_hold(function, wrong):
    refused("temperature must be 0", function, PROMPT, 3, temperature=wrong, key=KEY)


@both
@few
@given(no_kind)
def test_what_is_no_real_number(function, wrong):
    refused("temperature must be 0", function, PROMPT, 3, temperature=wrong, key=KEY)
    if wrong is not None:
        refused("top_p must be above 0", function, PROMPT, 3, temperature=1.0, top_p=wrong, key=KEY)
    refused("confidence must be between 0 and 1", HELPED, PROMPT, 3, confidence=wrong)
    refused("weight must be above 0 and finite", fit_ngram, PROMPT, 6, weight=wrong)
    refused("draft must be at least 0 and finite", Costs, wrong, {2: 1.0})
    refused(r"verify\[2\] must be above 0 and finite", Costs, 0.1, {2: wrong})
    refused("overhead must be a finite number", speedup.predicted_speedup, 0.5, 3, 0.1, 1.0, wrong)


@both
@pytest.mark.parametrize("number", [np.float32, np.float64, jnp.float32, jnp.bfloat16])
def test_real_numbers_of_any_type(function, number):
    named = {"key": KEY, "stop": None}
    found, expected = (
        function(PROMPT, 4, temperature=kind(0.5), top_p=kind(0.75), **named) for kind in (number, float)
    )
    assert (getattr(found, "tokens", found) == getattr(expected, "tokens", expected)).all()


@both
@few
@given(no_number | st.floats(max_value=1e-38) | st.floats(min_value=1.0001))
def test_a_share_that_float32_does_not_hold(function, wrong):
    refused("top_p must be above 0", function, PROMPT, 3, temperature=1.0, top_p=wrong, key=KEY)


@both
@few
@given(st.integers(1, 4))
def test_several_keys_or_none_that_is_one(function, number):
    for wrong in (jax.random.split(KEY, number), jax.random.key_data(KEY), number):
        refused("key must be", function, PROMPT, 3, temperature=1.0, key=wrong)
    refused("needs a key", function, PROMPT, 3, temperature=float(number))


@both
@few
@given(st.integers(6, 2**62) | st.integers(-(2**62), -1))
def test_prompts_that_are_no_tokens(function, wrong):
    refused(r"prompt must lie in 0\.\.5", function, np.where(PROMPT == 1, wrong, PROMPT), 3)
    for shape in (PROMPT[0], PROMPT[:0], PROMPT[:, :0], PROMPT[None], PROMPT * 1.0):
        refused("prompt must be integers of shape", function, shape, 3)
    for lengths in ([5, wrong], [5, 0], [5], [5.0, 5.0], [True, True]):
        refused("lengths must be 2 whole numbers between 1 and 5", function, PROMPT, 3, lengths=np.array(lengths))


@few
@given(no_share)
def test_assistance_that_cannot_be(wrong):
    refused("confidence must be between 0 and 1", HELPED, PROMPT, 3, schedule="confidence", confidence=wrong)
    refused("unknown schedule", HELPED, PROMPT, 3, schedule=str(wrong))
    refused("the target has 6 tokens, the draft 7", assisted_generate, READER, OTHER, PROMPT, 3)
    refused("float cannot read tokens", generate, wrong, PROMPT, 3, error=TypeError)
    refused("float cannot read tokens", assisted_generate, READER, wrong, PROMPT, 3, error=TypeError)


@few
@given(no_number | st.floats(-9, -0.001))
def test_costs_that_are_no_time(wrong):
    refused("draft must be at least 0", Costs, wrong, {2: 1.0})
    refused(r"verify\[3\] must be above 0", Costs, 0.1, {2: 1.0, 3: wrong})
    refused(r"verify\[2\] must be above 0", Costs, 0.1, {2: 0.0})
    refused("gamma must be a whole number, at least 0", Costs(0.1, {2: 1.0}).round, -1)
    refused("no window for 2 proposals", Costs(0.1, {2: 1.0}).round, 2)
    if not math.isfinite(wrong):  # an overhead may be below 0
        refused("overhead must be a finite number", Costs, 0.1, {2: 1.0}, wrong)
    refused("a width of verify must be a whole number, at least 1", Costs, 0.1, {0: 1.0})
    refused("costs must be decoding.speedup.Costs", HELPED, PROMPT, 3, schedule="optimal", costs={2: 1.0})


@few
@given(no_share)
def test_an_alpha_that_is_no_share(wrong):
    refused("alpha must be between 0 and 1", speedup.expected_tokens, wrong, 3)
    refused("alpha must be between 0 and 1", Costs(0.1, {4: 1.0}).speedup, wrong, 3, 1.0)
    for function in (speedup.predicted_speedup, speedup.predicted_operations):
        refused("alpha must be between 0 and 1", function, wrong, 3, 0.1)
    refused("alpha must be between 0 and 1", speedup.optimal_num_draft, wrong, 0.1)
    refused("alpha must be between 0 and 1", speedup.expected_tokens, np.array([0.5, wrong]), 3)
    refused("gamma at least 0", speedup.expected_tokens, 0.5, -1)


@few
@given(no_number | st.floats(-9, -0.4))
def test_a_draft_that_costs_nothing_that_could_be(wrong):
    refused("draft must be at least 0 and finite", speedup.predicted_speedup, 0.5, 3, wrong)
    refused("draft must be at least 0 and finite", speedup.predicted_operations, 0.5, 3, wrong)
    refused("draft must be at least 0 and finite", speedup.optimal_num_draft, 0.5, wrong)
    refused("verify must be above 0 and finite", speedup.predicted_speedup, 0.5, 3, 0.1, verify=wrong)
    refused("verify must be above 0 and finite", speedup.predicted_speedup, 0.5, 3, 0.1, verify=0.0)


@few
@given(no_whole | below_1)
def test_nothing_to_measure(wrong):
    for name in ("batch", "room", "most"):
        shape = {"batch": 1, "room": 8, "most": 2} | {name: wrong}
        refused(f"{name} must be a whole number, at least 1", speedup.measure, READER, READER, **shape)
    refused("repeats must be a whole number, at least 1", timed, lambda: None, wrong)
    refused("repeats must be a whole number, at least 1", in_turns, [lambda: None], wrong)
    most = -1 if wrong == 0 else wrong
    refused("most must be a whole number, at least 0", speedup.optimal_num_draft, 0.5, 0.1, most)


@few
@given(no_whole | below_1)
def test_nothing_to_compare(wrong):
    arguments = {"prompts": [PROMPT, PROMPT], "probe": PROMPT, "num_tokens": 4, "gammas": (2,), "repeats": 1}
    for change, message in (
        ({"num_tokens": wrong}, "num_tokens must be a whole number, at least 2"),
        ({"num_tokens": 1}, "num_tokens must be a whole number, at least 2"),
        ({"gammas": (2, wrong)}, "gammas must be a whole number, at least 1"),
        ({"repeats": wrong}, "repeats must be a whole number, at least 1"),
        ({"prompts": []}, "prompts must be one batch or more"),
        ({"prompts": [PROMPT, PROMPT[:, :4]]}, "prompts must be .* all of one shape"),
        ({"stop": 3}, "stop must be left out"),
    ):
        refused(message, compare, READER, READER, **arguments | change)


@few
@given(no_whole | below_1)
def test_n_grams_of_nothing(wrong):
    refused("order must be a whole number, at least 1", fit_ngram, PROMPT, 6, wrong)
    refused("vocab_size must be a whole number, at least 1", fit_ngram, PROMPT, wrong)
    for name in ("longest", "vocab_size"):
        refused(f"{name} must be a whole number, at least 1", PromptLookup, **{"vocab_size": 6, name: wrong})


@few
@given(st.integers(7, 2**20), no_number | st.floats(max_value=0.0))
def test_n_grams_that_cannot_be_counted(vocab_size, weight):
    order = int(math.log(LARGEST, vocab_size)) + 1
    refused("vocab_size .. order must be at most", fit_ngram, PROMPT, vocab_size, order)
    refused("weight must be above 0 and finite", fit_ngram, PROMPT, 6, weight=weight)
    for documents in (PROMPT * 1.0, PROMPT[0], PROMPT[:0]):
        refused("documents must be integers", fit_ngram, documents, 6)
    refused(r"documents must lie in 0\.\.5", fit_ngram, PROMPT + vocab_size, 6)


@few
@given(no_share, no_whole | st.integers(-99, -1))
def test_a_bayes_reader_of_no_share_or_number(smoothing, unused):
    hmm, _ = official_ginc()
    for wrong in (smoothing, np.float32(smoothing), jnp.float32(smoothing)):
        refused(r"smoothing must lie in \[0, 1\]", BayesReader, hmm, wrong)
    refused("unused must be a whole number, at least 0", BayesReader, hmm, unused=unused)
    reader = BayesReader(hmm, jnp.float32(0.5))
    assert jax.tree.map(lambda leaf: None, reader).smoothing is None  # as jax itself fills a pytree
    assert jax.jit(lambda reader: dataclasses.replace(reader, smoothing=reader.smoothing / 2))(reader).smoothing == 0.25


@few
@given(no_whole | below_1)
def test_models_of_no_size(wrong):
    refused("depth must be a whole number from 1 to 1", first_layers, model(), wrong)
    refused("depth must be a whole number from 1 to 1", first_layers, model(), 2)
    refused("times must be a whole number, at least 1", widened, model(), wrong, 1)
    refused("depth must be a whole number, at least 1", widened, model(), 1, wrong)
    for kind in ("gpt2", "lstm"):
        refused("only transformers of modern style", widened, model(kind), 2, 1)


def test_models_that_were_changed_already():
    changed = in_format(model(), "mxfp4")
    for function in (in_bfloat16, in_int8, lambda one: first_layers(one, 1), lambda one: widened(one, 2, 1)):
        refused("give the model it was made from", function, changed, error=TypeError)
    refused("int8 products are for transformers", in_int8, model("lstm"), error=TypeError)


def test_a_wider_model_keeps_its_precision():
    narrow = in_bfloat16(model())
    for small in (narrow, model(dtype="bfloat16"), model()):
        wide = widened(small, 2, 1)
        assert wide.dtype == wide.head.dtype == small.dtype and wide.head.kernel[...].dtype == small.head.kernel.dtype
    assert weight_bytes(widened(narrow, 2, 1)) < weight_bytes(widened(model(), 2, 1))


@both
@pytest.mark.parametrize("number", [np.int64, np.uint8, jnp.int32])
def test_whole_numbers_of_any_type(function, number):
    sampled = {"temperature": 1.0, "key": KEY}
    named = {"num_draft": 2} if function is HELPED else {}
    given_so = {name: number(value) for name, value in named.items()}
    found, expected = function(PROMPT, number(4), **given_so), function(PROMPT, 4, **named)
    found_cut = function(PROMPT, number(4), **given_so, **sampled, top_k=number(2), stop=number(3))
    expected_cut = function(PROMPT, 4, **named, **sampled, top_k=2, stop=3)
    for one, other in ((found, expected), (found_cut, expected_cut)):
        assert (getattr(one, "tokens", one) == getattr(other, "tokens", other)).all()


@both
def test_lengths_in_a_narrow_type_do_not_overflow(function):
    prompt, lengths = np.tile(PROMPT, (1, 40)).astype(np.uint8), np.array([200, 190])
    found, expected = (function(prompt, 100, lengths=lengths.astype(kind)) for kind in (np.uint8, np.int64))
    found, expected = (np.asarray(getattr(one, "tokens", one)) for one in (found, expected))
    assert (found == expected).all() and (found[0] >= 0).all() and (found[1] >= 0).sum() == 290
