"""Pages of the site that no file of the repository holds: a gallery for each subject, a page for each experiment."""

import json
from pathlib import Path

from figures.lab import catalogue, record, report
from figures.lab.catalogue import Experiment
from icl_synth.sources import ROOT

COMMITTED = ("small", "paper")


def write(source: Path) -> None:
    """Write them beside the copied files; RESULTS becomes the overview that leads to them."""
    folder = source / "gallery"
    for subject in catalogue.subjects():
        members = [one for one in catalogue.choose([subject]) if shown(one)]
        (folder / subject).mkdir(parents=True, exist_ok=True)
        (folder / f"{subject}.md").write_text(gallery(subject, members))
        for experiment in catalogue.choose([subject]):
            (folder / f"{experiment.name}.md").write_text(page(experiment))
    (folder / "lessons.txt").write_text(lessons(sorted(source.glob("notebooks/*.ipynb"))))
    (folder / "subjects.txt").write_text(subjects())
    (source / "RESULTS.md").write_text(overview())


def shown(experiment: Experiment) -> str | None:
    """The preset whose picture is shown: the largest that was recorded."""
    return next((one for one in reversed(COMMITTED) if record.file_of(experiment.name, one, ".png").exists()), None)


def gallery(subject: str, members: list[Experiment]) -> str:
    """Thumbnails that lead to pages of experiments; then every experiment of the subject, drawn or not."""
    cards = [card(experiment.title, experiment.name, f"../{picture(experiment)}") for experiment in members]
    pages = "\n".join(one.name for one in catalogue.choose([subject]))
    return "\n\n".join(
        [
            f"# {catalogue.subject_title(subject)}",
            grid(cards) if cards else "Nothing is recorded yet: each page below says what its experiment asks.",
            f"```{{toctree}}\n:maxdepth: 1\n\n{pages}\n```\n",
        ]
    )


def lessons(notebooks: list[Path]) -> str:
    """A numbered card for each lesson, with the question that is its title."""
    questions = [json.loads(path.read_text())["cells"][0]["source"][0].removeprefix("# ").strip() for path in notebooks]
    return grid(
        [card(f"{path.stem[:2]}", f"notebooks/{path.stem}", text=question)
         for path, question in zip(notebooks, questions, strict=True)]
    )  # fmt: skip


def subjects() -> str:
    """A card for each subject, with the picture of its first experiment that has one."""
    cards = []
    for subject in catalogue.subjects():
        first = next((one for one in catalogue.choose([subject]) if shown(one)), None)
        cards.append(card(catalogue.subject_title(subject), f"gallery/{subject}", picture(first) if first else ""))
    return grid(cards)


def card(title: str, link: str, image: str = "", text: str = "") -> str:
    options = [f":link: {link}", ":link-type: doc", *([f":img-top: {image}"] if image else [])]
    return "\n".join([f":::{{grid-item-card}} {title}", *options, text, ":::"])


def grid(cards: list[str]) -> str:
    return "\n\n".join(["::::{grid} 1 2 2 3\n:gutter: 2", *cards, "::::"]) + "\n"


def picture(experiment: Experiment) -> str:
    return f"figures/out/{shown(experiment)}/{experiment.name}.png"


def page(experiment: Experiment) -> str:
    """Claims as in RESULTS.md, the picture that opens large, the rows, the command and the code."""
    preset = shown(experiment)
    lines = [f"# {experiment.title}", ""]
    before = ""
    for line in [*report.section(experiment), ""]:
        if line.startswith("|") and not before.startswith("|"):
            lines.append("::::{container} claims\n")
        elif before.startswith("|") and not line.startswith("|"):
            lines.append("\n::::")
        large = line.startswith("![")
        lines.append(f"[{line.replace('(figures', '(../../figures')}](../../{picture(experiment)})" if large else line)
        before = line
    code = experiment.path.relative_to(ROOT)
    files = [f"[code](../../{code})"]
    files += [
        f"[{suffix[1:].upper()}](../../{record.file_of(experiment.name, preset, suffix).relative_to(ROOT)})"
        for suffix in (".csv", ".json", ".pdf")
        if preset and record.file_of(experiment.name, preset, suffix).exists()
    ]
    return "\n".join([*lines, "", f"{', '.join(files)}", ""])


def overview() -> str:
    """RESULTS with its headings, which lessons and guides link to; under that of a subject, the way to its gallery."""
    experiments = catalogue.choose([])
    counts = "\n".join(report.overview(experiments))
    headings = []
    for subject in catalogue.subjects():
        title, gallery = catalogue.subject_title(subject), f"(gallery/{subject}.md)"
        counts = counts.replace(f"(#{title.lower().replace(' ', '-')})", gallery)
        headings += [f"## {title}", f"[{len(catalogue.choose([subject]))} experiments]{gallery}"]
    models = ["## Models", report.MODELS, "\n".join(report.models_table(experiments))]
    return "\n\n".join(["# Results", report.HEAD, counts, *models, *headings]) + "\n"
