"""How many compiled programs a process may hold: each takes memory maps, of which Linux gives a process 65,530."""

from pathlib import Path

import jax

MAPS = Path("/proc/self/maps")
MOST_MAPS = 30_000  # past 65,530 XLA ends the process


def forget_if_many() -> None:
    """Forget all compiled programs before there are too many; what is still needed is compiled again."""
    if MAPS.exists() and len(MAPS.read_text().splitlines()) > MOST_MAPS:
        jax.clear_caches()
