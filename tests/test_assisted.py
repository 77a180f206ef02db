"""Assisted generation: the target's own text, greedily token by token, sampled in distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compression.block_float.block_model import in_format
from compression.block_float.mixed import in_two_formats
from decoding import acceptance, schedules
from decoding.acceptance import keep_likely
from decoding.assisted import _assist, assisted_generate
from decoding.drafts import PromptLookup, first_layers, fit_ngram
from decoding.generate import generate
from decoding.job import PAD
from decoding.readers import BayesReader, as_reader, at
from decoding.sampling import check_sampling, distribution
from decoding.speedup import Costs
from decoding.variants import in_bfloat16, in_int8, widened
from icl_synth import bayes, layers, pretrained
from icl_synth.concept_hmm import WorldConfig, sample_concept_hmm
from icl_synth.lstm import LSTMConfig
from icl_synth.transformer import Linear, TransformerConfig
from tests import oracles
from tests.test_generate import FLAWED_PROMPT, MODELS, flawed, random_model

RNG = np.random.default_rng(3)
PROMPT = RNG.integers(0, 12, (6, 5))
LENGTHS = np.array([5, 1, 3, 5, 2, 4])
TARGET = random_model(MODELS["modern"])
WORLD = sample_concept_hmm(jax.random.key(2), WorldConfig(concepts=2, entities=3, properties=4, vocab_size=12))
DRAFTS = {
    "transformer": random_model(TransformerConfig(12, 24, 1, 8, 1), 5),
    "like the target": random_model(MODELS["modern"], scale=0.59),
    "LSTM": random_model(LSTMConfig(12, 24, 1, 8), 6),
    "n-grams": fit_ngram(RNG.integers(0, 12, (20, 30)), 12, 3),
    "prompt lookup": PromptLookup(12),
    "first layer": first_layers(TARGET, 1),
    "exact Bayes": BayesReader(WORLD, 0.01),
    "in a format": in_format(TARGET, "msfp12"),
}


@pytest.mark.parametrize("name", DRAFTS)
def test_greedy_text_is_the_targets_own_whatever_drafts(name):
    plain = generate(TARGET, PROMPT, 19, lengths=LENGTHS)
    run = assisted_generate(TARGET, DRAFTS[name], PROMPT, 19, num_draft=3, lengths=LENGTHS)
    assert (run.tokens == plain).all()
    check_history(run, 19)


@pytest.mark.parametrize("num_draft", [1, 2, 7])
@pytest.mark.parametrize("schedule", ["constant", "heuristic", "confidence", "optimal"])
def test_greedy_text_is_the_targets_own_in_every_schedule(schedule, num_draft):
    costs = Costs(0.1, {width: 1.0 for width in (1, 2, 3, 5, 9, 20)})
    plain = generate(TARGET, PROMPT, 19, lengths=LENGTHS)
    draft = DRAFTS["like the target"]
    run = assisted_generate(
        TARGET, draft, PROMPT, 19, lengths=LENGTHS, schedule=schedule, num_draft=num_draft, costs=costs
    )
    assert (run.tokens == plain).all()
    check_history(run, 19)


def test_the_optimal_schedule_drafts_as_much_as_pays_and_gives_up_what_does_not():
    plain = np.asarray(generate(TARGET, PROMPT, 19))
    free = Costs(1e-6, {width: 1.0 for width in (1, 2, 3, 5, 9, 20)})
    run = assisted_generate(TARGET, TARGET, PROMPT, 19, schedule="optimal", costs=free, num_draft=1)
    assert (run.tokens == plain).all() and (run.rounds <= 3).all()  # 1 proposal, then as many as are left
    dear = Costs(1.0, {width: 1.0 for width in (1, 2, 3, 5, 9, 20)})
    wrong = fit_ngram(np.zeros((1, 40), int) + np.setdiff1d(np.arange(12), plain[:, 5:])[0], 12, 1)
    run = assisted_generate(TARGET, wrong, PROMPT, 19, schedule="optimal", costs=dear, num_draft=1)
    assert (run.tokens == plain).all() and run.acceptance == 0
    assert schedules.SURE <= int(run.examined.sum()) <= schedules.SURE + len(PROMPT)  # then no more proposals


def test_costs_are_measured_for_short_texts_too():
    draft = DRAFTS["like the target"]
    run = assisted_generate(TARGET, draft, PROMPT, 6, schedule="optimal")
    assert (run.tokens == generate(TARGET, PROMPT, 6)).all()
    with pytest.raises(ValueError, match="no window for 1 proposals was measured"):
        assisted_generate(TARGET, draft, PROMPT, 6, schedule="optimal", costs=Costs(0.1, {1: 1.0}))


def check_history(run, new):
    """Rounds, drafted and accepted tell one story; no row was cut short."""
    drafted, turn, rounds = np.asarray(run.drafted), np.asarray(run.round), np.asarray(run.rounds)
    accepted, examined = np.asarray(run.accepted), np.asarray(run.examined)
    assert (drafted.sum(1) + rounds + 1 >= new).all() and (turn.max(1) == rounds).all()
    assert (drafted.sum(1) <= accepted.sum(1)).all() and (accepted <= examined).all()
    assert (np.diff(accepted, axis=1) <= 0).all() and 0 <= run.acceptance <= 1
    for row in range(len(rounds)):
        assert all(((turn[row] == r) & ~drafted[row]).sum() <= 1 for r in range(1, rounds[row] + 1))


def test_hundreds_of_prompts_of_the_shipped_models():
    target, draft = as_reader(pretrained.load("transformer")), as_reader(pretrained.load("draft"))
    prompts = np.random.default_rng(1).integers(0, 50, (256, 12))
    for batch in (1, 31, 224):
        rows, prompts = prompts[:batch], prompts[batch:]
        plain = generate(target, rows, 24)
        assert (assisted_generate(target, draft, rows, 24, num_draft=4).tokens == plain).all()


def test_a_recurrent_target():
    target = random_model(MODELS["lstm"])
    plain = generate(target, PROMPT, 19, lengths=LENGTHS)
    assert (assisted_generate(target, TARGET, PROMPT, 19, num_draft=3, lengths=LENGTHS).tokens == plain).all()


def test_full_acceptance_takes_the_fewest_rounds_and_none_takes_one_a_token():
    run = assisted_generate(TARGET, TARGET, PROMPT, 19, num_draft=5)
    assert run.acceptance == 1 and (run.rounds == 3).all()
    plain = np.asarray(generate(TARGET, PROMPT, 19))
    wrong = fit_ngram(np.zeros((1, 40), int) + np.setdiff1d(np.arange(12), plain[:, 5:])[0], 12, 1)
    run = assisted_generate(TARGET, wrong, PROMPT, 19, num_draft=5)
    assert run.acceptance == 0 and (run.rounds == 18).all() and (run.tokens == plain).all()


def test_a_stop_token_inside_a_draft_ends_the_row():
    stop = int(np.asarray(generate(TARGET, PROMPT, 19))[0, 8])
    plain = generate(TARGET, PROMPT, 19, stop=stop)
    run = assisted_generate(TARGET, TARGET, PROMPT, 19, num_draft=5, stop=stop)
    assert (run.accepted.sum(1) == np.asarray(run.drafted).sum(1)).all()  # what follows a stop counts for nothing
    assert (run.examined == run.accepted).all()
    assert (run.tokens == plain).all() and (np.asarray(run.tokens)[0] == PAD).any()
    assert not np.asarray(run.drafted)[np.asarray(run.tokens) == PAD].any()


def test_twenty_lengths_and_every_stop_are_three_programs():
    target, draft, before = PromptLookup(12), fit_ngram(RNG.integers(0, 12, (20, 30)), 12, 2), _assist._cache_size()
    tokens = RNG.integers(0, 12, (3, 20))
    for length in range(1, 21):
        stop = length % 12 if length > 4 else None
        run = assisted_generate(target, draft, tokens[:, :length], 12, num_draft=2, stop=stop)
        assert run.tokens.shape == run.round.shape == run.drafted.shape == (3, length + 12)
        assert (run.tokens == generate(target, tokens[:, :length], 12, stop=stop)).all()
    assert _assist._cache_size() - before == 3


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_flaw_is_refused_where_plain_generation_refuses_it_and_the_drafts_too(temperature):
    sound, how = flawed(0.0, 99), {"temperature": temperature, "key": jax.random.key(0)}
    for after in range(2, 10):
        broken = flawed(np.nan, after)
        seen = f"logits after {after} tokens of row 1 hold NaN"
        for target, draft, name in ((broken, sound, "target"), (sound, broken, "draft"), (broken, broken, "target")):
            # the prefill chooses the first token and every round its last, so the draft proposes those between
            chosen = range(3, 9) if name == "target" else range(4, 8)
            run = lambda: assisted_generate(target, draft, FLAWED_PROMPT, 6, num_draft=4, **how)  # noqa: B023, E731
            if after in chosen:
                with pytest.raises(ValueError, match=f"the {name}'s {seen}"):
                    run()
            else:
                assert (np.asarray(run().tokens)[:, 3:] >= 0).all()


def test_a_proposal_may_be_impossible_and_what_follows_a_stop_is_not_looked_at():
    sound, impossible, broken = flawed(0.0, 99), flawed(-np.inf, 5), flawed(np.nan, 6)
    for target, draft in ((sound, impossible), (impossible, sound)):
        assert (np.asarray(assisted_generate(target, draft, FLAWED_PROMPT, 6).tokens)[:, 3:] == 1).all()
    run = assisted_generate(broken, sound, FLAWED_PROMPT, 6, num_draft=4, stop=1)
    assert (np.asarray(run.tokens)[:, 3:] == [1, PAD, PAD, PAD, PAD, PAD]).all()


SMALL = random_model(TransformerConfig(4, 16, 1, 8, 1), scale=0.4)
FAR = random_model(TransformerConfig(4, 16, 1, 8, 1), seed=9, scale=0.4)
ROWS = 16384


def sampled_counts(target=SMALL, draft=FAR, **how):
    """How often each continuation of five tokens came: the prefill's, then up to three proposals a round."""
    prompt = np.repeat(np.array([[1, 2]]), ROWS, 0)
    how = {"temperature": 1.0, "num_draft": 3} | how
    run = assisted_generate(target, draft, prompt, 5, key=jax.random.key(4), **how)
    return run, np.bincount(np.asarray(run.tokens)[:, 2:] @ 4 ** np.arange(5)[::-1], minlength=4**5)


COSTS = Costs(0.1, {width: 1.0 for width in (1, 2, 3, 5, 6, 9)})
SAMPLED = {
    "constant": {},
    "heuristic": {"schedule": "heuristic", "num_draft": 2},
    "confidence": {"schedule": "confidence", "confidence": 0.4},
    "optimal": {"schedule": "optimal", "costs": COSTS},
    "top_k": {"top_k": 3},
    "cold, top_p": {"temperature": 0.6, "top_p": 0.9},
    "prompt lookup": {"draft": PromptLookup(4)},
    "LSTM for LSTM": {
        "target": random_model(LSTMConfig(4, 16, 1, 8), scale=0.4),
        "draft": random_model(LSTMConfig(4, 16, 1, 8), seed=9, scale=0.4),
    },
}


def exactly(model, how=jax.nn.softmax):
    """Probabilities of all continuations of five tokens, by the whole model again for each token of each."""
    read = jax.jit(lambda text: model(text))
    padded = lambda text: read(np.pad(text, ((0, 0), (0, 7 - text.shape[1]))))[:, : text.shape[1]]  # noqa: E731
    return oracles.continuations(padded, [1, 2], 5, how)


@pytest.mark.parametrize("case", SAMPLED)
def test_sampled_text_has_the_targets_distribution(case):
    how = SAMPLED[case]
    sampling = check_sampling(how.get("temperature", 1.0), how.get("top_k"), how.get("top_p"), jax.random.key(0), 4)
    run, counts = sampled_counts(**how)
    exact = exactly(how.get("target", SMALL), lambda logits: distribution(logits, sampling))
    assert oracles.chi_square(counts, exact) > 1e-3
    assert 0.2 < run.acceptance < 0.9  # the draft is far from the target
    assert np.asarray(run.examined).sum(0)[1] > ROWS / 20  # proposals past the first had their say


def test_the_draft_alone_has_another_distribution():
    assert oracles.chi_square(sampled_counts()[1], exactly(FAR)) < 1e-6


@pytest.mark.parametrize("wrong", ["uniform", "the first proposal's"])
def test_a_wrong_q_is_caught(wrong, monkeypatch):
    def change(q):
        return jnp.full_like(q, 0.25) if wrong == "uniform" else jnp.broadcast_to(q[:, :1], q.shape)

    monkeypatch.setattr(acceptance, "keep_likely", lambda x, n, p, q, *keys: keep_likely(x, n, p, change(q), *keys))
    jax.clear_caches()
    _, counts = sampled_counts()
    jax.clear_caches()
    assert oracles.chi_square(counts, exactly(SMALL)) < 1e-6


def test_equal_distributions_accept_everything_and_leave_no_nan():
    p = jnp.broadcast_to(jnp.array([0.2, 0.5, 0.3, 0.0]), (64, 3, 4))
    proposals = jax.random.categorical(jax.random.key(1), jnp.log(p[:, :2]))
    kept, own = keep_likely(
        proposals.astype(jnp.int32), jnp.full(64, 2), p, p[:, :2], jax.random.key(2), jax.random.key(3)
    )
    assert (kept == 2).all() and (own < 3).all()


@pytest.mark.parametrize("name", [*DRAFTS, "target"])
def test_going_back_is_as_if_nothing_had_been_read(name):
    reader = as_reader(TARGET if name == "target" else DRAFTS[name])
    first, other = (jnp.asarray(RNG.integers(0, 12, (6, 3)), jnp.int32) for _ in range(2))
    lengths = jnp.asarray(LENGTHS, jnp.int32)
    _, state = reader.prefill(jnp.asarray(PROMPT, jnp.int32), lengths, reader.start(6, 20, 4))
    straight = reader.read(other, state)[0]
    back = at(reader.read(first, state)[1], lengths)
    np.testing.assert_allclose(reader.read(other, back)[0], straight, atol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_bayes_reader_is_exact_and_survives_what_is_impossible(smoothing):
    tokens = jnp.asarray(RNG.integers(0, 12, (4, 9)), jnp.int32)
    reader = BayesReader(WORLD, smoothing)
    logits, _ = reader.read(tokens, reader.start(4, 9, 9))
    exact = np.asarray(bayes.next_token_log_probs(WORLD, tokens, smoothing))
    possible = np.isfinite(exact[:, 1:]).any(-1)
    np.testing.assert_allclose(np.asarray(logits)[:, :-1][possible], exact[:, 1:][possible], atol=1e-4)
    assert not np.isnan(logits).any() and (np.asarray(logits)[:, :-1][~possible] == 0).all()


@pytest.mark.parametrize("change", [in_bfloat16, in_int8, lambda m: first_layers(m, 1), lambda m: widened(m, 2, 2)])
def test_a_model_in_a_format_is_not_changed_again_and_its_format_not_lost(change):
    for model in (in_format(TARGET, "mxfp4"), in_int8(TARGET)):
        with pytest.raises(TypeError, match="give the model it was made from"):
            change(model)


def test_a_single_row_of_narrow_numbers_is_multiplied_as_many_are():
    x, weight = RNG.normal(size=(1, 1, 24)), jnp.asarray(RNG.normal(size=(24, 40)))
    rows = layers.product(jnp.asarray(np.repeat(x, 3, 1)), weight, "bfloat16")
    np.testing.assert_allclose(layers.product(jnp.asarray(x), weight, "bfloat16"), rows[:, :1], rtol=1e-6)
    whole, integers = (jnp.asarray(RNG.integers(-99, 99, shape), jnp.int8) for shape in ((1, 1, 24), (24, 40)))
    exact = np.asarray(whole, np.int64) @ np.asarray(integers, np.int64)
    np.testing.assert_array_equal(layers.narrow_product(whole, integers, jnp.int32), exact)


def test_every_layer_of_a_gated_block_is_narrowed():
    model = random_model(TransformerConfig(12, 24, 1, 16, 2, style="llama", kv_heads=1, hidden=24))
    for narrow, kind in ((in_int8(model), "Int8Linear"), (in_two_formats(model, "mxfp4", "mxint8"), "MixedLinear")):
        layers_of = {name: part for name, part in vars(narrow.blocks[0]).items() if isinstance(part, Linear)}
        assert {name: type(part).__name__ for name, part in layers_of.items()} == dict.fromkeys(
            ("qkv", "out", "gate", "up", "down"), kind
        )


def test_narrow_weights_stay_close_and_wide_layers_say_the_same():
    model, tokens = pretrained.load("draft"), RNG.integers(0, 50, (4, 40))
    exact = np.asarray(model(tokens))
    np.testing.assert_allclose(widened(model, 2, 3)(tokens), exact, atol=1e-3)
    for narrow in (in_bfloat16(model), in_int8(model)):
        found = np.asarray(narrow(tokens))
        assert 0 < np.abs(found - exact).max() < 1 and (found.argmax(-1) == exact.argmax(-1)).mean() > 0.9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"draft": SMALL}, "the target has 12 tokens, the draft 4"),
        ({"draft": random_model(TransformerConfig(12, 20, 1, 8, 1))}, "longer than the draft's context 20"),
        ({"num_draft": 0}, "num_draft must be a whole number, at least 1"),
        ({"temperature": 1e-39, "key": jax.random.key(0)}, "temperature must be 0"),
        ({"prompt": PROMPT[:0]}, "prompt must be integers of shape"),
        ({"confidence": 1.5}, "confidence must be between 0 and 1"),
        ({"temperature": 1.0}, "needs a key"),
        ({"temperature": -0.1}, "temperature must be 0"),
        ({"num_tokens": 20}, "longer than the target's context 24"),
    ],
)
def test_bad_input_says_what_is_wrong(change, message):
    arguments = {"target": TARGET, "draft": TARGET, "prompt": PROMPT, "num_tokens": 19} | change
    with pytest.raises(ValueError, match=message):
        assisted_generate(**arguments)
