"""The network of a finished or stopped run, as a pure function of images."""

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from experiments.build import stored
from experiments.build.experiment import Experiment
from experiments.data import inputs
from experiments.data.inputs import Inputs
from experiments.errors import UserError
from experiments.program import assemble, parallel
from experiments.program.state import TrainState, key_data
from experiments.program.weights import to_evaluate
from experiments.runtime import workdir
from experiments.runtime.checkpoint import Checkpointer


@flax.struct.dataclass(eq=False)  # a function that jax.jit can hash
class Trained:
    """A trained classifier, which maps images to probabilities.

    It is a frozen dataclass and a pytree, so `jax.jit` takes it as a function or as an argument.

    Attributes:
      variables: the parameters, and the batch statistics if there are any, by collection.
      image_shape: height, width, and channels of its images.
      dtype: dtype of its images; uint8 has values from 0 to 255.
      class_names: names of the classes, in the order of the probabilities.
      step: number of updates that its parameters had.
      stored_shape: height, width, and channels of the images before training resized them, or None
        if they had any size.
    """

    variables: Any
    image_shape: tuple[int, int, int] = flax.struct.field(pytree_node=False)
    dtype: str = flax.struct.field(pytree_node=False)
    class_names: tuple[str, ...] = flax.struct.field(pytree_node=False)
    step: int = flax.struct.field(pytree_node=False)
    stored_shape: tuple[int, int, int] | None = flax.struct.field(pytree_node=False)
    _logits: Callable[..., jax.Array] = flax.struct.field(pytree_node=False)
    _probabilities: Callable[[jax.Array], jax.Array] = flax.struct.field(pytree_node=False)

    def __call__(self, images: jax.typing.ArrayLike) -> jax.Array:
        """Returns the probability of each class.

        Args:
          images: `dtype` [batch, height, width, channels], as the data set stores them: they are
            preprocessed here, but neither resized nor augmented.

        Returns:
          float32 [batch, classes].

        Raises:
          UserError: the images have another shape or dtype.
        """
        return self._probabilities(self.logits(images))

    def logits(self, images: jax.typing.ArrayLike) -> jax.Array:
        """Returns the logits, float32 [batch, classes]; see `__call__`."""
        array: Any = images if isinstance(images, jax.Array) else np.asarray(images)
        if array.shape[1:] != self.image_shape or array.dtype != self.dtype:
            expected = ", ".join(map(str, self.image_shape))
            raise UserError(
                f"the images are {array.dtype} of shape {array.shape}, but the network takes "
                f"{self.dtype} [batch, {expected}]; convert or resize them"
            )
        return self._logits(self.variables, jnp.asarray(array))


def load(directory: str | os.PathLike[str], which: str = "newest") -> Trained:
    """Loads the network of a run, which needs neither its data set nor its devices.

    Args:
      directory: directory of a finished or stopped run of image classification.
      which: a checkpoint in `WHICH`.

    Returns:
      The network, with the weights of that checkpoint, on the first device. With a
      schedule-free optimizer, they are the averages that it evaluates.

    Raises:
      UserError: the directory has no such run, or an older version wrote it; or the run is in
        progress.
    """
    place = epath.Path(os.path.expanduser(directory))
    config = read_config(place)
    described = read_inputs(place, config)
    classifier = stored.classifier(config, described)
    with workdir.locked(place):
        state = restore(place, classifier.experiment, which)
    return Trained(
        variables={"params": state.params, "batch_stats": state.batch_stats},
        image_shape=described.image_shape,
        dtype=described.dtype,
        class_names=described.class_names,
        step=int(state.step),
        stored_shape=described.stored_shape,
        _logits=classifier.logits,
        _probabilities=classifier.probabilities,
    )


class Run(NamedTuple):
    """A finished or stopped run.

    Attributes:
      config: its config as plain values.
      inputs: what it stored about the images of its classifier, or None for other tasks.
      state: the state to evaluate, on the first device.
    """

    config: dict[str, Any]
    inputs: Inputs | None
    state: TrainState


def read_run(directory: epath.Path, which: str = "newest") -> Run:
    """Reads a run of any task.

    Args:
      directory: directory of a finished or stopped run. Tasks other than image classification need
        their data set.
      which: a checkpoint in `WHICH`.

    Raises:
      UserError: the directory has no run or no checkpoint, or the run is in progress.
    """
    config = read_config(directory)
    described = None
    if is_classification(config):
        described = read_inputs(directory, config)
        experiment = stored.classifier(config, described).experiment
    else:
        experiment = stored.experiment(config)
    with workdir.locked(directory):
        return Run(config, described, restore(directory, experiment, which))


def is_classification(config: Mapping[str, Any]) -> bool:
    """Returns whether the config of a run is that of image classification."""
    task = config.get("task")
    return isinstance(task, dict) and task.get("name") == "classification"


def read_config(directory: epath.Path) -> dict[str, Any]:
    """Returns the config of a run as plain values.

    Args:
      directory: directory of the run.

    Raises:
      UserError: the directory is not that of a run.
    """
    file = directory / "config.json"
    if not file.exists():
        raise UserError(f"{directory} is not the directory of a run: it has no config.json")
    try:
        config = json.loads(workdir.read_text(file))
        if not isinstance(config, dict):
            raise ValueError("it is not a JSON object")
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not the config of a run: {error}") from error
    return config


def read_inputs(directory: epath.Path, config: dict[str, Any]) -> Inputs:
    """Returns what a run stored about the images of its classifier.

    Args:
      directory: directory of the run.
      config: its config.

    Raises:
      UserError: the run is not one of image classification, or the file is missing or damaged.
    """
    if not is_classification(config):
        task = config.get("task", {}).get("name")
        raise UserError(
            f"{directory} has a run of task.name={task!r}, and only the networks of "
            "task.name='classification' can be loaded as functions of images"
        )
    file = directory / inputs.FILE
    if not file.exists():
        raise UserError(
            f"{directory} has no {inputs.FILE}, because its run did not begin or an older version "
            "trained it; train again in another --workdir"
        )
    try:
        return inputs.loads(file.read_bytes())
    except ValueError as error:
        raise UserError(
            f"{file} is damaged ({error}); the command that trained the run writes it anew"
        ) from error


def restore(directory: epath.Path, experiment: Experiment, which: str = "newest") -> TrainState:
    """Restores a checkpoint to the first device.

    Args:
      directory: directory of the run, locked.
      experiment: the experiment of the run.
      which: a checkpoint in `WHICH`.

    Returns:
      The state to evaluate.

    Raises:
      UserError: there is no such checkpoint, or it is damaged.
    """
    if which not in WHICH:
        raise UserError(f"which={which!r} is unknown; choose from {', '.join(WHICH)}")
    strategy = parallel.make_strategy("jit", jax.devices()[:1])
    programs = assemble.compiled(
        experiment.task,
        experiment.optimizer,
        experiment.batches,
        strategy,
        averaging=experiment.averaging,
    )
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=strategy.replicated),
        jax.eval_shape(programs.init, key_data(experiment.seed)),
    )
    with Checkpointer(
        directory,
        max_to_keep=experiment.checkpoints.max_to_keep,
        config_sha256=workdir.trajectory(experiment.config),
    ) as checkpointer:
        restored = WHICH[which](checkpointer, shapes)
    if restored is None:
        raise UserError(f"{directory} has no checkpoint yet; train for an epoch, or until a signal")
    state, _ = restored
    return to_evaluate(state)


# The checkpoint of a run: its newest undamaged one, or the one that `checkpoint.keep_best` keeps.
WHICH: dict[str, Callable[[Checkpointer, TrainState], tuple[TrainState, Any] | None]] = {
    "newest": Checkpointer.restore_latest,
    "best": Checkpointer.restore_best,
}
