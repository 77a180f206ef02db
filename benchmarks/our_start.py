"""Where the time of a training of one step goes: `python -m benchmarks.our_start FOLDER BEGAN`.

BEGAN is the time.time() at which the process was asked for. Trains the preset `quick` for a step, evaluates and saves
it as ever, and prints seconds as JSON. Where JAX_COMPILATION_CACHE_DIR is set, programs that were compiled
before are taken from there.
"""

import json
import sys
import time

BORN = time.time()  # the interpreter has begun

from collections import Counter  # noqa: E402
from typing import Any  # noqa: E402

import jax  # noqa: E402

from icl_synth import train  # noqa: E402

IMPORTED = time.time()
EVENTS = {
    "/jax/core/compile/jaxpr_trace_duration": "tracing",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lowering",
    "/jax/core/compile/backend_compile_duration": "compiling, or reading the cache",
}


def main(folder: str, began: float) -> dict[str, Any]:
    """Seconds until the first step is done; and of the whole by part, where the rest is running, reading, writing."""
    spent: Counter[str] = Counter()
    until: list[float] = []

    def note(event: str, seconds: float, **_: object) -> None:
        if event in EVENTS:
            spent[EVENTS[event]] += seconds

    def check(*arguments: Any) -> None:
        until.append(time.time() - began)
        check_finite(*arguments)

    check_finite, train.check_finite = train.check_finite, check
    jax.monitoring.register_event_duration_secs_listener(note)
    train.main(["--preset", "quick", "--steps", "1", "--optimizer.warmup-steps", "0", "--out", folder])
    parts = {"interpreter": BORN - began, "imports": IMPORTED - BORN, **spent}
    return {"first step": until[0], "parts": parts | {"the rest": time.time() - began - sum(parts.values())}}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], float(sys.argv[2]))))
