"""`icl_synth` hands out its public names, imports them only when asked, and starts no device."""

import subprocess
import sys
from pathlib import Path

import icl_synth

LOOK = """
import sys
import icl_synth
assert not {"jax", "flax", "orbax.checkpoint"} & sys.modules.keys(), "import icl_synth imports a library"
import icl_synth.aspects, icl_synth.evaluate, icl_synth.pretrained, icl_synth.probe
assert "orbax.checkpoint" not in sys.modules, "only training needs orbax"
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized(), "an import starts a device"
"""


def test_every_public_name_is_there_and_says_what_it_is():
    assert sorted(icl_synth.__all__) == sorted(icl_synth._HOME_OF) and set(icl_synth.__all__) <= set(dir(icl_synth))
    for name in icl_synth.__all__:
        assert getattr(icl_synth, name).__doc__, name
    assert icl_synth.official_ginc()[0].vocab_size == 50
    assert not hasattr(icl_synth, "no_such_name")


def test_imports_are_light():
    subprocess.run([sys.executable, "-c", LOOK], check=True, cwd=Path(__file__).parents[1])
