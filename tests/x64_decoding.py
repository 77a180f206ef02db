"""Decoding on tiny inputs, as JSON: the same with and without JAX_ENABLE_X64 (test_x64.py compares)."""

import json

import jax
import numpy as np

from decoding import generate
from decoding.assisted import assisted_generate
from decoding.drafts import PromptLookup, fit_ngram
from decoding.readers import BayesReader, as_reader
from decoding.sampling import check_sampling, distribution
from decoding.speedup import Costs, expected_tokens, optimal_num_draft, predicted_speedup, read_often
from decoding.variants import in_int8
from icl_synth import checkpoints
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.lstm import LSTMConfig
from icl_synth.transformer import TransformerConfig

RNG = np.random.default_rng(0)
PROMPT, LENGTHS = RNG.integers(0, 12, (3, 5)), np.array([5, 1, 3])
SAMPLED = {"temperature": 0.8, "top_k": 9, "top_p": 0.95, "key": jax.random.key(1)}
COSTS = Costs(0.1, {width: 1.0 for width in (1, 2, 3, 5, 9, 10)})


def random_model(config):
    """A model of float32 weights drawn in NumPy."""
    graph, weights = checkpoints.split(checkpoints.create(config))
    drawn = {name: 0.6 * RNG.normal(size=weights[name].shape) for name in sorted(weights)}
    return checkpoints.merge(graph, {name: np.float32(value) for name, value in drawn.items()})


def random_world():
    """Two concepts over three entities and four properties."""

    def rows(*shape):
        return RNG.dirichlet(np.ones(shape[-1]), shape[:-1])

    start = rows(2, 12).reshape(2, 3, 4)
    return ConceptHMM(RNG.integers(0, 12, (3, 4)), rows(2, 4, 4), rows(3, 3), start, 12)


modern = random_model(TransformerConfig(12, 24, 1, 8, 1))
readers = {
    "transformer": as_reader(modern),
    "LSTM": as_reader(random_model(LSTMConfig(12, 24, 1, 8))),
    "Bayes": BayesReader(random_world(), 0.1),
    "n-grams": fit_ngram(RNG.integers(0, 12, (20, 30)), 12, 2),
    "look-up": PromptLookup(12),
}
results = {}
for name, reader in readers.items():
    results[f"sampled, {name}"] = generate.generate(reader, PROMPT, 9, lengths=LENGTHS, stop=3, **SAMPLED)
rounds = {
    "constant": ("transformer", "LSTM", {"num_draft": 2, **SAMPLED}),
    "confidence": ("Bayes", "n-grams", SAMPLED),
    "optimal": ("LSTM", "look-up", {"costs": COSTS}),
}
for schedule, (target, draft, how) in rounds.items():
    run = assisted_generate(readers[target], readers[draft], PROMPT, 9, lengths=LENGTHS, schedule=schedule, **how)
    results[schedule] = np.concatenate([run.tokens, run.drafted, run.round, run.accepted, run.examined], axis=1)
results["read"] = read_often(readers["look-up"], 2, 8, 3)
results["int8"] = in_int8(modern)(PROMPT)
results["probabilities"] = distribution(
    RNG.normal(size=(2, 12)).astype(np.float32), check_sampling(**SAMPLED, vocab_size=12)
)
results["table"] = readers["n-grams"].table
results["speed"] = [
    float(expected_tokens(0.7, 4)),
    predicted_speedup(0.7, 4, 0.1, 1.2, 0.1),
    optimal_num_draft(0.7, 0.05),
]
print(json.dumps({name: np.ravel(value).tolist() for name, value in results.items()}))
