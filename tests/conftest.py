"""Every test sees eight virtual CPU devices, and public signatures are checked against their shapes."""

import gc
import os
from importlib.metadata import version
from pathlib import Path

# tests compile much and run little: XLA's expensive passes would cost more than they save
FLAGS = [
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
]
if version("jaxlib").startswith("0.10."):  # others do not know it, and XLA ends the process at an unknown flag
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("XLA_FLAGS", " ".join(FLAGS))
# what one worker, notebook or process compiled the others need not
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

import jax
import pytest
from jaxtyping import install_import_hook

jax.config.update("jax_num_cpu_devices", 8)
install_import_hook(["icl_synth", "compression", "decoding"], "beartype.beartype")

from figures.lab.programs import collect_less, forget_if_many
from icl_synth import devices

mesh_over_all = devices.mesh


def mesh(model_parallel=1, over=None):
    """Of one device unless a test asks for more by `over`: a program over eight takes twice as long to compile."""
    return mesh_over_all(model_parallel, jax.devices()[:model_parallel] if over is None else over)


devices.mesh = mesh


def pytest_collection_finish():
    gc.freeze()  # what was imported stays, so that no collection walks it again; statsmodels collects for every Holm
    collect_less()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Notebooks run much and compile little, as their readers do: without the flags."""
    with pytest.MonkeyPatch.context() as patch:
        if item.path.suffix == ".ipynb":
            patch.delenv("XLA_FLAGS")
        return (yield)


@pytest.fixture(autouse=True)
def few_programs():
    yield
    forget_if_many()
