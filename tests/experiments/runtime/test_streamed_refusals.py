"""Data sets that cannot be streamed end the command with one sentence and exit code 2."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests import commands
from tests.experiments.data.prepare import write_data_set
from tests.experiments.runtime.lives import SMALL
from tests.experiments.runtime.streamed import write_small


def missing(directory):
    (directory / "my_own-train.array_record-00001-of-00003").unlink()


def truncated(directory):
    os.truncate(directory / "my_own-train.array_record-00001-of-00003", 5000)


def changed(directory):
    """Changes a byte of the third image in the second file."""
    file = directory / "my_own-train.array_record-00001-of-00003"
    parts = file.read_bytes().split(b"\x89PNG")
    parts[3] = parts[3][:60] + bytes([parts[3][60] ^ 1]) + parts[3][61:]
    file.write_bytes(b"\x89PNG".join(parts))


def with_examples(num_train, num_test):
    def replace(directory):
        shutil.rmtree(directory)
        splits = {
            split: (np.zeros((count, 6, 6, 3), np.uint8), np.zeros(count, int))
            for split, count in (("train", num_train), ("test", num_test))
        }
        write_data_set(directory, splits, num_classes=4)

    return replace


def flags(place):
    return (
        *SMALL,
        *("--config.data.name=my_own", f"--config.data.data_dir={place / 'data'}"),
        *("--config.data.image_size=None", "--config.data.loading=stream"),
        *("--config.data.workers=1", f"--workdir={place / 'run'}"),
    )


def the_error(ended):
    """Returns the last line of a command, which is its only error."""
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.count("error: ") == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    line = ended.stderr.splitlines()[-1]
    assert line.startswith("error: "), ended.stderr
    return line


CASES = {
    "missing shard": (missing, 8, "my_own-train.array_record-00001-of-00003); if its files are"),
    "truncated shard": (truncated, 8, "split 'train' of data set 'my_own' cannot be read from"),
    "unreadable image": (changed, 8, "example 2 of {}/my_own-train.array_record-00001-of-00003"),
    "no examples": (with_examples(0, 3), 1, "'my_own' has no examples in a split train"),
    "nothing to evaluate": (with_examples(3, 0), 1, "data.validation_examples"),
    "fewer examples than devices": (
        with_examples(3, 3),
        4,
        "batch_size=4 is larger than the data set: my_own has 3 training examples",
    ),
    "batch smaller than the devices": (
        with_examples(3, 3),
        2,
        "batch_size=2 cannot be divided among 4 devices; it must be a multiple of 4",
    ),
}


@pytest.mark.parametrize(("damage", "batch_size", "reason"), CASES.values(), ids=CASES)
def test_unusable_data_set_ends_the_command_with_one_sentence(damage, batch_size, reason, tmp_path):
    directory = write_small(tmp_path / "data")
    damage(directory)
    ended = commands.run(
        "experiments.train",
        *flags(tmp_path),
        f"--config.batch_size={batch_size}",
        XDG_CACHE_HOME=str(tmp_path / "cache"),
        XLA_FLAGS=f"{commands.FAST} --xla_force_host_platform_device_count=4",
    )
    assert reason.format(directory) in the_error(ended)


def test_workers_leave_nothing_behind_after_an_error(tmp_path):
    """In an interpreter of its own, which reports semaphores that the command did not release."""
    changed(write_small(tmp_path / "data"))
    ended = subprocess.run(
        [sys.executable, "-m", "experiments.train", *flags(tmp_path)],
        cwd=commands.ROOT,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert "cannot be read" in the_error(ended)
    assert "leaked" not in ended.stderr
