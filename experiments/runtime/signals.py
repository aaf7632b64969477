"""Signals that ask a run to stop, and how all processes of a run agree to stop at one step."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


@contextlib.contextmanager
def caught() -> Iterator[Callable[[], int | None]]:
    """Notes Ctrl-C and SIGTERM for the run to handle; a second signal ends the process at once.

    An exception raised in the middle of a save could leave its threads waiting forever.

    Yields:
      A function that returns the number of the signal that arrived, or None.
    """
    received: int | None = None

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal received
        if received is not None:
            os._exit(128 + number)
        received = number
        # Not print: the signal may interrupt a print, which holds the lock of its buffer.
        os.write(2, b"stopping after the current steps; send the signal again to stop at once\n")

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StopRequest:
    """The signal that asks a run to stop, once all of its processes know about it.

    A single process knows at once. Several processes exchange the signals that they received with
    every dispatch and read the answers of the same dispatch at the same place, so that all of them
    stop at the same step.

    Args:
      received: returns the signal that this process received, or None.
      mesh: the devices of all processes.
    """

    def __init__(self, received: Callable[[], int | None], mesh: Mesh) -> None:
        self._received = received
        self._agreed = 0
        self._alone = jax.process_count() == 1
        self._shares = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._num_local = len(mesh.local_devices)
        replicated = NamedSharding(mesh, PartitionSpec())
        self._highest = jax.jit(lambda numbers: numbers.max(), out_shardings=replicated)

    def signal(self) -> int | None:
        """Returns the number of the signal that all processes know about, or None."""
        return self._received() if self._alone else self._agreed or None

    def exchange(self) -> jax.typing.ArrayLike:
        """Sends the signal of this process to the others; returns an answer to be read later."""
        number = np.int32(self._received() or 0)
        if self._alone:
            return number
        numbers = np.full(self._num_local, number)
        return self._highest(jax.make_array_from_process_local_data(self._shares, numbers))

    def read(self, answer: np.integer | np.ndarray) -> None:
        """Reads an answer of `exchange`, on the host."""
        self._agreed = self._agreed or int(answer)
