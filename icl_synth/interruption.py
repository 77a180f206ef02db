"""Ctrl-C between two steps, so that a run is saved before it stops."""

import signal
import threading

import jax
import numpy as np
from jax.experimental import multihost_utils


class Interruption:
    """Remembers Ctrl-C (and SIGTERM) so that the loop can save first; a second Ctrl-C acts at once."""

    def __enter__(self):
        self.seen = False
        in_main = threading.current_thread() is threading.main_thread()  # Python handles signals in no other thread
        signals = (signal.SIGINT, signal.SIGTERM) if in_main else ()
        self._before = {number: signal.signal(number, self._remember) for number in signals}
        return self

    def _remember(self, number, frame):
        if self.seen:
            raise KeyboardInterrupt
        self.seen = True

    def anywhere(self) -> bool:
        """Whether any process was interrupted: all must stop between the same steps."""
        if jax.process_count() == 1:
            return self.seen
        return bool(multihost_utils.process_allgather(np.array(self.seen)).any())

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)
