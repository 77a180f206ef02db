"""The lock, the conda environment and the citation say the same as pyproject.toml."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
DECLARED = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
LOCK = (ROOT / "requirements.lock").read_text()
# The Makefile installs the project itself without build isolation, so what builds it is locked too.
LOCKED_FOR = DECLARED + PYPROJECT["build-system"]["requires"]

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


def pins(python: str, machine: tuple[str, str, str]) -> dict[str, str]:
    """Package name -> version that pip would take from the lock in one environment."""
    sys_platform, platform_system, platform_machine = machine
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "os_name": "posix",
        "sys_platform": sys_platform,
        "platform_system": platform_system,
        "platform_machine": platform_machine,
    }

    def holds(marker: Marker | None) -> bool:
        return marker is None or marker.evaluate(environment)

    chosen: dict[str, str] = {}
    for requirement, _ in lock_entries():
        if holds(requirement.marker):
            name = canonicalize_name(requirement.name)
            assert name not in chosen, f"{name} is pinned twice on Python {python}, {sys_platform}"
            (specifier,) = requirement.specifier
            assert specifier.operator == "==", f"{name} is not pinned: {requirement}"
            chosen[name] = specifier.version
    return chosen


def test_python_range():
    assert set(PROJECT["requires-python"].split(",")) == {">=3.11", "<3.14"}


def test_conda_environment_equals_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert set(environment) == {"name", "channels", "dependencies"}
    assert conda == [f"python{PROJECT['requires-python']}", "pip"]
    assert set(pip) == {"pip"}
    assert sorted(pip["pip"]) == sorted(DECLARED)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: f"{m[0]}-{m[2]}")
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_lock_satisfies_every_declared_requirement(python, machine):
    pinned = pins(python, machine)
    for text in LOCKED_FOR:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"requirements.lock lacks {name}: run make lock"
        assert SpecifierSet(str(requirement.specifier)).contains(pinned[name], prereleases=True), (
            f"requirements.lock has {name} {pinned[name]}, pyproject.toml wants {text}: run make lock"
        )


def test_lock_leaves_peers_and_cuda_out():
    names = {canonicalize_name(requirement.name) for requirement, _ in lock_entries()}
    assert not names & {"torch", "transformers", "triton"}
    assert not [name for name in names if name.startswith(("nvidia-", "jax-cuda"))]


def test_every_pin_has_hashes():
    assert [str(requirement) for requirement, hashes in lock_entries() if hashes == 0] == []


@pytest.mark.parametrize("name", ["requirements.lock", "environment.yml", "pyproject.toml", "Makefile", ".ci/run"])
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
