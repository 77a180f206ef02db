"""Slow, obvious versions: every path of hidden states is enumerated, in float64 NumPy, with no recursion."""

import itertools

import jax.numpy as jnp
import numpy as np
import scipy.stats

from icl_synth.concept_hmm import ConceptHMM


def tiny_world(own_entities: bool = False) -> ConceptHMM:
    """2 concepts, 2 entities, 3 properties, 4 tokens, one of them ambiguous; some transitions are exactly zero."""
    property_transitions = [
        [[0.0, 0.7, 0.3], [0.5, 0.0, 0.5], [0.2, 0.8, 0.0]],
        [[0.1, 0.0, 0.9], [1.0, 0.0, 0.0], [0.3, 0.3, 0.4]],
    ]
    entity_transitions = [[[0.9, 0.1], [0.0, 1.0]], [[0.4, 0.6], [0.5, 0.5]]]
    start = np.arange(1.0, 13.0).reshape(2, 2, 3)
    return ConceptHMM(
        memory=jnp.array([[0, 1, 2], [0, 3, 1]], jnp.int32),
        property_transitions=jnp.array(property_transitions),
        entity_transitions=jnp.array(entity_transitions if own_entities else entity_transitions[0]),
        start=jnp.asarray(start / start.sum((1, 2), keepdims=True), jnp.float32),
    )


def full_transition(hmm: ConceptHMM, concept: int, smoothing: float = 0.0) -> np.ndarray:
    """The [E*P, E*P] matrix that the factorised code never forms."""
    entity = np.asarray(hmm.entity_transitions, float)
    entity = entity if entity.ndim == 2 else entity[concept]
    transition = np.kron(entity, np.asarray(hmm.property_transitions[concept], float))
    return (1 - smoothing) * transition + smoothing / len(transition)


def probability(
    hmm: ConceptHMM, tokens, concept: int, start: np.ndarray | None = None, smoothing: float = 0.0
) -> float:
    """p(tokens | concept): the sum over every path of states that emits them."""
    emitted = np.asarray(hmm.memory).ravel()
    transition = full_transition(hmm, concept, smoothing)
    start = np.asarray(hmm.start[concept], float).ravel() if start is None else start
    total = 0.0
    for path in itertools.product(range(len(emitted)), repeat=len(tokens)):
        if all(emitted[state] == token for state, token in zip(path, tokens, strict=True)):
            moves = itertools.pairwise(path)
            total += start[path[0]] * np.prod([transition[a, b] for a, b in moves]) if path else 1.0
    return total


def concept_posterior(hmm: ConceptHMM, tokens, smoothing: float = 0.0) -> np.ndarray:
    """p(concept | tokens)."""
    likelihoods = np.array([probability(hmm, tokens, c, smoothing=smoothing) for c in range(hmm.num_concepts)])
    return likelihoods / likelihoods.sum()


def next_token_probs(hmm: ConceptHMM, tokens, smoothing: float = 0.0) -> np.ndarray:
    """p(v | tokens) for every token v, as a ratio of two sequence probabilities."""
    joint = [
        sum(probability(hmm, [*tokens, v], c, smoothing=smoothing) for c in range(hmm.num_concepts))
        for v in range(hmm.vocab_size)
    ]
    return np.array(joint) / sum(joint)


def start_at_property(hmm: ConceptHMM, property_: int) -> np.ndarray:
    """Uniform over entities at one property."""
    start = np.zeros((hmm.num_entities, hmm.num_properties))
    start[:, property_] = 1 / hmm.num_entities
    return start.ravel()


def label_probs(hmm: ConceptHMM, x_test, concept: int, start: np.ndarray, smoothing: float = 0.0) -> np.ndarray:
    """p(y, x_test | concept) for every token y."""
    return np.array([probability(hmm, [*x_test, y], concept, start, smoothing) for y in range(hmm.vocab_size)])


def prompt_label_probs(hmm: ConceptHMM, prompt, example_length: int, smoothing: float = 0.0) -> np.ndarray:
    """p(y | prompt) for a reader who knows how prompts are made: sum over the concept and the start property."""
    pieces = [prompt[i : i + example_length] for i in range(0, len(prompt), example_length + 1)]
    joint = np.zeros(hmm.vocab_size)
    for concept in range(hmm.num_concepts):
        for property_ in range(1, hmm.num_properties):
            start = start_at_property(hmm, property_)
            context = np.prod([probability(hmm, piece, concept, start, smoothing) for piece in pieces[:-1]])
            joint += context * label_probs(hmm, pieces[-1], concept, start, smoothing)
    return joint / joint.sum()


def greedy(read, context, text, count):
    """The likeliest token, `count` times, by reading the whole text, filled up to the context, for each."""
    for _ in range(count):
        room = np.zeros((1, context), np.int32)
        room[0, : len(text)] = text
        text = np.append(text, int(np.asarray(read(room))[0, len(text) - 1].argmax()))
    return text


def continuations(model, text, count, distribution):
    """Probabilities of all continuations of `count` tokens, the first token the slowest to change."""
    if not count:
        return np.ones(1)
    probs = np.asarray(distribution(model(np.asarray(text)[None])[0, -1]), np.float64)
    rest = [continuations(model, np.append(text, token), count - 1, distribution) for token in range(len(probs))]
    return np.concatenate([p * r for p, r in zip(probs, rest, strict=True)])


def chi_square(counts, probs):
    """p-value of counts under probabilities; cells that expect fewer than five are put together."""
    expected = counts.sum() * probs
    rare = expected < 5
    observed = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    if expected[-1] == 0:
        if observed[-1]:
            return 0.0  # the impossible happened
        observed, expected = observed[:-1], expected[:-1]
    return scipy.stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue
