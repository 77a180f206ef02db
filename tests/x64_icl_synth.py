"""What icl_synth computes on tiny inputs, as JSON: the same with and without JAX_ENABLE_X64=1 (see test_x64.py)."""

import json
import tempfile

import jax
import jax.numpy as jnp
import numpy as np

from icl_synth import aspects, bayes, checkpoints, dyck, evaluate, probe, training_data
from icl_synth.concept_hmm import ConceptHMM, WorldConfig, official_ginc, sample_concept_hmm
from icl_synth.config import DataConfig
from icl_synth.documents import sample_documents, stream_documents
from icl_synth.lstm import LSTMConfig
from icl_synth.prompts import sample_official_unseen_prompts, sample_prompts
from icl_synth.transformer import TransformerConfig

KEY, LENGTH = jax.random.key(0), 3
hmm, held_out = official_ginc()
world = sample_concept_hmm(KEY, WorldConfig(2, 3, 3, 6, num_permutations=2, entity_matrices="own"))
# arrays made by hand are float64 and int64 here under x64
mine = ConceptHMM(
    jnp.arange(4).reshape(2, 2),
    jnp.array([[[0.9, 0.1], [0.3, 0.7]]]),
    jnp.array([[0.8, 0.2], [0.4, 0.6]]),
    jnp.full((1, 2, 2), 0.25),
)
tokens, concepts = sample_documents(hmm, KEY, 5, 12)
streamed, _ = next(iter(stream_documents(mine, KEY, 4, 12)))
brackets = dyck.sample_brackets(KEY, 4, 12, 3)
prompts = sample_prompts(hmm, KEY, 4, 2, LENGTH)
unseen = sample_official_unseen_prompts(held_out, KEY, 4, 2, LENGTH)
config = TransformerConfig(50, 16, 1, 8, 1)
models = {"transformer": checkpoints.create(config, 0), "lstm": checkpoints.create(LSTMConfig(50, 16, 1, 8), 0)}
with tempfile.TemporaryDirectory() as folder:
    models["loaded"] = checkpoints.load(checkpoints.export(models["lstm"], folder))
features = np.random.default_rng(0).normal(size=(40, 3))  # float64 on purpose
fitted = probe.fit(features, np.asarray(jax.nn.softmax(jnp.asarray(features[:, :2], jnp.float32))), 0.1)

found = {
    "memory": world.memory,
    "property transitions": world.property_transitions,
    "entity transitions": world.entity_transitions,
    "start": world.start,
    "documents": tokens,
    "concepts": concepts,
    "streamed documents": streamed,
    "documents out of order": training_data.sampler(DataConfig(shuffled=True))(KEY, 4, 12),
    "brackets": brackets,
    "likelihoods of brackets": dyck.token_log_likelihoods(brackets, 3),
    "prompts": prompts.tokens,
    "labels": prompts.labels,
    "unseen prompts": unseen.tokens,
    "unseen labels": unseen.labels,
    "likelihoods": bayes.token_log_likelihoods(hmm, tokens),
    "smoothed likelihoods": bayes.token_log_likelihoods(mine, jnp.asarray(streamed), 0.1),
    "next tokens": jnp.exp(bayes.next_token_log_probs(hmm, tokens)[:1, :4]),
    "posterior": bayes.concept_posterior(world, tokens[:, :4] % 6, jnp.asarray(0.1)),
    "prompt reader": jnp.exp(bayes.prompt_log_probs(hmm, prompts.tokens, LENGTH)),
    "robust reader": jnp.exp(aspects.robust_log_probs(hmm, prompts.tokens, LENGTH, jnp.asarray(0.01))),
    **{f"{kind} losses": evaluate.token_losses(*checkpoints.split(model), tokens) for kind, model in models.items()},
    "answers": evaluate.answers(models["lstm"], prompts),
    "divergence": evaluate.compare_with_bayes(models["lstm"], hmm, tokens).kl,
    "probe": fitted.log_probs(features),
    **{aspect: aspects.alter(hmm, prompts, LENGTH, aspect, KEY) for aspect in aspects.ASPECTS},
}
print(json.dumps({name: np.asarray(values).ravel().tolist() for name, values in found.items()}))
