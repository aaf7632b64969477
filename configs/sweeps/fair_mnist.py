"""Fifteen methods on MNIST, each at its best peak: --config=configs/sweeps/fair_mnist.py:MODEL.

    python -m experiments.sweep --config=configs/sweeps/fair_mnist.py:nn2

Hardware: any CPU. With nn2, the sweep took 65 minutes on one core of an AMD EPYC.
docs/results/README.md has the accuracies.

Every method tries the same five peak learning rates, with one seed. Tuning evaluates on 5,000
validation examples held out from the training split. The peak with the best validation accuracy is
then trained on the whole training split with five fresh seeds, and tested. Each schedule ends at a
hundredth of its peak, unless its formula sets the end.

The method log (searched) is the best setting that log_search.py found for eq. (4) as printed. For
the normalized variant, the search found a single cycle, which is a method here already.
"""

from ml_collections import ConfigDict

from configs import nakamura2021
from configs.sweeps import base, methods

PEAKS = (0.01, 0.02, 0.05, 0.1, 0.2)


def get_config(model: str = "nn2") -> ConfigDict:
    run = nakamura2021.get_config(f"mnist,{model},sig+")
    run.epochs = 10.0
    run.log_every_steps = 234
    # References, because the grid changes the peak.
    run.schedule.end_value = 0.01 * run.schedule.get_oneway_ref("peak_value")
    run.schedule.warmup_init_value = 0.1 * run.schedule.get_oneway_ref("peak_value")
    config = base.make(run)
    constant = {"name": "constant", "schedule.name": "constant", **methods.NO_WARMUP}
    published = methods.nakamura2021(adaptive_rate=0.001)
    names = ("exp", "str", "sig", "trap", "str+", "sig+")
    scheduled = [method for method in published if method["name"] in names]
    others = methods.log_annealing_and_baselines(run)
    log_as_printed = next(method for method in others if method["name"] == "log (paper)")
    searched = {
        **log_as_printed,
        "name": "log (searched)",
        "schedule.first_step": 100.0,
        "schedule.restart_decay": 0.5,
    }
    config.settings = (constant, *scheduled, *others, searched)
    config.grid = ({"field": "schedule.peak_value", "values": PEAKS},)
    config.tune.seeds = (100,)
    config.tune.validation_examples = 5000
    return config
