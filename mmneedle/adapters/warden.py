"""Ends vLLM's processes when the run that started them was killed.

vLLM's engine core does not notice that its front end is gone (kill -9, out of memory) and would
hold the GPU for good. A small process watches: while the run lives it notes which engine
processes descend from it, and when the run has gone it ends those. Linux only, as vLLM.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

_EVERY = 1.0  # seconds
_GRACE = 5.0  # seconds between SIGTERM and SIGKILL
_MARKS = (b"VLLM::", b"multiprocessing.spawn", b"multiprocessing.forkserver")


class Warden:
    """The watching process; it ends with `close`, or after its work is done."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-S", __file__, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C is not for it
        )

    def close(self) -> None:
        """Stop watching: the engine was ended in order."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(b"done")
            self._process.stdin.close()
        self._process.wait()


def engines(ancestor: int) -> dict[int, str]:
    """Engine processes that descend from a process: id -> when it started."""
    parents: dict[int, int] = {}
    started: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # After the name in brackets: state, parent, …; the start time is field 22.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
                started[int(entry.name)] = fields[19]
    return {
        pid: started[pid] for pid in parents if _descends(pid, ancestor, parents) and _engine(pid)
    }


def _descends(pid: int, ancestor: int, parents: dict[int, int]) -> bool:
    while pid in parents:
        pid = parents[pid]
        if pid == ancestor:
            return True
    return False


def _engine(pid: int) -> bool:
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return any(mark in line for mark in _MARKS)


def watch(ancestor: int) -> None:
    """Note engine processes until stdin ends; end them unless "done" stood there."""
    known: dict[int, str] = {}
    while not select.select([0], [], [], _EVERY)[0]:
        known |= engines(ancestor)
    if os.read(0, 4) == b"done":
        return
    for number, wait in ((signal.SIGTERM, _GRACE), (signal.SIGKILL, 0.0)):
        for pid, moment in known.items():
            with contextlib.suppress(OSError, IndexError):
                now = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
                if now == moment:  # the id was not given to another process
                    os.kill(pid, number)
        time.sleep(wait)


if __name__ == "__main__":
    watch(int(sys.argv[1]))
