"""Four methods of the comparison, each with three lengths of the warmup.

    python -m experiments.sweep --config=configs/sweeps/warmup.py:teacher

The tasks are `teacher` and `teacher_short` of `comparison.py`, with the peaks, the seeds, and the
selection of that sweep.

Hardware: any CPU; docs/results/teacher.md has the command with the cores, the time, and the
results.
"""

from ml_collections import ConfigDict

from configs.sweeps import comparison, methods

METHODS = ("log (normalized)", "cosine", "wsd", "linear")
WARMUPS = (0.0, comparison.WARMUP, 0.2)  # of the run
TASKS = ("teacher", "teacher_short")


def name(method: str, warmup: float) -> str:
    """Returns the name of a method with a warmup; with the usual one, it is that of the method."""
    return method if warmup == comparison.WARMUP else f"{method}, {warmup:.0%}"


def get_config(task: str = "teacher") -> ConfigDict:
    """Returns the config of the comparison on a task, which is one of `TASKS`."""
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}; choose one of {', '.join(TASKS)}")
    config = comparison.get_config(task)
    settings = []
    for warmup in WARMUPS:
        run = config.base.copy_and_resolve_references()
        run.schedule.warmup_epochs = warmup * run.epochs
        for setting in methods.with_equal_warmup(run):
            if setting["name"] in METHODS:
                length = {"schedule.warmup_epochs": run.schedule.warmup_epochs}
                settings.append({**setting, **length, "name": name(setting["name"], warmup)})
    config.settings = tuple(settings)
    return config
