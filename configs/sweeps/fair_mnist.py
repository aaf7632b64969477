"""Every schedule at its own best peak, on MNIST: --config=configs/sweeps/fair_mnist.py:MODEL.

    python -m experiments.sweep --config=configs/sweeps/fair_mnist.py:nn2

Each of thirteen methods gets the same six peak learning rates and the same two tuning seeds, on
5,000 validation examples held out from the training split. The peak with the best mean validation
accuracy is then trained on the whole training split with ten fresh seeds, and tested. Schedules end
at a hundredth of their peak, or where they end by their nature.
"""

from ml_collections import ConfigDict

from configs import nakamura2021
from configs.sweeps import base, methods

PEAKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


def get_config(model: str = "nn2") -> ConfigDict:
    run = nakamura2021.get_config(f"mnist,{model},sig+")
    run.epochs = 10.0
    run.log_every_steps = 234
    # A hundredth of the peak, whatever the peak.
    run.schedule.end_value = 0.01 * run.schedule.get_oneway_ref("init_value")
    run.schedule.warmup_init_value = 0.1 * run.schedule.get_oneway_ref("init_value")
    config = base.make(run)
    constant = {"name": "constant", "schedule.name": "constant", **methods.NO_WARMUP}
    own = methods.nakamura2021(adaptive_rate=0.001)
    scheduled = [m for m in own if m["name"] in ("exp", "str", "sig", "trap", "str+", "sig+")]
    config.settings = (constant, *scheduled, *methods.log_annealing_and_its_rivals(run))
    config.seeds = tuple(range(10))
    config.grid = ({"field": "schedule.init_value", "values": PEAKS},)
    config.tune.seeds = (100, 101)
    config.tune.validation_examples = 5000
    return config
