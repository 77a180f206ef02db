"""make mutants: plant each error in a copy of the tree and expect its tests to fail."""

import argparse
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from mutants import ROOT, Mutant, check, read, rooms

SECONDS = 900  # tests that take longer than this have failed: an error may make a loop endless
FAILED, PASSED = 1, 0  # pytest's exit codes; others say that no test was run


class Result(NamedTuple):
    mutant: Mutant
    verdict: str  # killed, survived, or why it could not be tried
    seconds: float


def copy_tree(folder: Path) -> Path:
    """Copy all files but the ignored ones to folder/tree, and link shared/ beside it where there is one."""
    tree = folder / "tree"
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    for name in filter(None, listing.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    if (ROOT.parent / "shared").is_dir():
        (folder / "shared").symlink_to(ROOT.parent / "shared")
    return tree


def run_tests(tree: Path, tests: Iterable[str]) -> tuple[int, str]:
    """Pytest's exit code and the end of what it prints.

    Compiled programs come from the checkout's cache. No bytecode is kept: a mutant of the same length and second as
    the original would run the original's.
    """
    environment = os.environ | {
        "PYTHONPATH": str(tree),
        "PYTHONDONTWRITEBYTECODE": "1",
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".pytest_cache" / "compiled"),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    try:
        ended = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return FAILED, f"longer than {SECONDS} s"
    return ended.returncode, "\n".join((ended.stdout + ended.stderr).splitlines()[-30:])


def try_mutant(mutant: Mutant, tree: Path) -> Result:
    start = time.monotonic()
    try:
        check(mutant, tree)
    except (ValueError, SyntaxError) as error:
        return Result(mutant, f"does not apply: {error}", 0.0)
    path = tree / mutant.file
    before = path.read_bytes()
    path.write_text(mutant.text(tree))
    code, _ = run_tests(tree, mutant.tests)
    path.write_bytes(before)
    verdict = {FAILED: "killed", PASSED: "survived"}.get(code, f"no test was run (pytest's exit code {code})")
    return Result(mutant, verdict, time.monotonic() - start)


def shorten(text: str) -> str:
    return " ".join(text.split())[:40]


def row(result: Result) -> str:
    mutant = result.mutant
    change = f"{shorten(mutant.old)} -> {shorten(mutant.new)}"
    return f"{mutant.room:12} {result.seconds:5.0f} s  {mutant.file}: {change}: {result.verdict}"


def try_all(mutants: list[Mutant], jobs: int) -> list[Result]:
    """Try each mutant in one of `jobs` copies of the tree, once the tests are seen to pass without any."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        trees: queue.Queue[Path] = queue.Queue()
        for job in range(jobs):
            trees.put(copy_tree(Path(folder) / str(job)))

        def in_a_tree(mutant: Mutant) -> Result:
            tree = trees.get()
            result = try_mutant(mutant, tree)
            trees.put(tree)
            print(row(result), flush=True)
            return result

        tests = sorted({test for mutant in mutants for test in mutant.tests})
        print(f"{len(mutants)} mutants; first their {len(tests)} tests without any", flush=True)
        code, output = run_tests(Path(folder) / "0" / "tree", tests)
        if code != PASSED:
            sys.exit(f"without any mutant the tests do not pass:\n{output}")
        return list(pool.map(in_a_tree, mutants))


def main() -> None:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help=f"of {', '.join(rooms())} (default all)")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time")
    arguments = parser.parse_args()
    if unknown := set(arguments.rooms) - set(rooms()):
        parser.error(f"no room {', '.join(sorted(unknown))}; there are {', '.join(rooms())}")
    mutants = [mutant for room in arguments.rooms or rooms() for mutant in read(room)]
    results = try_all(mutants, arguments.jobs)
    missed = [result for result in results if result.verdict != "killed"]
    print(f"\n{len(results) - len(missed)} of {len(results)} mutants killed", *map(row, missed), sep="\n")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
