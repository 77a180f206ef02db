"""Parts of README and docs that are written from rows and recorded benchmarks, so that no number is typed by hand.

A part stands between `<!-- begin NAME -->` and `<!-- end NAME -->`. `python -m figures --results` writes all of them
and RESULTS.md; a test compares.
"""

import re
from collections.abc import Callable
from pathlib import Path

from figures.lab import catalogue, record, recorded_speed, report
from icl_synth import pretrained
from icl_synth.files import write_text

ROOT = catalogue.FIGURES.parent
PART = re.compile(r"<!-- begin (?P<name>[\w/ -]+) -->\n.*?<!-- end (?P=name) -->", re.DOTALL)


def pages() -> list[Path]:
    """The Markdown files that may have generated parts."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def write_all() -> None:
    """Write RESULTS.md and every generated part."""
    write_text(ROOT / "RESULTS.md", report.results())
    for page in pages():
        text = page.read_text()
        if (new := filled(text)) != text:
            write_text(page, new)


def filled(text: str) -> str:
    """A page with its parts written anew. Raises ValueError for an unknown part, and for one without an end."""
    begun, complete = text.count("<!-- begin "), len(PART.findall(text))
    if begun != complete:
        raise ValueError(f"{begun} generated parts begin and {complete} are complete: each needs its <!-- end NAME -->")
    return PART.sub(
        lambda match: f"<!-- begin {match['name']} -->\n{part(match['name'])}<!-- end {match['name']} -->", text
    )


def part(name: str) -> str:
    """The lines of a part, such as "experiments learning"."""
    kind, _, argument = name.partition(" ")
    if kind not in PARTS:
        raise ValueError(f"unknown generated part {name!r}: choose from {', '.join(PARTS)}")
    return "\n".join(PARTS[kind](argument)) + "\n"


def experiments_table(subject: str) -> list[str]:
    """The experiments of a subject: where the code is, and what it shows."""
    lines = ["| experiment | code | shows |", "|---|---|---|"]
    for experiment in catalogue.choose([subject]):
        code = f"[`figures/{experiment.name}.py`](../figures/{experiment.name}.py)"
        lines.append(f"| `{experiment.name}` | {code} | {experiment.title} |")
    return lines


def pretrained_table(_: str) -> list[str]:
    """The shipped models by their cards."""
    lines = ["| model | parameters | tokens | minutes | excess over Bayes | accuracy, k = 10, n = 16 |"]
    lines.append("|---|" + "---:|" * 5)
    for name in pretrained.names():
        card = pretrained.card(name)
        lines.append(
            f"| {name} | {card['parameters']:,} | {card['tokens'] / 1e6:.1f} M | {card['minutes']:.1f} | "
            f"{card['excess_nats']:.3f} nats | {100 * card['accuracy']:.1f} % |"
        )
    return lines


def presets_table(_: str) -> list[str]:
    """What each preset trains for the main experiments and how much it asks."""
    lines = ["| preset | models | seeds asked | prompts at each point | its rows |", "|---|---|---:|---:|---|"]
    accuracy = catalogue.experiment("learning/accuracy")
    for name, (suite, sizes) in accuracy.presets.items():
        models = ", ".join(f"{model} (`{training}`)" for model, training in suite.models.items())
        known = record.read_provenance(accuracy.name, name) if name != "quick" else None
        there = f"committed: {len(known['seeds'])} seeds, {record.state(accuracy, name)}" if known else "not run"
        kept = "not committed" if name == "quick" else there
        lines.append(f"| `{name}` | {models} | {len(suite.seeds)} | {sizes.prompts:,} | {kept} |")
    return lines


PARTS: dict[str, Callable[[str], list[str]]] = {
    "experiments": experiments_table,
    "models": lambda _: report.models_table(catalogue.choose([])),
    "overview": lambda _: report.overview(catalogue.choose([])),
    "presets": presets_table,
    "pretrained": pretrained_table,
    "speed": lambda _: recorded_speed.speed_table(),
    "times": lambda _: recorded_speed.times_table(),
}
