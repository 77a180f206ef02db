"""Called a second time with the same shapes, nothing is compiled again: a loop over layers or prompts would crawl."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compression.block_float import encode, matmul, quantize
from compression.pruning import alps, least_squares, magnitude, ria, sparsegpt, wanda
from decoding import along
from decoding.schedules import check_plan
from icl_synth import aspects, bayes, beliefs, information, labels, learners, prompt_readers
from icl_synth.concept_hmm import official_ginc
from icl_synth.documents import sample_documents
from icl_synth.prompts import sample_prompts

HMM, _ = official_ginc()
KEY = jax.random.key(0)
PROMPTS = sample_prompts(HMM, KEY, 4, 2, 3)
GOLD = aspects.gold_labels(HMM, PROMPTS, aspects.examples_of(PROMPTS, 3)[0][:, :, :-1])
TOKENS = sample_documents(HMM, KEY, 4, 12)[0]
RANDOM = np.random.default_rng(0)
WEIGHT, INPUTS = (RANDOM.normal(size=shape).astype(np.float32) for shape in ((8, 16), (64, 16)))
HESSIAN = INPUTS.T @ INPUTS
PARTS = RANDOM.dirichlet(np.ones(50), size=(4, 3, 5)).astype(np.float32)
STANDS = np.ones((4, 20), bool)

CALLS: dict[str, Callable[[], object]] = {
    "sample_prompts": lambda: sample_prompts(HMM, KEY, 4, 2, 3),
    "sample_documents": lambda: sample_documents(HMM, KEY, 4, 12),
    "gold_labels": lambda: aspects.gold_labels(HMM, PROMPTS, aspects.examples_of(PROMPTS, 3)[0][:, :, :-1]),
    "wrong_labels": lambda: aspects.wrong_labels(HMM, GOLD, KEY),
    "alter": lambda: aspects.alter(HMM, PROMPTS, 3, "random labels", KEY),
    "robust_log_probs": lambda: aspects.robust_log_probs(HMM, PROMPTS.tokens, 3),
    "wrong_by_possibility": lambda: labels.wrong_by_possibility(HMM, PROMPTS, 3, GOLD, KEY),
    "next_token_log_probs": lambda: bayes.next_token_log_probs(HMM, TOKENS),
    "prompt_log_probs": lambda: bayes.prompt_log_probs(HMM, PROMPTS.tokens, 3),
    "document_log_probs": lambda: prompt_readers.document_log_probs(HMM, PROMPTS.tokens, 0.01),
    "counted_log_probs": lambda: learners.counted_log_probs(HMM, TOKENS),
    "entropies": lambda: information.entropies(HMM, PROMPTS.tokens, 3, 0.5),
    "nearest_weights": lambda: beliefs.nearest_weights(jnp.asarray(PARTS[:, :, 0]), jnp.asarray(PARTS)),
    "magnitude": lambda: magnitude(WEIGHT),
    "magnitude 2:4": lambda: magnitude(WEIGHT, pattern=(2, 4)),
    "wanda": lambda: wanda(WEIGHT, HESSIAN),
    "ria": lambda: ria(WEIGHT, HESSIAN),
    "alps": lambda: alps(WEIGHT, HESSIAN),
    "sparsegpt": lambda: sparsegpt(WEIGHT, HESSIAN),
    "least_squares": lambda: least_squares(WEIGHT, HESSIAN, WEIGHT > 0),
    "quantize": lambda: quantize(WEIGHT, "msfp12"),
    "encode": lambda: encode(WEIGHT, "msfp12"),
    "matmul": lambda: matmul(WEIGHT, WEIGHT.T, "msfp12"),
    "rounds": lambda: along.rounds(STANDS, check_plan("constant", 4, 0.0, 20)),
}


@pytest.fixture(scope="module")
def compiled():
    """How many programs were compiled so far."""
    count = [0]

    def listen(event: str, *_: object, **__: object) -> None:
        count[0] += "backend_compile" in event

    jax.monitoring.register_event_duration_secs_listener(listen)
    return count


@pytest.mark.parametrize("name", CALLS)
def test_a_second_call_compiles_nothing(name, compiled):
    CALLS[name]()
    before = compiled[0]
    CALLS[name]()
    assert compiled[0] == before
