"""Extends a finished run to more epochs, and says what its schedule does in them."""

import numpy as np
from ml_collections import ConfigDict

import loganneal_jax
from experiments.build.experiment import Experiment
from experiments.errors import UserError

FLAT = 1e-6  # differences relative to the largest rate that are rounding errors


def extended(config: ConfigDict, epochs: float) -> ConfigDict:
    """Returns the config of a run that continues.

    The schedule stays that of the shorter run, so that every step that was made keeps its learning
    rate. The further steps have the values that the schedule has after its end.

    Args:
      config: the config of the run, which may have been extended before.
      epochs: epochs of the extended run.

    Returns:
      A copy, whose `schedule.total_epochs` is the length of the first run.

    Raises:
      UserError: the run is not shorter.
    """
    before = config.schedule.total_epochs
    before = config.epochs if before is None else before
    if not epochs > before:
        raise UserError(
            f"--extend_to_epochs={epochs:g} is not more than the {before:g} epochs of the run; "
            "pass a larger number"
        )
    config = config.copy_and_resolve_references()
    with config.ignore_type():
        config.epochs = float(epochs)
        config.schedule.total_epochs = float(before)
    return config


def describe(experiment: Experiment) -> str:
    """Says what the schedule of an extended run does in the additional epochs.

    Args:
      experiment: the experiment of a config that `extended` returned.

    Returns:
      One line.

    Raises:
      UserError: the run does not end with an epoch, or the additional steps would change nothing.
    """
    before = experiment.config["schedule"]["total_epochs"]
    name, epochs = experiment.config["schedule"]["name"], experiment.config["epochs"]
    first = round(before * experiment.steps_per_epoch)
    if first % experiment.steps_per_epoch:
        raise UserError(
            f"--extend_to_epochs={epochs:g}: the run has {before:g} epochs, and only a run of full "
            f"epochs can be extended; train for {epochs:g} epochs in another --workdir"
        )
    rates = np.asarray(loganneal_jax.tabulate(experiment.schedule, experiment.num_steps))
    last, further = rates[first - 1], rates[first:]
    low, high = further.min(), further.max()
    if high == 0:
        raise UserError(
            f"--extend_to_epochs={epochs:g}: after {before:g} epochs, the learning rate of "
            f"schedule.name={name!r} is 0, so nothing more would be learned; begin a new run with "
            "--init_from"
        )
    if (np.diff(further, prepend=last) > FLAT * high).any():
        does = f"continues in cycles, between {low:.4g} and {high:.4g}"
    elif high - low <= FLAT * high:
        does = f"holds its end value, {high:.4g}"
    else:
        does = f"continues to decay, from {further[0]:.4g} to {further[-1]:.4g}"
    return f"extending the run from {before:g} to {epochs:g} epochs: schedule {name!r} {does}"
