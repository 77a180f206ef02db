"""jax_enable_x64 changes no result: each room's script, x64_ROOM.py, prints the same in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
SCRIPTS = sorted(HERE.glob("x64_*.py"))


def printed(script: Path, x64: bool) -> dict[str, list]:
    """The JSON object on the last line that the script prints."""
    root = HERE.parent
    path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"JAX_ENABLE_X64": str(int(x64)), "PYTHONPATH": path}
    ran = subprocess.run([sys.executable, str(script)], env=environment, cwd=root, capture_output=True, text=True)
    assert ran.returncode == 0, f"{script.name} with x64={x64}:\n{ran.stderr[-3000:]}"
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=[script.stem for script in SCRIPTS])
def test_x64_changes_no_result(script):
    plain, wide = printed(script, False), printed(script, True)
    assert plain and plain.keys() == wide.keys()
    for name, values in plain.items():
        assert len(values) == len(wide[name]) > 0, name
        if all(isinstance(value, int) for value in values):
            assert wide[name] == values, name
        else:  # float32 sums may take another order
            np.testing.assert_allclose(wide[name], values, rtol=1e-5, atol=1e-6, err_msg=name)


def test_every_package_has_a_script():
    assert {"x64_icl_synth.py"} <= {script.name for script in SCRIPTS}
