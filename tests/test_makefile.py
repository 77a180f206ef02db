"""Make finds a Python that it supports, works in any folder, and CI runs the browser's tests where it has one."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def program(path: Path, text: str) -> Path:
    """An executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def python(path: Path, version: str) -> Path:
    """A stub that answers as this version, and whose venv has a pip that brings no uv (there is no network, say)."""
    return program(path, f'case "$1" in -c) echo {version} ;; *) exit 1 ;; esac')


@pytest.fixture
def checkout(tmp_path):
    """The Makefile and .ci in a folder with a space in its name."""
    folder = tmp_path / "check out"
    shutil.copytree(ROOT / ".ci", folder / ".ci")
    shutil.copy(ROOT / "Makefile", folder)
    return folder


def interpreter(checkout: Path, *arguments: str) -> subprocess.CompletedProcess:
    """`make -s interpreter` where the path holds `bin` of the checkout and a few tools, but no uv."""
    tools = checkout / "tools"
    tools.mkdir(exist_ok=True)
    for name in ("sh", "make", "seq", "mktemp", "rm"):
        (tools / name).symlink_to(shutil.which(name))
    command = ["make", "-s", "interpreter", *arguments]
    path = f"{checkout / 'bin'}{os.pathsep}{tools}"
    environment = {"PATH": path, "HOME": str(checkout), "TMPDIR": str(checkout)}
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_a_supported_python_is_taken_without_a_word(checkout, version):
    python(checkout / "bin" / "python3", version)
    result = interpreter(checkout)
    assert (result.returncode, result.stdout, result.stderr) == (0, "python3\n", "")


@pytest.mark.parametrize("version", ["2.7", "3.1", "3.10", "3.14", "3.130", "4.12"])
def test_uv_finds_a_python_where_python3_is_unsupported(checkout, version):
    python(checkout / "bin" / "python3", version)
    program(checkout / "bin" / "uv", 'echo "$@" >> asked; echo "/opt/some where/python3.13"')
    result = interpreter(checkout)
    assert (result.returncode, result.stdout) == (0, "/opt/some where/python3.13\n")
    (line,) = result.stderr.splitlines()
    assert f"python3 is Python {version}" in line and "3.11 to 3.13" in line and "uv provides /opt/some where" in line
    assert (checkout / "asked").read_text() == "python find --system >=3.11,<3.14\n"


def test_uv_downloads_a_python_where_it_finds_none(checkout):
    program(
        checkout / "bin" / "uv",
        'case "$*" in "python install 3.13") : >installed ;; *) [ -e installed ] && echo found ;; esac',
    )
    result = interpreter(checkout)  # no python3 at all
    assert (result.returncode, result.stdout) == (0, "found\n")
    assert "python3 does not run" in result.stderr


def test_pip_brings_uv_where_there_is_none(checkout):
    """The stub makes an environment whose pip "installs" uv; nothing of it is left behind."""
    uv = 'printf "#!/bin/sh\\necho found\\n" > "$0.uv"; mv "$0.uv" "${0%python}uv"; chmod +x "${0%python}uv"'
    program(checkout / "venv_python", f'[ "$*" = "-m pip install -q --disable-pip-version-check uv" ] && {uv}')
    make_venv = f'mkdir -p "$3/bin"; cp "{checkout / "venv_python"}" "$3/bin/python"'
    program(checkout / "bin" / "python3", f'case "$*" in "-m venv "*) {make_venv} ;; *) echo 3.14 ;; esac')
    for name in ("mkdir", "cp", "mv", "chmod"):
        (checkout / "bin" / name).symlink_to(shutil.which(name))
    result = interpreter(checkout)
    assert (result.returncode, result.stdout) == (0, "found\n")
    assert not list(checkout.glob("tmp.*"))


@pytest.mark.parametrize("uv", ["exit 1", None], ids=["uv fails", "no uv"])
def test_where_uv_fails_make_says_what_to_do(checkout, uv):
    python(checkout / "bin" / "python3", "3.14")
    if uv:
        program(checkout / "bin" / "uv", uv)
    result = interpreter(checkout)
    assert result.returncode != 0 and result.stdout == ""
    assert "python3 is Python 3.14" in result.stderr and "make PYTHON=path/to/python3.13" in result.stderr
    assert not list(checkout.glob("tmp.*"))


def test_the_interpreter_may_have_a_space_in_its_name(checkout):
    chosen = python(checkout / "my python", "3.12")
    assert interpreter(checkout, f"PYTHON={chosen}").stdout == f"{chosen}\n"


TARGETS = sorted(re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split())


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_runs_where_a_folder_has_a_space_in_its_name(checkout, target):
    """The installed Python is a stub that writes down where it is called."""
    for name in ["README.md", "RESULTS.md", "CONTRIBUTING.md", "CITATION.cff", "LICENSE", "notebooks/a", "benchmarks/a",
                 "figures/a", "docs/conf.py", "docs/index.md", "requirements.lock", "pyproject.toml"]:  # fmt: skip
        (checkout / name).parent.mkdir(exist_ok=True)
        (checkout / name).write_text("a==1\n")
    installed = program(checkout / ".venv" / "bin" / "python", 'echo "$PWD: $*" >> calls')
    for stamp in (".ready", ".site", ".peers"):
        (checkout / ".venv" / stamp).touch()
    make_venv = f'mkdir -p "$3/bin"; cp "{installed}" "$3/bin/python"; cp "{installed}" "$3/bin/uv"'
    python3 = program(checkout / "python 3", f'case "$*" in "-m venv "*) {make_venv} ;; *) echo 3.12 ;; esac')
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    subprocess.run(["make", target, f"PYTHON={python3}"], cwd=checkout, env=outside, check=True, capture_output=True)
    calls = (checkout / "calls").read_text().splitlines() if (checkout / "calls").exists() else []
    assert all(call.startswith(f"{checkout}: ") for call in calls)
    assert calls or target in {"env", "interpreter", "clean", "help"}


CHROMIUM = {"chromedriver": "exit 0"}
APT = {"apt-get": '[ "$1" != install ] || printf "%s\\n" "$@" >> installed'}
ROOT_INSTALLS = APT | {"id": "echo 0"}
SUDO_INSTALLS = APT | {"id": "echo 1000", "sudo": '[ "$1" = -n ] && shift && exec "$@"'}
REFUSED = APT | {"id": "echo 1000", "sudo": "exit 1"}
NO_APT = {"id": "echo 0"}


@pytest.mark.parametrize(
    "stubs, make, code, targets",
    [
        (CHROMIUM, "exit 0", 0, ["lint", "test", "test-browser BROWSER=quick"]),
        (ROOT_INSTALLS, "exit 0", 0, ["lint", "test", "test-browser BROWSER=quick"]),
        (SUDO_INSTALLS, "exit 0", 0, ["lint", "test", "test-browser BROWSER=quick"]),
        (REFUSED, "exit 0", 0, ["lint", "test"]),
        (NO_APT, "exit 0", 0, ["lint", "test"]),
        (CHROMIUM, '[ "$1" != test-browser ]', 1, ["lint", "test", "test-browser BROWSER=quick"]),
        (CHROMIUM, '[ "$1" != test ]', 1, ["lint", "test"]),
    ],
    ids=["there", "root installs", "sudo installs", "refused", "no apt-get", "browser tests fail", "tests fail"],
)
def test_ci_runs_the_browser_where_there_is_one(checkout, stubs, make, code, targets):
    for name, text in stubs.items():
        program(checkout / "bin" / name, text)
    program(checkout / "bin" / "make", f'echo "$*" >> targets; {make}')
    for name in ("bash", "sh", "dirname", "env"):
        (checkout / "bin" / name).symlink_to(shutil.which(name))
    path = {"PATH": str(checkout / "bin")}
    result = subprocess.run([".ci/run"], cwd=checkout, env=path, capture_output=True, text=True)
    assert result.returncode == code
    assert (checkout / "targets").read_text().splitlines() == targets
    assert ("browser tests did not run" in result.stdout) == (stubs in (REFUSED, NO_APT))
    if stubs in (ROOT_INSTALLS, SUDO_INSTALLS):
        assert {"chromium", "chromium-driver"} <= set((checkout / "installed").read_text().split())


def test_the_range_is_that_of_pyproject():
    script = (ROOT / ".ci" / "interpreter").read_text()
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert "minor_from=11\nminor_to=13\n" in script and wanted == ">=3.11,<3.14"
