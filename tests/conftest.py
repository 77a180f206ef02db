"""Every test sees eight virtual CPU devices, and public signatures are checked against their shapes."""

import os
from pathlib import Path

# tests compile much and run little: XLA's expensive passes would cost more than they save
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")

import jax
import pytest
from jaxtyping import install_import_hook

jax.config.update("jax_num_cpu_devices", 8)
install_import_hook(["icl_synth", "compression", "decoding"], "beartype.beartype")

MOST_MAPS = 30_000  # of the 65,530 memory maps that Linux lets a process have; past them XLA crashes
MAPS = Path("/proc/self/maps")


@pytest.fixture(autouse=True)
def few_programs():
    """Forget compiled programs before there are too many: each holds several memory maps."""
    yield
    if MAPS.exists() and len(MAPS.read_text().splitlines()) > MOST_MAPS:
        jax.clear_caches()
