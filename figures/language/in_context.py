"""Which parts of a prompt matter to a real language model (Min et al. 2022), and how much earlier text helps."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.lab.claims import Claim, at_least, listed, no_more, positive, show
from figures.lab.presets import NONE, presets
from figures.lab.runs import Models
from figures.lab.style import BLACK, BLUE, GREEN, ORANGE, PINK, WIDTH
from figures.lab.tables import Table, only, over_seeds, pick, published
from figures.language import common
from figures.language.common import MODEL, SMOLLM2, Reader, Source
from icl_synth import checkpoints
from icl_synth.estimates import Estimate
from icl_synth.evaluate import map_rows, token_losses
from icl_synth.transformer import Transformer

TITLE = "The four aspects of a prompt on a real language model (Min et al. 2022)"
DIFFERS = (
    f"{MODEL}Min et al. ask models of 774 M parameters and more about 26 data sets. Ours are four tasks written for "
    "this: antonyms, categories of things, words with a capital letter, and pairs of words in reverse order. A prompt "
    "has examples 'input -> output', a line each, then an input; the answer is the likeliest of four outputs, by the "
    "mean over its tokens and the line's end, as in the paper's code. The three wrong ones are the other categories; "
    "for an antonym the word itself and two words that no example shows; for a capital the word as it was, in "
    "capitals, and in the plural; for a pair the pair as it was, and each of its words twice. So guessing is not 25 % "
    "for every task. A random label is drawn from the example's own four outputs, as in the paper. All variants ask "
    "the same inputs; accuracy is averaged over the tasks, paired, and intervals are over prompts. As in the paper: "
    "examples help, and with random labels they still help; random labels cost at most 5 points; inputs from outside, "
    "with random labels, cost at least 3 points more than random labels, the least in three of the paper's four "
    "settings (in the fourth nothing). Without format (inputs only; random labels only) the paper finds results close "
    "to or worse than those without examples; the 2 points that we allow are ours, as for the synthetic models. Each "
    "claim has a part for each task. Categories alone are like the paper's: a few labels, of which examples show "
    "nearly all. In the three other tasks the outputs are open, and the input itself is offered, so that a quarter of "
    "the random labels show how to copy. Our own questions: do labels from outside cost more than random labels "
    "(words of no task, while the task's own outputs are asked; the paper asks the new words); do random labels cost "
    "more in the three tasks with open outputs than in categories (which does not tell open outputs from the offer of "
    "a copy); and is the text at tokens 256 to 511 of a window of the held-back works easier than at 16 to 63? Rules "
    "of 30 November 2026: the first rows, of the same day, had sums in place of means over tokens, and were judged on "
    "the mean of the tasks."
)
PUBLISHED = ("min2022.csv",)
lacks = common.lacks
ANTONYMS = (
    "hot cold, big small, fast slow, high low, early late, rich poor, hard soft, light dark, wet dry, old new, "
    "strong weak, thick thin, open closed, full empty, happy sad, clean dirty, loud quiet, sharp blunt, wide "
    "narrow, deep shallow, guilty innocent, tall short, sweet sour, rough smooth, near far, right wrong, true "
    "false, safe dangerous, cheap expensive, brave afraid, first last, inside outside, above below, push pull, buy "
    "sell, win lose, give take, start stop, love hate, war peace"
)
CATEGORIES = {
    "animal": "horse, tiger, rabbit, eagle, salmon, spider, camel, whale, monkey, sparrow, wolf, goat",
    "fruit": "apple, cherry, lemon, banana, grape, peach, melon, plum, mango, orange, pear, fig",
    "tool": "hammer, saw, drill, axe, shovel, wrench, chisel, pliers, file, rake, scissors, knife",
    "metal": "iron, copper, silver, gold, lead, tin, zinc, nickel, aluminium, steel, bronze, platinum",
}
OUTSIDE = (
    "cloud, paper, window, winter, letter, garden, story, market, answer, corner, number, island, music, village, "
    "school, bottle, summer, picture, station, minute, kitchen, weather, engine, carpet, ticket, bridge, candle, "
    "pocket, shadow, basket"
).split(", ")
GOLD, RANDOM, LABELS, INPUTS, ONLY_INPUTS, ONLY_LABELS, NO_EXAMPLES = ASPECTS = (
    "gold labels", "random labels", "labels from outside", "inputs from outside", "inputs only", "labels only", "none"
)  # fmt: skip
ALL, OPEN = "all tasks", ("antonyms", "capitals", "reverse pairs")
COLOURS = {"antonyms": BLUE, "categories": ORANGE, "capitals": GREEN, "reverse pairs": PINK}
CHOICES = 4
EARLY, LATE = "16 to 63", "256 to 511"
POSITIONS = {"1 to 15": (1, 16), EARLY: (16, 64), "64 to 255": (64, 256), LATE: (256, 512)}
BUCKET, ROOM = 32, 8  # tokens: prompts and what follows them are padded to a multiple

Example = tuple[str, str]


class Sizes(NamedTuple):
    prompts: int  # of each task
    windows: int  # of the held-back works, for the loss by position
    examples: int = 16
    source: Source = Source()


PRESETS = presets({name: NONE[name] for name in ("quick", "small")}, quick=Sizes(12, 8, 8), small=Sizes(64, 48))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: task, aspect, quantity; value in points of accuracy, or nats per token.

    Quantities: accuracy, gain (over no examples), cost (of gold labels' accuracy), cost against random labels, open
    (cost of random labels where outputs are open, less that of categories; task: all tasks); and loss of
    verse by position (task: verse), with easier (by how much late tokens are easier than early ones).
    """
    table, reader = Table("task", "aspect", "quantity"), common.read(sizes.source)
    right: dict[tuple[str, str], Float[np.ndarray, " N"]] = {}
    with tqdm(total=len(COLOURS) * len(ASPECTS), desc="prompts", unit="variant") as bar:
        for task, items in tasks().items():
            for aspect in ASPECTS:
                right[task, aspect] = accuracy(reader, task, items, aspect, sizes)
                bar.update()
    least = 300 / sizes.prompts  # the rule of three: what so many right answers can support
    for aspect in ASPECTS:
        right[ALL, aspect] = np.mean([right[task, aspect] for task in COLOURS], axis=0)
    for (task, aspect), values in right.items():
        quantities = {
            "accuracy": values,
            "gain": values - right[task, NO_EXAMPLES],
            "cost": right[task, GOLD] - values,
            "cost against random labels": right[task, RANDOM] - values,
        }
        for quantity, each in quantities.items():
            common.add(table, task, aspect, quantity, values=each, least=least)
    lost = {task: right[task, GOLD] - right[task, RANDOM] for task in COLOURS}
    more = np.mean([lost[task] for task in OPEN], axis=0) - lost["categories"]
    common.add(table, ALL, RANDOM, "open", values=more, least=least)
    losses = token_losses(*checkpoints.split(reader.model), reader.judged(sizes.windows))
    means = {name: losses[:, first - 1 : end - 1].mean(-1) for name, (first, end) in positions(losses).items()}
    for name, values in means.items():
        common.add(table, "verse", name, "loss", values=values)
    common.add(table, "verse", LATE, "easier", values=means[EARLY] - means[LATE])
    return table.rows()


def positions(losses: Float[np.ndarray, "N T"]) -> dict[str, tuple[int, int]]:
    """The ranges of positions, cut to shorter windows in proportion."""
    length = losses.shape[1] + 1
    return {
        name: (max(1, first * length // 512), max(2, end * length // 512)) for name, (first, end) in POSITIONS.items()
    }


def tasks() -> dict[str, list[Example]]:
    """Inputs and outputs of each task."""
    pairs = [tuple(pair.split()) for pair in ANTONYMS.split(", ")]
    things = [(thing, name) for name, several in CATEGORIES.items() for thing in several.split(", ")]
    return {
        "antonyms": [(one, other) for one, other in pairs],
        "categories": things,
        "capitals": [(thing, thing.capitalize()) for thing, _ in things],
        "reverse pairs": [(f"{one} {other}", f"{other} {one}") for one, other in pairs],
    }


def choices(task: str, item: Example, others: list[str], rng: np.random.Generator) -> list[str]:
    """The right output, then three wrong ones; those of an antonym are drawn from `others`."""
    given, answer = item
    if task == "categories":
        return [answer, *(name for name in CATEGORIES if name != answer)]
    if task == "antonyms":
        return [answer, given, *rng.choice(others, 2, replace=False)]
    if task == "capitals":
        return [answer, given, given.upper(), f"{answer}s"]
    one, other = given.split()
    return [answer, given, f"{one} {one}", f"{other} {other}"]


class Prompt(NamedTuple):
    """A prompt in every variant, and the four outputs that are offered, the right one first."""

    variants: dict[str, str]
    offered: list[str]


def make_prompt(task: str, items: list[Example], number: int, rng: np.random.Generator) -> Prompt:
    """Examples and a test input, none twice. What is offered for an antonym, no example shows."""
    order = [items[place] for place in rng.permutation(len(items))]
    test, shown, hidden = order[0], order[1 : number + 1], [output for _, output in order[number + 1 :]]
    labels = [str(rng.choice(choices(task, example, hidden, rng))) for example in shown]
    words = rng.choice(OUTSIDE, len(shown))
    lines = {
        GOLD: [f"{x} -> {y}\n" for x, y in shown],
        RANDOM: [f"{x} -> {y}\n" for (x, _), y in zip(shown, labels, strict=True)],
        LABELS: [f"{x} -> {word}\n" for (x, _), word in zip(shown, words, strict=True)],
        INPUTS: [f"{word} -> {y}\n" for word, y in zip(words, labels, strict=True)],
        ONLY_INPUTS: [f"{x}\n" for x, _ in shown],
        ONLY_LABELS: [f"{y}\n" for y in labels],
        NO_EXAMPLES: [],
    }
    unseen = [output for output in hidden if output not in labels]
    return Prompt(
        {aspect: "".join(some) + f"{test[0]} ->" for aspect, some in lines.items()}, choices(task, test, unseen, rng)
    )


class Asked(NamedTuple):
    """Prompts but for their last token, and C texts that follow: that token, an output and the line's end."""

    begun: Int[np.ndarray, "N L"]
    lengths: Int[np.ndarray, " N"]  # in tokens
    offered: Int[np.ndarray, "N C T"]
    ends: Int[np.ndarray, "N C"]  # of what is offered, in tokens


def asked(reader: Reader, task: str, items: list[Example], aspect: str, sizes: Sizes) -> Asked:
    """The prompts of a task in one variant, padded."""
    encode, begun, offered = reader.language.encode, [], []
    for number in range(sizes.prompts):
        made = make_prompt(task, items, sizes.examples, np.random.default_rng([*task.encode(), number]))
        *before, last = encode(made.variants[aspect])
        begun.append(before)
        offered += [[last, *encode(f" {output}\n")] for output in made.offered]
    follow, ends = padded(offered, ROOM)
    return Asked(*padded(begun, BUCKET), follow.reshape(len(begun), CHOICES, -1), ends.reshape(-1, CHOICES))


def padded(rows: list[list[int]], multiple: int) -> tuple[Int[np.ndarray, "N L"], Int[np.ndarray, " N"]]:
    """Rows with zeros behind them, to a multiple of tokens; and their lengths."""
    lengths = np.array([len(row) for row in rows])
    length = -(-lengths.max() // multiple) * multiple
    return np.array([row + [0] * (length - len(row)) for row in rows]), lengths


def nats(model: Transformer, asked: Asked) -> Float[Array, "N C"]:
    """-log p per token of each output; its prompt is read once for all. A function for `map_rows`."""
    rows, choices, window = asked.offered.shape
    _, cache = model.extend(asked.begun, model.init_state(rows, asked.begun.shape[1], spare=window))
    cache = jax.tree.map(
        lambda x: jnp.repeat(x, choices, axis=0),
        dataclasses.replace(cache, length=asked.lengths),  # type: ignore[arg-type]  # traced it is no longer NumPy's
    )
    offered = asked.offered.reshape(-1, window)
    log_probs = jax.nn.log_softmax(model.extend(offered, cache)[0][:, :-1])
    losses = -jnp.take_along_axis(log_probs, offered[:, 1:, None], axis=-1)[..., 0]
    counts = jnp.arange(1, window) < asked.ends.reshape(-1, 1)
    return losses.mean(1, where=counts).reshape(rows, choices)


def accuracy(reader: Reader, task: str, items: list[Example], aspect: str, sizes: Sizes) -> Float[np.ndarray, " N"]:
    """100 or 0 for each prompt: whether the right output is the likeliest of four."""
    scores = map_rows(
        nats,  # type: ignore[arg-type]  # language models are no LSTMs
        *checkpoints.split(reader.model),
        asked(reader, task, items, aspect, sizes),
    )
    return 100.0 * (scores.argmin(1) == 0)


def plot(rows: pd.DataFrame) -> Figure:
    means = pick(over_seeds(rows), quantity="accuracy")
    figure, (panel, by_position) = plt.subplots(1, 2, figsize=(WIDTH, 4.2), width_ratios=(2, 1))
    draw_aspects(panel, means)
    draw_positions(by_position, over_seeds(rows))
    figure.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    gold, random, none = (only(means, task=ALL, aspect=aspect).mean for aspect in (GOLD, RANDOM, NO_EXAMPLES))
    figure.suptitle(f"{SMOLLM2} answers {gold:.0f} % with gold labels, {random:.0f} % with random ones,\n{none:.0f} % "
                    "without examples", size=11)  # fmt: skip
    return figure


def draw_aspects(panel: Axes, means: pd.DataFrame) -> None:
    """Right answers by what is changed: a dot for each task, a diamond for their mean."""
    shown = ASPECTS[::-1]
    for place, (task, colour) in enumerate(COLOURS.items()):
        line = pick(means, task=task).set_index("aspect").loc[list(shown)]
        panel.plot(line.value, np.arange(len(shown)) - 0.12 * (place - 1.5), "o", ms=4, color=colour, label=task)
    whole = pick(means, task=ALL).set_index("aspect").loc[list(shown)]
    panel.errorbar(whole.value, range(len(shown)), xerr=whole.half_width, fmt="D", color=BLACK, capsize=2, label=ALL)
    panel.set_yticks(range(len(shown)), labels=shown)
    panel.set(xlabel="right answers, %", xlim=(0, 101))


def draw_positions(panel: Axes, means: pd.DataFrame) -> None:
    """The loss on verse by position."""
    line = pick(means, task="verse", quantity="loss")
    panel.errorbar(range(len(line)), line.value, line.half_width, color=BLUE, marker="o", capsize=2)
    panel.set_xticks(range(len(line)), [name.replace(" to ", "\nto ") for name in line.aspect], size=8)
    panel.set(xlabel="tokens of a window of verse", ylabel="loss, nats per token")


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Min et al.'s results, of each task; and where the output is open."""
    rows = over_seeds(rows)
    judges = (help_claim, random_claim, inputs_claim, format_claim, labels_claim, open_claim, position_claim)
    return [judge(rows) for judge in judges]


def of_tasks(rows: pd.DataFrame, aspect: str, quantity: str) -> dict[str, Estimate]:
    return {task: only(rows, task=task, aspect=aspect, quantity=quantity) for task in COLOURS}


def help_claim(rows: pd.DataFrame) -> Claim:
    gains = {aspect: of_tasks(rows, aspect, "gain") for aspect in (GOLD, RANDOM)}
    return Claim(
        f"{SMOLLM2}: examples help, with random labels too",
        "gold labels, and random ones almost as well, above no demonstrations (section 4.1)",
        "; ".join(f"{aspect}: {listed(gain)}" for aspect, gain in gains.items()) + " points above none",
        [positive(value) for gain in gains.values() for value in gain.values()],
    )


def random_claim(rows: pd.DataFrame) -> Claim:
    line = published("min2022", aspect=RANDOM, setting="classification and multi-choice").iloc[0]
    costs = of_tasks(rows, RANDOM, "cost")
    return Claim(
        f"{SMOLLM2}: random labels cost at most {line.most:g} points",
        f"{line.least:g} to {line.most:g} points (section 4.1)",
        f"{listed(costs)} points",
        [no_more(cost, float(line.most)) for cost in costs.values()],
        headline=True,
    )


def inputs_claim(rows: pd.DataFrame) -> Claim:
    margin = float(
        published("min2022", aspect=INPUTS, setting="Channel MetaICL, Direct GPT-J and Channel GPT-J").least.iloc[0]
    )
    costs = of_tasks(rows, INPUTS, "cost against random labels")
    return Claim(
        f"{SMOLLM2}: inputs from outside cost at least {margin:g} points more than random labels",
        f"at least {margin:g} points in three of four settings (section 5.1)",
        f"{listed(costs)} points",
        [at_least(cost, margin) for cost in costs.values()],
    )


def labels_claim(rows: pd.DataFrame) -> Claim:
    costs = of_tasks(rows, LABELS, "cost against random labels")
    line = published("min2022", aspect=LABELS, setting="direct models").iloc[0]
    return Claim(
        f"{SMOLLM2}: labels from outside cost more than random labels",
        f"{line.least:g} to {line.most:g} points, where the new words are asked (direct models, section 5.2)",
        f"{listed(costs)} points",
        [positive(cost) for cost in costs.values()],
        own=True,
    )


def format_claim(rows: pd.DataFrame) -> Claim:
    gains = {aspect: of_tasks(rows, aspect, "gain") for aspect in (ONLY_INPUTS, ONLY_LABELS)}
    return Claim(
        f"{SMOLLM2}: without the format, examples gain at most 2 points over none (our margin)",
        "close to or worse than no demonstrations (section 5.3)",
        "; ".join(f"{aspect}: {listed(gain)}" for aspect, gain in gains.items()) + " points",
        [no_more(value, 2.0) for gain in gains.values() for value in gain.values()],
    )


def open_claim(rows: pd.DataFrame) -> Claim:
    more = only(rows, task=ALL, aspect=RANDOM, quantity="open")
    return Claim(
        f"{SMOLLM2}: random labels cost more in the tasks with open outputs than in categories",
        "no such task in the paper",
        f"{show(more)} points more ({', '.join(OPEN)} on average)",
        [positive(more)],
        own=True,
    )


def position_claim(rows: pd.DataFrame) -> Claim:
    easier = only(rows, task="verse", aspect=LATE, quantity="easier")
    return Claim(
        f"{SMOLLM2}: tokens {LATE} of a window of verse are easier than tokens {EARLY}",
        "no number",
        f"{show(easier, 3)} nats per token",
        [positive(easier)],
        own=True,
    )
