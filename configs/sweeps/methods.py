"""The methods that a sweep compares, in the fields in which they differ.

The runs' own fields must hold the bounds 0.1 and 0.001, and the warmup that trap, str+ and sig+
have. The twelve of nakamura2021 are those of its tables. The others:

- log (paper), log (normalised), cosine (restarts): the same five cycles of equal length, without
  warmup;
- log (one cycle), cosine: one decay over the whole run, normalised;
- linear to zero; wsd: warmup-stable-decay, the last fifth falling to zero as 1 - sqrt.
"""

from ml_collections import ConfigDict

NO_WARMUP = {"schedule.warmup_epochs": 0.0}


def nakamura2021(adaptive_rate: float) -> tuple[dict, ...]:
    """The twelve methods of its tables; its adaptive rate is 0.001 for shallow networks."""
    adaptive = {"schedule.init_value": adaptive_rate, "optimizer.momentum": 0.0}
    constants = [
        {"name": rate, "schedule.name": "constant", "schedule.init_value": float(rate)}
        for rate in ("0.1", "0.01", "0.001")
    ]
    return (
        *({**constant, **NO_WARMUP} for constant in constants),
        *({"name": name, "schedule.name": name, **NO_WARMUP} for name in ("exp", "str", "sig")),
        *(
            {
                "name": name,
                "schedule.name": "constant",
                "optimizer.name": optimizer,
                **adaptive,
                **NO_WARMUP,
            }
            for name, optimizer in (("rms", "rmsprop"), ("adam", "adam"))
        ),
        {"name": "rep", "schedule.name": "rep", **NO_WARMUP},
        *({"name": name, "schedule.name": name} for name in ("trap", "str+", "sig+")),
    )


def log_annealing_and_its_rivals(base: ConfigDict) -> tuple[dict, ...]:
    """Log annealing in both variants, and what it is compared with today."""
    cycles = {
        "schedule.init_decay_epochs": base.epochs / 5,
        "schedule.restart_interval_epochs": base.epochs / 5,
        **NO_WARMUP,
    }
    log = {"schedule.name": "cyclical_log_annealing", **cycles}
    return (
        {"name": "log (paper)", **log, "schedule.variant": "paper"},
        {"name": "log (normalised)", **log, "schedule.variant": "normalised"},
        {"name": "cosine (restarts)", "schedule.name": "cyclical_cosine", **cycles},
        {
            "name": "log (one cycle)",
            "schedule.name": "log_annealing",
            "schedule.variant": "normalised",
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
