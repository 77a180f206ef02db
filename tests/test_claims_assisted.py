"""Assisted generation: acceptance along given texts against runs, timings by turn, verdicts that follow the rows."""

import itertools
import math

import jax
import numpy as np
import pandas as pd
import pytest

from decoding import along, turns
from decoding.along import Rounds, rounds
from decoding.assisted import assisted_generate
from decoding.drafts import fit_ngram
from decoding.schedules import check_plan, with_costs
from decoding.speedup import Costs
from figures.assisted import acceptance, batch, drafts, speed, temperature, text
from figures.assisted.common import paper_miss, paper_misses
from figures.lab.timings import faster
from icl_synth.estimates import Estimate, ratio_of_means

VOCABULARY, ADDED = 5, 12
COUNTED = np.random.default_rng(0).integers(0, VOCABULARY, (40, 20))
TARGET, DRAFT = (fit_ngram(COUNTED, VOCABULARY, order) for order in (3, 2))
STANDS = np.array([[1, 1, 0, 1, 1, 1, 1, 0]], bool)


def plan(schedule: str, num_draft: int, tokens: int):
    made = check_plan(schedule, num_draft, 0.0, tokens)
    return with_costs(made, Costs(0.3, {made.most + 1: 1.0})) if schedule == "optimal" else made


def in_order(counts: np.ndarray) -> list[int]:
    return [int(count) for count in counts[0] if count >= 0]


def test_the_rounds_of_a_text_by_hand():
    two = rounds(STANDS, plan("constant", 2, 8))
    assert in_order(two.wanted) == [2, 2, 1] and in_order(two.kept) == [2, 2, 1]  # the last adds one token and its own
    falling = rounds(STANDS, plan("heuristic", 5, 8))
    assert in_order(falling.wanted) == [5, 4] and in_order(falling.kept) == [2, 4]
    knowing = rounds(STANDS, None)
    assert in_order(knowing.wanted) == in_order(knowing.kept) == [2, 4]
    assert two.cost(0.1)[0] == pytest.approx(3.5) and knowing.cost(0.1)[0] == pytest.approx(2.6)
    with pytest.raises(ValueError, match="confidence"):
        rounds(STANDS, plan("confidence", 2, 8))


def on_texts(run: jax.Array, prompt: np.ndarray, heat: float) -> np.ndarray:
    """Probability that each token after the first new one was the draft's."""
    start, texts = prompt.shape[1] + 1, np.asarray(run)
    p, q = (
        np.asarray(jax.nn.log_softmax(reader.read(texts, reader.start(len(texts), texts.shape[1], texts.shape[1]))[0]))
        for reader in (TARGET, DRAFT)
    )
    return along.proposed(p[:, start - 1 : -1], q[:, start - 1 : -1], texts[:, start:], heat)


@pytest.mark.parametrize("schedule", ["constant", "heuristic", "optimal"])
def test_greedy_runs_have_the_rounds_that_their_texts_tell(schedule):
    rows = 1 if schedule == "optimal" else 6  # which learns from all rows of a batch
    prompt = COUNTED[:rows, :4]
    costs = Costs(0.3, dict.fromkeys(range(1, ADDED + 2), 1.0)) if schedule == "optimal" else None
    run = assisted_generate(TARGET, DRAFT, prompt, ADDED, num_draft=3, schedule=schedule, costs=costs)
    stands = on_texts(run.tokens, prompt, 0.0) > 0.5
    told = rounds(stands, plan(schedule, 3, ADDED))
    assert told.number.tolist() == np.asarray(run.rounds).tolist()
    assert np.maximum(told.kept, 0).sum(1).tolist() == np.asarray(run.drafted).sum(1).tolist()


def test_sampled_runs_have_as_many_rounds_as_draws_on_their_texts():
    prompt = np.repeat(COUNTED[:1, :4], 3000, 0)
    run = assisted_generate(TARGET, DRAFT, prompt, ADDED, num_draft=3, temperature=1.0, key=jax.random.key(0))
    chances = on_texts(run.tokens, prompt, 1.0)
    told = rounds(np.random.default_rng(1).random(chances.shape) < chances, plan("constant", 3, ADDED)).number
    difference = told - np.asarray(run.rounds)
    assert abs(difference.mean()) < 4 * difference.std() / len(difference) ** 0.5


def test_the_chance_of_a_proposal_averages_to_the_acceptance():
    p, q = np.log([[0.5, 0.3, 0.2]]), np.log([[0.2, 0.2, 0.6]])
    for heat in (0.5, 1.0, 2.0):
        of_target = along.softmax(p / heat)[0]
        chances = [along.proposed(p, q, np.array([token]), heat)[0] for token in range(3)]
        assert of_target @ chances == pytest.approx(along.acceptance(p, q, heat)[0])
    assert along.acceptance(p, q)[0] == pytest.approx(0.6) and along.acceptance(p, q, 0.0)[0] == 0


def test_independent_acceptance_has_no_correlation_and_geometric_counts():
    random = np.random.default_rng(2)
    independent, runs = random.random((400, 60)) < 0.7, np.repeat(random.random((400, 12)) < 0.7, 5, axis=1)
    assert along.geometric_variance(np.array([0.5]), 2)[0] == pytest.approx(0.25 + 4 * 0.25 - 0.75**2)
    for stands, dependent in ((independent, False), (runs, True)):
        counted = rounds(stands, plan("constant", 4, 60))
        for values in (along.over_dispersion(counted, 4) - 1, along.autocorrelation(stands.astype(float), 1)):
            error = values.std() / len(values) ** 0.5
            assert values.mean() > 10 * error if dependent else abs(values.mean()) < 3 * error
        ratio = along.formula_over_count(stands.mean(1), counted, 4)
        assert (abs(ratio.mean() - 1) > 0.03) == dependent


def test_correlation_and_jackknife_by_hand():
    alternating = np.tile([1.0, 0.0], (3, 8))
    assert along.autocorrelation(alternating, 1).mean() == pytest.approx(-1, abs=0.02)
    assert along.autocorrelation(alternating, 2).mean() == pytest.approx(1, abs=0.02)
    sums = np.array([[1.0, 2.0], [4.0, 2.0], [7.0, 2.0]])
    assert along.jackknife(lambda s: s[..., 0] / s[..., 1], sums).tolist() == pytest.approx([0.5, 2.0, 3.5])


def test_works_take_turns_and_every_time_is_kept(monkeypatch):
    asked, clock = [], itertools.count(1)

    def seconds(work):
        work()
        return float(next(clock))

    monkeypatch.setattr(turns, "seconds_of", seconds)
    works = [[lambda name=f"{turn}{work}": asked.append(name) for work in "ab"] for turn in range(3)]
    assert turns.every_time(works).tolist() == [[1, 2], [4, 3], [5, 6]]
    assert asked == ["0a", "0b", "0a", "0b", "1b", "1a", "2a", "2b"]
    with pytest.raises(ValueError, match="same number of works"):
        turns.every_time([])


def speed_rows(assisted: float, spread: float = 0.0) -> pd.DataFrame:
    """Of 4 turns of 90 tokens in 90 seconds, 30 rounds of 1 step of 0.1, verifying 0.9, overhead 0.2, all accepted."""
    rows = []
    for turn in range(4):
        shift = spread * (-1) ** turn
        whole = {"tokens": 90.0, "plain": 90.0, "step": 0.1}
        rows += [("a pair", "sampled", 0, name, turn, value) for name, value in whole.items()]
        for gamma in (1, speed.FITTED):
            a_round = gamma * 0.1 + 0.9 + 0.2
            parts = {
                "assisted": (assisted + shift) * 90 / (gamma + 1) * a_round, "verify": 0.9,
                "rounds": 90 / (gamma + 1), "accepted": 10.0, "examined": 10.0,
            }  # fmt: skip
            rows += [("a pair", "sampled", gamma, name, turn, value) for name, value in parts.items()]
    table = pd.DataFrame(rows, columns=["pair", "mode", "gamma", "quantity", "turn", "value"])
    return pd.concat([table, table.assign(mode="greedy")])


def test_a_prediction_is_fitted_on_some_texts_and_at_one_gamma_and_judged_elsewhere():
    cell = speed.Cell(speed_rows(1.0), "a pair", "sampled")
    assert cell.overhead() == pytest.approx(0.2) and cell.miss(1).mean == pytest.approx(0, abs=1e-6)
    found = {claim.claim.split(": the ")[-1]: claim.verdict for claim in speed.claims(speed_rows(1.0))}
    assert found["speed-up is predicted by acceptance and costs"] == "holds"
    slower = speed_rows(1.0)
    apart = (slower.gamma == 1) & (slower.quantity == "assisted") & (slower.turn > 1)
    slower.loc[apart, "value"] *= 2  # of the held-out half
    assert speed.Cell(slower, "a pair", "sampled").miss(1).mean == pytest.approx(1)
    assert speed.claims(slower)[0].verdict == "fails"


@pytest.mark.parametrize(
    ("assisted", "spread", "verdict"), [(1, 0, "holds"), (2, 0, "fails"), (1.45, 0.2, "inconclusive")]
)
def test_faster_is_at_least_what_the_paper_reports_least(assisted, spread, verdict):
    """A gamma of 2 makes 3 tokens in 1.3 seconds: 2.3 times as fast; 1.4 is the least of the paper."""
    assert speed.speed_claim(speed_rows(assisted, spread), "a pair", "sampled").verdict == verdict


def test_a_ratio_of_short_times_is_a_ratio_of_means():
    plain, assisted = np.array([2e-3, 4e-3]), np.array([1e-3, 1e-3])
    assert ratio_of_means(plain, assisted).tolist() == pytest.approx([2, 4])
    speedup = faster(plain, assisted)
    assert (
        speedup.mean == pytest.approx(3) and speedup.half_width == pytest.approx(12.706, rel=1e-4) and speedup.df == 1
    )


def batch_rows(first: float, last: float) -> pd.DataFrame:
    rows = [("new", "", 0, 0, 10.0)]
    for turn, (place, seconds) in itertools.product(range(3), ((1, first), (8, last))):
        rows += [("plain", "", place, turn, 1.0), ("assisted", "", place, turn, seconds)]
    return pd.DataFrame(rows, columns=["quantity", "kind", "place", "turn", "value"])


@pytest.mark.parametrize(("first", "last", "verdict"), [(0.5, 2, "holds"), (0.5, 0.9, "partly"), (2, 0.5, "fails")])
def test_assistance_pays_at_small_batches_and_loses_at_large_ones(first, last, verdict):
    assert batch.batch_claim(batch_rows(first, last)).verdict == verdict


def test_the_smallest_draft_is_compared_with_each_larger_one_at_both_temperatures():
    def rows(small: float, large: float) -> pd.DataFrame:
        cells = itertools.product((("small", small), ("large", large)), (0.0, 1.0), range(3))
        lines = [
            (name, drafts.OPTIMAL, heat, quantity, turn, value)
            for (name, seconds), heat, turn in cells
            for quantity, value in (("plain", 1.0), ("assisted", seconds), ("accepted", 1.0), ("examined", 2.0))
        ]
        return pd.DataFrame(lines, columns=["draft", "schedule", "temperature", "quantity", "turn", "value"])

    assert drafts.size_claim(rows(0.4, 0.5)).verdict == "holds" and drafts.size_claim(rows(0.5, 0.4)).verdict == "fails"
    assert len(drafts.size_claim(rows(0.4, 0.5)).findings) == 2


def cells(quantity: str, *values: float, half_width: float = 0.1, **where) -> pd.DataFrame:
    """Rows as `over_seeds` makes them, a draft for each value."""
    lines = [
        {"quantity": quantity, "target": "transformer", "draft": f"draft {n}", "temperature": 0.0, "place": 0.0,
         "value": value, "half_width": half_width, "df": math.inf} | where
        for n, value in enumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(lines)


@pytest.mark.parametrize(
    ("falls", "verdict"),
    [((0.2, 0.3), "holds"), ((0.2, 0.1), "partly"), ((0.1, 0.1), "inconclusive"), ((-0.2, -0.1), "fails")],
)
def test_every_draft_is_judged_for_temperature(falls, verdict):
    table = cells("own_fall", *falls)
    for heat in (0.0, 1.0):
        table = pd.concat([table, cells("own", 0.5, 0.5, temperature=heat)])
    claim = temperature.fall_claim(table, "own", "own texts", own=False)
    assert claim.verdict == verdict and len(claim.findings) == 2


def test_drafts_that_the_paper_does_not_have_are_our_own_question():
    table = cells("own_fall", 0.2, -0.2).replace({"draft 1": "target, 2:4"})
    for heat in (0.0, 1.0):
        table = pd.concat([table, cells("own", 0.5, 0.5, temperature=heat).replace({"draft 1": "target, 2:4"})])
    of_paper, own = (temperature.fall_claim(table, "own", "own texts", own=own) for own in (False, True))
    assert (of_paper.verdict, own.verdict) == ("holds", "fails") and own.own


def test_a_bound_without_its_conditions_judges_nothing():
    claim = acceptance.oracle_claim(cells("oracle_gain", 0.9, 0.9))
    assert claim.verdict == "not judged" and "up to about 60 %" in claim.paper


def test_the_margin_of_predictions_is_the_worst_cell_of_table_4():
    assert len(paper_misses()) == 12 and paper_misses().min() == pytest.approx(2.4 / 3.1)
    assert paper_miss() == paper_misses().max() - 1 == pytest.approx(2.5 / 1.7 - 1)
    assert (abs(paper_misses() - 1) < 0.15).sum() == 6


def test_near_ties_are_asked_for_less_and_clear_margins_for_more():
    def table(near: float, clear: float) -> pd.DataFrame:
        return pd.concat([cells("gap", value, place=place) for value, place in ((near, 1.0), (clear, 8.0))])

    assert acceptance.tie_claim(table(-0.2, 0.2), "transformer").verdict == "holds"
    assert acceptance.tie_claim(table(0.2, -0.2), "transformer").verdict == "fails"


def test_margins_and_eighths_and_the_best_constant_of_the_other_half():
    assert acceptance.margins(np.log([[0.5, 0.3, 0.2]]))[0] == pytest.approx(0.2)
    parts = acceptance.eighths(np.arange(16.0)[::-1].reshape(2, 8))
    assert [np.flatnonzero(part).tolist() for part in parts][:2] == [[14, 15], [12, 13]]
    costs = [np.array([1.0, 5.0, 1.0, 5.0]), np.array([2.0, 4.0, 2.0, 4.0])]
    assert acceptance.best_constant(costs).tolist() == [2.0, 5.0, 2.0, 5.0]  # each half at the other's best


@pytest.mark.parametrize(("mean", "verdict"), [(-0.3, "holds"), (-0.1, "inconclusive"), (0.1, "fails")])
def test_acceptance_falls_where_the_correlation_is_below_zero(mean, verdict):
    assert text.correlation_claim("somewhere", Estimate(mean, 0.1)).verdict == verdict


def test_only_whole_rounds_count():
    counted = Rounds(np.array([[3, 3, 1, -1]] * 2), np.array([[3, 0, 1, -1]] * 2))
    assert along.formula_over_count(np.array([0.5] * 2), counted, 3)[0] == pytest.approx(1.875 / 2.5)


@pytest.mark.parametrize(
    ("seconds", "verdict"), [((1, 2, 3), "holds"), ((3, 2, 1), "fails"), ((1, 3, 2), "partly"), ((1, 1, 1), "fails")]
)
def test_temperatures_are_compared_where_they_took_turns(seconds, verdict):
    """What was timed apart from them, at whatever speed of the machine, counts in no claim about temperature."""
    rows = [
        ("small", schedule, heat, "assisted", turn, value + 0.01 * turn if schedule == drafts.TURNS else 9.0)
        for heat, value in zip((0.0, 0.5, 1.0), seconds, strict=True)
        for schedule in (drafts.TURNS, "constant 5")
        for turn in range(3)
    ]
    table = pd.DataFrame(rows, columns=["draft", "schedule", "temperature", "quantity", "turn", "value"])
    assert drafts.latency_claim(table).verdict == verdict
    assert drafts.schedules(table) == ["constant 5"]
