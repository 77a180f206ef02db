"""What is generated from recorded rows: RESULTS.md and parts of README and docs. Prose holds no measured number."""

import dataclasses
import re
from pathlib import Path

import pandas as pd
import pytest

from figures.lab import catalogue, generated, record, report
from figures.lab.claims import Claim, Finding

ROOT = Path(__file__).parents[1]


JUDGED: dict[tuple[str, str], list[Claim]] = {}


@pytest.fixture
def judged_once(monkeypatch):
    """RESULTS.md and the pages judge the same claims."""
    judge = report.recorded_claims

    def once(experiment, preset):
        key = experiment.name, preset
        return JUDGED[key] if key in JUDGED else JUDGED.setdefault(key, judge(experiment, preset))

    monkeypatch.setattr(report, "recorded_claims", once)


@pytest.mark.xdist_group("judged")
@pytest.mark.usefixtures("judged_once")
def test_results_are_those_of_the_recorded_rows():
    assert (ROOT / "RESULTS.md").read_text() == report.results(), "run python -m figures --results"


@pytest.mark.xdist_group("judged")
@pytest.mark.usefixtures("judged_once")
@pytest.mark.parametrize("page", generated.pages(), ids=lambda path: path.name)
def test_generated_parts_are_those_of_the_records(page):
    assert page.read_text() == generated.filled(page.read_text()), "run python -m figures --results"


def test_every_experiment_is_in_results():
    text = (ROOT / "RESULTS.md").read_text()
    names = catalogue.names()
    assert len(names) >= 27 and all(f"python -m figures {name} --preset small" in text for name in names)


def test_a_new_folder_is_a_subject(tmp_path, monkeypatch):
    for name, text in (("learning", ""), ("scaling", ""), ("lab", "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(text)
    for name in ("learning/accuracy", "scaling/fit", "scaling/common", "lab/runs"):
        (tmp_path / f"{name}.py").write_text("")
    monkeypatch.setattr(catalogue, "FIGURES", tmp_path)
    assert catalogue.names() == ["learning/accuracy", "scaling/fit"]


def test_every_folder_of_figures_is_a_subject_or_known_to_be_none():
    folders = {path.name for path in (ROOT / "figures").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == {*catalogue.subjects(), *catalogue.NO_SUBJECTS}


def test_a_module_that_is_no_experiment_is_told():
    with pytest.raises(TypeError, match=r"figures/pruning/common.py is no experiment: it lacks"):
        catalogue.experiment("pruning/common")


def test_an_unknown_experiment_names_the_choices():
    with pytest.raises(SystemExit, match="unknown experiment 'fig_nine': choose from learning, pruning"):
        catalogue.choose(["fig_nine"])
    assert [one.name for one in catalogue.choose(["pruning/bits", "pruning"])][:2] == [
        "pruning/bits",
        "pruning/ablations",
    ]


def test_a_part_is_written_anew_where_it_is_empty_and_where_it_is_not(monkeypatch):
    monkeypatch.setitem(generated.PARTS, "sum", lambda word: [f"two {word}"])
    for old in ("", "old\n", "a\nb\n"):
        text = f"before\n<!-- begin sum of -->\n{old}<!-- end sum of -->\nafter"
        assert generated.filled(text) == "before\n<!-- begin sum of -->\ntwo of\n<!-- end sum of -->\nafter"
    with pytest.raises(ValueError, match="each needs its <!-- end"):
        generated.filled("<!-- begin sum of -->\n")
    with pytest.raises(ValueError, match="unknown generated part 'no'"):
        generated.filled("<!-- begin no -->\n<!-- end no -->")


# numbers in prose that are no measurements: what a page defines or commands
ALLOWED = {
    "README.md": {"95 %", "1.0"},  # the version of the MX specification
    "train.md": {"1.44"},  # bits in a nat
    "experiments.md": {"95 %"},
}


@pytest.mark.parametrize("page", generated.pages(), ids=lambda path: path.name)
def test_no_measured_number_is_typed_into_prose(page):
    """Decimals, percentages and times with a unit stand in generated parts, code, or the page's list above."""
    text = generated.PART.sub("", page.read_text())
    text = re.sub(r"```.*?```|`[^`\n]*`|\]\([^)]*\)|arXiv [\d.]+", "", text, flags=re.DOTALL)
    typed = set(re.findall(r"\d+(?:\.\d+)? (?:%|ms|s|min|minutes|hours|nats|points|k|M|MB|GB)\b|\d+ %|\d+\.\d+", text))
    assert typed - ALLOWED.get(page.name, set()) == set()


def test_the_readme_fits():
    lines = (ROOT / "README.md").read_text().splitlines()
    prose = [line for line in lines if not line.startswith("|")]
    assert len(lines) <= 150 and max(map(len, prose)) <= 700


def test_a_claim_that_fails_is_said_to_fail():
    module = catalogue.experiment("learning/posterior").module
    rows = pd.DataFrame(
        [("exact Bayes", 10, "posterior", 0.3, 0.1), ("transformer", 0, "mean_excess", 0.5, 0.1)],
        columns=["model", "position", "quantity", "value", "half_width"],
    )
    assert [claim.verdict for claim in module.claims(rows)] == ["fails", "fails"]


def claim(verdict: str, own: bool) -> Claim:
    return Claim(f"{verdict}, {own}", "theirs", "ours", [Finding(verdict, 0.01)], own=own)


def test_claims_of_papers_and_own_questions_are_counted_and_listed_apart(monkeypatch):
    table = [claim("holds", False), claim("holds", True), claim("fails", True), claim("inconclusive", True)]
    experiment = catalogue.experiment("learning/posterior")
    monkeypatch.setattr(report, "recorded_claims", lambda one, _: table if one.name == experiment.name else [])
    papers, own = (line for line in report.overview([experiment]) if "#learning" in line or "in-context" in line)
    assert [line.split(" | ")[1:7] for line in (papers, own)] == [
        ["papers", "1", "0", "0", "0", "0"],
        ["our own questions", "1", "0", "1", "1", "0"],
    ]
    lines = report.section(experiment)
    asked = lines.index("Our own questions, corrected for being 3:")
    assert any("holds, False" in line for line in lines[:asked])
    assert all(f"{one.claim} | theirs | ours | {one.verdict} |" in "\n".join(lines[asked:]) for one in table[1:])


def test_the_headline_claims_of_a_subject_stand_first(monkeypatch):
    table = [claim("holds", False), dataclasses.replace(claim("fails", True), headline=True), claim("partly", False)]
    monkeypatch.setattr(report, "recorded_claims", lambda one, _: table if one.name == "learning/posterior" else [])
    assert report.headlines("learning")[-1] == "| our question: fails, True | theirs | ours | fails |"
    assert len(report.headlines("learning")) == 6 and report.headlines("pruning") == []
    text = report.results()
    assert text.index("our question: fails, True") < text.index("### In-context accuracy")


def test_rows_that_claims_outgrew_are_said_to_be_so(monkeypatch):
    experiment = catalogue.experiment("learning/posterior")
    module = type("Module", (), {"claims": staticmethod(lambda rows: rows["what old rows lack"]), "DIFFERS": ""})
    asking = experiment._replace(module=module)
    monkeypatch.setattr(record, "state", lambda *_: "stale")
    assert report.recorded_claims(asking, "small") == [] and report.OUTGROWN in report.section(
        experiment._replace(module=type("Module", (), {**vars(experiment.module), "claims": module.claims}))
    )
    monkeypatch.setattr(record, "state", lambda *_: "fresh")  # rows of today's code lack nothing: the claims are wrong
    with pytest.raises(KeyError, match="what old rows lack"):
        report.recorded_claims(asking, "small")


def test_a_rule_that_is_newer_than_its_rows_is_said_to_be_so(monkeypatch):
    experiment = catalogue.experiment("learning/posterior")
    known = {"rules": record.rules(experiment), "commit": "1234"}
    monkeypatch.setattr(record, "read_provenance", lambda *_: known)
    monkeypatch.setattr(record, "state", lambda *_: "fresh")
    assert report.freshness(experiment, "small") == []
    known["rules"] = "another"
    assert report.freshness(experiment, "small")[0].startswith("The code of its claims, their rules or")


def test_published_values_say_where_they_come_from():
    for path in (ROOT / "figures" / "paper_values").glob("*.csv"):
        table = pd.read_csv(path)
        assert table.source.notna().all() and table.kind.isin(["quoted", "digitised", "not verifiable"]).all()
