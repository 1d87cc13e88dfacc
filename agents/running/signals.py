"""Being asked to stop: Ctrl-C, or a scheduler's SIGTERM and SIGUSR1. The request is kept until a step is whole."""

import signal
import threading
from types import FrameType
from typing import Self

EXIT_INTERRUPTED = 130  # a person pressed Ctrl-C
EXIT_REQUEUE = 85  # a scheduler asked: `classyq resume RUN` goes on, or the same command with the same --run-dir


class StopRequest:
    """While entered, remembers the first signal in `signum`; a second Ctrl-C interrupts at once."""

    SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1")  # Windows lacks the last

    def __init__(self) -> None:
        self.signum: int | None = None

    def __enter__(self) -> Self:
        self.previous = {}
        if threading.current_thread() is threading.main_thread():
            wanted = [getattr(signal, name) for name in self.SIGNALS if hasattr(signal, name)]
            self.previous = {s: signal.signal(s, self.remember) for s in wanted}
        return self

    def __exit__(self, *exc_info: object) -> None:
        for signum, handler in self.previous.items():
            signal.signal(signum, handler)

    def remember(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.signum = self.signum or signum

    def exit_code(self) -> int:
        """What the process should exit with: 0 where nobody asked it to stop."""
        return {None: 0, signal.SIGINT: EXIT_INTERRUPTED}.get(self.signum, EXIT_REQUEUE)
