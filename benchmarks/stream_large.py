"""Trains on a generated data set that is larger than memory, and kills the run again and again.

    python -m benchmarks.stream_large --directory=DIRECTORY

The data set has 41,000 JPEG files of 224x224 pixels in array_record files, 6.2 GB when decoded. A
run streams it, while the resident memory of all its processes is added up every tenth of a second.
Pages that the processes share count once for each of them. A second run is killed ten times, by
SIGTERM and SIGKILL in turn, and must end with the same parameters. SIGTERM saves first, so that the
run gets ahead. The directory needs 0.7 GB.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil  # type: ignore[import-untyped]
from PIL import Image

from experiments import sealed
from tests.experiments.data.prepare import write_data_set

SIDE, COARSE = 224, 28
NUM_CLASSES = 10
TEST_IMAGES = 256
POLL_SECONDS = 0.1


class Generated:
    """Images as a sequence that makes each of them when it is asked for: colored clouds.

    Args:
      count: number of images.
      seed: seed of all of them.
    """

    def __init__(self, count: int, seed: int) -> None:
        self._count = count
        self._seed = seed

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> np.ndarray:
        rng = np.random.default_rng([self._seed, index])
        coarse = rng.integers(0, 256, (COARSE, COARSE, 3), np.uint8)
        coarse[..., 0] = index % NUM_CLASSES * 25
        return np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def write(directory: Path, num_images: int) -> None:
    """Writes the data set, unless it is there."""
    place = directory / "generated" / "1.0.0"
    if (place / "dataset_info.json").exists():
        return
    splits = {
        split: (Generated(count, seed), np.arange(count) % NUM_CLASSES)
        for seed, (split, count) in enumerate((("train", num_images), ("test", TEST_IMAGES)))
    }
    write_data_set(
        place,
        splits,
        NUM_CLASSES,
        num_shards=8,
        shape=(SIDE, SIDE, 3),
        format="jpeg",
        quality=85,
    )


class Run:
    """A training command, and the largest resident memory of all its processes so far.

    Args:
      directory: data directory of tfds.
      workdir: directory of the run.
      epochs: epochs of the run.
      workers: number of worker processes.
    """

    def __init__(self, directory: Path, workdir: Path, epochs: float, workers: int) -> None:
        self.workdir = workdir
        self.peak_bytes = 0
        self._command = [
            *(sys.executable, "-m", "experiments.train", "--config=configs/quickstart.py"),
            *(f"--workdir={workdir}", f"--config.epochs={epochs}", "--config.batch_size=128"),
            *("--config.eval_batch_size=128", "--config.log_every_steps=10"),
            *("--config.data.name=generated", f"--config.data.data_dir={directory}"),
            *("--config.data.loading=stream", f"--config.data.workers={workers}"),
            *("--config.data.image_size=None", "--config.model.name=nn2"),
            *("--config.model.width_multiplier=0.02", "--config.model.attention.name=none"),
            "--config.schedule.peak_value=0.001",
        ]

    def once(self, *, kill: int | None, after: float) -> int:
        """Runs the command, kills it after some seconds if `kill` is a signal, and waits."""
        process = subprocess.Popen(self._command)
        done = threading.Event()
        watch = threading.Thread(target=self._watch, args=(process.pid, done))
        watch.start()
        try:
            process.wait(timeout=after if kill is not None else None)
        except subprocess.TimeoutExpired:
            assert kill is not None
            os.kill(process.pid, kill)
            process.wait()
        done.set()
        watch.join()
        return process.returncode

    def _watch(self, pid: int, done: threading.Event) -> None:
        while not done.wait(POLL_SECONDS):
            try:
                parent = psutil.Process(pid)
                processes = [parent, *parent.children(recursive=True)]
                resident = sum(process.memory_info().rss for process in processes)
            except psutil.Error:  # one of them has just ended
                continue
            self.peak_bytes = max(self.peak_bytes, resident)

    def sha256(self) -> str:
        """Returns the hash of the parameters of the finished run."""
        summary = sealed.loads((self.workdir / "summary.json").read_text())
        return str(summary["params_sha256"])


def main() -> None:
    """Runs both runs, and prints their memory and hashes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--images", type=int, default=41_000)
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--least_seconds", type=float, default=12, help="minimum before a kill")
    options = parser.parse_args()
    write(options.directory, options.images)
    decoded = (options.images + TEST_IMAGES) * SIDE * SIDE * 3
    print(f"decoded: {decoded / 1e9:.2f} GB", flush=True)

    started = time.monotonic()
    whole = Run(options.directory, options.directory / "whole", options.epochs, options.workers)
    assert whole.once(kill=None, after=0) == 0
    seconds = time.monotonic() - started
    print(f"uninterrupted: {whole.sha256()}, {seconds:.0f} s, {whole.peak_bytes / 1e9:.2f} GB")

    killed = Run(options.directory, options.directory / "killed", options.epochs, options.workers)
    rng = random.Random(0)
    kills = 0
    while kills < options.kills:
        number = (signal.SIGTERM, signal.SIGKILL)[kills % 2]
        code = killed.once(kill=number, after=options.least_seconds + rng.uniform(0, 5))
        if code == 0:
            raise SystemExit(
                f"error: the run ended after {kills} kills; lower --least_seconds or raise --epochs"
            )
        kills += 1
    assert killed.once(kill=None, after=0) == 0
    print(f"killed {kills} times: {killed.sha256()}, {killed.peak_bytes / 1e9:.2f} GB")
    assert killed.sha256() == whole.sha256()


if __name__ == "__main__":
    main()
