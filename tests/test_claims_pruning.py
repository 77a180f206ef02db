"""Pruning's claims turn with their rows; its estimators and its split of KL to Bayes against cases known by hand."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from compression.pruning.apply import Pruning, prune_model
from compression.pruning.calibrate import calibration_documents
from figures.lab.runs import Run
from figures.lab.tables import Table, over_seeds
from figures.pruning import ablations, bits, common, reconstruction, retraining, size, skipping, sparsity
from icl_synth import bayes, beliefs, checkpoints
from icl_synth.concept_hmm import official_ginc
from icl_synth.documents import sample_documents
from icl_synth.estimates import estimate
from icl_synth.presets import preset as training_preset
from tests.toys import TOY

RANDOM = np.random.default_rng(0)


def made(columns: list[str], cells: dict[tuple, float], half_width: float = 0.1) -> pd.DataFrame:
    """Rows of one seed, each with the same interval."""
    rows = [(*cell, 0, value, half_width, half_width) for cell, value in cells.items()]
    return pd.DataFrame(rows, columns=[*columns, "seed", "value", "half_width", "half_width_of_mean"])


@pytest.fixture(scope="module")
def run() -> Run:
    """A model that was never trained, as a run."""
    return Run("toy", 0, TOY, checkpoints.create(TOY.model), [], {})


def skipping_rows(*more: float) -> pd.DataFrame:
    cells = {("m", skipped, "cost"): 1.0 for skipped in (*skipping.SKIPPED, skipping.FULL)}
    cells |= {("m", worse, f"above {better}"): x for (worse, better), x in zip(skipping.pairs(), more, strict=True)}
    return made(["model", "skipped", "quantity"], cells | {("m", skipping.FULL, "above back third"): 0.5})


@pytest.mark.parametrize(
    ("more", "verdict"),
    [
        ((0.2, 0.3, 0.101), "holds"),
        ((0.2, 0.3, 0.1), "partly"),  # an interval that touches zero decides nothing
        ((0.2, -0.3, 0.2), "partly"),
        ((0.1, -0.09, 0.0), "inconclusive"),
        ((0.05, -0.1, 0.0), "fails"),
        ((-0.2, -0.3, -0.2), "fails"),
    ],
)
def test_thirds_are_judged_in_every_pair(more, verdict):
    place, kind, helps = skipping.claims(skipping_rows(*more))
    assert place.verdict == verdict
    assert (kind.verdict, helps.verdict) == ("not judged", "holds")


def sparsity_rows(alike: float, collapse: float) -> pd.DataFrame:
    """By how much magnitude loses more than SparseGPT in the two pairs of each claim; other pairs by 1."""
    cells = {}
    for (method, less), (other, more) in sparsity.pairs():
        judged = alike if (more, less) in ((0.6, 0.1), (0.5, 0.3)) else collapse
        value = judged if (method, other) == ("magnitude", "sparsegpt") else 1.0
        cells["m", method, less, sparsity.above_label(other, more)] = value
    return made(["model", "method", "sparsity", "quantity"], cells)


def test_sparsegpt_is_set_against_magnitude_at_the_papers_sparsities():
    holding, turned, close = (sparsity.claims(sparsity_rows(*values)) for values in ((0.2, 0.2), (-0.2, -0.2), (0, 0)))
    assert [claim.verdict for claim in holding] == ["holds"] * 4
    assert [claim.verdict for claim in turned] == ["fails", "fails", "holds", "holds"]
    assert [claim.verdict for claim in close[:2]] == ["inconclusive", "inconclusive"]
    assert [claim.own for claim in holding] == [False, False, False, True]
    assert "SparseGPT at 60 % less magnitude at 10 % -0.200 ± 0.100" in holding[0].ours


def size_rows(costs: dict[int, float], above: float) -> pd.DataFrame:
    columns, cells = ["model", "parameters", "kept", "pruning", "quantity"], {}
    for parameters, cost in costs.items():
        for label in size.PRUNINGS:
            cell = (f"width {parameters}", parameters, parameters // 2, label)
            cells |= {(*cell, "cost"): cost, (*cell, "excess"): cost, (*cell, "above_dense"): above}
            cells |= {(*cell, f"above {better}"): -above for worse, better in size.PAIRS if worse == label}
    return made(columns, cells, 0.01)


def test_a_trend_is_the_slope_over_all_sizes():
    costs = {10: 0.9, 100: 0.6, 10_000: 0.1}
    rows = over_seeds(size_rows(costs, -0.1))
    slope = size.slope(rows, "SparseGPT 50 %")
    places = np.log10(list(costs))
    assert slope.mean == pytest.approx(np.polyfit(places, list(costs.values()), 1)[0])
    assert slope.half_width == pytest.approx(0.01 / (((places - places.mean()) ** 2).sum()) ** 0.5)
    claims = size.claims(size_rows(costs, -0.1))
    assert [claim.verdict for claim in claims] == ["holds"] * 3 + ["fails"] + ["holds"] * 5
    turned = size.claims(size_rows(dict(zip(costs, (0.1, 0.6, 0.9), strict=True)), 0.1))
    assert [claim.verdict for claim in turned] == ["fails"] * 3 + ["holds"] + ["fails"] * 5


@pytest.mark.parametrize(
    ("cost", "verdict"), [(0.0, "holds"), (0.0118, "partly"), (0.0122, "inconclusive"), (1, "fails")]
)
def test_four_bits_on_a_pattern_cost_what_they_cost_in_the_paper(cost, verdict):
    """On 4:8 that is ln(8.55 / 8.45) = 0.0118 nats, on 2:4 ln(8.85 / 8.74) = 0.0125."""
    assert [bits.paper_cost(pattern) for pattern in bits.PATTERNS] == pytest.approx([0.01176, 0.01251], abs=1e-5)
    cells = {("m", f"{pattern} and quantised", 3.0, "quantised"): cost for pattern in bits.PATTERNS}
    cells |= {("m", "both", n, "alone_minus_joint"): 1.0 for n in (2.0, 3.0)}
    half_width = 0.0007 if cost else 0.001
    assert bits.claims(made(["model", "how", "bits", "quantity"], cells, half_width))[-1].verdict == verdict


@pytest.mark.parametrize(("share", "verdict"), [(0.0, "partly"), (0.086, "inconclusive"), (0.5, "partly")])
def test_alike_takes_the_papers_own_share(share, verdict):
    assert ablations.PAPER_ALIKE == pytest.approx(0.185, abs=1e-3)
    assert ablations.PAPER_SPREAD == pytest.approx(0.0684, abs=1e-3)
    cells = {("m", ablations.change_label(*change), 0.0): share for change in ablations.CHANGES}
    cells |= {("m", quantity, float(x)): 1.0 for quantity, x in ablations.Sizes(1).settings}
    claims = ablations.claims(made(["model", "quantity", "x"], cells | {("m", "spread", 0.0): share}))
    # of the first two claims one part asks for a change and two for none
    assert [claim.verdict for claim in claims[:2]] == [verdict] * 2
    assert claims[3].verdict == {0.0: "inconclusive", 0.086: "inconclusive", 0.5: "fails"}[share]


@pytest.mark.parametrize(
    ("scale", "verdict"), [(0.01, "holds"), (0.06, "inconclusive"), (0.1, "inconclusive"), (0.3, "fails")]
)
def test_a_spread_over_draws_is_judged_from_either_side_with_one_seed(monkeypatch, run, scale, verdict):
    """Five draws of losses 1 ± scale of a cost of 1: the standard deviation is scale; the paper's is 0.068."""
    losses = iter(np.array([[-1.0, -1.0, 0.0, 1.0, 1.0]]).T * scale + 1)
    monkeypatch.setattr(ablations, "pruned", lambda *args, **settings: None)
    monkeypatch.setattr(ablations, "excess", lambda *args: next(losses))
    table = Table("model", "quantity", "x")
    ablations.add_spread(table, "m", run, 5, 1, None, np.ones(3))
    claim = ablations.draw_claim(over_seeds(table.rows()), "m")
    assert claim.verdict == verdict


def test_thirds_are_thirds_at_every_preset():
    for preset in skipping.PRESETS.values():
        assert all(training_preset(name).model.depth % 3 == 0 for name in preset.suite.models.values())


def test_a_difference_of_independent_means_has_both_errors():
    high, low = RANDOM.normal(2, 3, 50), RANDOM.normal(1, 1, 20)
    together = estimate(common.difference_of_means(high, low)[None])
    assert together.mean == pytest.approx(high.mean() - low.mean())
    apart = np.hypot(estimate(high[None]).half_width, estimate(low[None]).half_width)
    assert together.half_width == pytest.approx(apart, rel=0.03)


def test_shares_and_interpolated_losses_have_the_spread_of_the_delta_method():
    whole, part = RANDOM.normal(4, 1, (2, 400))
    resampled = RANDOM.integers(0, 400, (4000, 400))
    for values, of_means in (
        (common.share_of(part, whole), part[resampled].mean(1) / whole[resampled].mean(1)),
        (
            common.between_losses(1000, (100, whole), (10_000, part)),
            (whole[resampled].mean(1) * part[resampled].mean(1)) ** 0.5,
        ),
    ):
        assert values.mean() == pytest.approx(of_means.mean(), rel=0.01)
        assert values.std() / 20 == pytest.approx(of_means.std(), rel=0.1)
    exact = common.between_losses(1000, (100, np.full(3, 4.0)), (10_000, np.full(3, 1.0)))
    assert exact == pytest.approx([2.0, 2.0, 2.0])


def test_only_chosen_layers_are_pruned(run):
    how = Pruning(pattern=(2, 4))
    part = checkpoints.split(common.partly_pruned(run, how, common.all_but("attention", common.PARTS, 2)))[1]
    dense = checkpoints.split(run.model)[1]
    for name, weight in part.items():
        if name.endswith(("qkv.kernel", "out.kernel")) or "kernel" not in name:
            assert (weight == dense[name]).all()
        else:
            assert (np.asarray(weight) != 0).mean() == 0.5
    whole = checkpoints.split(common.partly_pruned(run, how, lambda layer: True))[1]
    documents = calibration_documents(TOY.data.build()[0], run.model, common.CALIBRATION)
    for name, weight in checkpoints.split(prune_model(run.model, documents, how).model)[1].items():
        assert (whole[name] == weight).all()
    thirds = [[common.all_but(third, common.PARTS, 6)(f"blocks.{n}.up") for n in range(6)] for third in common.THIRDS]
    assert np.sum(thirds, axis=1).tolist() == [4, 4, 4] and not any(np.all([thirds[0], thirds[1], thirds[2]], axis=0))


def test_a_model_is_pruned_to_the_weights_of_another_and_keeps_them(run):
    target = 5000
    share = retraining.sparsity_to(run.model, target)
    documents = calibration_documents(TOY.data.build()[0], run.model, 8)
    pruned = prune_model(run.model, documents, Pruning(sparsity=share))
    dropped = sum(int((~mask).sum()) for mask in pruned.masks.values())
    assert size.parameters(run.model) - dropped == pytest.approx(target, abs=len(pruned.masks))
    assert size.weights_kept(run.model, Pruning(sparsity=share)) == size.parameters(run.model) - dropped
    tuned = checkpoints.split(retraining.trained_on(run, pruned.model, 3, pruned.masks))[1]
    before = checkpoints.split(pruned.model)[1]
    for name, mask in pruned.masks.items():
        assert (np.asarray(tuned[name])[~mask] == 0).all() and (tuned[name] != before[name]).any()


def test_what_more_training_gains_a_dense_model_is_not_made_good_by_retraining(run, monkeypatch):
    """Pruning costs 0.4 and retraining takes back 0.3, 0.1 of it as in a dense model: half is made good."""
    now, dense = SimpleNamespace(model="pruned", masks={}), dataclasses.replace(run, model="dense")
    losses = {"large": 0.2, "dense": 0.3, "pruned": 0.6, "large on": 0.1, "pruned on": 0.3}
    monkeypatch.setattr(retraining, "prune_model", lambda *_: now)
    monkeypatch.setattr(retraining, "sparsity_to", lambda *_: 0.5)
    monkeypatch.setattr(retraining, "parameters", lambda _: 100)
    monkeypatch.setattr(retraining, "calibration_documents", lambda *_: None)
    monkeypatch.setattr(retraining, "trained_on", lambda run, model, steps, masks=None: f"{model} on")
    monkeypatch.setattr(retraining, "excess", lambda model, documents: np.full(8, losses[model]))
    table = Table("model", "weights", "tokens", "state", "quantity")
    retraining.add_pair(
        table, "large", dataclasses.replace(run, model="large", metrics=[{"tokens": 1e6}]), dense, 3, None
    )
    rows = table.rows()
    assert rows[rows.quantity == "recovered"].value.item() == pytest.approx(0.5)
    below = rows[rows.quantity == "below_dense"].set_index("state").value
    assert below[retraining.PRUNED] == pytest.approx(-0.3) and below[retraining.RETRAINED] == pytest.approx(0.0)


def test_spectra_and_correlations():
    assert reconstruction.effective_rank(np.eye(7, dtype=np.float32)) == pytest.approx(7)
    assert reconstruction.effective_rank(np.ones((7, 7), np.float32)) == pytest.approx(1, abs=1e-4)
    inputs = RANDOM.normal(size=(30, 8)).astype(np.float32)
    hessian = inputs.T @ inputs
    mixed = reconstruction.with_random_eigenvectors(hessian)
    assert np.linalg.eigvalsh(mixed) == pytest.approx(np.linalg.eigvalsh(hessian), rel=1e-4)
    assert np.abs(mixed - hessian).max() > 1
    x, y = RANDOM.normal(size=(2, 40))
    y += 0.5 * x
    values = reconstruction.correlation(x, y)
    assert values.mean() == pytest.approx(np.corrcoef(x, y)[0, 1])
    left_out = [np.corrcoef(np.delete(x, i), np.delete(y, i))[0, 1] for i in range(40)]
    assert values.std() / 40**0.5 == pytest.approx(np.std(left_out) * 39 / 40**0.5, rel=0.15)


def test_a_gap_does_not_vanish_by_measuring_it_with_a_larger_damping():
    """Inputs of rank 8 and some noise: an ever larger damping ends at no compensation, far from exact."""
    random = np.random.default_rng(0)
    inputs = random.normal(size=(400, 8)) @ random.normal(size=(8, 32)) + 0.1 * random.normal(size=(400, 32))
    weight, hessian = (jnp.asarray(x, jnp.float32) for x in (random.normal(size=(32, 32)), inputs.T @ inputs / 400))
    gaps = [reconstruction.gap(weight, hessian, damping=damping) for damping in (0.01, 1.0, 100.0)]
    assert 0 < gaps[0] < gaps[1] < gaps[2]


@pytest.fixture(scope="module")
def histories():
    """Documents of the official world, exact predictions of each concept, and their posterior."""
    hmm, _ = official_ginc()
    tokens = sample_documents(hmm, jax.random.key(0), 6, 16)[0]

    def predict(world, smoothing):
        return np.exp(np.asarray(bayes.next_token_log_probs(world, tokens, smoothing))[:, 1:])

    posterior = np.asarray(bayes.concept_posterior(hmm, tokens))[:, :-1]
    return predict(hmm, 0.0), beliefs.by_concept(hmm, predict), posterior, beliefs.without_history(hmm)


def test_predictions_by_concept_make_up_bayes(histories):
    exact, of_concepts, posterior, _ = histories
    assert of_concepts.sum(-1) == pytest.approx(np.ones(posterior.shape), abs=1e-4)
    assert np.einsum("btc,btcv->btv", posterior, of_concepts) == pytest.approx(exact, abs=1e-5)
    assert (posterior == 0).any()  # concepts that are ruled out have predictions too


def split(exact, learned, of_concepts, ignorant) -> beliefs.Split:
    parts = (exact, np.log(np.maximum(learned, 1e-30)), of_concepts, ignorant)
    return beliefs.Split(*map(np.asarray, beliefs.split_divergence(*(jnp.asarray(x, jnp.float32) for x in parts))))


def divergence(exact, learned):
    possible = exact > 0
    return np.where(possible, exact * np.log(np.where(possible, exact, 1) / np.where(possible, learned, 1)), 0).sum(-1)


def test_a_mixture_with_other_weights_is_all_belief(histories):
    """Nothing is left within concepts, and the belief is exactly the divergence of the two mixtures."""
    exact, of_concepts, posterior, ignorant = histories
    learned = np.einsum("btc,btcv->btv", 0.5 * posterior + 0.1, of_concepts)
    found, whole = split(exact, learned, of_concepts, ignorant), divergence(exact, learned)
    assert found.belief == pytest.approx(whole, abs=2e-3) and whole.mean() > 0.1
    assert np.abs(found.within).max() < 2e-3


@pytest.mark.parametrize("kind", [0, 1])
def test_smoothing_is_no_belief(histories, kind):
    """Exact Bayes with tokens of no history mixed in."""
    exact, of_concepts, _, ignorant = histories
    smoothed = 0.8 * exact + 0.2 * ignorant[kind] + 1e-9
    found, whole = split(exact, smoothed, of_concepts, ignorant), divergence(exact, smoothed)
    assert np.abs(found.belief).mean() < 0.02 * whole.mean()
    assert found.within.mean() == pytest.approx(whole.mean(), rel=0.02)


def test_weights_of_a_mixture_by_hand():
    """Two parts that share no token: the weights are the masses on each."""
    parts = jnp.array([[0.5, 0.5, 0, 0], [0, 0, 0.9, 0.1]])
    learned = jnp.array([0.1, 0.2, 0.3, 0.4])
    assert beliefs.nearest_weights(learned, parts) == pytest.approx([0.3, 0.7], abs=1e-6)
