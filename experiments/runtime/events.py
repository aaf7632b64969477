"""The file that TensorBoard reads, written without TensorFlow, whose import takes seconds."""

import io
import os
import socket
import time
from collections.abc import Mapping
from typing import BinaryIO, cast

import numpy as np
from etils import epath
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

from experiments.runtime.workdir import on_bucket

# Object storage cannot append to a file, so there each flush writes the complete file.
SECONDS_BETWEEN_UPLOADS = 120


def png(picture: np.ndarray) -> bytes:
    """Encodes a picture as PNG.

    Args:
      picture: uint8 [height, width, channels], with 1 or 3 channels.

    Returns:
      The content of the file.
    """
    encoded = io.BytesIO()
    # Pillow takes gray images without the axis of channels.
    Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture).save(encoded, "PNG")
    return encoded.getvalue()


class EventFile:
    """Writes one file of events.

    The file begins with an event that makes TensorBoard drop everything that earlier files in the
    directory have for `first_step` and later steps.

    Args:
      workdir: directory of the run.
      first_step: the first step that this file may report.

    Raises:
      OSError: the file cannot be written; the methods raise it, too.
    """

    def __init__(self, workdir: epath.Path, first_step: int) -> None:
        # TensorBoard reads the files of a directory in the order of their names.
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}.v2"
        self._path = workdir / name
        self._bucket = on_bucket(workdir)
        self._file = io.BytesIO() if self._bucket else cast(BinaryIO, self._path.open("wb"))
        self._records = RecordWriter(self._file)
        self._uploaded = -float("inf")
        self._add(Event(file_version="brain.Event:2"))
        self._add(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes scalars of a step, which readers on the same machine see at once."""
        for name, value in scalars.items():
            self._add(Event(step=step, summary=scalar_pb(name, np.float32(value))))
        self._flush_if_due()

    def write_picture(self, step: int, name: str, shape: tuple[int, ...], png: bytes) -> None:
        """Writes a picture of shape (height, width, channels), encoded as PNG."""
        content = [str(shape[1]).encode(), str(shape[0]).encode(), png]
        described = image_metadata.create_summary_metadata(display_name=None, description=None)
        summary = Summary()
        summary.value.add(tag=name, tensor=make_tensor_proto(content), metadata=described)
        self._add(Event(step=step, summary=summary))
        self._flush_if_due()

    def _flush_if_due(self) -> None:
        if not self._bucket or time.monotonic() - self._uploaded > SECONDS_BETWEEN_UPLOADS:
            self.flush()

    def flush(self) -> None:
        """Makes everything so far visible to all readers."""
        if isinstance(self._file, io.BytesIO):
            self._path.write_bytes(self._file.getvalue())
            self._uploaded = time.monotonic()
        else:
            self._file.flush()

    def close(self) -> None:
        """Flushes and closes the file."""
        self.flush()
        self._file.close()

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
