"""The methods that the sweeps compare, as the fields in which they differ.

The runs of a sweep must have the bounds 0.1 and 0.001, and the warmup of trap, str+, and sig+.
`nakamura2021` returns the twelve methods of that paper's tables. The other methods are:

- log (paper), log (normalized), and cosine (restarts): the same five cycles of equal length,
  without warmup;
- log (one cycle), which is normalized, and cosine: one decay over the whole run;
- linear to zero;
- wsd: warmup-stable-decay, whose last fifth falls to zero as 1 - sqrt.
"""

from ml_collections import ConfigDict

NO_WARMUP = {"schedule.warmup_epochs": 0.0}


def nakamura2021(adaptive_rate: float) -> tuple[dict, ...]:
    """Returns the twelve methods of the tables in Nakamura et al. 2021.

    Args:
      adaptive_rate: learning rate of rms and adam; the paper uses 0.001 for shallow networks.

    Returns:
      The settings of a sweep.
    """
    constants = [
        {"name": rate, "schedule.name": "constant", "schedule.peak_value": float(rate)}
        for rate in ("0.1", "0.01", "0.001")
    ]
    return (
        *({**constant, **NO_WARMUP} for constant in constants),
        *({"name": name, "schedule.name": name, **NO_WARMUP} for name in ("exp", "str", "sig")),
        *(
            {
                "name": name,
                "schedule.name": "constant",
                "schedule.peak_value": adaptive_rate,
                **optimizer,
                **NO_WARMUP,
            }
            for name, optimizer in (
                ("rms", {"optimizer.name": "rmsprop", "optimizer.momentum": 0.0}),
                ("adam", {"optimizer.name": "adam"}),
            )
        ),
        {"name": "rep", "schedule.name": "rep", **NO_WARMUP},
        {"name": "trap", "schedule.name": "trap", "schedule.cooldown_fraction": 0.1},
        *({"name": name, "schedule.name": name} for name in ("str+", "sig+")),
    )


def log_annealing_and_baselines(run: ConfigDict) -> tuple[dict, ...]:
    """Returns log annealing in both variants, and the usual baselines.

    Args:
      run: the config of the runs, whose number of epochs gives the length of a cycle.

    Returns:
      The settings of a sweep.
    """
    cycles = {
        "schedule.init_decay_epochs": run.epochs / 5,
        "schedule.restart_interval_epochs": run.epochs / 5,
        **NO_WARMUP,
    }
    log = {"schedule.name": "cyclical_log_annealing", **cycles}
    return (
        {"name": "log (paper)", **log, "schedule.variant": "paper"},
        {"name": "log (normalized)", **log, "schedule.variant": "normalized"},
        {"name": "cosine (restarts)", "schedule.name": "cyclical_cosine", **cycles},
        {
            "name": "log (one cycle)",
            "schedule.name": "log_annealing",
            "schedule.variant": "normalized",
            **NO_WARMUP,
        },
        {"name": "cosine", "schedule.name": "cosine", **NO_WARMUP},
        {"name": "linear to zero", "schedule.name": "linear_to_zero", **NO_WARMUP},
        {
            "name": "wsd",
            "schedule.name": "trap",
            "schedule.end_value": 0.0,
            "schedule.cooldown": "1-sqrt",
            "schedule.cooldown_fraction": 0.2,
        },
    )


def with_equal_warmup(run: ConfigDict) -> tuple[dict, ...]:
    """Returns the methods of docs/results/protocol.md, which all warm up as `run` does.

    Args:
      run: the config of the runs. Five cycles of log annealing fill what its warmup leaves.

    Returns:
      The settings of a sweep.
    """
    cycle = (run.epochs - run.schedule.warmup_epochs) / 5
    cycles = {
        "schedule.name": "cyclical_log_annealing",
        "schedule.init_decay_epochs": cycle,
        "schedule.restart_interval_epochs": cycle,
        "schedule.restart_multiplier": 1.0,
        # Without it, the last step would restart where the length of a cycle is rounded down.
        "schedule.options.num_cycles": 5,
    }
    return (
        {"name": "log (paper)", **cycles, "schedule.variant": "paper"},
        {"name": "log (normalized)", **cycles, "schedule.variant": "normalized"},
        {
            "name": "log (one cycle)",
            "schedule.name": "log_annealing",
            "schedule.variant": "normalized",
        },
        {"name": "cosine", "schedule.name": "cosine"},
        {"name": "sig", "schedule.name": "sig+"},
        {
            "name": "wsd",
            "schedule.name": "trap",
            "schedule.end_value": 0.0,
            "schedule.cooldown": "1-sqrt",
            "schedule.cooldown_fraction": 0.2,
        },
        {"name": "linear", "schedule.name": "linear_to_zero"},
        {"name": "constant", "schedule.name": "constant"},
    )
