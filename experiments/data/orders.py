"""The orders of epochs, which worker processes read from shared memory."""

import time
from collections.abc import Callable
from multiprocessing import shared_memory
from typing import Any, NamedTuple

import numpy as np

NUM_SLOTS = 2  # epochs whose order the workers know: the current one and the next
WAIT_SECONDS = 0.001


class Order(NamedTuple):
    """The order of an epoch.

    Attributes:
      indices: int32 [num_train].
      offset: int32 scalar, see `Stream`.
    """

    indices: Any  # of numpy or jax
    offset: Any


class Orders:
    """The orders of two consecutive epochs, which the workers read from shared memory.

    A context manager in the process that writes them.

    Args:
      num_train: examples in the training split.
      order_of: from an epoch to its order.
      stride: factor of an index, see `Stream`.
    """

    def __init__(
        self, num_train: int, order_of: Callable[[int], Order], *, stride: int = 1
    ) -> None:
        self._num_train = num_train
        self._order_of = order_of
        self._stride = stride
        num_bytes = 8 * (2 * NUM_SLOTS + 1) + 4 * NUM_SLOTS * num_train
        self._map(shared_memory.SharedMemory(create=True, size=num_bytes))
        self._closed[:] = 0
        self._epochs[:] = -1

    def _map(self, memory: shared_memory.SharedMemory) -> None:
        self._closed = np.ndarray(1, np.int64, memory.buf)
        self._epochs = np.ndarray(NUM_SLOTS, np.int64, memory.buf, 8)
        self._offsets = np.ndarray(NUM_SLOTS, np.int64, memory.buf, 8 * (NUM_SLOTS + 1))
        shape = (NUM_SLOTS, self._num_train)
        self._orders = np.ndarray(shape, np.int32, memory.buf, 8 * (2 * NUM_SLOTS + 1))
        self._memory = memory

    def __getstate__(self) -> dict[str, Any]:
        names = ("_num_train", "_stride", "_memory")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._num_train, self._stride = state["_num_train"], state["_stride"]
        self._map(state["_memory"])

    def __enter__(self) -> "Orders":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
        # A thread may still read, so the memory stays mapped until nothing refers to this object.
        # An array does not keep it mapped: reading one after that would crash the process.
        self._memory.unlink()

    def close(self) -> None:
        """Lets every reader that waits for an order give up."""
        self._closed[:] = 1

    def provide(self, epoch: int) -> None:
        """Writes the orders of an epoch and the next; nobody may need an earlier one any more."""
        for each in (epoch, epoch + 1):
            slot = each % NUM_SLOTS
            if self._epochs[slot] != each:
                self._orders[slot], self._offsets[slot] = self._order_of(each)
                self._epochs[slot] = each

    def read(self, epoch: int, start: int, rows: np.ndarray) -> np.ndarray:
        """Returns the examples at `start + rows` of an epoch, and waits until they are known.

        Returns:
          What the reader gets for each of them, int64 [rows].
        """
        slot = epoch % NUM_SLOTS
        while self._epochs[slot] != epoch:
            if self._closed[0]:
                raise RuntimeError("the stream was closed")
            time.sleep(WAIT_SECONDS)
        indices = self._orders[slot, start + rows].astype(np.int64)
        return indices * self._stride + self._offsets[slot]
