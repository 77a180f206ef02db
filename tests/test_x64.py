"""jax_enable_x64 changes no result: the script of each room, x64_ROOM.py, prints the same in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
SCRIPTS = {script.stem.removeprefix("x64_"): script for script in sorted(HERE.glob("x64_*.py"))}


def start(script: Path, x64: str) -> subprocess.Popen:
    """A process of its own, without the checks of shapes: users pass NumPy's 64-bit arrays too."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parent), *sys.path]), "JAX_ENABLE_X64": x64}
    return subprocess.Popen(
        [sys.executable, str(script)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def printed(process: subprocess.Popen) -> dict[str, list]:
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr[-3000:]
    return json.loads(stdout)


@pytest.mark.slow
@pytest.mark.parametrize("room", SCRIPTS)
def test_x64_changes_no_result(room):
    plain, wide = map(printed, [start(SCRIPTS[room], x64) for x64 in "01"])
    assert plain and plain.keys() == wide.keys()
    for name, values in plain.items():
        assert len(values) == len(wide[name]) > 0, name
        if all(isinstance(value, int) for value in values):
            assert wide[name] == values, name
        else:  # float32 sums may take another order
            np.testing.assert_allclose(wide[name], values, rtol=1e-5, atol=1e-6, err_msg=name)


def test_every_room_has_a_script():
    assert {*SCRIPTS} == {"block_float", "decoding", "icl_synth", "pruning", "training"}
