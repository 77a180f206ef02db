"""Minutes of what was not made yet, from recorded runs."""

import dataclasses
import json
import math
from types import SimpleNamespace

import pytest

from figures import estimates, record
from figures.recipes import RECIPES, Wanted
from icl_synth.config import preset


def test_a_run_takes_as_long_as_a_recorded_one_of_its_shape(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "OUT", tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    config = preset("small")
    tokens = config.steps * config.batch * (config.data.length - 1)
    known = {
        "training": {"transformer": dataclasses.asdict(config)},
        "models": [{"model": "transformer", "seed": seed, "tokens": tokens, "minutes": 6.0} for seed in (0, 1)],
        "minutes": 3.0,
    }
    (tmp_path / "out" / "small").mkdir(parents=True)
    (tmp_path / "out" / "small" / "fig_x.json").write_text(json.dumps(known))
    rates = estimates.rates()
    assert list(rates) == [(True, 64)]

    def module(*names):
        return SimpleNamespace(wanted=lambda recipe: Wanted({name: name for name in names}, (0,)))

    number, minutes = estimates.training_minutes(module("small", "quick"), RECIPES["small"], rates)
    assert number == 2 and minutes == pytest.approx(6.0 + 6.0 * 3900 / 6000)
    wider = estimates.training_minutes(module("small-w128"), RECIPES["small"], rates)[1]
    assert wider == pytest.approx(6.0 * 4500 / 6000 * 4)
    assert math.isnan(estimates.training_minutes(module("small-lstm"), RECIPES["small"], rates)[1])
    said = estimates.estimate("fig_x", module("small"), RECIPES["quick"], rates)
    assert said == "about 8 minutes on two cores: 1 training run, and 2 minutes of evaluation, by another preset's"
    assert "minutes unknown" in estimates.estimate("fig_y", module("small"), RECIPES["quick"], rates)
