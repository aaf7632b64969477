"""Rebuilds the learning rates of a run from the fields that its directory stores."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

import loganneal_jax
from experiments.build.schedules import Run, make_schedule


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
