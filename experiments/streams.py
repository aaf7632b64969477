"""Standard streams that a command can always write to, even if nobody reads them any more."""

import io
import logging
import os
import sys
from typing import Any

from absl import logging as absl_logging


class _Pipe(io.FileIO):
    """A file descriptor that drops what is written after its reader has gone."""

    def write(self, data: Any) -> int:
        """Writes bytes, or drops them if the pipe is closed."""
        try:
            return super().write(data)
        except BrokenPipeError:
            return len(data)


def make_safe() -> None:
    """Lets a command finish although its output is closed, as in `| head -1` or `2>&-`.

    Python has no stream for a closed descriptor, and the next file that is opened would get its
    number. So the null device takes its place.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
    old = sys.stderr
    sys.stdout, sys.stderr = _stream(1, sys.stdout), _stream(2, old)
    # Handlers that were made during imports keep the stream of that time.
    for handler in (*logging.root.handlers, absl_logging.get_absl_handler().python_handler):
        if isinstance(handler, logging.StreamHandler) and handler.stream is old:
            handler.setStream(sys.stderr)


def _stream(descriptor: int, current: Any) -> io.TextIOWrapper:
    if current is not None:
        current.flush()
    pipe = _Pipe(descriptor, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(pipe),
        encoding=getattr(current, "encoding", None) or "utf-8",
        errors="backslashreplace",
        line_buffering=descriptor == 2 or pipe.isatty(),
    )
