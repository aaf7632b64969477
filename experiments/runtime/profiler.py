"""A trace of chosen steps for TensorBoard's profile page."""

import os
import re
from typing import NamedTuple, Self

import jax
from etils import epath

from experiments.errors import UserError
from experiments.program.state import TrainState


class Window(NamedTuple):
    """The steps to trace.

    Attributes:
      first: the first step; the first step of a run is 0.
      end: the step after the last.
    """

    first: int
    end: int


def parse_window(text: str) -> Window:
    """Parses the value of the flag --profile_steps.

    Args:
      text: FIRST:END.

    Returns:
      The window.

    Raises:
      UserError: the text is not a window.

    >>> parse_window("100:110")
    Window(first=100, end=110)
    """
    match = re.fullmatch(r"(\d{1,12}):(\d{1,12})", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise UserError(
            f"--profile_steps={text!r} is not a range of steps; use FIRST:END, such as 100:110"
        )
    return Window(int(match[1]), int(match[2]))


class Profiler:
    """Traces the steps of a window into the workdir, where TensorBoard finds it.

    Args:
      window: the steps to trace, or None for no trace.
      workdir: directory of the run.
    """

    def __init__(self, window: Window | None, workdir: epath.Path) -> None:
        self._window = window
        self._workdir = workdir
        self._running = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._running:
            jax.profiler.stop_trace()

    def boundaries(self) -> tuple[int, ...]:
        """Returns the steps at which a dispatch must end, so that the trace is exact."""
        return self._window or ()

    def reach(self, step: int, state: TrainState) -> None:
        """Starts or stops the trace if this step is a boundary, after waiting for earlier steps.

        Args:
          step: number of steps dispatched so far.
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
