"""The training step: a pure function of its state, many to a compiled call, over a mesh of devices.

Documents are drawn on the device inside the step; gradients of micro-batches are summed in a scan, on each device
its own share of the batch, and averaged once. What differs between seeds and worlds are arguments and no constants of
the program, so that it is compiled once for all of them.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int, Key, PyTree

from icl_synth import checkpoints, devices
from icl_synth.config import OptimizerConfig, TrainConfig

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def in_32_bits(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Run a function without 64-bit types, which optax would otherwise take under jax_enable_x64."""

    @functools.wraps(function)
    def narrow(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        with jax.enable_x64(False):
            return function(*arguments, **named)

    return narrow


class TrainState(NamedTuple):
    """All that a step changes. `scale` multiplies every update (plateau schedule)."""

    weights: checkpoints.Weights
    optimizer: PyTree
    step: Int[Array, ""]
    scale: Float[Array, ""]


def learning_rate(config: OptimizerConfig, peak: float, steps: int) -> optax.Schedule:
    """Linear warm-up, then the configured decay to zero, or none under "plateau"."""
    rest = max(1, steps - config.warmup_steps)
    decay = {
        "linear": optax.linear_schedule(peak, 0.0, rest),
        "cosine": optax.cosine_decay_schedule(peak, rest),
        "plateau": optax.constant_schedule(peak),
    }[config.schedule]
    warmup = optax.linear_schedule(peak / (config.warmup_steps + 1), peak, config.warmup_steps)
    return optax.join_schedules([warmup, decay], [config.warmup_steps])


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """AdamW, or Muon (Jordan et al. 2024) for the matrices inside layers and AdamW for the rest; clipped."""
    adam_rate = learning_rate(config, config.learning_rate, steps)
    if config.name == "adamw":
        move = optax.adamw(adam_rate, config.beta1, config.beta2, weight_decay=config.weight_decay)
    else:
        move = optax.contrib.muon(
            learning_rate(config, config.muon_learning_rate, steps),
            adam_learning_rate=adam_rate,
            adam_b1=config.beta1,
            adam_b2=config.beta2,
            adam_weight_decay=config.weight_decay,
            muon_weight_dimension_numbers=_muon_matrices,
        )
    return optax.chain(optax.clip_by_global_norm(config.clip), move)


def _muon_matrices(weights: dict[str, Any]) -> dict[str, Any]:
    matrix = optax.contrib.MuonDimensionNumbers(reduction_axis=0, output_axis=1)
    inside = {name: name.startswith(("blocks", "layers")) and name.endswith("kernel") for name in weights}
    return {name: matrix if inside[name] else None for name in weights}


def split_batch(config: TrainConfig, mesh: Mesh) -> tuple[int, int]:
    """Sequences in a micro-batch, and micro-batches that a device takes a step. Raises ValueError where none fit."""
    shares = mesh.shape["data"]
    micro = config.micro_batch or config.batch // shares
    if not micro or config.batch % (shares * micro):
        raise ValueError(
            f"a batch of {config.batch} does not split over {shares} devices in micro-batches of {max(micro, 1)}: "
            f"make batch a multiple of {shares * max(micro, 1)}"
        )
    return micro, config.batch // (shares * micro)


def make_steps(
    config: TrainConfig,
    graph: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    data: Callable[[Int[Array, ""]], Int[Array, "B L"]],
    mesh: Mesh,
    masks: checkpoints.Masks | None = None,
) -> Callable[[TrainState, int], tuple[TrainState, Float[Array, ""]]]:
    """The compiled function (state, number of steps) -> (state, mean loss in nats per token). The state is donated.

    data: a jittable function from a step's number to its batch; the arrays of a pytree are arguments of the program.
    Weights that `masks` names stay zero where their mask is False.
    Raises ValueError for a batch that does not split over the devices.
    """
    micro, count = split_batch(config, mesh)

    def loss(weights: checkpoints.Weights, tokens: Int[Array, "b L"], key: Key[Array, ""]) -> Float[Array, ""]:
        logits = checkpoints.merge(graph, weights)(tokens[:, :-1], key=key if config.model.dropout else None)
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()

    # manual over the data axis so that gradients meet once a step, not once a micro-batch; the model axis is XLA's
    @functools.partial(
        jax.shard_map, mesh=mesh, in_specs=(P(), P("data"), P()), out_specs=P(), axis_names={"data"}, check_vma=False
    )
    def loss_and_gradient(weights, tokens, key):
        key = jax.random.fold_in(key, jax.lax.axis_index("data"))

        def add(total, numbered):
            index, part = numbered
            share = jax.value_and_grad(loss)(weights, part, jax.random.fold_in(key, index))
            return jax.tree.map(jnp.add, total, share), None

        zero = jax.tree.map(jnp.zeros_like, (jnp.zeros(()), weights))
        total, _ = jax.lax.scan(add, zero, (jnp.arange(count), tokens.reshape(count, micro, -1)))
        return jax.tree.map(lambda x: jax.lax.pmean(x / count, "data"), total)

    def step(given, carry: tuple[TrainState, Float[Array, ""]]) -> tuple[TrainState, Float[Array, ""]]:
        (data, dropout_key, masks), (state, total) = given, carry
        tokens = jax.lax.with_sharding_constraint(data(state.step), NamedSharding(mesh, P("data")))
        mean_loss, gradient = loss_and_gradient(state.weights, tokens, jax.random.fold_in(dropout_key, state.step))
        updates, moved = optimizer.update(gradient, state.optimizer, state.weights)
        weights = jax.tree.map(lambda w, u: w + state.scale * u, state.weights, updates)
        weights |= {name: jnp.where(mask, weights[name], 0.0) for name, mask in masks.items()}
        return TrainState(weights, moved, state.step + 1, state.scale), total + mean_loss

    @in_32_bits
    @functools.partial(jax.jit, donate_argnums=0)
    def steps(state: TrainState, number: int | Int[Array, ""], given) -> tuple[TrainState, Float[Array, ""]]:
        state, total = jax.lax.fori_loop(0, number, lambda _, carry: step(given, carry), (state, jnp.zeros(())))
        return state, total / number

    data = data if isinstance(data, Partial) else Partial(data)
    given = (data, jax.random.fold_in(jax.random.key(config.seed), 2), masks or {})
    return lambda state, number: steps(state, number, given)


@in_32_bits
def initial_state(
    config: TrainConfig,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    given: checkpoints.Weights | None = None,
) -> TrainState:
    """The weights, fresh where none are given, and the optimizer's state, laid over the mesh, large arrays split."""

    def make(given, key):
        weights = checkpoints.split(checkpoints.create(config.model, key))[1] | given
        return TrainState(weights, optimizer.init(weights), jnp.zeros((), jnp.int32), jnp.ones(()))

    key = jax.random.key(config.seed)
    given = given or {}
    shardings = jax.tree.map(lambda x: devices.weight_sharding(x, mesh), jax.eval_shape(make, given, key))
    return jax.jit(make, out_shardings=shardings)(given, key)
