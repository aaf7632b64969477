"""One knob of log annealing at a time, and the same knobs of cosine, on tiny Shakespeare.

    python -m experiments.sweep --config=configs/sweeps/ablation.py
    python -m experiments.report runs/ablation

Hardware: any CPU; docs/results/ablation.md has the command with the cores, the time, and the
results. The run is that of `comparison.py:shakespeare_500`, with three of its peaks. Each trial
also evaluates an average of its weights. Two of the methods also evaluate their snapshots.
"""

from ml_collections import ConfigDict

from configs.sweeps import comparison

PEAKS = (2e-3, 4e-3, 8e-3)
SEEDS = (0, 1, 2, 3, 4)


def get_config() -> ConfigDict:
    config = comparison.get_config("shakespeare_500")
    run = config.base
    run.averaging.ema_decay = 0.99
    length = run.epochs - run.schedule.warmup_epochs

    def cycles(number: int, multiplier: float = 1.0) -> dict[str, float]:
        first = length / sum(multiplier**cycle for cycle in range(number))
        return {
            "schedule.init_decay_epochs": first,
            # The first decay is a cycle of its own, so the first interval is the second cycle.
            "schedule.restart_interval_epochs": first * multiplier,
            "schedule.restart_multiplier": multiplier,
            "schedule.options.num_cycles": number,
        }

    log = {
        "schedule.name": "cyclical_log_annealing",
        "schedule.variant": "normalized",
        **cycles(5),
    }
    paper = {**log, "schedule.variant": "paper"}
    cosine = {"schedule.name": "cosine"}
    restarts = {"schedule.name": "cyclical_cosine", **cycles(5)}
    doubling = cycles(3, multiplier=2.0)
    coupled = {"optimizer.name": "adam"}  # adds the weight decay to the gradient
    snapshots = {"averaging.cycle_snapshots": True}
    config.settings = (
        {"name": "log", **log, **snapshots},
        {"name": "log, 2 cycles", **log, **cycles(2)},
        {"name": "log, 10 cycles", **log, **cycles(10)},
        {"name": "log, doubling", **log, **doubling},
        {"name": "log, decaying", **log, "schedule.restart_decay": 0.5},
        {"name": "log, first step 10", **log, "schedule.first_step": 10.0},
        {"name": "log, end 0", **log, "schedule.end_value": 0.0},
        {"name": "log, end 0.0004", **log, "schedule.end_value": 4e-4},
        {"name": "log, coupled", **log, **coupled},
        {"name": "paper", **paper},
        {"name": "paper, base 2", **paper, "schedule.base": 2.0},
        {"name": "paper, base 10", **paper, "schedule.base": 10.0},
        {"name": "cosine", **cosine},
        {"name": "cosine, 5 cycles", **restarts, **snapshots},
        {"name": "cosine, doubling", **restarts, **doubling},
        {"name": "cosine, decaying", **restarts, "schedule.restart_decay": 0.5},
        {"name": "cosine, end 0", **cosine, "schedule.end_value": 0.0},
        {"name": "cosine, coupled", **cosine, **coupled},
    )
    config.seeds = SEEDS
    config.grid = ({"field": "schedule.peak_value", "values": PEAKS},)
    config.tune.max_extensions = 0
    return config
