"""A trace of chosen steps, for TensorBoard's profile page."""

import os
from typing import Self

import jax
from etils import epath

from experiments.step import TrainState
from experiments.window import Window


class Profiler:
    """Writes the trace of a window into the workdir, where TensorBoard looks for it; a context.

    Args:
      steps: the window, or None for no trace.
      workdir: directory of the run.
    """

    def __init__(self, steps: Window | None, workdir: epath.Path) -> None:
        self._window = steps
        self._workdir = workdir
        self._running = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._running:
            jax.profiler.stop_trace()

    def boundaries(self) -> tuple[int, ...]:
        """Steps at which a dispatch has to end, for the trace to hold the window and no more."""
        return self._window or ()

    def reach(self, step: int, state: TrainState) -> None:
        """Begins or ends the trace where it is due, when the steps before have come to their end.

        Args:
          step: steps dispatched so far.
          state: the state after them.
        """
        if self._window is None:
            return
        inside = self._window.first <= step < self._window.end
        if inside == self._running:
            return
        jax.block_until_ready(state)
        if inside:
            jax.profiler.start_trace(os.fspath(self._workdir))
        else:
            jax.profiler.stop_trace()
        self._running = inside
