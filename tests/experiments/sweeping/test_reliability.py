"""Killed sweeps end with the `trials.csv` of an undisturbed sweep, bit for bit."""

import random
import signal
import time

import pytest

from tests.experiments.runtime.lives import Life
from tests.experiments.sweeping.test_damage import result

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
KILLS = 20
EPOCHS = f"--config.base.epochs={5 * KILLS}"


def sweep(workdir):
    return Life(workdir, EPOCHS, command="experiments.sweep")


def finish(workdir):
    """Runs the command to its end, and returns the result."""
    with sweep(workdir) as life:
        assert life.wait() == 0, life.errors()
        assert "warning: " not in life.errors()
    return result(workdir)


def stored(workdir):
    """Returns the names of finished blocks and of their checkpoints, complete or not."""
    blocks = workdir / "blocks"
    return {
        str(path) for pattern in ("*/*.json", "*/*/checkpoints/*") for path in blocks.glob(pattern)
    }


def test_killed_sweep_resumes_to_the_same_result(tmp_path):
    """Every other kill hits a save or the time after it, and the others hit the start-up."""
    undisturbed = finish(tmp_path / "undisturbed")
    moments = random.Random(0)
    workdir = tmp_path / "sweep"
    during_a_save = 0
    for index in range(KILLS):
        with sweep(workdir) as life:
            if index % 2:
                life.wait_for((workdir / "lock").exists)
                time.sleep(moments.uniform(0, 2))
            else:
                before = stored(workdir)
                life.wait_for(lambda before=before: stored(workdir) - before)
                time.sleep(moments.choice((0, moments.uniform(0, 0.5))))
            life.send(signal.SIGKILL)
            assert life.wait() == -signal.SIGKILL
        during_a_save += any("orbax-checkpoint-tmp" in name for name in stored(workdir))
        assert not (workdir / "summary.json").exists()
    assert finish(workdir) == undisturbed
    assert during_a_save >= 2
    print(f"{KILLS} kills, {during_a_save} of them during a save")
