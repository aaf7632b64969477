"""Every schedule at its own best peak, on MNIST: --config=configs/sweeps/fair_mnist.py:MODEL.

    python -m experiments.sweep --config=configs/sweeps/fair_mnist.py:nn2

Each of fifteen methods gets the same five peak learning rates, tried with one seed on 5,000
validation examples held out from the training split. The peak with the best validation accuracy is
then trained on the whole training split with five fresh seeds, and tested. Schedules end at a
hundredth of their peak, or where they end by their nature.

What the search of log_search.py found best, of eq. 4 as printed, takes part as log (searched); of
the normalised variant it found the one cycle that is here anyway.
"""

from ml_collections import ConfigDict

from configs import nakamura2021
from configs.sweeps import base, methods

PEAKS = (0.01, 0.02, 0.05, 0.1, 0.2)


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
    rivals = methods.log_annealing_and_its_rivals(run)
    log_as_printed = next(rival for rival in rivals if rival["name"] == "log (paper)")
    searched = {
        **log_as_printed,
        "name": "log (searched)",
        "schedule.first_step": 100.0,
        "schedule.restart_decay": 0.5,
    }
    config.settings = (constant, *scheduled, *rivals, searched)
    config.grid = ({"field": "schedule.init_value", "values": PEAKS},)
    config.tune.seeds = (100,)
    config.tune.validation_examples = 5000
    return config
