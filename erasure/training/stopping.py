"""Ctrl-C between two iterations and not within one."""

import contextlib
import signal
import threading


@contextlib.contextmanager
def deferred_stop():
    """An event that the first Ctrl-C (or SIGTERM) sets, so that the iteration ends and is kept; a second one stops at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    earlier = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(*_):
        stop.set()
        for number, handler in earlier.items():
            signal.signal(number, handler)

    for number in earlier:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
