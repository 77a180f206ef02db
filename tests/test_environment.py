"""The lock, the conda environment and the citation say the same as pyproject.toml."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
DECLARED = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
TRIED = PYPROJECT["tool"]["icl-synth"]["tried"]
LOCK = (ROOT / "requirements.lock").read_text()
# The Makefile installs the project itself without build isolation, so what builds it is locked too.
LOCKED_FOR = DECLARED + PYPROJECT["build-system"]["requires"]

PYTHONS = ["3.11", "3.12", "3.13"]
MACHINES = [
    ("linux", "Linux", "x86_64"),
    ("linux", "Linux", "aarch64"),
    ("darwin", "Darwin", "arm64"),
]


def lock_entries() -> list[tuple[Requirement, int]]:
    """Each pin of the lock with its number of hashes."""
    text = re.sub(r"^\s*#.*\n", "", LOCK, flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip()]
    return [(Requirement(line.split("--hash")[0].strip()), line.count("--hash=sha256:")) for line in lines]


def environment(python: str, machine: tuple[str, str, str]) -> dict[str, str]:
    """What markers are evaluated in."""
    sys_platform, platform_system, platform_machine = machine
    return {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "os_name": "posix",
        "sys_platform": sys_platform,
        "platform_system": platform_system,
        "platform_machine": platform_machine,
    }


def applies(requirement: Requirement, python: str, machine: tuple[str, str, str]) -> bool:
    return requirement.marker is None or requirement.marker.evaluate(environment(python, machine))


def pins(python: str, machine: tuple[str, str, str]) -> dict[str, str]:
    """Package name -> version that pip would take from the lock in one environment."""
    chosen: dict[str, str] = {}
    for requirement, _ in lock_entries():
        if applies(requirement, python, machine):
            name = canonicalize_name(requirement.name)
            assert name not in chosen, f"{name} is pinned twice on Python {python}, {machine}"
            (specifier,) = requirement.specifier
            assert specifier.operator == "==", f"{name} is not pinned: {requirement}"
            chosen[name] = specifier.version
    return chosen


def test_python_range():
    assert set(PROJECT["requires-python"].split(",")) == {">=3.11", "<3.14"}


def test_conda_environment_equals_pyproject():
    conda_environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = conda_environment["dependencies"]
    assert set(conda_environment) == {"name", "channels", "dependencies"}
    assert conda == [f"python{PROJECT['requires-python']}", "pip"]
    assert set(pip) == {"pip"}
    assert sorted(pip["pip"]) == sorted(DECLARED)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: f"{m[0]}-{m[2]}")
@pytest.mark.parametrize("python", PYTHONS)
def test_lock_satisfies_every_declared_requirement(python, machine):
    pinned = pins(python, machine)
    for text in LOCKED_FOR:
        requirement = Requirement(text)
        if not applies(requirement, python, machine):
            continue
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"requirements.lock lacks {name}: run make lock"
        assert SpecifierSet(str(requirement.specifier)).contains(pinned[name], prereleases=True), (
            f"requirements.lock has {name} {pinned[name]}, pyproject.toml wants {text}: run make lock"
        )


def declared(python: str, versions: dict[str, str]) -> bool:
    """Whether pyproject.toml lets these packages be together."""
    return all(
        requirement.specifier.contains(versions[requirement.name])
        for requirement in map(Requirement, DECLARED)
        if requirement.name in versions and applies(requirement, python, MACHINES[0])
    )


@pytest.mark.parametrize("python", PYTHONS)
def test_bounds_are_those_that_were_tried(python):
    """Tried: the lowest that is allowed, what is locked, the newest. Not allowed: what was seen to fail."""
    tried = [entry for entry in TRIED["passed"] if entry["python"] == python]
    versions = [{name: entry[name] for name in ("jax", "flax")} for entry in tried]
    assert versions and all(declared(python, pair) for pair in versions)
    pinned = pins(python, MACHINES[0])
    assert {name: pinned[name] for name in ("jax", "flax")} in versions
    for entry in TRIED["failed"]:
        assert entry["python"] != python or not declared(python, {name: entry[name] for name in ("jax", "flax")})


@pytest.mark.parametrize("requirement", [text for text in DECLARED if re.match(r"(jax|flax)\b", text)])
def test_a_lower_bound_was_tried(requirement):
    wanted = Requirement(requirement)
    (bound,) = wanted.specifier
    places = [entry for entry in TRIED["passed"] if applies(wanted, entry["python"], MACHINES[0])]
    assert bound.operator == ">=" and min(Version(entry[wanted.name]) for entry in places) == Version(bound.version)


def test_the_newest_jax_that_was_tried():
    """The one place that names it is pyproject.toml; prose that names a version of JAX names one that was tried."""
    tried = {entry["jax"] for entry in TRIED["passed"]}
    assert max(tried, key=Version) == "0.12.0.1"
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        named = re.findall(r"\bjax (?:version )?(\d+(?:\.\d+)+)", path.read_text(), re.IGNORECASE)
        for version in named:
            assert any(f"{full}.".startswith(f"{version}.") for full in tried), (
                f"{path.name}: JAX {version} is not tried"
            )


def test_lock_leaves_peers_and_cuda_out():
    names = {canonicalize_name(requirement.name) for requirement, _ in lock_entries()}
    assert not names & {"torch", "transformers", "triton"}
    assert not [name for name in names if name.startswith(("nvidia-", "jax-cuda"))]


def test_every_pin_has_hashes():
    assert [str(requirement) for requirement, hashes in lock_entries() if hashes == 0] == []


@pytest.mark.parametrize(
    "name", ["requirements.lock", "environment.yml", "pyproject.toml", "Makefile", ".ci/run", ".ci/interpreter"]
)
def test_no_address_and_no_index_option(name):
    """Where packages come from is the reader's own pip or conda setting; nor does an absolute path belong here."""
    forbidden = re.compile(r"://|--(extra-|default-)?index|--find-links|^\s*-[if]\s|\s@\s|(^|[\s='\"])/\w")
    lines = (ROOT / name).read_text().splitlines()
    assert [line for line in lines if forbidden.search(line)] == []


def test_citation_has_the_version_and_license_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["title"], citation["version"]) == (PROJECT["name"], PROJECT["version"])
    assert citation["license"] == PROJECT["license"]
    assert (ROOT / "LICENSE").read_text().startswith(f"{PROJECT['license']} License")
