"""Scaling laws: known parameters come back, a published fit is met, and plain errors for what cannot be fitted."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import jax
import numpy as np
import pandas as pd
import pytest

from figures.scaling import averaged as averaged_experiment
from figures.scaling import isoflop as isoflop_experiment
from figures.scaling import tokens_per_parameter as tokens_experiment
from figures.scaling import too_large as too_large_experiment
from figures.scaling import undecayed as undecayed_experiment
from figures.scaling.common import (
    GRID,
    LOG_EXCESS,
    Sided,
    as_runs,
    curves,
    ends_of,
    exact_of,
    exponents,
    points,
    samples_of,
    with_attention,
    within,
)
from icl_synth import checkpoints, scaling
from icl_synth.presets.scaling import SCALING, SCALING_WIDTHS
from icl_synth.scaling import (
    Form,
    Law,
    Runs,
    bootstrap,
    budgets,
    count,
    draw,
    draw_at_budgets,
    envelope,
    fit,
    isoflop,
    parametric,
    read,
)
from icl_synth.scaling.__main__ import FITTED
from icl_synth.scaling.frontier import vertex
from icl_synth.scaling.parametric import averaged
from icl_synth.transformer import TransformerConfig
from tests.toys import LAW as TOY_LAW
from tests.toys import predicted

LAW = Law(*map(np.float64, (1.3, 60.0, 900.0, 0.5, 0.6, 1.0)))
OUTER = Law(*map(np.float64, (1.3, 8.0, 30.0, 0.3, 0.35, 2.0)))
CHINCHILLA = Path(__file__).parents[2] / "shared" / "data" / "chinchilla_points.csv"


def runs_of(law: Law, noise: float = 0.0, seed: int = 0, spread: float = 4.0) -> Runs:
    """Five budgets of seven sizes around the best one."""
    points = []
    for flops in (1e12, 1e13, 1e14, 1e15, 1e16):
        for size in law.optimal_parameters(flops) * np.geomspace(1 / spread, spread, 7):
            points.append((size, flops / 6 / size))
    parameters, tokens = np.array(points).T
    loss = law.loss(parameters, tokens)
    return Runs(parameters, tokens, loss * np.exp(noise * np.random.default_rng(seed).standard_normal(len(loss))))


@pytest.mark.parametrize(
    ("law", "form"),
    [(LAW, Form()), (LAW, Form(entropy=1.3)), (OUTER, Form(outer=True)), (LAW._replace(E=np.float64(0.0)), Form(0.0))],
)
def test_the_parameters_of_runs_without_noise_come_back(law, form):
    found = fit(runs_of(law), form)
    np.testing.assert_allclose(found, law, rtol=2e-3)
    np.testing.assert_allclose(found.a, law.beta / (law.alpha + law.beta), rtol=1e-3)


def test_the_best_size_has_the_lowest_predicted_loss():
    sizes = np.geomspace(1e4, 1e8, 200_001)
    for law in (LAW, OUTER):
        losses = law.loss(sizes, 1e14 / 6 / sizes)
        assert law.optimal_parameters(1e14) == pytest.approx(sizes[losses.argmin()], rel=1e-3)


def test_bootstrap_intervals_cover_what_the_runs_were_made_from():
    truth, covered = float(LAW.a), 0
    for seed in range(20):
        drawn = bootstrap(runs := runs_of(LAW, noise=0.005, seed=seed), draw(runs, 40, seed), warm=True)
        low, high = np.percentile(drawn.a, (2.5, 97.5))
        covered += low <= truth <= high
    assert covered >= 16  # of 20 at 95 %: fewer have a chance of three in ten thousand


def test_the_fit_is_the_same_in_all_units():
    runs = runs_of(LAW, noise=0.01)
    other = fit(Runs(runs.parameters * 1e6, runs.tokens / 1e3, runs.loss / np.log(2)))
    same = fit(runs)
    np.testing.assert_allclose((other.alpha, other.beta, other.a), (same.alpha, same.beta, same.a), rtol=1e-4)
    np.testing.assert_allclose(other.E, same.E / np.log(2), rtol=1e-4)
    np.testing.assert_allclose(other.A, same.A * 1e6**same.alpha / np.log(2), rtol=1e-2)


@pytest.mark.parametrize("form", [Form(), Form(1.3), Form(outer=True)])
def test_gradients_are_finite_at_all_starts(form):
    logs = parametric.logs_of(runs_of(LAW))
    gradients = jax.vmap(jax.grad(lambda point: parametric.huber(point, logs, form).sum()))(parametric.grid(form))
    assert np.isfinite(gradients).all()
    assert len(parametric.grid(Form())) == 4500


def test_the_bootstrap_finds_what_the_whole_grid_finds():
    runs = runs_of(LAW, noise=0.02)
    samples = draw(runs, 3, 0)
    drawn = bootstrap(runs, samples)
    for place, sample in enumerate(samples):
        whole = fit(runs.select(sample))
        np.testing.assert_allclose([part[place] for part in drawn], whole, rtol=2e-2)


@pytest.mark.skipif(not CHINCHILLA.exists(), reason="the digitised points are not part of the project")
def test_the_published_refit_of_chinchilla():
    """Besiroglu et al. 2024, section 3: 240 of the 245 points, without the five of fewest tokens a parameter."""
    columns = np.genfromtxt(CHINCHILLA, delimiter=",", names=True, dtype=None, encoding="utf-8", comments=None)
    size, flops, loss = (np.asarray(columns[name], float) for name in ("Model_Size", "Training_FLOP", "loss"))
    tokens = flops / 6 / size
    runs = Runs(size, tokens, loss).select(np.argsort(tokens / size)[5:])
    found, drawn = fit(runs), bootstrap(runs, draw(runs, 200, 0))
    assert found.E == pytest.approx(1.817, abs=1e-3) and found.a == pytest.approx(0.513, abs=2e-3)
    assert found.alpha == pytest.approx(0.348, abs=1e-3) and found.beta == pytest.approx(0.366, abs=2e-3)
    assert found.A == pytest.approx(482, rel=0.02) and found.B == pytest.approx(2085, rel=0.05)
    errors = {"E": 0.026, "alpha": 0.015, "beta": 0.021, "a": 0.020, "A": 124.5, "B": 1293.3}
    for name, error in errors.items():
        assert np.std(getattr(drawn, name)) == pytest.approx(error, rel=0.3), name
    # the Huber loss averaged: samples stay where the whole sample ended, and the interval is far too narrow
    stuck = bootstrap(runs, draw(runs, 200, 0), stop=averaged(len(runs.loss)), warm=True)
    assert np.ptp(np.percentile(stuck.a, (2.5, 97.5))) < np.ptp(np.percentile(drawn.a, (2.5, 97.5))) / 4


def test_isoflop_finds_a_parabola_s_vertex():
    sizes = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    runs = Runs(sizes, 64 / sizes, 2 + (np.log(sizes) - np.log(3.0)) ** 2)
    assert vertex(runs, np.arange(5)) == pytest.approx(3.0)
    assert vertex(runs.select(np.array([0, 1])), np.arange(2)) is None
    rising = runs._replace(loss=3 - (np.log(sizes) - np.log(3.0)) ** 2)
    assert vertex(rising, np.arange(5)) is None
    assert vertex(runs.select(sizes > 3), np.arange(3)) is None  # the vertex lies below all sizes


def test_approaches_one_and_two_find_the_exponent():
    runs = runs_of(LAW, spread=2.0)
    assert isoflop(runs).a == pytest.approx(float(LAW.a), abs=0.005)
    assert isoflop(runs).b == pytest.approx(1 - float(LAW.a), abs=0.005)
    many = [runs_of(LAW, spread=spread) for spread in (4.0,)]
    sizes = np.geomspace(many[0].parameters.min(), many[0].parameters.max(), 25)
    grid = [(size, flops / 6 / size) for size in sizes for flops in np.geomspace(1e12, 1e16, 40)]
    parameters, tokens = np.array(grid).T
    assert envelope(Runs(parameters, tokens, LAW.loss(parameters, tokens))).a == pytest.approx(float(LAW.a), abs=0.03)


def test_names_of_the_package_are_no_modules():
    """The command imports every module of the package; a module named as a function would take its place."""
    assert all(not isinstance(getattr(scaling, name), ModuleType) for name in scaling.__all__)


def test_ends_are_held_against_a_size_that_their_losses_did_not_choose():
    """Against the lowest loss of all, no end could ever be better."""
    models = predicted(GRID["small"], noise=0.0)
    here = [point for point in points(models) if point.budget == 1e13 and point.width >= 40]
    sizes = {point.width: point.counts.parameters for point in here}
    best, largest = sizes[80], max(sizes.values())
    assert all(min(of_seeds.values()) > 0 for of_seeds in isoflop_experiment.ends_above_best(here, best).values())
    assert isoflop_experiment.ends_above_best(here, 3 * largest)["largest"] == {0: 0.0, 1: 0.0}
    assert max(isoflop_experiment.ends_above_best(here, 3 * largest)["smallest"].values()) < 0


def test_losses_of_longer_runs_say_nothing_of_the_decay_where_there_is_none():
    """Reading between evaluations must not raise losses by itself; what an undecayed run loses more must come back."""
    grid = GRID["small"]
    for undecayed, low, high in ((0.0, -0.01, 0.01), (0.3, 0.2, 0.3)):
        found = undecayed_experiment.pairs(curves(predicted(grid, noise=0.0, undecayed=undecayed)))
        more = [np.log(read.excess / matched.excess) for matched, read in found]
        assert len(found) > 35 and low < min(more) and max(more) < high
        assert {matched.budget for matched, _ in found} == {1e12, 3e12, 1e13, 3e13}


def test_residuals_resampled_around_parabolas_give_intervals_that_cover():
    truth, covered = float(TOY_LAW.a), {name: 0 for name in ("envelope", "isoflop", LOG_EXCESS)}
    found, widths = ({name: [] for name in covered} for _ in range(2))
    for seed in range(20):
        generator = np.random.default_rng(seed)
        ends = [
            point._replace(loss=point.exact + point.excess * np.exp(0.04 * generator.standard_normal()))
            for point in points(predicted(GRID["small"], noise=0.0))
        ]
        samples = samples_of(ends, 60)
        assert samples.losses.shape == (60, len(ends)) and (samples.losses > exact_of(ends)).all()
        for name in covered:
            a, drawn = exponents(name, as_runs(ends), exact_of(ends), samples)
            low, high = np.percentile(drawn, (2.5, 97.5))
            covered[name] += low <= truth <= high
            found[name].append(a)
            widths[name].append((high - low) / 2)
    assert min(covered.values()) >= 16, covered  # of 20 at 95 %
    for name in covered:  # nor far too wide
        assert np.mean(widths[name]) < 2 * 1.96 * np.std(found[name], ddof=1), name


def test_tokens_are_counted_for_each_weight_at_the_best_size():
    models = predicted(GRID["small"], noise=0.0)
    rows = tokens_experiment.compute(models, tokens_experiment.Sizes(20))
    weights = {with_attention(point.counts): point.counts.parameters for point in points(models)}
    best = float(TOY_LAW.optimal_parameters(1e13))
    below, above = max(n for n in weights if n <= best), min(n for n in weights if n >= best)
    of_parametric = rows[(rows.quantity == "ratio") & (rows.approach == "parametric") & (rows.budget == 1e13)]
    of_parametric = of_parametric.set_index("counted").value
    assert np.exp(of_parametric["weights and attention"]) == pytest.approx(1e13 / 6 / best**2, rel=0.01)
    by_weights = 1e13 / 6 / best / np.exp(of_parametric["weights"])
    assert weights[below] <= by_weights <= weights[above]


def test_budgets_are_the_repetitions_and_few_of_them_judge_nothing():
    rows = pd.DataFrame({"side": "too large", "value": [0.1, 0.2], "factor": [4.0, 3.0], "quantity": "lost", "seed": 0,
                         "budget": [1e12, 3e12]})  # fmt: skip
    verdicts = lambda rows: [claim.verdict for claim in too_large_experiment.claims(rows)]  # noqa: E731
    assert verdicts(rows) == ["not judged", "not judged"]
    assert verdicts(pd.concat([rows] * 9)) == ["not judged", "not judged"]  # runs of a budget are no repetitions
    three = pd.concat([rows, rows.tail(1).assign(budget=1e13)])
    assert verdicts(three) == ["holds", "not judged"]
    assert verdicts(three.assign(value=[0.1, -0.2, 0.2])) == ["inconclusive", "not judged"]
    assert verdicts(three.assign(value=[-0.1, -0.2, -0.2])) == ["fails", "not judged"]


def test_the_side_of_an_interval_that_faces_the_border_decides():
    def found(value, low, high):
        return within(Sided(value, low, high), 0.45, 0.55).verdict

    assert found(0.50, 0.45, 0.55) == "holds" and found(0.50, 0.449, 0.54) == found(0.50, 0.46, 0.551) == "inconclusive"
    assert found(0.34, 0.05, 0.449) == "fails" and found(0.34, 0.30, 0.451) == "inconclusive"
    assert found(0.60, 0.551, 0.99) == "fails" and found(0.60, 0.549, 0.61) == "inconclusive"
    edge = within(Sided(0.1, 0.0, 9.0), 0.0, np.inf)
    assert edge.verdict == "holds" and edge.p == pytest.approx(0.05)
    assert within(Sided(0.1, 0.05, 9.0), 0.0, np.inf).p < 0.05 < within(Sided(0.1, -0.05, 0.11), 0.0, np.inf).p


def test_exponents_are_compared_at_budgets_that_have_both():
    ends = points(predicted(GRID["small"], noise=0.0))
    alike = [(point, point) for point in ends]
    assert len(undecayed_experiment.shared(alike)) == len(ends)
    falling = [
        (point, point._replace(loss=point.exact + 1 / point.width) if point.budget == 3e12 else point) for point in ends
    ]
    assert {pair[0].budget for pair in undecayed_experiment.shared(falling)} == {1e12, 1e13, 3e13, 1e14}
    with pytest.raises(ValueError, match="no budget has a lowest point both ways"):
        undecayed_experiment.shared([pair for pair in falling if pair[0].budget == 3e12])


def test_a_lowest_loss_at_the_edge_is_not_between():
    rows = pd.DataFrame({"parameters": [1, 1, 2, 3], "value": [0.5, 0.9, 0.6, 0.8]})
    assert isoflop_experiment.lowest_inside(rows) and not isoflop_experiment.lowest_inside(rows.iloc[[0, 2, 3]])


def test_averaging_must_narrow_from_both_beginnings():
    def verdict(warm, grid):
        cells = [("a", how, begins, 0.4) for how in ("summed", "averaged") for begins in averaged_experiment.BEGINNINGS]
        cells = [(name, how, begins, value) for quantity, how, begins, value in cells
                 for name in (quantity, *ends_of(quantity))]  # fmt: skip
        cells += [("share", "averaged", begins, share)
                  for begins, share in zip(averaged_experiment.BEGINNINGS, (warm, grid), strict=True)]  # fmt: skip
        rows = pd.DataFrame(cells, columns=["quantity", "how", "begins", "value"])
        (claim,) = averaged_experiment.claims(rows.assign(seed=pd.NA, half_width=0.1, half_width_of_mean=0.1))
        return claim.verdict

    assert verdict(0.2, 0.3) == "holds" and verdict(0.2, 0.8) == "partly" and verdict(0.7, 0.8) == "fails"
    assert verdict(0.45, 0.55) == "inconclusive"


def test_only_sizes_about_four_times_off_are_paired():
    found = too_large_experiment.pairs(ends := points(predicted(GRID["small"], noise=0.0)), isoflop(as_runs(ends)))
    factors = [max(pair.factor, 1 / pair.factor) for pair in found]
    assert min(factors) >= 2.5 and max(factors) <= 6 and all(pair.lost > 0 for pair in found)


def test_budgets_are_runs_of_like_compute():
    runs = Runs(np.array([1.0, 2.0, 3.0, 1.0]), np.array([12.0, 6.1, 4.0, 120.0]), np.ones(4))
    assert [sorted(group) for group in budgets(runs)] == [[0, 1, 2], [3]]


def test_samples_at_budgets_have_as_many_runs_of_each():
    runs = runs_of(LAW)
    for sample in draw_at_budgets(runs, 5, 0):
        assert [len(group) for group in budgets(runs.select(sample))] == [7] * 5
    assert len(np.unique(draw_at_budgets(runs, 50, 0))) == 35


def test_weights_are_counted_as_they_are():
    config = TransformerConfig(depth=2, width=16, heads=1)
    weights = checkpoints.split(checkpoints.create(config, 0))[1]
    counts = count(config, 256)
    assert counts.parameters == sum(weight.size for weight in weights.values())
    assert counts.attention == 2 * 256 * 16 and counts.inside == counts.parameters - 2 * 50 * 16 - 16
    assert counts.flops(10) == 60 * (counts.parameters + counts.attention)


def test_the_runs_of_a_budget_cost_as_much():
    for scale, grid in SCALING_WIDTHS.items():
        for flops, widths in grid.items():
            for width in widths:
                config = SCALING[f"{scale}-scaling-{flops:.0e}-w{width}"]
                tokens = config.steps * config.batch * (config.data.length - 1)
                spent = count(config.model, config.data.length - 1).flops(tokens)
                assert spent == pytest.approx(flops, rel=0.04), (flops, width)


def write(path: Path, runs: Runs) -> Path:
    lines = ["parameters,tokens,loss", *(",".join(map(str, point)) for point in zip(*runs, strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


def command(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "icl_synth.scaling", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_the_command_fits_runs_of_ones_own(tmp_path):
    path = write(tmp_path / "runs.csv", runs_of(LAW, noise=0.003))
    done = command(path, "--json", tmp_path / "fits.json", "--draws", 40)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "fits.json").read_text())
    assert {*found} == {"envelope", "isoflop", "parametric"}
    for name in ("envelope", "isoflop"):
        low, high = found[name]["interval"]
        assert low <= found[name]["a"] <= high and found[name]["a"] + found[name]["b"] == pytest.approx(1)
    assert {*found["parametric"]} == {*FITTED, "interval"} and {*found["parametric"]["interval"]} == {*FITTED}
    low, high = found["parametric"]["interval"]["E"]
    assert low < 1.3 < high and "tokens per parameter" in done.stdout
    assert (tmp_path / "runs.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("size,tokens,loss\n1,2,3\n", "no column parameters"),
        ("", "no column parameters, tokens, loss"),
        ("parameters,tokens,loss\n10,20,zero\n", "line 2, loss: expected a positive number, got 'zero'"),
        ("parameters,tokens,loss\n10,20\n", "line 2, loss"),
        ("parameters,tokens,loss\n10,-20,1\n", "line 2, tokens"),
    ],
)
def test_what_is_no_table_of_runs_is_named(text, message, tmp_path):
    (tmp_path / "runs.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "runs.csv")


def test_runs_that_cannot_be_fitted_are_refused():
    runs = runs_of(LAW)
    with pytest.raises(ValueError, match="at least 6"):
        fit(runs.select(np.arange(4)))
    with pytest.raises(ValueError, match=r"all runs have .* parameters"):
        fit(runs._replace(parameters=np.full(35, 3.0)))
    with pytest.raises(ValueError, match="0 of 35 budgets"):
        isoflop(runs._replace(tokens=runs.tokens * 2.0 ** np.arange(35)))
    with pytest.raises(ValueError, match="no envelope"):
        envelope(runs.select(np.arange(7)))
    with pytest.raises(ValueError, match="positive and finite"):
        fit(runs._replace(loss=np.full(35, np.nan)))


def test_the_command_says_plainly_what_is_wrong(tmp_path):
    done = command(write(tmp_path / "runs.csv", runs_of(LAW).select(np.arange(3))))
    assert done.returncode == 1 and done.stderr.startswith("error: ") and "Traceback" not in done.stderr
    assert command(tmp_path / "none.csv").stderr.startswith("error: ")
