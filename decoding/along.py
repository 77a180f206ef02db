"""Acceptance along a given text: which of its tokens a draft would have had accepted, and the rounds that follow.

A text that the target wrote tells what assistance would have done on it, whatever the schedule. In Leviathan et al.
2023, Algorithm 1, a token x that is tried is committed as a proposal with probability min(p(x), q(x)) and committed at
all with probability p(x). So given the text, a token that is tried was a proposal with probability min(1, q(x) / p(x)),
independently of all others. One draw of these answers for every token gives the rounds of every schedule on the same
text.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from decoding.schedules import Plan, next_wanted
from decoding.speedup import expected_tokens


def acceptance(
    p: Float[np.ndarray, "*B V"], q: Float[np.ndarray, "*B V"], temperature: float = 1.0
) -> Float[np.ndarray, "*B"]:
    """Probability that a draft's token stands, exactly: the sum of min(p, q); at temperature 0 whether both agree.

    p, q: log-probabilities of the target and of the draft at temperature 1.
    """
    if temperature == 0:
        return (p.argmax(-1) == q.argmax(-1)).astype(float)
    return np.minimum(softmax(p / temperature), softmax(q / temperature)).sum(-1)


def proposed(
    p: Float[np.ndarray, "*B V"],
    q: Float[np.ndarray, "*B V"],
    tokens: Int[np.ndarray, "*B"],
    temperature: float = 1.0,
) -> Float[np.ndarray, "*B"]:
    """Probability that the target's token came from the draft, if it was tried: min(1, q / p) of the token.

    Its mean over texts of the target is that of `acceptance`. At temperature 0 it is 1 where the draft's likeliest
    token is the target's, else 0.
    """
    if temperature == 0:
        return (q.argmax(-1) == tokens).astype(float)
    of_target, of_draft = (
        np.take_along_axis(softmax(logs / temperature), tokens[..., None], -1)[..., 0] for logs in (p, q)
    )
    return np.minimum(1.0, of_draft / np.maximum(of_target, np.finfo(float).tiny))


def softmax(x: Float[np.ndarray, "*B V"]) -> Float[np.ndarray, "*B V"]:
    shifted = np.exp(x - x.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


class Rounds(NamedTuple):
    """The rounds of each text, in order; places past its last round hold -1.

    The last round of a text drafts no more than there is to add, as in `assisted_generate`.
    """

    wanted: Int[np.ndarray, "B N"]  # tokens drafted
    kept: Int[np.ndarray, "B N"]  # of which stood

    @property
    def number(self) -> Int[np.ndarray, " B"]:
        return (self.wanted >= 0).sum(1)

    def cost(self, draft: float) -> Float[np.ndarray, " B"]:
        """Of each text in plain tokens' time, verifying free. draft: that of a draft's token, c."""
        return self.number + draft * np.maximum(self.wanted, 0).sum(1)


def rounds(stands: Bool[np.ndarray, "B N"], plan: Plan | None) -> Rounds:
    """What a schedule makes of texts whose N tokens, those after the first new one, stand or do not.

    Without a plan an oracle chooses: it drafts what will stand and no more. Raises ValueError for the confidence
    schedule: how much that drafts after a refused token is not in the text.
    """
    if plan is not None and plan.schedule == "confidence":
        raise ValueError("the confidence schedule depends on proposals that are not in the text")
    start = 0 if plan is None else plan.start
    if plan is not None and plan.schedule == "constant":  # then gamma is data: one program serves all
        plan = dataclasses.replace(plan, start=0, most=stands.shape[1], widths=(), seconds=jnp.zeros(0))
    return Rounds(*(np.asarray(counts) for counts in _rounds(jnp.asarray(stands), plan, jnp.int32(start))))


@jax.jit
def _rounds(
    stands: Bool[Array, "B N"], plan: Plan | None, start: Int[Array, ""]
) -> tuple[Int[Array, "B N"], Int[Array, "B N"]]:
    return jax.vmap(lambda text: _rounds_of_one(text, plan, start))(stands)


def _rounds_of_one(
    stands: Bool[Array, "N"], plan: Plan | None, first: Int[Array, ""]
) -> tuple[Int[Array, "N"], Int[Array, "N"]]:
    total = len(stands)
    most = total if plan is None else plan.most
    _, lengths = jax.lax.scan(lambda run, one: ((run + 1) * one,) * 2, jnp.int32(0), stands, reverse=True)
    places, none = jnp.arange(most), jnp.full(total, -1, jnp.int32)
    counts = jnp.zeros((1, most), jnp.int32)

    def one_round(loop: tuple) -> tuple:
        start, turn, before, wanted, kept, accepted, examined = loop
        drafts = jnp.minimum(lengths[start] if plan is None else before[0], total - start - 1)
        stood = jnp.minimum(lengths[start], drafts)
        accepted, examined = accepted + (places < stood), examined + (places < jnp.minimum(stood + 1, drafts))
        if plan is not None:
            before = next_wanted(plan, before, drafts[None], stood[None], accepted, examined)
            before = jnp.broadcast_to(before, (1,)).astype(jnp.int32)
        return (start + stood + 1, turn + 1, before, wanted.at[turn].set(drafts), kept.at[turn].set(stood),
                accepted, examined)  # fmt: skip

    loop = (jnp.int32(0), jnp.int32(0), first[None], none, none, counts, counts)
    loop = jax.lax.while_loop(lambda loop: loop[0] < total, one_round, loop)
    return loop[3], loop[4]


def jackknife(
    statistic: Callable[[Float[np.ndarray, "*S K"]], Float[np.ndarray, "*S"]], sums: Float[np.ndarray, "B K"]
) -> Float[np.ndarray, " B"]:
    """A value for each of B texts whose mean is a statistic of the texts' summed counts and whose spread its interval.

    The values are Tukey's pseudo-values, B of all - (B - 1) of all but one. `statistic` maps K sums to a number.
    """
    together, number = sums.sum(0), len(sums)
    return number * statistic(together[None]) - (number - 1) * statistic(together - sums)


def autocorrelation(values: Float[np.ndarray, "B L"], lag: int) -> Float[np.ndarray, " B"]:
    """Correlation of whether a token stands with whether the one `lag` later does: pseudo-values, one for each text.

    values: probabilities that tokens stand, as from `proposed`. Given these, tokens stand independently. So the
    covariance is that of the probabilities, and the variance that of a coin of their mean.
    """
    before, after = values[:, :-lag], values[:, lag:]
    sums = np.stack([(before * after).mean(1), before.mean(1), after.mean(1), values.mean(1), np.ones(len(values))], 1)

    def correlation(sums: np.ndarray) -> np.ndarray:
        product, first, second, mean, number = np.moveaxis(sums, -1, 0)
        share = mean / number
        spread = share * (1 - share)
        covariance = product / number - first * second / number**2
        return np.divide(covariance, spread, out=np.zeros_like(spread), where=spread > 0)

    return jackknife(correlation, sums)


def over_dispersion(counted: Rounds, gamma: int) -> Float[np.ndarray, " B"]:
    """Variance of the accepted proposals of a round over that of the geometric law: pseudo-values, one for each text.

    Only rounds of `gamma` proposals count. The law is that of independent proposals that stand with the share alpha of
    the examined ones that did: alpha^k (1 - alpha) for k < gamma, and alpha^gamma. 1 where it holds, and where nothing
    can vary.
    """
    used = counted.wanted == gamma
    kept = np.where(used, counted.kept, 0).astype(float)
    sums = np.stack([used.sum(1), kept.sum(1), (kept**2).sum(1), (used & (counted.kept < gamma)).sum(1)], 1)

    def ratio(sums: np.ndarray) -> np.ndarray:
        number, first, second, refused = np.moveaxis(sums, -1, 0)
        number = np.maximum(number, 1)
        observed = second / number - (first / number) ** 2
        expected = geometric_variance(first / np.maximum(first + refused, 1), gamma)
        return np.divide(observed, expected, out=np.ones_like(expected), where=expected > 1e-12)

    return jackknife(ratio, sums.astype(float))


def formula_over_count(alpha: Float[np.ndarray, " B"], counted: Rounds, gamma: int) -> Float[np.ndarray, " B"]:
    """Tokens of a round that Leviathan et al.'s equation 1 expects, over those counted; 1 where the formula holds.

    Pseudo-values, one for each text. alpha: mean acceptance of each text. Only rounds of `gamma` proposals count.
    """
    used = counted.wanted == gamma
    kept = np.where(used, counted.kept, 0)
    sums = np.stack([used.sum(1), kept.sum(1), alpha, np.ones(len(alpha))], 1).astype(float)

    def ratio(sums: np.ndarray) -> np.ndarray:
        number, accepted, shares, texts = np.moveaxis(sums, -1, 0)
        number = np.maximum(number, 1)
        return expected_tokens(np.clip(shares / texts, 0, 1), gamma) / (accepted / number + 1)

    return jackknife(ratio, sums)


def geometric_variance(alpha: Float[np.ndarray, "*S"], gamma: int) -> Float[np.ndarray, "*S"]:
    """Of the number of proposals accepted in a round of gamma that stand independently with probability alpha."""
    count = np.arange(gamma + 1)
    chance = alpha[..., None] ** count * np.where(count < gamma, 1 - alpha[..., None], 1.0)
    return (chance * count**2).sum(-1) - (chance * count).sum(-1) ** 2
