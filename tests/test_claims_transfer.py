"""Synthetic documents before text: savings by hand, texts that are what they say, registered verdicts at borders."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from figures.lab.claims import corrected
from figures.lab.report import sizes_of_families
from figures.transfer import common, context, other_models, outcomes, remembered, worlds
from figures.transfer.common import Curve, saved, tokens_to
from icl_synth import text
from icl_synth.estimates import Estimate
from icl_synth.presets.transfer import FIRST
from tests.toys import write_plays

LINE = Curve(np.array([0.0, 100, 200, 300]), np.array([4.0, 3.0, 2.5, 2.4]))


def test_tokens_to_a_loss_by_hand():
    assert tokens_to(3.0, LINE) == 100 and tokens_to(2.75, LINE) == pytest.approx(150)
    assert tokens_to(4.5, LINE) == 0
    bump = Curve(LINE.tokens, np.array([4.0, 2.9, 3.5, 2.0]))
    assert tokens_to(2.95, bump) == pytest.approx(100 * 1.05 / 1.1)  # the first time, though it rises again
    falling = Curve(np.arange(0.0, 600, 100), np.array([9.0, 6, 4, 3, 2.5, 2]))  # 0.01 a token over the last five
    assert tokens_to(1.5, falling) == pytest.approx(550) and tokens_to(-9.0, falling) == 1000
    flat = Curve(LINE.tokens, np.array([4.0, 3.0, 3.0, 4.0]))
    assert tokens_to(2.0, flat) == 600


def test_savings_by_hand():
    reference = Curve(LINE.tokens, np.array([4.0, 3.5, 3.0, 2.75]))
    assert saved(LINE, reference) == pytest.approx(0.5) and saved(reference, reference) == 0
    assert saved(LINE, reference, before=60) == pytest.approx(0.3)
    never = Curve(LINE.tokens, np.full(4, 4.0))
    assert saved(never, reference) == -1


def with_outcomes(**changed):
    """Rows of six seeds in which everything is found, but for what is changed: mean and spread over seeds."""
    found = {("many", "saved"): (0.3, 0.02), ("dyck", "saved"): (0.5, 0.02), ("many", outcomes.GAIN): (0.1, 0.002)}
    found |= {(arm, "saved more"): (0.2, 0.02) for arm in common.ARMS if arm not in ("random", "many")}
    found |= {(arm, "test loss above random"): (-0.1, 0.01) for arm in common.ARMS if arm != "random"}
    found |= {("dyck", "saved in all"): (0.5, 0.02), ("more", outcomes.GAIN): (0.0, 0.01)}
    found |= {(arm, "fell so low"): (1.0, 0.0) for arm in ("many", "more")}
    found |= changed.pop("cells", {})
    seeds = changed.pop("seeds", 6)
    spread = np.linspace(-1, 1, seeds) if seeds > 1 else np.zeros(1)
    rows = [(*cell, 0.0, seed, mean + wide * spread[seed], 0.0, 0.0)
            for cell, (mean, wide) in found.items() for seed in range(seeds)]  # fmt: skip
    columns = ["arm", "quantity", "tokens", "seed", "value", "half_width", "half_width_of_mean"]
    return pd.DataFrame(rows, columns=columns)


def verdicts(rows):
    return {claim.claim: claim.verdict for claim in corrected(outcomes.claims(rows))}


def test_primary_outcomes_turn_with_the_rows_and_need_four_seeds():
    found = verdicts(with_outcomes())
    primary = [claim for claim in found if claim.endswith("(primary)")]
    assert len(primary) == 3 and {found[claim] for claim in primary} == {"holds"}
    assert {found[claim] for claim in found if "no effect" in claim} == {"fails"}
    assert {found[claim] for claim in found if "secondary" in claim} == {"holds"}
    assert found["brackets first save 33 % of all tokens, brackets counted"] == "holds"
    assert "of 6 seeds fell so low: many in 6, more in 6" in "".join(c.ours for c in outcomes.claims(with_outcomes()))
    none = {("many", "saved"): (0.0, 0.01), ("one", "saved more"): (0.0, 0.01), ("many", outcomes.GAIN): (0.0, 0.002)}
    found = verdicts(with_outcomes(cells=none))
    assert {found[claim] for claim in primary} == {"inconclusive"}
    assert {found[claim] for claim in found if "no effect" in claim} == {"holds"}
    less = {cell: (-mean - 0.3, 0.02) for cell, (mean, _) in none.items()}
    assert {verdicts(with_outcomes(cells=less))[claim] for claim in primary} == {"fails"}
    few = verdicts(with_outcomes(seeds=3))
    assert {*few.values()} == {"inconclusive", "not judged"}  # which is what the schedule alone does


def test_families_are_corrected_apart_as_registered():
    table = outcomes.claims(with_outcomes())
    assert sizes_of_families([claim for claim in table if claim.own]) == "3 (primary) and 14 (secondary)"
    # each primary outcome just below 5 %: alone it would hold, one of three it does not
    t, n = 2.6, 6
    wide = t and np.sqrt(n) / t / np.std(np.linspace(-1, 1, n), ddof=1)
    weak = {("many", "saved"): (0.1, 0.1 * wide), ("one", "saved more"): (0.1, 0.1 * wide),
            ("many", outcomes.GAIN): (0.1, 0.1 * wide)}  # fmt: skip
    rows = with_outcomes(cells=weak)
    alone = {claim.claim: claim.verdict for claim in outcomes.claims(rows)}
    primary = [claim for claim in alone if claim.endswith("(primary)")]
    assert {alone[claim] for claim in primary} == {"holds"}
    assert {verdicts(rows)[claim] for claim in primary} == {"inconclusive"}


def test_no_effect_is_two_one_sided_tests_at_five_percent():
    # t(5) is 2.571 at 97.5 % and 2.015 at 95 %: an interval of 95 % that just reaches past the margin still holds
    wide = Estimate(0.0, 0.05 * 2.571 / 2.015, 5)
    assert outcomes.no_effect(wide._replace(half_width=0.999 * wide.half_width), 0.05).verdict == "holds"
    assert outcomes.no_effect(wide._replace(half_width=1.001 * wide.half_width), 0.05).verdict == "inconclusive"
    assert outcomes.no_effect(Estimate(0.2, 0.05, 5), 0.05).verdict == "fails"


@pytest.fixture
def folder(tmp_path):
    write_plays(tmp_path)
    return tmp_path


@pytest.fixture
def read(folder):
    return text.read(folder)


def test_texts_are_what_they_say(read):
    rng = np.random.default_rng(0)
    before, between = (common.piece(rng, read.test["d"], length) for length in (60, 90))
    kept, replaced = context.named(read, rng, before, between)
    kept, replaced = read.decode(kept), read.decode(replaced)
    name = kept[-context.NAME :]
    assert name.istitle() and kept.count(name) == 2 and replaced.count(name) == 1
    assert len(kept) == len(replaced) and kept[:62] == replaced[:62] and kept[71:] == replaced[71:]
    lines = context.short_lines(read, read.test)
    assert all(line.endswith("?") for line in lines[0]) and all(line.endswith(".") for line in lines[1])
    for _ in range(20):
        right, wrong = (read.decode(tokens) for tokens in context.labels(read, rng, lines))
        *shown, asked = [line.rsplit(" [", 1) for line in right.split("\n")]
        of_kind = {line[-1]: label.rstrip("]") for line, label in shown}
        assert len(shown) == 6 and of_kind[asked[0][-1]] == asked[1] and len(set(of_kind.values())) == 2
        assert sum(line.endswith("?") for line, _ in shown) == 3 and len({line for line, _ in [*shown, asked]}) == 7
        assert wrong[: -context.LABEL] == right[: -context.LABEL] and wrong[-context.LABEL :] in of_kind.values()


def test_speakers_names_are_no_lines(read):
    named = {"d": read.encode("BDFGKLMNPRSTVZ.\n" + read.decode(read.test["d"]) + "[abdefgikl.\n")}
    assert context.short_lines(read, named) == context.short_lines(read, {"d": read.test["d"]})


def test_labels_are_judged_at_their_end_however_long_the_text(folder, read, monkeypatch):
    """A model to which the second word of each text's last three characters is easy answers rightly half the time."""
    monkeypatch.setattr(common, "works", lambda *_: read.test)
    run = SimpleNamespace(config=SimpleNamespace(data=SimpleNamespace(text=str(folder))))
    texts = context.make_texts(run, 6)
    assert len(set(texts.ends.tolist())) > 1
    costs = np.ones((len(texts.labelled), texts.labelled.shape[1] - 1))
    for row, end in enumerate(texts.ends):
        costs[row, end - context.LABEL - 1 : end - 1] = row % 2  # right labels cost nothing, wrong ones one nat each
    answers = iter([np.zeros((6, 200)), np.zeros((6, 200)), costs, *[np.zeros((6, 300))] * 2])
    monkeypatch.setattr(context, "losses", lambda *_: next(answers))
    assert context.measured(None, texts, np.zeros((6, 255)))["labels"].tolist() == [100.0] * 6


def test_the_gain_is_read_where_a_model_that_stayed_falls_to_the_loss(monkeypatch):
    losses = {200: 1.60, 300: 1.40, 400: 1.52, 600: 1.48, 800: 1.51}
    run = SimpleNamespace(metrics=[{"step": step, "loss": loss} for step, loss in losses.items()])
    monkeypatch.setattr(outcomes, "kept", lambda _: [(step, lambda step=step: step) for step in (200, 400, 600, 800)])
    monkeypatch.setattr(outcomes, "context_gain", lambda step, _: np.array([step / 100]))
    assert outcomes.gain_at_equal_loss(run, 1.50, None, np.array([99.0])) == (pytest.approx([5.0]), True)
    assert outcomes.gain_at_equal_loss(run, 1.45, None, np.array([99.0])) == ([99.0], False)
    assert outcomes.gain_at_equal_loss(run, 1.60, None, np.array([99.0])) == ([2.0], True)


def test_evaluations_of_an_interrupted_run_do_not_count():
    config = SimpleNamespace(evaluate_every=100, steps=250)
    lines = [{"step": step, "tokens": 10 * step, "loss": 3 - step / 100} for step in (0, 100, 137, 200, 250)]
    assert common.curve(SimpleNamespace(config=config, metrics=lines)).tokens.tolist() == [0, 1000, 2000, 2500]
    with pytest.raises(ValueError, match="has 1 evaluations"):
        common.curve(SimpleNamespace(config=config, metrics=lines[:1], name="many", seed=0))


def test_nothing_is_computed_before_all_seeds_are_whole():
    runs = {arm: [SimpleNamespace(seed=seed) for seed in seeds] for arm, seeds in (("a", (0, 1, 2)), ("b", (0, 1)))}
    assert len(common.all_seeds(runs, 2)) == 2
    with pytest.raises(ValueError, match="2 of 3 seeds have all arms"):
        common.all_seeds(runs, 3)


def test_windows_keep_their_end_and_change_their_beginning(read, monkeypatch):
    monkeypatch.setattr(common, "works", lambda *_: read.test)
    own, other = common.windows(None, 10)
    assert (own[:, common.OWN_PREFIX :] == other[:, common.OWN_PREFIX :]).all()
    assert (own[:, : common.OWN_PREFIX] != other[:, : common.OWN_PREFIX]).any(1).all()
    texts = [read.decode(work) for work in read.test.values()]
    assert all(sum(read.decode(window) in work for work in texts) for window in own)
    beginnings = [read.decode(window[: common.OWN_PREFIX]) for window in other]
    for window, beginning in zip(own, beginnings, strict=True):
        inside = next(work for work in texts if read.decode(window) in work)
        assert beginning not in inside
    with pytest.raises(ValueError, match="10 characters is shorter than a window of 256"):
        common.piece(np.random.default_rng(0), read.test["d"][:10], common.CONTEXT)


def test_a_text_that_teaches_forgetting_turns_the_verdicts():
    def rows(lost, above, seeds=6):
        cells = [(0, "added", 30.0), (100, "added", 10.0), (100, "floor", 1.0), (100, "lost", lost),
                 (100, "above floor", above)]  # fmt: skip
        of_seeds = [(tokens, quantity, seed, value + seed / 10, 0.5, 0.3)
                    for tokens, quantity, value in cells for seed in range(seeds)]  # fmt: skip
        columns = ["tokens", "quantity", "seed", "value", "half_width", "half_width_of_mean"]
        return [claim.verdict for claim in corrected(remembered.claims(pd.DataFrame(of_seeds, columns=columns)))]

    assert rows(20.0, 10.0) == ["holds", "holds"] and rows(-20.0, -1.0) == ["fails", "fails"]
    assert rows(-0.25, -0.25) == rows(20.0, 10.0, seeds=3) == ["inconclusive", "inconclusive"]


def test_what_was_registered_is_what_is_done():
    registered = (Path(common.__file__).parent / "PREREGISTRATION.md").read_text()
    assert f"the last {common.TAIL} characters after {common.OWN_PREFIX} characters of another test work" in registered
    assert all(f"| {arm} |" in registered for arm in common.ARMS) and "Six seeds, 0 to 5" in registered
    assert common.SUITES["small"].seeds == (0, 1, 2, 3, 4, 5) and "fewer than four" in registered
    assert f"± {100 * outcomes.ALIKE_TOKENS:.0f} % of the tokens" in registered
    assert f"± {outcomes.ALIKE_NATS} nats for outcome 3" in registered


def seeds_of(cells):
    """Rows of three seeds, an equal step apart, around a mean for each cell: labels..., mean, step."""
    return [(*cell, seed, mean + step * (seed - 1), 0.0, 0.0) for *cell, mean, step in cells for seed in range(3)]


def test_which_world_saves_most_turns_with_the_slopes():
    def found(slope, step=0.001):
        cells = [(varied, 0.0, "slope", slope, step) for varied in worlds.VARIED]
        columns = ["varied", "at", "quantity", "seed", "value", "half_width", "half_width_of_mean"]
        return [claim.verdict for claim in corrected(worlds.claims(pd.DataFrame(seeds_of(cells), columns=columns)))]

    assert found(0.1) == ["holds"] * 3 and found(-0.1) == ["fails"] * 3
    # t(2) is 4.30 at 97.5 %: alone it would hold, one of three it does not
    assert found(0.1, step=0.1 * np.sqrt(3) / 4.5) == ["inconclusive"] * 3


def test_worlds_are_explored_one_thing_at_a_time():
    suite = worlds.PRESETS["small"].suite
    assert suite.models["concepts 16384"] == suite.models["persistence 0.9"] == suite.models["length 257"]
    for name, training in suite.models.items():
        if name == "random":
            continue
        varied, value = name.split()
        data, usual = (FIRST[f"small-transfer-first-{arm}"].data for arm in (training.split("transfer-")[1], "many"))
        field = {"persistence": "entity_persistence"}.get(varied, varied)
        assert float(value) == getattr(data, field)
        assert dataclasses.replace(data, **{field: getattr(usual, field)}) == usual
    tokens = {run.steps * run.batch * (run.data.length - 1) for name, run in FIRST.items() if name.startswith("small")}
    assert len(tokens) == 1


def test_savings_of_worlds_and_their_slopes_by_hand():
    def run(*losses):
        lines = [{"step": step, "tokens": 100 * step, "loss": loss} for step, loss in enumerate(losses)]
        return SimpleNamespace(seed=0, metrics=lines, config=SimpleNamespace(evaluate_every=1, steps=len(losses) - 1))

    half, all_of_it = run(4.0, 2.0, 1.0), run(4.0, 3.0, 2.0)  # random ends at 2 after 200
    named = {"random": all_of_it, "concepts 1": all_of_it, "concepts 100": half, "persistence 0.0": half,
             "persistence 0.5": all_of_it, "length 33": all_of_it, "length 132": half}  # fmt: skip
    rows = worlds.compute({name: [each] for name, each in named.items()}, worlds.Sizes(1))
    saved_by = rows[rows.quantity == "saved"].set_index(["varied", "at"]).value
    assert saved_by["concepts", 1] == 0 and saved_by["concepts", 100] == pytest.approx(0.5)
    slopes = rows[rows.quantity == "slope"].set_index("varied").value
    assert slopes.to_dict() == pytest.approx({"concepts": 0.25, "persistence": -1.0, "length": 0.25})


def test_other_models_are_judged_and_the_registered_one_is_not():
    def found(share, more):
        cells = [(name, arm, quantity, value, 0.001) for name in other_models.KINDS.values()
                 for arm, quantity, value in (("many", "saved", share), ("many", "saved more", more))]  # fmt: skip
        columns = ["model", "arm", "quantity", "seed", "value", "half_width", "half_width_of_mean"]
        return [
            claim.verdict for claim in corrected(other_models.claims(pd.DataFrame(seeds_of(cells), columns=columns)))
        ]

    assert found(0.2, -0.1) == ["holds", "fails"] * 2 and found(-0.2, 0.1) == ["fails", "holds"] * 2
    assert found(0.0, 0.0) == ["inconclusive"] * 4
