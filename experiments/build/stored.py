"""Rebuilds a run, or its learning rates, from the fields that its directory stores."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

import loganneal_jax
from experiments.build.experiment import Experiment, build
from experiments.build.schedules import Run, make_schedule


def experiment(config: Mapping[str, Any]) -> Experiment:
    """Builds the experiment of a run.

    Args:
      config: the config that the run's directory stores, as plain values.

    Returns:
      The experiment.

    Raises:
      UserError: a field, or a combination of fields, cannot be used.
    """
    return build(ConfigDict(config))


def learning_rates(fields: Mapping[str, Any], run: Run) -> np.ndarray:
    """Returns the learning rate at each step.

    Args:
      fields: the fields of the section `schedule` by dotted name, as in `restart_value` and
        `options.power`.
      run: the length of the run.

    Returns:
      float32 of shape `[num_steps]`.

    Raises:
      UserError: a name, a value, or a combination of values cannot be used.
      AttributeError: an older version stored the fields, and one is missing.
    """
    section = ConfigDict({"options": {}})
    for name, value in fields.items():
        target, field = (
            (section.options, name.removeprefix("options."))
            if name.startswith("options.")
            else (section, name)
        )
        target[field] = value
    return np.asarray(loganneal_jax.tabulate(make_schedule(section, run), run.num_steps))
