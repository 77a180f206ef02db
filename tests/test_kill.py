"""`python -m figures` killed ten times at random and made again comes out the same: `make test-kill`, some minutes."""

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.kill
ROOT = Path(__file__).parents[1]
KILLS = 10
# two experiments of the quick preset in the folder where it runs, with models that take seconds
REPRODUCE = f"""
import dataclasses, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from figures import __main__
from figures.lab import catalogue, record
from icl_synth import presets
for name in ("quick", "quick-lstm"):
    quick = presets.PRESETS[name]
    data = dataclasses.replace(quick.data, length=65)
    model = dataclasses.replace(quick.model, width=32, depth=2)
    presets.PRESETS[name] = dataclasses.replace(
        quick, steps=80, evaluate_every=10, evaluation_documents=16, data=data, model=model
    )
names = ("learning/posterior", "learning/calibration")
for experiment in catalogue.choose(names):
    quick = experiment.presets["quick"]
    experiment.presets["quick"] = quick._replace(sizes=quick.sizes._replace(documents=32))
record.OUT = Path("out")
__main__.main([*names, "--preset", "quick", "--precision", "float32"])
"""


def start(folder: Path) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, "-c", REPRODUCE], cwd=folder, **quiet)


def files(folder: Path) -> dict[str, bytes]:
    """Rows, pictures and weights; not the provenance, which says how long everything took."""
    kept = [path for suffix in ("csv", "png", "pdf", "safetensors") for path in folder.rglob(f"*.{suffix}")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept if "checkpoints" not in path.parts}


def test_killed_at_ten_random_moments_it_ends_with_the_same_files(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    began = time.monotonic()
    assert start(whole).wait() == 0
    seconds = time.monotonic() - began
    stream, done = random.Random(0), 0
    while done < KILLS:
        process = start(killed)
        time.sleep(stream.uniform(1, seconds))
        done += process.poll() is None
        process.kill()
        if process.wait() == 0:  # it was through: from the beginning again
            shutil.rmtree(killed)
    assert start(killed).wait() == 0
    assert len(files(whole)) == 2 * 3 + 2 and files(killed) == files(whole)
