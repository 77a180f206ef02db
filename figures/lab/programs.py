"""Compiled programs: kept on disk for all figures, and not too many in a process.

Each takes memory maps, of which Linux gives a process 65,530, and leaves many Python objects that stay.
"""

import gc
from pathlib import Path

import jax

MAPS = Path("/proc/self/maps")
MOST_MAPS = 30_000  # past 65,530 XLA ends the process
COMPILED = Path("runs") / "compiled"


def keep_compiled() -> None:
    """Keep compiled programs in runs/compiled: figures share most of theirs, and at small sizes compiling is the work.

    Does nothing where the environment names another place (JAX_COMPILATION_CACHE_DIR).
    """
    if not jax.config.values["jax_compilation_cache_dir"]:
        jax.config.update("jax_compilation_cache_dir", str(COMPILED))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def collect_less() -> None:
    """Let Python look for garbage less often: it would walk again and again what tracing and compiling leave."""
    gc.set_threshold(100_000, 50, 1000)


def forget_if_many() -> None:
    """Forget all compiled programs before there are too many; what is still needed is compiled again."""
    if MAPS.exists() and len(MAPS.read_text().splitlines()) > MOST_MAPS:
        jax.clear_caches()
