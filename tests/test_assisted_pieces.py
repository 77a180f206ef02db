"""The pieces of a round, each against a loop over rows and tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from decoding import flaws
from decoding.acceptance import keep_equal, leading
from decoding.assisted import text_to_add, verify
from decoding.drafting import no_proposals, propose
from decoding.generate import generate
from decoding.readers import as_reader
from decoding.sampling import check_sampling
from decoding.schedules import SURE, check_plan, next_wanted, with_costs
from decoding.speedup import MOST, Costs, expected_tokens
from tests.test_generate import MODELS, random_model

RNG = np.random.default_rng(7)
GREEDY = check_sampling(0.0, None, None, None, 12)


def test_proposals_stand_up_to_the_first_that_does_not_or_is_not_wanted():
    stands, wanted = RNG.random((50, 4)) < 0.7, RNG.integers(0, 5, 50)
    kept = np.asarray(leading(jnp.asarray(stands), jnp.asarray(wanted)))
    for row in range(50):
        expected = 0
        while expected < wanted[row] and stands[row, expected]:
            expected += 1
        assert kept[row] == expected


def test_greedy_acceptance_compares_each_proposal_with_the_targets_choice_before_it():
    logits, proposals = RNG.normal(size=(50, 4, 3)), RNG.integers(0, 3, (50, 3))
    wanted = RNG.integers(0, 4, 50)
    kept, own = keep_equal(jnp.asarray(proposals), jnp.asarray(wanted), jnp.asarray(logits))
    best = logits.argmax(-1)
    for row in range(50):
        expected = 0
        while expected < wanted[row] and proposals[row, expected] == best[row, expected]:
            expected += 1
        assert kept[row] == expected and own[row] == best[row, expected]


def test_a_row_gains_what_was_kept_and_one_token_up_to_its_end_or_a_stop():
    proposals, own, kept = RNG.integers(0, 5, (200, 3)), RNG.integers(0, 5, 200), RNG.integers(0, 4, 200)
    missing, stop = RNG.integers(0, 6, 200), 2
    added, count, ended = map(np.asarray, text_to_add(*map(jnp.asarray, (proposals, kept, own, missing, stop))))
    for row in range(200):
        text = [*proposals[row, : kept[row]], own[row]][: missing[row]]
        stops = stop in text
        text = text[: text.index(stop) + 1] if stops else text
        assert added[row, : count[row]].tolist() == text and ended[row] == stops
    assert ended.any() and (kept[ended] + 1 > count[ended]).any()  # a stop token inside a draft


def test_the_heuristic_adds_two_or_takes_one():
    plan, counts = check_plan("heuristic", 5, 0.4, 24), jnp.zeros((5, MOST), int)
    before, wanted, kept = (jnp.array(numbers) for numbers in ([5, 5, 1, 20, 5], [5, 5, 1, 20, 2], [5, 4, 0, 20, 2]))
    assert next_wanted(plan, before, wanted, kept, counts, counts).tolist() == [7, 4, 1, MOST, 7]


@pytest.mark.parametrize("draft", [0.02, 0.3, 2.0])
def test_the_optimal_schedule_takes_the_fastest_number(draft):
    costs = Costs(draft, {1: 1.0, 2: 1.1, 3: 1.2, 5: 1.3, 9: 1.5, 21: 2.0}, 0.05)
    plan = with_costs(check_plan("optimal", 5, 0.4, 24), costs)
    before = jnp.array([3, 0])
    for hits, trials in ((0, 0), (0, SURE), (3, 5), (9, 30), (25, 30), (30, 30)):
        accepted, examined = (jnp.zeros((2, MOST), int).at[1, 0].set(number) for number in (hits, trials))
        alpha = (hits + 1) / (trials + 2)
        first = 0 if trials >= SURE else 1
        rates = [expected_tokens(alpha, gamma) / costs.round(gamma) for gamma in range(first, MOST + 1)]
        expected = first + int(np.argmax(rates))
        found = next_wanted(plan, before, before, before, accepted, examined)
        assert found.tolist() == [expected, 0]  # a row that gave up stays so


def test_plans():
    constant = check_plan("constant", 7, 0.4, 3)
    assert (constant.start, constant.most, constant.widths) == (7, 7, (8,))
    for schedule, start in (("heuristic", 5), ("optimal", 5), ("confidence", MOST)):
        plan = check_plan(schedule, 5, 0.4, 100)
        assert (plan.start, plan.most, plan.widths) == (start, MOST, (1, 2, 3, 5, 9, MOST + 1))
    assert check_plan("heuristic", 5, 0.4, 3).most == 3 and check_plan("heuristic", 30, 0.4, 100).most == 30


TARGET = as_reader(random_model(MODELS["modern"]))
TEXT, LENGTHS = jnp.asarray(RNG.integers(0, 12, (3, 7)), jnp.int32), jnp.array([7, 3, 5], jnp.int32)


@pytest.mark.parametrize("wanted", [[0, 0, 0], [1, 2, 0], [4, 0, 1]])
def test_the_target_reads_a_window_no_wider_than_needed(wanted):
    plan = check_plan("heuristic", 5, 0.4, 5)
    _, state = TARGET.prefill(TEXT, LENGTHS, TARGET.start(3, 12, plan.most + 1))
    window = jnp.asarray(RNG.integers(0, 12, (3, 6)), jnp.int32)
    logits, after = jax.jit(lambda wanted: verify(TARGET, window, state, wanted, plan))(jnp.array(wanted))
    whole, _ = TARGET.read(window, state)
    read = next(width for width in plan.widths if width > max(wanted))
    np.testing.assert_allclose(logits[:, :read], whole[:, :read], atol=1e-5)
    assert (np.asarray(logits)[:, read:] == 0).all() and (after.length == LENGTHS + read).all()


@pytest.mark.parametrize("schedule", ["constant", "confidence"])
def test_a_draft_proposes_its_own_greedy_text(schedule):
    """From a state without the last two tokens, as many as are wanted; the confidence schedule stops when unsure."""
    plan, wanted = check_plan(schedule, 4, 0.75, 4), jnp.array([3, 0, 2], jnp.int32)
    _, state = TARGET.prefill(TEXT, LENGTHS - 2, TARGET.start(3, 12, 5))
    pair = jnp.take_along_axis(TEXT, LENGTHS[:, None] + jnp.arange(-2, 0), axis=1)
    empty = no_proposals(TARGET, state, wanted, plan, GREEDY, flaws.none(3))
    made = propose(TARGET, empty, pair, LENGTHS, plan, GREEDY, jax.random.key(0))
    own = np.asarray(generate(TARGET, TEXT, 4, lengths=LENGTHS))
    read = jax.nn.softmax(TARGET.model(np.maximum(own, 0)))
    for row, length in enumerate(LENGTHS):
        expected, sure = int(wanted[row]), np.asarray(read)[row, length - 1 :].max(-1)
        if schedule == "confidence":
            expected = min([expected, *(place + 1 for place in range(expected) if sure[place] < 0.75)])
        assert made.wanted[row] == expected
        assert made.tokens[row, :expected].tolist() == own[row, length : length + expected].tolist()
    assert not made.flawed.any.any()
    assert (made.wanted.tolist() == [3, 0, 2]) == (schedule == "constant")
