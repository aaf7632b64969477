"""Worker processes that share the blocks of a sweep on a CPU, and the process that starts them.

Each worker is pinned to its own cores, so that its threads are those of a single process on as many
cores. It trains the blocks that it is given, one at a time, through `worker.serve`. A worker ends
when the pipe from its parent closes, which the system does even if the parent is killed.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import connection
from types import TracebackType
from typing import IO, Any, NoReturn, Self

import jax

from experiments.errors import Stopped, UserError
from experiments.runtime.environment import Environment
from experiments.sweeping.blocks import INSIDE, Advance, Job, Received
from experiments.sweeping.plan import Stage

POLL_SECONDS = 0.1  # between looks at the signals that arrived
EXIT_SECONDS = 10
# How an error of a worker begins, which is printed once, when the worker has ended.
ERRORS = ("error: ", "stopped by ", "interrupted", "Traceback ", "Fatal Python error")


def cores_of_workers(processes: int) -> list[list[int]]:
    """Divides the cores that this process may use among workers.

    Args:
      processes: number of workers.

    Returns:
      The cores of each worker, equally many, so that all workers compute the same bits.

    Raises:
      UserError: there are more workers than cores, or the devices are not those of a CPU.
    """
    if processes < 1:
        raise UserError(f"--processes={processes} must be at least 1")
    platform = jax.devices()[0].platform
    if platform != "cpu":
        raise UserError(
            f"--processes={processes} needs a CPU, but this sweep runs on a {platform}, whose "
            "devices share the trials in one process; leave it out, or set JAX_PLATFORMS=cpu"
        )
    pinned = hasattr(os, "sched_getaffinity")
    cores = sorted(os.sched_getaffinity(0)) if pinned else list(range(os.cpu_count() or 1))
    if processes > len(cores):
        raise UserError(
            f"--processes={processes} is more than the {len(cores)} cores that this process may "
            f"use; pass at most --processes={len(cores)}"
        )
    each = len(cores) // processes
    return [cores[first * each : (first + 1) * each] for first in range(processes)]


class Pool:
    """Workers that train blocks; a context manager that leaves no process behind.

    Args:
      command: the command of a worker, to which the numbers of its pipes are added.
      cores: the result of `cores_of_workers`.
      received: returns the signal that asks to stop.
    """

    def __init__(
        self, command: Sequence[str], cores: Sequence[Sequence[int]], received: Received
    ) -> None:
        self._received = received
        relay = _Relay()
        self._workers = [_Worker(command, each, relay) for each in cores]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.close()

    def environment(self) -> Environment:
        """Waits until the workers are ready, and returns the environment of one of them.

        Returns:
          The environment, in which `threads` are those of a worker. All workers have the same one,
          except for their cores.

        Raises:
          Stopped: a signal asked to stop.
          UserError: a worker failed.
        """
        ready: dict[_Worker, Environment] = {}
        while len(ready) < len(self._workers):
            for worker, message in self._messages():
                ready[worker] = message["environment"]
        return ready[self._workers[0]]

    def train(self, jobs: Sequence[Job], stage: Stage, advance: Advance) -> None:
        """Trains blocks of one stage, each as soon as a worker is free.

        Args:
          jobs: the blocks.
          stage: the stage, from which a worker plans the trials of the blocks again.
          advance: called with the steps of trials that were made.

        Raises:
          Stopped: a signal asked to stop, or ended a worker.
          UserError: a worker failed.
        """
        waiting = list(reversed(jobs))
        free = list(reversed(self._workers))
        while waiting or len(free) < len(self._workers):
            while waiting and free:
                job = waiting.pop()
                free.pop().send({"stage": stage, "block": job.name})
            for worker, message in self._messages():
                if "steps" in message:
                    advance(message["steps"])
                else:
                    free.append(worker)

    def _messages(self) -> Iterator[tuple["_Worker", dict[str, Any]]]:
        """Waits for messages of workers for a moment, and yields them."""
        number = self._received()
        if number:
            self._stop(number)
            raise Stopped(number, INSIDE)
        by_stream = {worker.replies.fileno(): worker for worker in self._workers}
        for stream in connection.wait(list(by_stream), POLL_SECONDS):
            worker = by_stream[stream]  # type: ignore[index]
            line = worker.replies.readline()
            if not line.endswith(b"\n"):
                self._fail(worker)
            yield worker, json.loads(line)

    def _stop(self, number: int) -> None:
        """Asks all workers to stop at their next step, and waits until they have."""
        for worker in self._workers:
            worker.send({"stop": number})
        for worker in self._workers:
            worker.wait()

    def _fail(self, failed: "_Worker") -> NoReturn:
        """Stops the other workers, and ends as the failed one did."""
        code, text = failed.wait()
        self._workers.remove(failed)
        failed.close()
        self._stop(signal.SIGTERM)
        number = -code if code < 0 else code - 128
        if number > 0:
            where = f"in one of several processes{_memory(number)}; the same command resumes"
            raise Stopped(number, where)
        if text.startswith("error: "):
            raise UserError(text.removeprefix("error: ").strip())
        sys.stderr.write(text or f"a process of --processes ended with exit code {code}\n")
        raise SystemExit(code or 1)


def _memory(number: int) -> str:
    """Returns what a signal that ended a worker suggests."""
    if number != signal.SIGKILL:
        return ""
    return ", perhaps because memory ran out: fewer processes need less"


class _Relay:
    """Prints lines that workers print, each once although all of them may print it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._printed: set[str] = set()

    def follow(self, lines: IO[str], errors: list[str]) -> None:
        """Prints lines until the first of an error, and collects the rest."""
        for line in lines:
            if errors or line.startswith(ERRORS):
                errors.append(line)
                continue
            with self._lock:
                if line not in self._printed:
                    self._printed.add(line)
                    sys.stderr.write(line)


class _Worker:
    """A worker process, seen from its parent."""

    def __init__(self, command: Sequence[str], cores: Sequence[int], relay: _Relay) -> None:
        read_commands, self._commands = os.pipe()
        read_replies, write_replies = os.pipe()
        self.replies: IO[bytes] = os.fdopen(read_replies, "rb", buffering=0)
        with _pinned(cores) as variables:
            self._process = subprocess.Popen(
                [*command, f"--worker={read_commands},{write_replies}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env={**variables, **os.environ},
                pass_fds=(read_commands, write_replies),
                process_group=0,  # Ctrl-C in a terminal reaches only the parent
            )
        os.close(read_commands)
        os.close(write_replies)
        assert self._process.stdout is not None  # a pipe
        self._output = self._process.stdout
        self._errors: list[str] = []
        self._follower = threading.Thread(
            target=relay.follow, args=(self._output, self._errors), daemon=True
        )
        self._follower.start()

    def send(self, message: Mapping[str, Any]) -> None:
        """Sends a message; a worker that has ended is noticed by its closed pipe instead."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._commands, json.dumps(message).encode() + b"\n")

    def wait(self) -> tuple[int, str]:
        """Waits until the worker has ended; returns its exit code and its error."""
        code = self._process.wait()
        self._follower.join(EXIT_SECONDS)
        return code, "".join(self._errors)

    def close(self) -> None:
        """Ends the worker."""
        os.close(self._commands)
        try:
            self._process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._follower.join(EXIT_SECONDS)
        self.replies.close()
        self._output.close()


@contextlib.contextmanager
def _pinned(cores: Sequence[int]) -> Iterator[Mapping[str, str]]:
    """Pins the processes that this thread starts in the context to some cores.

    Yields:
      Variables for their environment that replace the pinning where the system has none.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield {"NPROC": str(len(cores))}
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield {}
    finally:
        os.sched_setaffinity(0, before)
