"""Readers can draft and verify: they read tokens after a state, give logits, and go back.

Every state has a `length`, the number of tokens read in each row, and entries past it are never looked at. So going
back is `at(state, length)` and nothing else. A transformer's cache is such a state already. A recurrent reader keeps
its states after the last few tokens in a ring.
"""

import dataclasses
from numbers import Real
from typing import Any, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PyTree

from decoding.checks import whole
from icl_synth import bayes, checkpoints, checks
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.lstm import LSTM, LSTMConfig, LSTMState
from icl_synth.transformer import Cache, Transformer, TransformerConfig

State = TypeVar("State")
UNLIMITED = 1 << 30


@runtime_checkable
class Reader(Protocol):
    """Reads tokens from a different position in each row. Readers are pytrees, so that jit takes them as arguments.

    vocab_size: V, tokens that logits cover. context: the longest text in tokens.
    start: the state before any token, with room for `room` tokens a row, of which the last `window` may be taken back.
    prefill: from the state of `start`, logits after the first lengths[b] tokens of each row, and the state there. A row
    of length 0 has arbitrary logits.
    read: logits after each of T <= window further tokens of every row, and the state after them.
    """

    @property
    def vocab_size(self) -> int: ...

    @property
    def context(self) -> int: ...

    def start(self, batch: int, room: int, window: int) -> Any: ...

    def prefill(
        self, tokens: Int[Array, "B L"], lengths: Int[Array, "B"], state: Any
    ) -> tuple[Float[Array, "B V"], Any]: ...

    def read(self, tokens: Int[Array, "B T"], state: Any) -> tuple[Float[Array, "B T V"], Any]: ...


def at(state: State, length: Int[Array, "B"]) -> State:
    """The state taken back to `length` tokens in each row."""
    return dataclasses.replace(state, length=length)  # type: ignore[type-var]


def as_reader(model: "checkpoints.Model | ConceptHMM | Reader") -> Reader:
    """The reader of a transformer or an LSTM (pruned, or in a number format), or of a world by its exact Bayes filter.

    A reader is returned unchanged. To generate many times, make the reader once: taking a model apart costs about a
    millisecond. Raises TypeError for anything else.
    """
    if isinstance(model, Transformer):
        return TransformerReader(model.config, *checkpoints.split(model))
    if isinstance(model, LSTM):
        return LSTMReader(model.config, *checkpoints.split(model))
    if isinstance(model, ConceptHMM):
        return BayesReader(model)
    if isinstance(model, Reader):
        return model
    raise TypeError(f"{type(model).__name__} cannot read tokens: give a Transformer, an LSTM, a ConceptHMM or a Reader")


@dataclasses.dataclass(frozen=True)
class ModelReader:
    """A model taken apart into what is compiled and its weights. A subclass reads with it."""

    config: TransformerConfig | LSTMConfig = dataclasses.field(metadata={"static": True})
    graph: nnx.GraphDef = dataclasses.field(metadata={"static": True})
    weights: checkpoints.Weights

    @property
    def vocab_size(self) -> int:
        return self.config.vocab_size

    @property
    def model(self) -> Any:
        return checkpoints.merge(self.graph, self.weights)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TransformerReader(ModelReader):
    """A transformer behind its key/value cache."""

    @property
    def context(self) -> int:
        return self.config.context

    def start(self, batch: int, room: int, window: int) -> Cache:
        return self.model.init_state(batch, room, spare=window)

    def prefill(self, tokens, lengths, state):
        logits, state = self.read(tokens, state)
        last = jnp.maximum(lengths - 1, 0)[:, None, None]
        return jnp.take_along_axis(logits, last, axis=1)[:, 0], at(state, lengths)

    def read(self, tokens, state):
        return self.model.extend(tokens, state)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Ring:
    """A recurrent reader's last R states, leaves [B R ...]: the state after t tokens lies at t modulo R."""

    states: PyTree[Array]
    length: Int[Array, "B"]

    @property
    def size(self) -> int:
        return jax.tree.leaves(self.states)[0].shape[1]


class Recurrent:
    """A reader that carries a state from token to token. A subclass defines the first state and the step."""

    context = UNLIMITED

    def begin(self, batch: int) -> PyTree[Array]:
        """The state before any token, batch axis first."""
        raise NotImplementedError

    def step(self, token: Int[Array, "B"], state: PyTree[Array]) -> tuple[Float[Array, "B V"], PyTree[Array]]:
        """Logits after one more token, and the state after it."""
        raise NotImplementedError

    def start(self, batch: int, room: int, window: int) -> Ring:
        slots = jax.tree.map(lambda x: jnp.repeat(x[:, None], window + 1, axis=1), self.begin(batch))
        return Ring(slots, jnp.zeros(batch, jnp.int32))

    def prefill(self, tokens, lengths, state):
        batch = len(tokens)
        empty = self.begin(batch)
        logits = jax.eval_shape(self.step, tokens[:, 0], empty)[0]

        def step(index, carry):
            return _where(index < lengths, self.step(tokens[:, index], carry[1]), carry)

        first = jnp.zeros(logits.shape, logits.dtype), empty
        logits, last = jax.lax.fori_loop(0, lengths.max(), step, first)  # padding past the longest row costs nothing
        slot = lengths % state.size
        states = jax.tree.map(lambda ring, x: ring.at[jnp.arange(batch), slot].set(x), state.states, last)
        return logits, Ring(states, lengths)

    def read(self, tokens, state):
        rows, count = jnp.arange(len(tokens)), tokens.shape[1]

        def step(carry, token):
            logits, carry = self.step(token, carry)
            return carry, (logits, carry)

        now = jax.tree.map(lambda ring: ring[rows, state.length % state.size], state.states)
        _, (logits, after) = jax.lax.scan(step, now, tokens.T)
        slots = (state.length[:, None] + 1 + jnp.arange(count)) % state.size
        states = jax.tree.map(lambda ring, x: ring.at[rows[:, None], slots].set(x.swapaxes(0, 1)), state.states, after)
        return logits.swapaxes(0, 1), Ring(states, state.length + count)


def _where(condition: Array, yes: PyTree[Array], no: PyTree[Array]) -> PyTree[Array]:
    """One of two states, chosen in each row."""
    return jax.tree.map(lambda a, b: jnp.where(condition.reshape(-1, *[1] * (a.ndim - 1)), a, b), yes, no)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LSTMReader(ModelReader, Recurrent):
    """An LSTM. It reads a window token by token, so verifying five tokens costs five steps."""

    def begin(self, batch):
        state = self.model.init_state(batch)
        return state.hidden.swapaxes(0, 1), state.cell.swapaxes(0, 1)

    def step(self, token, state):
        hidden, cell = (x.swapaxes(0, 1) for x in state)
        logits, after = self.model.extend(token[:, None], LSTMState(hidden, cell, jnp.zeros(len(token), jnp.int32)))
        return logits[:, 0], (after.hidden.swapaxes(0, 1), after.cell.swapaxes(0, 1))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BayesReader(Recurrent):
    """The exact predictor of a world's documents. After an impossible token all tokens are equally likely.

    smoothing: as in `icl_synth.bayes`; above 0 no token is impossible. unused: tokens that the partner's vocabulary has
    beyond the world's, to which this reader gives probability 0. Raises ValueError for a smoothing outside 0 to 1 and
    for unused < 0.
    """

    hmm: ConceptHMM
    smoothing: bayes.Smoothing = 0.0
    unused: int = dataclasses.field(default=0, metadata={"static": True})

    def __post_init__(self):
        whole("unused", self.unused, 0)
        if isinstance(self.smoothing, Real | jax.Array):  # jax fills pytrees with other things too
            checks.within(0, 1, smoothing=self.smoothing)

    @property
    def vocab_size(self) -> int:
        return self.hmm.vocab_size + self.unused

    def begin(self, batch):
        return bayes.prior(self.hmm, batch)

    def step(self, token, state):
        belief = bayes.advance(self.hmm, bayes.observe(self.hmm, state, token)[0], self.smoothing)
        logits = jnp.where(belief.possible[:, None], bayes.predict(self.hmm, belief), 0.0)
        return jnp.pad(logits, ((0, 0), (0, self.unused)), constant_values=-jnp.inf), belief
