"""The pages of the site that are written when it is built: none is forgotten, and their links have targets."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from figures.lab import catalogue, record, report

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))
import pages

ROOT = Path(__file__).parents[1]


@pytest.fixture
def site(tmp_path, monkeypatch):
    """The written pages; sections are short, since tests of reports try the real ones."""
    table = ["| claim | paper | ours | verdict |", "|---|---|---|---|", "| a | b | c | holds |", ""]

    def section(experiment):
        return [
            *table,
            f"![{experiment.title}](figures/out/small/{experiment.name}.png)",
            "",
            "**What differs.** This.",
        ]

    monkeypatch.setattr(report, "section", section)
    monkeypatch.setattr(report, "overview", lambda experiments: ["| [Pruning](#pruning) | papers | 1 |"])
    monkeypatch.setattr(report, "models_table", lambda experiments: ["| names |"])
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    pages.write(tmp_path)
    return tmp_path


def test_every_experiment_has_a_page_and_its_subject_lists_it(site):
    for name in catalogue.names():
        assert (site / "gallery" / f"{name}.md").exists()
        listed = (site / "gallery" / f"{name.split('/')[0]}.md").read_text()
        assert re.search(rf"^{name}$", listed, re.MULTILINE)
        assert (f":link: {name}\n" in listed) == record.file_of(name, "small", ".png").exists()
        assert "{grid}" not in listed or "{grid-item-card}" in listed  # Sphinx refuses a grid without cards


def test_a_page_has_its_claims_in_a_box_a_picture_that_opens_the_code_and_the_rows(site):
    text = (site / "gallery" / "pruning" / "sparsity.md").read_text()
    assert "::::{container} claims\n\n| claim |" in text and "| a | b | c | holds |\n\n::::" in text
    links = re.findall(r"\]\(\.\./\.\./([^)]+)\)", text)
    assert {"figures/pruning/sparsity.py", "figures/out/small/pruning/sparsity.csv"} <= set(links)
    assert links.count("figures/out/small/pruning/sparsity.png") == 2 and all((ROOT / link).exists() for link in links)


def test_the_front_page_has_a_card_for_every_lesson_and_subject(site):
    lessons, subjects = ((site / "gallery" / f"{name}.txt").read_text() for name in ("lessons", "subjects"))
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        assert f":link: notebooks/{path.stem}\n" in lessons
    assert lessons.count("?\n:::") == len(list((ROOT / "notebooks").glob("*.ipynb")))
    assert all(f":link: gallery/{subject}\n" in subjects for subject in catalogue.subjects())


def test_the_overview_leads_to_the_galleries(site):
    text = (site / "RESULTS.md").read_text()
    assert "| [Pruning](gallery/pruning.md) | papers | 1 |" in text
    assert (
        f"## Pruning\n\n[{len(catalogue.choose(['pruning']))} experiments](gallery/pruning.md)" in text
    )  # lessons link to the headings of RESULTS
