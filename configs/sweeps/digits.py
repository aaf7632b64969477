"""Five schedules on handwritten digits, each tuned first and trained with five seeds.

    python -m experiments.sweep --config=configs/sweeps/digits.py
    python -m experiments.report runs/digits --out=report

Hardware: any CPU. The sweep takes a minute and needs no network. It shows what a sweep and a report
look like. The 360 test images are too few to distinguish the schedules.
"""

from ml_collections import ConfigDict

from configs import base as run_base
from configs.sweeps import base, methods


def get_config() -> ConfigDict:
    run = run_base.get_config()
    run.epochs = 10.0
    run.batch_size = 64
    run.eval_batch_size = 360
    run.data.name = "digits"
    run.data.augment = False
    run.model.name = "nn2"
    run.model.width_multiplier = 0.2
    run.model.attention.name = "none"
    run.schedule.end_value = 0.01 * run.schedule.get_oneway_ref("peak_value")
    config = base.make(run)
    compared = ("log (paper)", "log (normalized)", "cosine (restarts)", "cosine")
    candidates = methods.log_annealing_and_baselines(run)
    constant = {"name": "constant", "schedule.name": "constant"}
    config.settings = (constant, *(each for each in candidates if each["name"] in compared))
    config.grid = ({"field": "schedule.peak_value", "values": (0.02, 0.1, 0.5)},)
    config.tune.seeds = (100, 101)
    config.tune.validation_examples = 200
    return config
