"""Claims of Xie et al. 2022: made-up answers that grow, or do not, turn the verdicts; estimators against a hand."""

import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from figures.lab.tables import over_seeds, pick, published
from figures.learning import (
    accuracy,
    common,
    long_examples,
    persistence,
    protocol,
    test_length,
    unseen,
    vocabulary,
    worlds,
)
from icl_synth import bayes, checkpoints, config, evaluate, presets
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.prompt_layout import prompt_length, split_prompts
from icl_synth.prompts import sample_prompts
from icl_synth.test_lengths import divergences, labels_along, told_log_probs, with_lengths
from icl_synth.transformer import TransformerConfig

NOTEBOOK = Path(__file__).parents[2] / "shared" / "data" / "xie2022_notebook.csv"
PROMPTS = 1000
FEW = {"lengths": (3, 10), "numbers": (0, 1, 4, 16)}
Rate = Callable[[int, int], float]  # the share of right answers at length k with n examples


def growing(k: int, n: int) -> float:
    return 0.1 + 0.04 * k + 0.02 * np.log2(1 + n)


def better(k: int, n: int) -> float:
    return growing(k, n) + 0.2


def shrinking(k: int, n: int) -> float:
    return 1 - better(k, n)


def flat(k: int, n: int) -> float:
    return 0.03


def made_up(rate: Rate, prompts: dict) -> common.Right:
    """Every prompt is as hard for all, so that a better reader answers all that a worse one does."""
    hardness = np.random.default_rng(0).permutation(PROMPTS) / PROMPTS
    return {cell: 100.0 * (hardness < rate(*cell)) for cell in prompts}


def made_up_runs(rates: dict[str, tuple[str, Rate]]) -> dict[str, list]:
    """By name, the training preset and how rightly its models answer."""
    return {
        name: [SimpleNamespace(seed=seed, config=presets.preset(like), model=rate) for seed in (0, 1, 2)]
        for name, (like, rate) in rates.items()
    }


@pytest.fixture
def no_models(monkeypatch):
    """Answers without models or prompts."""
    asked = SimpleNamespace(tokens=np.zeros((PROMPTS, 1), int), labels=np.zeros(PROMPTS, int))
    for module in (accuracy, persistence, protocol, unseen, vocabulary, worlds):
        monkeypatch.setattr(module, "answers_by_cell", made_up)
        monkeypatch.setattr(module, "nested_prompts", lambda hmm, key, number, cells: dict.fromkeys(cells, asked))
        monkeypatch.setattr(module, "told_by_cell", lambda hmm, cells: made_up(better, cells), raising=False)
    monkeypatch.setattr(accuracy, "document_answers", lambda hmm, tokens: np.zeros((PROMPTS, 2), int))
    divergence = SimpleNamespace(kl=np.random.default_rng(0).random((8, 31)))
    monkeypatch.setattr(protocol, "compare_with_bayes", lambda *_: divergence)
    monkeypatch.setattr(protocol, "held_back", lambda run, number: SimpleNamespace(tokens=None))
    monkeypatch.setattr(vocabulary, "add_losses", made_up_losses)


def made_up_losses(table, size: int, runs: list) -> None:
    for name, run in runs:
        values = np.random.default_rng((run.seed, size)).normal({50: 1.3, 100: 1.4, 150: 1.2}[size], 0.1, 100)
        table.add(name, size, "loss", 0, 0, seed=run.seed, values=values)
        table.add(name, size, "excess", 0, 0, seed=run.seed, values=values - 1)
    table.add(vocabulary.TOLD, size, "loss", 0, 0, values=values)


def verdicts(module, rows: pd.DataFrame) -> dict[str, str]:
    return {claim.claim: claim.verdict for claim in module.claims(rows)}


@pytest.mark.parametrize(("transformer", "lstm", "verdict"), [(growing, better, "holds"), (shrinking, flat, "fails")])
def test_accuracy_that_grows_holds_and_one_that_shrinks_fails(no_models, transformer, lstm, verdict):
    runs = made_up_runs({"transformer": ("small", transformer), "LSTM": ("small-lstm", lstm)})
    found = verdicts(accuracy, accuracy.compute(runs, accuracy.Sizes(PROMPTS, **FEW)))
    assert found["transformer: accuracy grows with the number of examples"] == verdict
    assert found["transformer: accuracy grows with the length of examples"] == verdict
    assert found["the LSTM is more accurate than the transformer"] == verdict


def test_every_length_is_a_part_and_a_gain_that_just_reaches_zero_is_open():
    rows = pd.DataFrame(
        [("gain", k, 16, value, 2.0, np.inf) for k, value in ((3, 2.1), (5, 2.0), (8, -2.0), (10, 9.0))]
        + [("accuracy", k, n, 50.0, 1.0, np.inf) for k in (3, 5, 8, 10) for n in (0, 16)],
        columns=["quantity", "example_length", "num_examples", "value", "half_width", "df"],
    )
    claim = common.growth_claim(rows, "grows", "transformer, 16 layers", "Fig. 3")
    assert [finding.verdict for finding in claim.findings] == ["holds", "inconclusive", "fails", "holds"]
    assert claim.verdict == "partly" and "84.7 ± 3.4" in claim.paper


def test_the_papers_own_numbers_are_judged_by_the_same_rule():
    assert common.as_printed("transformer, 12 layers", 10, 64) == "81.2 ± 7.1"
    assert common.quoted("LSTM", 10, 64) == 95.8
    ends = [common.quoted_estimate(name, 10, 64) for name in ("transformer, 16 layers", "transformer, 12 layers")]
    assert common.verdict([common.positive(common.difference(*ends))]) == "inconclusive"
    # of five seeds: 2.776 standard errors where they print 1.96
    assert ends[1].half_width == pytest.approx(7.1 * 2.776 / 1.96, rel=0.01) and ends[1].df == 4
    assert common.quoted_flatness("transformer, 4 layers, single concept", 50) == pytest.approx(2.6, abs=0.05)


@pytest.mark.skipif(not NOTEBOOK.exists(), reason="the notebook's values are not there")
def test_published_accuracies_are_the_notebooks():
    theirs = pd.read_csv(NOTEBOOK)
    ours = published("xie2022_accuracy")
    columns = ["model", "vocab_size", "example_length", "num_examples", "accuracy_percent", "interval_percent"]
    pd.testing.assert_frame_equal(ours[columns], theirs.set_axis(columns, axis=1))
    assert set(ours.kind) == {"quoted"} and ours.source.str.contains("84fab21").all()


def test_prompts_of_one_length_ask_the_same_at_every_number_of_examples():
    hmm, _ = config.DataConfig().build()
    prompts = common.nested_prompts(hmm, jax.random.key(0), 6, [(3, 0), (3, 2), (5, 1)])
    assert prompts[3, 2].tokens.shape == (6, prompt_length(2, 3)) and prompts[5, 1].tokens.shape == (6, 10)
    np.testing.assert_array_equal(prompts[3, 0].tokens, prompts[3, 2].tokens[:, -2:])
    np.testing.assert_array_equal(prompts[3, 0].labels, prompts[3, 2].labels)


def in_worlds(single: Rate, random: Rate, cold: Rate) -> pd.DataFrame:
    runs = made_up_runs({"single concept": ("small-single", single), "random tokens": ("small-uniform", random)})
    return worlds.compute(
        runs | made_up_runs({"low entropy, world 1": ("small-cold-0", cold)}), worlds.Sizes(PROMPTS, **FEW)
    )


def test_other_worlds_turn(no_models):
    rows = in_worlds(flat, flat, lambda k, n: 0.3 + 0.2 * abs(np.log2(1 + n) - 2))
    assert set(verdicts(worlds, rows).values()) == {"holds"}
    rows = in_worlds(lambda k, n: growing(k, 4 * n), lambda k, n: 0.07, growing)
    found = verdicts(worlds, rows)
    assert found["single concept, V = 50: accuracy does not grow with the number of examples"] == "fails"
    assert found["random tokens: nothing is learned that answers a prompt, V = 50"] == "fails"
    assert found["low entropy, k = 10: few-shot is first below zero-shot, then recovers"] == "partly"  # no dip


def test_the_lowest_number_of_examples_is_chosen_on_the_other_half():
    """On even prompts the lowest is n = 1, on odd ones n = 2."""
    right = 100.0 * np.array([[1, 1, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0], [1, 1, 0, 1]])
    dip, recovery = worlds.dip_and_recovery(right)
    np.testing.assert_array_equal(dip, [0, 0, 0, -100])  # even prompts against n = 2, odd ones against n = 1
    np.testing.assert_array_equal(recovery, [0, 0, -100, 0])


def test_without_persistence_growth_is_asked_of_every_vocabulary(no_models):
    def rows(small: Rate, large: Rate) -> pd.DataFrame:
        runs = made_up_runs({"V = 50": ("small-moving", small), "V = 100": ("small-moving-v100", large)})
        return persistence.compute(runs, persistence.Sizes(PROMPTS, **FEW))

    assert set(verdicts(persistence, rows(growing, lambda k, n: growing(k, n**3))).values()) == {"holds"}
    found = verdicts(persistence, rows(growing, flat))
    assert found["V = 100: accuracy still grows with the number of examples"] in ("inconclusive", "fails")
    assert found["accuracy grows less with V = 50 than with V = 100"] == "fails"


def test_unseen_concepts_turn(no_models, monkeypatch):
    cells = common.cells_that_fit(256, (3, 10), (0, 16))
    asked = {kind: dict.fromkeys(cells, SimpleNamespace(tokens=None, labels=np.zeros(PROMPTS, int)))
             for kind in ("seen", "unseen", "official")}  # fmt: skip
    monkeypatch.setattr(unseen, "draw_kinds", lambda *_: (asked, {cell: np.zeros(PROMPTS) for cell in cells}))
    monkeypatch.setattr(unseen, "bayes_answers", lambda *_: np.zeros(PROMPTS, int))

    def found(seen: Rate, other: Rate) -> dict[str, str]:
        answers = iter(itertools.cycle((seen, other, other)))  # in distribution, unseen, the code's variant
        monkeypatch.setattr(unseen, "answers_by_cell", lambda _, prompts: made_up(next(answers), prompts))
        runs = made_up_runs({"transformer": ("small", growing)})
        return verdicts(unseen, unseen.compute(runs, unseen.Sizes(PROMPTS, (3, 10), (0, 16))))

    assert set(found(growing, lambda k, n: 0.001).values()) == {"holds"}
    assert set(found(flat, better).values()) == {"fails"}


def test_vocabularies_turn(no_models):
    def found(shift: float) -> dict[str, str]:
        runs = made_up_runs(
            {
                f"transformer, V = {V}": (f"small-v{V}", lambda k, n, V=V: growing(k, n) + shift * V)
                for V in (50, 100, 150)
            }
        )
        return verdicts(vocabulary, vocabulary.compute(runs, vocabulary.Sizes(PROMPTS, **FEW)))

    claim = "transformer: accuracy grows with the vocabulary, V = 50 → 100 → 150"
    up, down = found(0.002), found(-0.001)
    assert (up[claim], down[claim]) == ("holds", "fails")
    assert up["transformer: the loss is highest with 100 tokens, lowest with 150"] == "holds"
    assert up["transformer, V = 50: accuracy grows with the number of examples"] == "holds"


def test_the_protocol_explains_or_does_not(no_models):
    def found(cut: Rate, starts: Rate) -> dict[str, str]:
        runs = made_up_runs({"transformer, cut": ("protocol", cut), "transformer, starts": ("protocol-starts", starts)})
        return verdicts(protocol, protocol.compute(runs, protocol.Sizes(PROMPTS, 8, **FEW)))

    lower = "transformer: blocks cut from mid-document lower accuracy without examples"
    half = "transformer: cut blocks explain at least half of the distance to the paper's accuracy without examples"
    found_all = found(lambda k, n: 0.2, lambda k, n: 0.9)
    assert (found_all[lower], found_all[half]) == ("holds", "holds")
    found_none = found(lambda k, n: 0.9, lambda k, n: 0.9)
    assert (found_none[lower], found_none[half]) == ("inconclusive", "fails")  # nothing explains the distance
    assert found(lambda k, n: 0.9, lambda k, n: 0.5)[lower] == "fails"


def test_slopes_against_a_hand():
    right = {k: np.repeat([100.0, 0.0], [number, 720 - number]) for k, number in ((3, 360), (5, 180), (10, 80))}
    values = test_length.log_slope(right)  # errors of 1, 1/2 and 2/9, times 50 %: as 1 / (k - 1)
    assert values.mean() == pytest.approx(-1)
    moved = test_length.log_slope(right | {3: np.append(right[3][1:], 0.0)})
    influence = values[200] - values[-1]  # of an answer that is wrong at k = 3 alone
    assert moved.mean() - values.mean() == pytest.approx(-influence / 720, rel=0.01)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=200), rng.normal(size=200)
    values = test_length.regression(x, y)
    assert values.mean() == pytest.approx(np.polyfit(x, y, 1)[0])
    residuals = y - y.mean() - values.mean() * (x - x.mean())
    robust = np.sqrt(((x - x.mean()) ** 2 * residuals**2).sum()) / ((x - x.mean()) ** 2).sum()  # White's
    assert values.std() / np.sqrt(200) == pytest.approx(robust)
    twice = test_length.regression(np.tile(x, 9), np.tile(y, 9))  # more prompts of the same divergences
    np.testing.assert_allclose(twice, values)


def theorem_rows(errors: dict[int, np.ndarray], apart: np.ndarray) -> pd.DataFrame:
    table = test_length.Table("reader", "num_examples", "quantity", "example_length", "test_length")
    test_length.add_reader(table, test_length.SMOOTHED, 64, errors=errors, apart=apart, seed=None)
    table.add("world", 0, "closest divergence", 3, 0, values=apart)
    return table.rows()


def test_theorems_turn():
    rng = np.random.default_rng(0)
    apart = rng.random(4000) * 4

    def errors(of_k: Callable, of_t: Callable, of_apart: float) -> dict[int, np.ndarray]:
        chance = {
            k: [of_k(k) * of_t(t) * (1 - of_apart * (apart - 2) / 4) for t in range(1, 10)] for k in (3, 5, 8, 10)
        }
        return {k: 100.0 * (rng.random((9, 4000)) < np.array(rows)) for k, rows in chance.items()}

    falling = errors(lambda k: 1.2 / (k - 1), lambda t: 1.5 / (t + 2), 0.8)
    found = list(verdicts(test_length, theorem_rows(falling, apart)).values())
    assert found[0] == "holds" and found[1] == "holds" and found[3] == "holds"
    rising = errors(lambda k: 0.05 * k, lambda t: 0.9, -0.8)
    assert list(verdicts(test_length, theorem_rows(rising, apart)).values()) == ["fails", "fails", "holds", "fails"]


@pytest.fixture(scope="module")
def hmm():
    return config.DataConfig().build()[0]


def test_a_test_input_as_long_as_its_examples_is_an_ordinary_prompt(hmm):
    prompts = sample_prompts(hmm, jax.random.key(1), 40, 3, 5)
    np.testing.assert_array_equal(with_lengths(prompts, 5, 5, 3), prompts.tokens)
    np.testing.assert_array_equal(labels_along(hmm, prompts, 5)[:, -1], prompts.labels)
    np.testing.assert_allclose(
        told_log_probs(hmm, prompts.tokens, 5, 3)[:, -1], bayes.prompt_log_probs(hmm, prompts.tokens, 5), atol=1e-4
    )


def test_a_model_answers_after_every_token_as_it_answers_prompts_that_end_there(hmm):
    model = checkpoints.create(TransformerConfig(depth=1, width=16, heads=1, context=64))
    prompts = sample_prompts(hmm, jax.random.key(1), 5, 3, 5)
    along = test_length.answers_along(model, np.asarray(prompts.tokens), 4)
    for t in (1, 4):
        ends = prompts._replace(tokens=prompts.tokens[:, : prompts.tokens.shape[1] - 4 + t])
        np.testing.assert_array_equal(along[:, t - 1], evaluate.answers(model, ends))
    of_bayes = common.document_answers(hmm, np.asarray(prompts.tokens))
    exact = bayes.next_token_log_probs(hmm, np.asarray(prompts.tokens), smoothing=common.SMOOTHING)
    np.testing.assert_array_equal(of_bayes[:, :-1], np.asarray(exact).argmax(-1))


def test_examples_and_test_inputs_have_lengths_of_their_own(hmm):
    prompts = sample_prompts(hmm, jax.random.key(1), 40, 3, 5)
    examples, test = split_prompts(prompts.tokens, 5)
    tokens = with_lengths(prompts, 5, 2, 1)
    np.testing.assert_array_equal(tokens[:, :2], examples[:, -1, :2])
    assert tokens.shape == (40, 3 + 4) and not np.asarray(tokens[:, 2]).any()
    np.testing.assert_array_equal(tokens[:, 3:], test)
    # after two tokens the label is that of a prompt whose examples have three
    shorter = prompts._replace(tokens=with_lengths(prompts, 5, 3, 3)[:, :-2])
    told = bayes.prompt_log_probs(hmm, shorter.tokens, 3)
    np.testing.assert_allclose(told_log_probs(hmm, with_lengths(prompts, 5, 3, 3), 3, 3)[:, 1], told, atol=1e-4)
    with pytest.raises(ValueError, match=r"example_length must lie in \[2, 5\], got 6"):
        with_lengths(prompts, 5, 6, 3)


def test_divergences_against_every_path():
    """Two concepts over two entities and three properties, summed state by state."""
    moves = np.array(
        [[[0.2, 0.8, 0.0], [0.5, 0.0, 0.5], [0.0, 0.3, 0.7]], [[0.6, 0.4, 0.0], [0.1, 0.9, 0.0], [0.2, 0.3, 0.5]]]
    )
    memory, entities = np.array([[0, 1, 2], [0, 3, 2]]), np.array([[0.9, 0.1], [0.3, 0.7]])
    hmm = ConceptHMM(*map(jnp.asarray, (memory, moves, entities, np.full((2, 2, 3), 1 / 6))))

    def likelihoods(concept: int, start: int, smoothing: float) -> dict[tuple, float]:
        total: dict[tuple, float] = {}
        for e in itertools.product(range(2), repeat=2):
            for end in range(3):
                path = entities[e[0], e[1]] * moves[concept, start, end]
                chance = 0.5 * ((1 - smoothing) * path + smoothing / 6)
                tokens = tuple(int(memory[state]) for state in zip(e, (start, end), strict=True))
                total[tokens] = total.get(tokens, 0.0) + chance
        return total

    found = divergences(hmm, 2, 0.01)
    assert found.shape == (2, 2, 2)
    for concept, start, other in itertools.product(range(2), (1, 2), range(2)):
        p, q = likelihoods(concept, start, 0.0), likelihoods(other, start, 0.01)
        expected = sum(value * np.log(value / q[tokens]) for tokens, value in p.items() if value)
        assert found[concept, start - 1, other] == pytest.approx(expected, abs=1e-4)


def test_the_closest_concept_is_another_one():
    divergence = np.array([[[0.0, 3.0, 2.0]], [[5.0, 0.0, 4.0]], [[1.0, 7.0, 0.0]]])
    prompts = SimpleNamespace(concepts=np.array([0, 1, 2, 0]), start_properties=np.ones(4, int))
    np.testing.assert_array_equal(test_length.closest(divergence, prompts), [2, 4, 1, 2])


def test_the_same_test_input_follows_long_duplicated_and_independent_examples(hmm):
    sizes = long_examples.Sizes(4, few=1, short=3, long=4)
    tokens = jnp.asarray([[1, 2, 3, 4, 0, 5, 6, 7, 8, 0, 9, 10, 11]])  # two examples and a test input
    found = {kind: of_kind[0].tolist() for kind, of_kind in long_examples.arranged(tokens, sizes).items()}
    assert found == {
        "5 short": [1, 2, 3, 0, 9, 10],
        "5 long": [1, 2, 3, 4, 0, 9, 10],
        "5 short, duplicated": [1, 2, 3, 0, 1, 2, 3, 0, 9, 10],
        "10 short": [1, 2, 3, 0, 5, 6, 7, 0, 9, 10],
    }


@pytest.mark.parametrize(("shift", "verdicts_found"), [(10, ["holds"] * 3), (-10, ["fails", "holds", "fails"])])
def test_long_examples_turn(shift, verdicts_found):
    hardness = np.arange(1000) / 10
    shares = {"5 short": 50, "5 long": 50 + shift, "5 short, duplicated": 50, "10 short": 50 + 2 * shift}
    table = long_examples.Table("reader", "examples", "quantity")
    right = {kind: 100.0 * (hardness < share) for kind, share in shares.items()}
    long_examples.add_reader(table, "transformer", right, None)
    assert list(verdicts(long_examples, table.rows()).values()) == verdicts_found


def test_pairs_are_those_of_one_seed():
    right = {seed: {(3, 0): np.full(4, 100.0 * seed)} for seed in (0, 1)}
    table = common.Table("quantity", "example_length", "num_examples")
    common.add_difference(table, "difference", high=right, low={1: right[0], 5: right[1]})
    rows = table.rows()
    assert rows.seed.tolist() == [1] and rows.value.tolist() == [100.0]
    assert pick(over_seeds(rows), quantity="difference").half_width.iloc[0] >= 75  # three in four prompts
