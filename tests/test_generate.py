"""Greedy and sampled generation against re-running the whole model for every token."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from decoding import flaws, job
from decoding.drafts import Remembering
from decoding.generate import _generate, generate
from decoding.job import PAD
from decoding.sampling import check_sampling, distribution
from icl_synth import checkpoints
from icl_synth.lstm import LSTMConfig
from icl_synth.transformer import TransformerConfig
from tests import oracles

PROMPT = np.random.default_rng(0).integers(0, 12, (5, 7))


def random_model(config, seed=0, scale=0.6):
    """A model whose every weight is random, so that its predictions are far from flat."""
    graph, weights = checkpoints.split(checkpoints.create(config, seed))
    keys = jax.random.split(jax.random.key(seed + 100), len(weights))
    moved = {n: w + scale * jax.random.normal(k, w.shape) for (n, w), k in zip(weights.items(), keys, strict=True)}
    return checkpoints.merge(graph, moved)


MODELS = {
    "modern": TransformerConfig(12, 24, 2, 16, 2),
    "gpt2": TransformerConfig(12, 24, 2, 16, 2, style="gpt2"),
    "lstm": LSTMConfig(12, 24, 2, 16),
}


@pytest.mark.parametrize("kind", MODELS)
def test_greedy_is_the_naive_rerun_for_prompts_of_any_length_to_the_end_of_the_context(kind):
    model, lengths = random_model(MODELS[kind]), np.array([7, 1, 4, 7, 2])
    found = np.asarray(generate(model, PROMPT, 17, lengths=lengths))
    read = jax.jit(lambda room: model(room))
    for row, length in enumerate(lengths):
        expected = oracles.greedy(read, 24, PROMPT[row, :length], 17)
        assert (found[row, : length + 17] == expected).all() and (found[row, length + 17 :] == PAD).all()


def test_a_row_ends_with_the_stop_token_and_the_others_go_on():
    model = random_model(MODELS["modern"])
    whole = np.asarray(generate(model, PROMPT, 17))
    stop = int(whole[0, 9])
    found = np.asarray(generate(model, PROMPT, 17, stop=stop))
    for row in range(len(PROMPT)):
        after = np.flatnonzero(whole[row, 7:] == stop)
        end = 7 + after[0] + 1 if len(after) else 24
        assert (found[row, :end] == whole[row, :end]).all() and (found[row, end:] == PAD).all()
    assert (found[0] == PAD).any()


def test_twenty_lengths_and_every_stop_are_three_programs():
    model = random_model(TransformerConfig(12, 40, 1, 8, 1))
    read, before = jax.jit(lambda text: model(text)), _generate._cache_size()
    tokens = np.random.default_rng(5).integers(0, 12, (3, 20))
    for length in range(1, 21):
        stop = length % 12 if length > 4 else None
        found = np.asarray(generate(model, tokens[:, :length], 12, stop=stop))
        for row, text in zip(found, tokens, strict=True):
            expected = oracles.greedy(read, 40, text[:length], 12)
            ends = np.flatnonzero(expected[length:] == stop)
            size = length + (ends[0] + 1 if len(ends) else 12)
            assert found.shape == (3, length + 12)
            assert (row[:size] == expected[:size]).all() and (row[size:] == PAD).all()
    assert _generate._cache_size() - before == 3  # prompts of 16 in rooms of 16 and 32, prompts of 32 in rooms of 32


def test_padded_sizes_are_few_and_close():
    sizes = np.array([job.padded_size(number) for number in range(1, 5000)])
    numbers = np.arange(1, 5000)
    assert (sizes >= numbers).all() and (np.diff(sizes) >= 0).all()
    assert (sizes - numbers <= np.maximum(15, numbers / 8)).all() and len(set(sizes)) <= 8 * 9
    assert (sizes[[127, 223, 255, 256, 4095]] == [128, 224, 256, 288, 4096]).all()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Flawed(Remembering):
    """Says 1 after every text; in rows that begin with 5, once `after` tokens were read, logits 2, ... hold `value`."""

    value: jax.Array
    after: jax.Array
    vocab_size: int = dataclasses.field(default=6, metadata={"static": True})
    from_token: int = dataclasses.field(default=2, metadata={"static": True})

    def predict(self, text, length):
        here = (text[:, 0] == 5) & (length == self.after)
        tokens = jnp.arange(self.vocab_size)
        return jnp.where(here[:, None] & (tokens >= self.from_token), self.value, 4.0 * (tokens == 1))


def flawed(value, after, from_token=2):
    return Flawed(jnp.float32(value), jnp.int32(after), from_token=from_token)


FLAWED_PROMPT = np.array([[1, 2, 3], [5, 4, 3], [2, 2, 2]])
FLAWED = [
    ("hold NaN", np.nan, 2, 0.0),
    ("hold NaN", np.nan, 0, 1.0),
    ("reach \\+inf", np.inf, 2, 0.0),
    ("reach \\+inf at temperature 1:", np.inf, 0, 1.0),
    ("are all -inf", -np.inf, 0, 0.0),
    ("are all -inf at temperature 1:", -np.inf, 0, 1.0),
    ("reach \\+inf at temperature 0.0001:", 1e35, 2, 1e-4),
]


@pytest.mark.parametrize(("message", "value", "from_token", "temperature"), FLAWED)
def test_logits_that_no_token_can_be_chosen_from_are_refused(message, value, from_token, temperature):
    how = {"temperature": temperature, "key": jax.random.key(0)}
    for read in (3, 6, 8):
        with pytest.raises(ValueError, match=f"the model's logits after {read} tokens of row 1 {message}"):
            generate(flawed(value, read, from_token), FLAWED_PROMPT, 6, **how)
    for read in (2, 9):  # inside the prompt and after the end no token is chosen
        assert np.asarray(generate(flawed(value, read, from_token), FLAWED_PROMPT, 6, **how)).shape == (3, 9)


def test_some_tokens_may_be_impossible_and_a_row_that_ended_is_not_looked_at():
    expected = np.concatenate([FLAWED_PROMPT, np.ones((3, 6), int)], axis=1)
    assert (np.asarray(generate(flawed(-np.inf, 6), FLAWED_PROMPT, 6)) == expected).all()
    found = np.asarray(generate(flawed(np.nan, 6), FLAWED_PROMPT, 6, stop=1))
    assert (found[:, 3:] == [1, PAD, PAD, PAD, PAD, PAD]).all()
    shorter = generate(flawed(np.nan, 6), FLAWED_PROMPT, 3)
    assert (np.asarray(shorter) == expected[:, :6]).all()


def test_a_model_of_nan_is_refused():
    graph, weights = checkpoints.split(random_model(MODELS["modern"]))
    broken = checkpoints.merge(graph, weights | {"blocks.1.up.kernel": jnp.full((16, 64), jnp.nan)})
    for how in ({}, {"temperature": 1.0, "key": jax.random.key(0)}):
        with pytest.raises(ValueError, match="the model's logits after 7 tokens of row 0 hold NaN"):
            generate(broken, PROMPT, 17, **how)


def test_the_first_flaw_of_each_row_is_noted():
    rng, how = np.random.default_rng(2), warm(0.5)
    noted = flaws.none(40)
    first = {}
    for turn in range(3):
        logits = rng.choice([0.0, 1.0, 2.0, -np.inf, np.nan, np.inf], (40, 4, 3), p=[0.3, 0.3, 0.2, 0.18, 0.01, 0.01])
        used = rng.random((40, 4)) < 0.7
        noted = flaws.note(noted, jnp.asarray(logits, jnp.float32), how, jnp.arange(40) + 10 * turn, jnp.asarray(used))
        for row, place in zip(*np.nonzero(used), strict=True):
            largest = np.max(logits[row, place])
            if not np.isfinite(largest):
                first.setdefault(row, (row + 10 * turn + place, largest))
    assert 10 < len(first) < 40 and set(np.flatnonzero(noted.any)) == set(first)
    for row, (read, largest) in first.items():
        assert noted.read[row] == read and str(noted.largest[row]) == str(np.float32(largest))


def test_sampled_continuations_have_the_models_distribution():
    model = random_model(TransformerConfig(4, 16, 1, 8, 1), scale=0.4)
    prompt, rows = np.array([[1, 2]]), 8192
    exact = oracles.continuations(model, prompt[0], 3, lambda logits: distribution(logits, warm(0.8)))
    found = np.asarray(generate(model, np.repeat(prompt, rows, 0), 3, temperature=0.8, key=jax.random.key(3)))[:, 2:]
    again = generate(model, np.repeat(prompt, rows, 0), 3, temperature=0.8, key=jax.random.key(3))
    assert (np.asarray(again)[:, 2:] == found).all()
    counts = np.bincount(found @ [16, 4, 1], minlength=64)
    assert oracles.chi_square(counts, exact) > 1e-3
    assert oracles.chi_square(counts, np.full(64, 1 / 64)) < 1e-6


def warm(temperature, top_k=None, top_p=None):
    return check_sampling(temperature, top_k, top_p, jax.random.key(0), 12)


@pytest.mark.parametrize(("top_k", "top_p"), [(None, None), (3, None), (None, 0.7), (5, 0.5), (1, None), (None, 1e-6)])
def test_temperature_top_k_and_top_p(top_k, top_p):
    logits = np.random.default_rng(1).normal(size=(20, 12)).astype(np.float32)
    found = np.asarray(distribution(jnp.asarray(logits), warm(0.7, top_k, top_p)))
    for row, line in zip(found, logits, strict=True):
        probs = scipy.special.softmax(line / 0.7)
        order = np.argsort(-probs)
        kept = order[:top_k]
        probs = probs[kept] / probs[kept].sum()
        if top_p:
            number = int((np.cumsum(probs) - probs < top_p).sum())
            kept, probs = kept[:number], probs[:number] / probs[:number].sum()
        expected = np.zeros(12)
        expected[kept] = probs
        np.testing.assert_allclose(row, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_tokens": 18}, "longer than the model's context 24"),
        ({"num_tokens": 0}, "num_tokens must be a whole number, at least 1"),
        ({"prompt": PROMPT[:0]}, "prompt must be integers of shape"),
        ({"temperature": -1.0}, "temperature must be 0"),
        ({"temperature": float("nan")}, "temperature must be 0"),
        ({"temperature": 1.0}, "needs a key"),
        ({"prompt": PROMPT + 6}, r"prompt must lie in 0\.\.11"),
        ({"lengths": np.array([7, 7, 7, 7, 8])}, "lengths must be 5 whole numbers between 1 and 7"),
        ({"lengths": np.array([0, 7, 7, 7, 7])}, "lengths must be 5 whole numbers between 1 and 7"),
        ({"top_k": 0}, "top_k must be a whole number from 1 to 12"),
        ({"top_p": 0.0}, "top_p must be above 0"),
        ({"stop": 12}, "stop must be a whole number from 0 to 11"),
    ],
)
def test_bad_input_says_what_is_wrong(change, message):
    arguments = {"prompt": PROMPT, "num_tokens": 3} | change
    with pytest.raises(ValueError, match=message):
        generate(random_model(MODELS["modern"]), **arguments)
