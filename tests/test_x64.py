"""jax_enable_x64 changes no result: the script of each room, x64_ROOM.py, prints the same in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
SCRIPTS = sorted(HERE.glob("x64_*.py"))
# all scripts in one process: starting JAX takes longer than what they compute
RUN = "import runpy, sys\nfor script in sys.argv[1:]: runpy.run_path(script, run_name='__main__')"


@pytest.fixture(scope="module")
def printed() -> list[dict[str, dict[str, list]]]:
    """By script, the JSON object that it prints: without and with jax_enable_x64."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parent), *sys.path])}
    results = []
    for x64 in "01":
        command = [sys.executable, "-c", RUN, *map(str, SCRIPTS)]
        ran = subprocess.run(command, env=environment | {"JAX_ENABLE_X64": x64}, capture_output=True, text=True)
        assert ran.returncode == 0, f"JAX_ENABLE_X64={x64}:\n{ran.stderr[-3000:]}"
        objects = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
        results.append({script.stem: values for script, values in zip(SCRIPTS, objects, strict=True)})
    return results


@pytest.mark.slow
@pytest.mark.parametrize("script", [script.stem for script in SCRIPTS])
def test_x64_changes_no_result(script, printed):
    plain, wide = (results[script] for results in printed)
    assert plain and plain.keys() == wide.keys()
    for name, values in plain.items():
        assert len(values) == len(wide[name]) > 0, name
        if all(isinstance(value, int) for value in values):
            assert wide[name] == values, name
        else:  # float32 sums may take another order
            np.testing.assert_allclose(wide[name], values, rtol=1e-5, atol=1e-6, err_msg=name)


def test_every_room_has_a_script():
    rooms = {"block_float", "decoding", "icl_synth", "pruning", "training"}
    assert {script.stem.removeprefix("x64_") for script in SCRIPTS} == rooms
