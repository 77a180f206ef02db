"""Further training of loaded models on sequences of one's own, in memory: `train` makes runs, this makes variants."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key
from tqdm import trange

from icl_synth import checkpoints, devices
from icl_synth.aspects import alter
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.config import TrainConfig
from icl_synth.prompt_layout import most_examples, prompt_length
from icl_synth.prompts import sample_prompts
from icl_synth.step import initial_state, make_optimizer, make_steps
from icl_synth.transformer import TransformerConfig

AT_ONCE = 20  # steps between signs of life


def tuned(
    models: dict[int, checkpoints.Model], config: TrainConfig, data: Callable[[Int[Array, ""]], Int[Array, "B L"]]
) -> dict[int, checkpoints.Model]:
    """Models of one shape by seed, each trained further for `config.steps` steps on sequences of its own.

    config: steps, batch and rates. data: a jittable function from a number to a batch; a model takes the numbers from
    seed * config.steps on, whatever other models there are. The models given stay as they are. Raises ValueError where
    models differ in shape.
    """
    if len({model.config for model in models.values()}) != 1:
        raise ValueError("models to be tuned together must have one configuration")
    on_cpu = jax.default_backend() == "cpu"
    first = next(iter(models.values()))
    if on_cpu and isinstance(first.config, TransformerConfig) and not config.micro_batch:
        config = dataclasses.replace(config, micro_batch=1)  # a transformer's activations then stay in cache
    mesh, optimizer = devices.mesh(), make_optimizer(config.optimizer, config.steps)
    graph = checkpoints.split(first)[0]
    advance = make_steps(config, graph, optimizer, data, mesh)
    made = {}
    for seed, model in models.items():
        state = initial_state(config, optimizer, mesh, checkpoints.split(model)[1])
        state = state._replace(step=state.step + seed * config.steps)  # of the data; rates count their own steps
        for done in trange(0, config.steps, AT_ONCE, desc="tuning", unit=f"{AT_ONCE} steps", leave=False):
            state, _ = advance(state, min(AT_ONCE, config.steps - done))
        made[seed] = checkpoints.merge(graph, {name: np.asarray(weight) for name, weight in state.weights.items()})
    return made


def tuning(config: TrainConfig, steps: int, slower: float = 0.1) -> TrainConfig:
    """The recipe of a run, with so many steps and with lower rates, which fall to zero."""
    rates = {rate: slower * getattr(config.optimizer, rate) for rate in ("learning_rate", "muon_learning_rate")}
    optimizer = dataclasses.replace(config.optimizer, **rates, schedule="linear", warmup_steps=steps // 10)
    return dataclasses.replace(config, steps=steps, optimizer=optimizer)


def common_length(context: int, example_lengths: tuple[int, ...]) -> int:
    """Tokens of the shortest of prompts of these examples that fill a context and its next token."""
    return min(prompt_length(most_examples(context + 1, k), k) for k in example_lengths)


def prompt_batch(
    hmm: ConceptHMM,
    key: Key[Array, ""],
    number: int,
    context: int,
    example_lengths: tuple[int, ...],
    random_labels: bool,
) -> Int[Array, "B L"]:
    """Prompts that fill a context, as many of each length of examples, cut to their common length.

    Labels are those that the world samples, or random ones. Raises ValueError for a number of prompts that does not
    divide among the lengths.
    """
    if number % len(example_lengths):
        raise ValueError(f"{number} prompts do not divide among {len(example_lengths)} lengths of examples")
    parts = []
    for k in example_lengths:
        prompt_key, label_key = jax.random.split(jax.random.fold_in(key, k))
        prompts = sample_prompts(hmm, prompt_key, number // len(example_lengths), most_examples(context + 1, k), k)
        parts.append(alter(hmm, prompts, k, "random labels", label_key) if random_labels else prompts.tokens)
    return jnp.concatenate([tokens[:, : common_length(context, example_lengths)] for tokens in parts])
