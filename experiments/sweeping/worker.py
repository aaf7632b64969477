"""A worker process of a sweep: trains the blocks that its parent names, one at a time."""

import json
import os
import queue
import threading
from typing import IO, Any

from etils import epath

from experiments.build.sweeps import Sweep
from experiments.errors import Stopped
from experiments.runtime import signals
from experiments.runtime.environment import environment
from experiments.sweeping import plan
from experiments.sweeping.blocks import Job, Trainer, cut

POLL_SECONDS = 0.1  # between looks at the signals that arrived


def serve(sweep: Sweep, directory: epath.Path, pipes: str) -> None:
    """Trains blocks until the parent asks this process to stop, or ends.

    Args:
      sweep: the sweep; the parent has checked it.
      directory: its directory; the parent has locked it, and has stored the sizes of the blocks.
      pipes: the descriptors of the pipes from and to the parent, such as "3,6".

    Raises:
      Stopped: the parent or a signal asked to stop.
      UserError: a block cannot be trained, or a file cannot be read or written.
    """
    parent = _Parent(*map(int, pipes.split(",")))
    with signals.caught() as received:

        def asked() -> int | None:
            return received() or parent.stop

        trainer = Trainer(sweep, asked)
        jobs: dict[str, Job] = {}
        parent.send({"environment": environment()})
        while not asked():
            task = parent.receive()
            if task is None:
                continue
            if task["block"] not in jobs:
                stage = plan.Stage(*task["stage"])
                of_stage = plan.trials_of(sweep, stage)
                cut_again = cut(stage.name, of_stage, directory, trainer.block_size)
                jobs = {job.name: job for job in cut_again}
            trainer.train(jobs[task["block"]], lambda steps: parent.send({"steps": steps}))
            parent.send({"finished": task["block"]})
        if received():
            raise Stopped(received() or 0, "between blocks; the same command resumes")


class _Parent:
    """The parent of this process, seen from here. This process ends as soon as the parent does.

    Args:
      commands: descriptor of the pipe from the parent.
      replies: descriptor of the pipe to the parent.
    """

    def __init__(self, commands: int, replies: int) -> None:
        self.stop: int | None = None
        self._replies = replies
        self._tasks: queue.Queue[dict[str, Any]] = queue.Queue()
        stream = os.fdopen(commands)
        threading.Thread(target=self._listen, args=(stream,), daemon=True).start()

    def _listen(self, stream: IO[str]) -> None:
        for line in stream:
            message = json.loads(line)
            if "stop" in message:
                self.stop = message["stop"]
            else:
                self._tasks.put(message)
        os._exit(1)

    def receive(self) -> dict[str, Any] | None:
        """Returns the next task, or None if there is none yet."""
        try:
            return self._tasks.get(timeout=POLL_SECONDS)
        except queue.Empty:
            return None

    def send(self, message: dict[str, Any]) -> None:
        """Sends a message; where the parent has ended, this process is about to end too."""
        try:
            os.write(self._replies, json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            os._exit(1)
