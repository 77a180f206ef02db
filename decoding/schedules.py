"""How many tokens are drafted in a round: four schedules, and what each makes of the rounds so far."""

import dataclasses
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from decoding import speedup
from decoding.checks import real, whole

Schedule = Literal["constant", "heuristic", "confidence", "optimal"]
SURE = 20  # proposals examined before the optimal schedule may give up drafting


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Plan:
    """A schedule with its numbers. The first four decide what is compiled; the others are data."""

    schedule: Schedule = dataclasses.field(metadata={"static": True})
    start: int = dataclasses.field(metadata={"static": True})  # proposals of the first round
    most: int = dataclasses.field(metadata={"static": True})  # proposals of any round
    widths: tuple[int, ...] = dataclasses.field(metadata={"static": True})  # of the windows that verify
    confidence: Float[Array, ""]
    seconds: Float[Array, "W"]  # of a round by its proposals, 0 to most; zeros for schedules that do not ask


def check_plan(schedule: Any, num_draft: Any, confidence: Any, num_tokens: int) -> Plan:
    """The plan, its seconds still zeros. Raises ValueError for an unknown schedule and numbers out of range."""
    if schedule not in get_args(Schedule):
        raise ValueError(f"unknown schedule {schedule!r}: choose one of {', '.join(get_args(Schedule))}")
    num_draft = whole("num_draft", num_draft, 1)
    confidence = real("confidence", confidence, "between 0 and 1", 0.0, 1.0)
    widths: tuple[int, ...]
    if schedule == "constant":
        start, most, widths = num_draft, num_draft, (num_draft + 1,)
    else:
        most = min(max(num_draft, speedup.MOST), num_tokens)
        start = most if schedule == "confidence" else min(num_draft, most)
        widths = speedup.windows(most)
    return Plan(schedule, start, most, widths, jnp.float32(confidence), jnp.zeros(most + 1, jnp.float32))


def with_costs(plan: Plan, costs: speedup.Costs) -> Plan:
    """The plan with the seconds of its rounds. Raises ValueError for costs that lack a window."""
    if not isinstance(costs, speedup.Costs):
        raise ValueError(f"costs must be decoding.speedup.Costs or None, got {costs!r}")
    seconds = [costs.round(gamma) for gamma in range(plan.most + 1)]
    return dataclasses.replace(plan, seconds=jnp.asarray(seconds, jnp.float32))


def next_wanted(
    plan: Plan,
    before: Int[Array, "B"],
    wanted: Int[Array, "B"],
    kept: Int[Array, "B"],
    accepted: Int[Array, "B G"],
    examined: Int[Array, "B G"],
) -> Int[Array, "B"]:
    """How many tokens each row is to draft next.

    before: how many it was to draft in this round. wanted: how many it did, fewer at the end of a row. kept: how many
    stood. accepted, examined: counts of all rounds so far by place, as in `Assisted`; only "optimal" reads them.
    """
    if plan.schedule == "heuristic":
        after = jnp.where(kept == wanted, before + 2, before - 1)
        return jnp.clip(after, 1, plan.most)
    if plan.schedule == "optimal":
        return jnp.where(before > 0, most_promising(plan, accepted, examined), 0)  # who gave up learns nothing more
    return before


def most_promising(plan: Plan, accepted: Int[Array, "B G"], examined: Int[Array, "B G"]) -> Int[Array, ""]:
    """The gamma with the most expected tokens per second, E(alpha, gamma) over the seconds of a round.

    alpha is the posterior mean of the share accepted, under a uniform prior. Drafting nothing is no choice before
    SURE proposals were examined.
    """
    hits, trials = (counts.sum(dtype=jnp.int32) for counts in (accepted, examined))
    alpha = (hits + 1).astype(jnp.float32) / (trials + 2).astype(jnp.float32)
    rate = jnp.cumsum(alpha ** jnp.arange(plan.most + 1, dtype=jnp.int32)) / plan.seconds
    rate = rate.at[0].set(jnp.where(trials < SURE, 0.0, rate[0]))
    return rate.argmax().astype(jnp.int32)
