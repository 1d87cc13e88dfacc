"""Is every second of the CPU counted: of threads, and of child processes that run or have ended?"""

import subprocess
import sys
import threading
import time

from agents.benchmarks import clock

BUSY = 0.15
BURN = f"import time\nwhile time.process_time() < {BUSY}: pass\nprint('burnt', flush=True)\ninput()"


def test_children_that_run_and_that_have_ended_are_counted_once():
    before = clock.now()
    with subprocess.Popen(
        [sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        running = clock.cpu_of_children()
        child.communicate("\n")
    ended = clock.cpu_of_children()
    # Ticks are hundredths of a second; Python's start and end are the little more.
    assert (clock.now() - before).cpu >= BUSY - 0.02
    assert ended >= running - 0.02
    assert ended - running < BUSY / 2, "what has ended is not counted beside what ran"


def test_threads_are_counted():
    def burn() -> None:
        start = time.thread_time()
        while time.thread_time() - start < 0.05:
            pass

    before, threads = clock.now(), [threading.Thread(target=burn) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (clock.now() - before).cpu >= 0.1


def test_peak_memory_counts_what_was_given_back():
    code = (
        "from agents.benchmarks.clock import peak_memory_gb as peak\n"
        "before = peak(); held = bytearray(b'x') * 10**8; del held; print(peak() - before)"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout
    assert 0.09 < float(out) < 0.15
