"""Measured and predicted speed-ups by a clock that only known work moves."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from decoding import compare, speedup
from decoding.drafts import PromptLookup

TARGET, DRAFT = PromptLookup(6), PromptLookup(6)
FIRST, TOKEN, STEP, REST = 7.0, 4.0, 0.5, 1.5  # seconds: a first token, a plain one, one of the draft's, a round's rest
PROBE, *PROMPTS = (np.full((2, 5), i) for i in range(3))
# by the first token of a prompt: rounds of its two rows; proposals accepted and examined, by place
ROUNDS = {0: [2, 4], 1: [3, 5], 2: [7, 1]}
ACCEPTED, EXAMINED = {0: [1, 0], 1: [3, 1], 2: [2, 0]}, {0: [9, 9], 1: [4, 2], 2: [4, 2]}


def window(width):
    """Seconds of verifying so many tokens."""
    return 3.0 + 0.25 * width


class Clock:
    """Where a round is the sum of its parts. Every second call of a work is disturbed by ten seconds."""

    def __init__(self, monkeypatch):
        self.now, self.calls = 0.0, {}
        monkeypatch.setattr(compare, "time", SimpleNamespace(perf_counter=lambda: self.now))
        monkeypatch.setattr(compare, "generate", self.generate)
        monkeypatch.setattr(compare, "assisted_generate", self.assisted_generate)
        monkeypatch.setattr(speedup, "read_often", self.read_often)

    def spend(self, seconds, *work):
        turns = self.calls.setdefault(work, itertools.count())
        self.now += seconds + 10.0 * (next(turns) % 2)

    def generate(self, target, prompt, count, temperature):
        assert target is TARGET and temperature == 0.5
        self.spend(FIRST + TOKEN * (count - 1), "plain", prompt[0, 0], count)

    def assisted_generate(self, target, draft, prompt, count, num_draft, temperature):
        assert target is TARGET and draft is DRAFT and temperature == 0.5
        which = prompt[0, 0]
        rounds = np.array(ROUNDS[which] if count > 1 else [0, 0])
        a_round = num_draft * STEP + window(num_draft + 1) + REST
        self.spend(2 * FIRST + a_round * rounds.max(), "assisted", which, count, num_draft)
        return SimpleNamespace(rounds=rounds, accepted=np.array(ACCEPTED[which]), examined=np.array(EXAMINED[which]))

    def read_often(self, reader, batch, room, width):
        assert (batch, room) == (2, 16) and (width == 1 or reader is TARGET)  # 5 + 9 tokens, padded
        self.spend(speedup.READS * (STEP if reader is DRAFT else window(width)), "read", reader is DRAFT, width)


def test_what_is_measured_and_predicted(monkeypatch):
    Clock(monkeypatch)
    lines = compare.compare(TARGET, DRAFT, PROMPTS, PROBE, 9, (1, 4), 3, temperature=0.5)
    assert [line.gamma for line in lines] == [1, 4]
    for line in lines:
        a_round = line.gamma * STEP + window(line.gamma + 1) + REST
        assert line.tokens == 2 * 8 and line.plain == pytest.approx(16 * TOKEN) and line.token == pytest.approx(TOKEN)
        assert line.assisted == pytest.approx((5 + 7) * a_round)  # the slowest row of each prompt
        assert line.acceptance == 6 / 12 and line.tokens_a_round == pytest.approx(16 / 12)
        assert line.costs.draft == pytest.approx(STEP) and line.costs.overhead == pytest.approx(REST)
        assert line.costs.verify == {line.gamma + 1: pytest.approx(window(line.gamma + 1))}
        # where a round is the sum of its parts, counting rounds predicts what is measured
        assert line.speedup == pytest.approx(16 * TOKEN / (12 * a_round))
        assert line.predicted_from_rounds == pytest.approx(line.speedup)
        assert line.predicted == pytest.approx((2 - 0.5**line.gamma) * TOKEN / a_round)


def test_works_take_turns_and_the_fastest_counts(monkeypatch):
    asked, seconds = [], iter([3.0, 40.0, 1.0, 20.0, 2.0, 30.0])

    def timed(work):
        work()
        return next(seconds)

    monkeypatch.setattr(compare, "seconds_of", timed)
    assert compare.in_turns([lambda: asked.append("a"), lambda: asked.append("b")], 3) == [1.0, 20.0]
    assert asked == ["a", "b"] * 4  # the first time untimed


def test_noise_that_makes_a_difference_negative_is_no_error(monkeypatch):
    """First tokens take longer than whole texts, and parts timed apart longer than rounds."""
    Clock(monkeypatch)
    parts = [speedup.READS * STEP, speedup.READS * window(2)]
    monkeypatch.setattr(compare, "in_turns", lambda works, repeats: [1.0, 1.5] * (len(works) // 2 - 1) + parts)
    (line,) = compare.compare(TARGET, DRAFT, PROMPTS, PROBE, 9, (1,), 3, temperature=0.5)
    assert line.plain == line.assisted == 2.0  # of both prompts, nothing subtracted
    assert line.costs.overhead < -1 and line.costs.round(1) == STEP + window(2)
    assert line.speedup == 1 and line.predicted > 0 and line.predicted_from_rounds > 0
