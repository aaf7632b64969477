"""Windows of consecutive tokens of a text that stays on disk. A token is a byte."""

import math
from collections.abc import Sequence

import numpy as np

from experiments.data.cache import Layout
from experiments.data.documents import Part, Text
from experiments.data.records import Readers


class Windows:
    """Windows of `context_length` + 1 tokens; a `Reader`.

    Args:
      text: the text.
      count: number of windows.
      context_length: number of predictions in a window.
      stride: distance of the positions that `read` can get; it gets a position divided by it.
    """

    def __init__(self, text: Text, *, count: int, context_length: int, stride: int = 1) -> None:
        self.layouts = {
            "tokens": Layout((context_length + 1,), "uint8"),
            "count": Layout((), "int32"),
        }
        self._text = text
        self._count = count
        self._context_length = context_length
        self._stride = stride

    def __len__(self) -> int:
        return self._count

    def read(
        self, indices: Sequence[int], seeds: tuple[int, int] | None = None
    ) -> dict[str, np.ndarray]:
        """Reads windows.

        Args:
          indices: positions of the first tokens, divided by `stride`.
          seeds: has no effect.

        Returns:
          `tokens`, uint8 [windows, context_length + 1], filled with zeros after the end of the
          text; and `count`, int32 [windows], the predictions in each window.
        """
        size = self._context_length + 1
        tokens = np.zeros((len(indices), size), np.uint8)
        count = np.empty(len(indices), np.int32)
        for row, index in enumerate(indices):
            start = int(index) * self._stride
            window = self._text.read(start, min(start + size, len(self._text)))
            tokens[row, : len(window)] = np.frombuffer(window, np.uint8)
            count[row] = len(window) - 1
        return {"tokens": tokens, "count": count}


def readers(text: Text, *, num_train: int, windows: int, context_length: int) -> Readers:
    """Returns the readers of a language model.

    Args:
      text: the training split, and the split that is evaluated after it.
      num_train: tokens of the training split.
      windows: windows of the training split in an epoch.
      context_length: number of predictions in a window.

    Returns:
      The reader of the training split, which gets positions in the text; and that of the other
      split, whose windows predict each of its tokens exactly once.
    """
    train = Windows(Part(text, 0, num_train), count=windows, context_length=context_length)
    # The last token of the training split predicts the first one after it.
    test = Windows(
        Part(text, num_train - 1, len(text)),
        count=math.ceil((len(text) - num_train) / context_length),
        context_length=context_length,
        stride=context_length,
    )
    return Readers(train, test)
