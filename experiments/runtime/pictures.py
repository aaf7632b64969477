"""Pictures of a run after an epoch, such as samples of a generator."""

from typing import Any

import jax
import numpy as np

from experiments.build.experiment import Experiment
from experiments.program.assemble import Programs
from experiments.program.state import TrainState
from experiments.program.weights import as_they_are


def draw(
    experiment: Experiment, programs: Programs, state: TrainState, step: int
) -> dict[str, np.ndarray]:
    """Returns the pictures of the weights and of their averages, by name.

    Args:
      experiment: an experiment whose task has pictures.
      programs: its compiled programs.
      state: the state after an epoch.
      step: number of updates made.

    Returns:
      uint8 [height, width, channels] by name.
    """
    names = experiment.averaging.names_after(step, experiment.steps_per_epoch)
    # Batch statistics of the equal-weight mean would need a pass over the training split.
    averaged = {
        f"{name}_": state.replace(**state.averages[name]) for name in names if name != "swa"
    }
    pictures_of: Any = programs.pictures
    pictures = pictures_of(state)
    for prefix, weights in averaged.items():
        drawn = pictures_of(as_they_are(weights))
        pictures |= {f"{prefix}{name}": picture for name, picture in drawn.items()}
    return jax.device_get(pictures)
