"""A real language model: prompts and texts that are what they say, and verdicts that turn with the rows."""

import numpy as np
import pandas as pd
import pytest

from figures.lab.claims import corrected
from figures.language import acceptance, calibration, common, exponents, formats, in_context, layers, sparsity, speed
from figures.language.in_context import GOLD, INPUTS, LABELS, NO_EXAMPLES, ONLY_INPUTS, ONLY_LABELS, RANDOM
from icl_synth import checkpoints
from icl_synth.evaluate import map_rows, token_losses
from tests.gguf_files import write_language


def tidy(columns, cells):
    """Rows of some labels with a value and an interval of a tenth."""
    measured = {
        "seed": None,
        "value": np.array(list(cells.values()), float),
        "half_width": 0.1,
        "half_width_of_mean": 0.1,
    }
    return pd.DataFrame(list(cells), columns=columns).assign(**measured)


def verdicts(module, rows):
    return [claim.verdict for claim in corrected(module.claims(rows))]


def all_of_sparsity(cost, more):
    cells = {("dense", "0 %", "loss"): 3.0, ("sparsegpt", "50 %", "cost"): cost}
    return cells | {(*worse, sparsity.above(better)): more for worse, better in sparsity.pairs()}


def test_sparsity_turns():
    columns = ["method", "amount", "quantity"]
    good = tidy(columns, all_of_sparsity(0.1, 1.0))
    assert verdicts(sparsity, good) == ["holds"] * 5
    bad = tidy(columns, all_of_sparsity(2.0, -1.0))
    assert verdicts(sparsity, bad) == ["fails"] * 5
    between = tidy(columns, all_of_sparsity(sparsity.paper_cost("SparseGPT 50 %"), 0.05))
    assert verdicts(sparsity, between) == ["inconclusive"] * 5
    assert sparsity.paper_cost("SparseGPT 50 %") == pytest.approx(np.log(36.85 / 27.66))


def test_layers_turn():
    columns = ["pruned", "dense", "quantity"]
    costs = {("all", left, "cost"): 0.5 for left in ("nothing", *layers.KINDS, *layers.THIRDS)}
    for more, verdict in ((1.0, "holds"), (-1.0, "fails"), (0.05, "inconclusive")):
        cells = costs | {(*worse, layers.above(better)): more for worse, better in layers.pairs()}
        assert verdicts(layers, tidy(columns, cells)) == [verdict, verdict, "not judged"]


def test_calibration_turns():
    columns = ["kind", "number", "quantity"]
    for value, verdict in ((1.0, "holds"), (-1.0, "fails"), (0.05, "inconclusive")):
        cells: dict = {("text", number, "cost"): 1.0 for number in calibration.STEPS}
        cells |= {("text", number, "gain"): value for number in calibration.STEPS[1:]} | {
            ("text", 32, "slowing"): value
        }
        cells |= {(kind, 32, "above text"): value for kind in calibration.KINDS[1:]}
        assert verdicts(calibration, tidy(columns, cells)) == [verdict] * 2


def test_formats_turn():
    columns = ["format", "where", "quantity"]

    def rows(cost, value, wide=1e-4):
        cells = {(name, formats.BOTH, "cost"): cost for name in formats.ALL_FORMATS}
        cells[("mxint8", formats.BOTH, "cost per word")] = cost
        cells |= {(name, formats.BOTH, "beyond"): value for name in formats.LOOKED_INTO}
        cells |= {(name, formats.INNER, "saved"): value for name in formats.LOOKED_INTO}
        return tidy(columns, cells).assign(half_width=wide, half_width_of_mean=wide)

    assert verdicts(formats, rows(0.0, 1.0)) == ["holds"] * 4
    assert verdicts(formats, rows(0.5, -1.0)) == ["fails"] * 4
    assert verdicts(formats, rows(formats.paper_nats(), 0.0, 0.1)) == ["inconclusive"] * 4


def test_exponents_turn():
    columns, of = ["model", "what", "quantity", "x"], (common.SMOLLM2, exponents.SYNTHETIC)

    def rows(share, real, synthetic):
        cells = {(of[0], what, quantity, 0.0): share
                 for what in exponents.READ for quantity in ("within", "within of others", "zero")}  # fmt: skip
        cells |= {(name, "inputs", "outliers", 0.0): value for name, value in zip(of, (real, synthetic), strict=True)}
        return tidy(columns, cells).assign(half_width=0.01, half_width_of_mean=0.01)

    assert verdicts(exponents, rows(0.9, 0.2, 0.0)) == ["holds"] * 3
    assert verdicts(exponents, rows(0.2, 0.0, 0.2)) == ["fails"] * 3
    assert verdicts(exponents, rows(0.5, 0.1, 0.1)) == ["inconclusive"] * 3


def test_a_channel_that_is_far_larger_is_an_outlier():
    x = np.ones((5, 20))
    assert exponents.outliers(x) == 0
    x[:, 3], x[:, 4] = 10.5, 9.5
    assert exponents.outliers(x) == 1 / 20


def test_acceptance_turns():
    columns = ["kind", "draft", "temperature", "quantity"]

    def rows(falls, of_list):
        cells = {(kind, draft, 1.0, "correlation"): -falls for kind in acceptance.KINDS for draft in acceptance.DRAFTS}
        shares = dict.fromkeys(acceptance.KINDS, 0.5) | {acceptance.LIST: of_list}
        return tidy(columns, cells | {(k, acceptance.LOOKUP, 0.0, "acceptance"): v for k, v in shares.items()})

    assert verdicts(acceptance, rows(0.5, 0.9)) == ["holds"] * 7
    assert verdicts(acceptance, rows(-0.5, 0.1)) == ["fails"] * 7
    assert verdicts(acceptance, rows(0.05, 0.55)) == ["inconclusive"] * 7


def test_acceptance_without_change_has_no_correlation():
    entropy = np.array([[0.1, 0.2, 0.3], [0.1, 0.2, 0.3]])
    assert acceptance.correlations(np.array([[3.0, 2, 1], [1, 1, 1]]), entropy).tolist() == pytest.approx([-1, 0])


def test_look_up_that_finds_nothing_proposes_nothing():
    """Its flat prediction over a p that is small would look like acceptance of the least likely tokens."""
    p = np.log([[[0.7, 0.2, 0.05, 0.05]] * 3])
    sure, flat = np.log([1.0, 1e-300, 1e-300, 1e-300]), np.log([0.25] * 4)
    q, tokens = np.stack([sure, sure, flat])[None], np.array([[0, 2, 3]])
    assert acceptance.looked_up(p, q, tokens, 1.0).round(6).tolist() == [[1.0, 0.0, 0.0]]
    assert acceptance.proposed(p, q, tokens, 1.0)[0, 2] == 1.0
    assert acceptance.looked_up(p, q, tokens, 0.0).tolist() == [[1.0, 0.0, 0.0]]


def test_speed_turns():
    def rows(look_up, turns=6):
        cells = [(kind, 1) for kind in speed.KINDS] + [(speed.LIST, 4)]
        seconds = [(*cell, how, "seconds", turn, {"plain": 10.0, "look-up": look_up}[how] * (1 + turn / 100))
                   for cell in cells for how in ("plain", "look-up") for turn in range(turns)]  # fmt: skip
        return pd.DataFrame(seconds, columns=["kind", "batch", "how", "quantity", "turn", "value"])

    assert verdicts(speed, rows(5.0)) == ["holds"] * 3
    assert verdicts(speed, rows(20.0)) == ["fails"] * 3
    assert verdicts(speed, rows(9.0)) == ["fails", "holds", "holds"]  # 1.11 times: short of the published 1.25


def test_in_context_turns():
    def rows(help, cost, outside, form, open, **other):
        other = {(RANDOM, "cost"): other["categories"]} if other else {}
        whole = {(GOLD, "gain"): help, (RANDOM, "gain"): help, (RANDOM, "cost"): cost}
        whole |= {(aspect, "cost against random labels"): outside for aspect in (INPUTS, LABELS)}
        whole |= {(aspect, "gain"): form for aspect in (ONLY_INPUTS, ONLY_LABELS)}
        cells = {(task, *cell): value for cell, value in whole.items() for task in in_context.COLOURS}
        cells |= {("categories", *cell): value for cell, value in other.items()}
        cells |= {(in_context.ALL, RANDOM, "open"): open, ("verse", in_context.LATE, "easier"): open}
        return tidy(["task", "aspect", "quantity"], cells)

    assert verdicts(in_context, rows(20, 2, 12, 1, 3)) == ["holds"] * 7
    assert verdicts(in_context, rows(-20, 9, -1, 9, -3)) == ["fails"] * 7
    assert verdicts(in_context, rows(0.05, 5.05, 12, 2.05, 0.05))[1] == "inconclusive"
    assert verdicts(in_context, rows(20, 9, 12, 1, 3, categories=2))[1] == "partly"  # every task is judged


def prompts_of(task, items):
    return [in_context.make_prompt(task, items, 16, np.random.default_rng(seed)) for seed in range(60)]


def test_tasks_have_one_answer_among_four_and_no_variant_gives_it_away():
    words = set()
    for task, items in in_context.tasks().items():
        assert len({given for given, _ in items}) == len(items) >= 40
        for made in prompts_of(task, items):
            asked = made.variants[GOLD].rsplit("\n", 1)[1].removesuffix(" ->")
            assert made.offered[0] == dict(items)[asked] and len(set(made.offered)) == in_context.CHOICES
            if task != "categories":  # whose outputs are few
                labels = {line.split(" -> ")[-1] for text in made.variants.values() for line in text.split("\n")[:-1]}
                assert not labels & set(made.offered)
        words |= {word for item in items for word in " ".join(item).lower().split()}
    assert not words & set(in_context.OUTSIDE)


def test_prompts_differ_in_what_they_say_alone():
    items = in_context.tasks()["antonyms"]
    made = in_context.make_prompt("antonyms", items, 6, np.random.default_rng(1))
    lines = {aspect: text.split("\n") for aspect, text in made.variants.items()}
    assert len({of[-1] for of in lines.values()}) == 1 and lines[GOLD][-1].endswith(" ->")
    gold = [tuple(line.split(" -> ")) for line in lines[GOLD][:-1]]
    assert len(gold) == 6 and set(gold) <= set(items) and lines[GOLD][-1].split()[0] not in {x for x, _ in gold}
    sides = {aspect: [line.split(" -> ") for line in of[:-1]] for aspect, of in lines.items()}
    assert [x for x, _ in sides[RANDOM]] == [x for x, _ in gold] == [x for (x,) in sides[ONLY_INPUTS]]
    assert [y for (y,) in sides[ONLY_LABELS]] == [y for _, y in sides[RANDOM]] == [y for _, y in sides[INPUTS]]
    assert [y for _, y in sides[RANDOM]] != [y for _, y in gold] and not sides[NO_EXAMPLES]
    assert {y for _, y in sides[LABELS]} | {x for x, _ in sides[INPUTS]} <= set(in_context.OUTSIDE)


def test_a_random_label_is_the_right_one_in_a_quarter_of_the_examples():
    for task, items in in_context.tasks().items():
        right = []
        for made in prompts_of(task, items):
            of_gold, of_random = (made.variants[aspect].split("\n")[:-1] for aspect in (GOLD, RANDOM))
            right += [gold == random for gold, random in zip(of_gold, of_random, strict=True)]
        assert 0.2 < np.mean(right) < 0.3, task


def test_outputs_are_scored_after_a_prompt_that_is_read_once(tmp_path, monkeypatch):
    """As by reading the prompt with each output from the beginning; the toy's characters are nearly its tokens."""
    write_language(tmp_path / "toy.gguf", tmp_path / "text")
    reader = common.read(common.Source(str(tmp_path / "toy.gguf"), str(tmp_path / "text")))
    sizes, items = in_context.Sizes(5, 1, 3), [("o", "to"), ("b", "be"), ("e", "eel"), ("t", "b")]
    monkeypatch.setattr(in_context, "choices", lambda task, item, others, rng: [item[1], "be to be", "ee", "x"])
    for aspect in (GOLD, NO_EXAMPLES):
        asked = in_context.asked(reader, "task", items, aspect, sizes)
        found = map_rows(in_context.nats, *checkpoints.split(reader.model), asked)
        for number, (row, length) in enumerate(zip(asked.begun, asked.lengths, strict=True)):
            made = in_context.make_prompt("task", items, 3, np.random.default_rng([*b"task", number]))
            for offered, end, output, score in zip(
                asked.offered[number], asked.ends[number], made.offered, found[number], strict=True
            ):
                whole = np.concatenate([row[:length], offered[:end]])
                assert reader.language.decode(whole) == f"{made.variants[aspect]} {output}\n"
                tail = len(reader.language.encode(f" {output}\n"))
                losses = token_losses(*checkpoints.split(reader.model), whole[None])[0]
                assert score == pytest.approx(losses[-tail:].mean(), rel=1e-5)
        right = in_context.accuracy(reader, "task", items, aspect, sizes)
        assert right.tolist() == [100.0 * (row.argmin() == 0) for row in found]


def test_texts_of_each_kind(tmp_path):
    write_language(tmp_path / "toy.gguf", tmp_path / "text")
    reader = common.read(common.Source(str(tmp_path / "toy.gguf"), str(tmp_path / "text")))
    for kind in common.KINDS:
        tokens = common.prompts(reader, kind, 3, 24)
        assert tokens.shape == (3, 24) and len({row.tobytes() for row in tokens}) > (kind != common.VERSE)
    lines = common.repeating_list(0, 4).split("\n")[:-1]
    assert [line.split(".")[0] for line in lines] == ["1", "2", "3", "4"] and len({line[3:11] for line in lines}) == 1
    assert common.repeating_list(0, 4) != common.repeating_list(1, 4)


@pytest.mark.skipif(common.lacks() is not None, reason=f"left out for want of {common.lacks()}")
@pytest.mark.parametrize("kind", common.KINDS)
def test_texts_of_each_kind_are_as_many_as_the_presets_ask(kind):
    for preset in acceptance.PRESETS.values():
        reader, sizes = common.read(preset.sizes.source), preset.sizes
        assert common.prompts(reader, kind, sizes.texts, sizes.prompt).shape == (sizes.texts, sizes.prompt)


def test_bits_a_character_by_hand(tmp_path):
    write_language(tmp_path / "toy.gguf", tmp_path / "text")
    reader = common.read(common.Source(str(tmp_path / "toy.gguf"), str(tmp_path / "text")))
    window = reader.language.encode("TO be OR")[None]
    characters, tokens = len("O be OR"), window.shape[1] - 1
    found = common.bits_per_character(reader, window, np.array([np.log(2)]))
    assert found.tolist() == pytest.approx([tokens / characters])
