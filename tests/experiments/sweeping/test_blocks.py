"""Blocks: how a phase is cut."""

from etils import epath

from experiments.build.sweeps import read_sweep
from experiments.sweeping import blocks, plan
from tests.experiments.sweeping.one_device import one_device
from tests.experiments.sweeping.small_config import get_config


def test_cpu_takes_blocks_that_depend_on_the_sweep_alone(tmp_path):
    config = get_config()
    config.block_size = None
    small = read_sweep(config)
    tuning = plan.tuning_trials(small)
    with one_device():
        trainer = blocks.Trainer(small, lambda: None)
        jobs = blocks.cut("tune", tuning, epath.Path(tmp_path), trainer.block_size)
    found = [(job.name, len(job.trials), job.block_size) for job in jobs]
    assert found == [("tune-0/0.json", 4, 4)]
    # A sweep that was started keeps the size of its blocks.
    assert blocks.cut("tune", tuning, epath.Path(tmp_path), None) == jobs
