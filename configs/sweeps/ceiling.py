"""The best schedule that a search found, beside the tuned methods, with fresh seeds.

    python -m experiments.sweep --config=configs/sweeps/ceiling.py:teacher

The tasks are `teacher` and `teacher_short` of `comparison.py`. Each method has the peak that the
comparison chose. The search is `docs/results/ceiling.py`, which prints the knots.

Hardware: any CPU; docs/results/ceiling.md has the commands with the cores, the time, and the
results.
"""

from ml_collections import ConfigDict

from configs.sweeps import base, comparison

SEARCHED = "searched"
# Task -> rates at equal distances from the end of the warmup, in octaves above the peak.
KNOTS = {
    "teacher": (0.0, -1.77, -1.63, -0.60, -1.45, -1.22, -5.02, -6.32),
    "teacher_short": (-0.60, -0.57, -0.28, -0.21, -0.07, 0.0, -0.51, -7.09),
}
# Task -> method -> its peak.
PEAKS = {
    "teacher": {
        SEARCHED: 0.0692,
        "cosine": 0.05,
        "linear": 0.05,
        "sig": 0.05,
        "wsd": 0.025,
        "log (normalized)": 0.1,
        "log (one cycle)": 0.1,
    },
    "teacher_short": {
        SEARCHED: 0.403,
        "cosine": 0.4,
        "linear": 0.4,
        "sig": 0.4,
        "wsd": 0.2,
        "log (normalized)": 0.4,
        "log (one cycle)": 0.4,
    },
}


def get_config(task: str = "teacher") -> ConfigDict:
    """Returns the config of the comparison on a task, which is a key of `PEAKS`."""
    if task not in PEAKS:
        raise ValueError(f"unknown task {task!r}; choose one of {', '.join(PEAKS)}")
    config = comparison.get_config(task)
    searched = {
        "name": SEARCHED,
        "schedule.name": "docs.results.ceiling:make_schedule",
        "schedule.options.knots": KNOTS[task],
    }
    methods = {setting["name"]: setting for setting in (searched, *config.settings)}
    config.settings = tuple(
        {**methods[name], "schedule.peak_value": peak} for name, peak in PEAKS[task].items()
    )
    config.grid = ()
    config.tune = base.make(config.base).tune
    return config
