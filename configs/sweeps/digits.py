"""Five schedules on handwritten digits, five seeds each, tuned first: a minute on any CPU.

    python -m experiments.sweep --config=configs/sweeps/digits.py
    python -m experiments.report runs/digits --out=report

No network is needed. It shows how a sweep and a report look; 360 test images tell no schedules
apart.
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
    run.schedule.end_value = 0.01 * run.schedule.get_oneway_ref("init_value")
    config = base.make(run)
    compared = ("log (paper)", "log (normalised)", "cosine (restarts)", "cosine")
    rivals = methods.log_annealing_and_its_rivals(run)
    constant = {"name": "constant", "schedule.name": "constant"}
    config.settings = (constant, *(rival for rival in rivals if rival["name"] in compared))
    config.grid = ({"field": "schedule.init_value", "values": (0.02, 0.1, 0.5)},)
    config.tune.seeds = (100, 101)
    config.tune.validation_examples = 200
    return config
