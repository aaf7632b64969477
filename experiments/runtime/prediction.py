"""What a trained model predicts, from the newest checkpoint of its run."""

import json
from typing import Any

import jax
from etils import epath

from experiments.build import stored
from experiments.build.experiment import Experiment
from experiments.errors import UserError
from experiments.program import assemble, parallel
from experiments.program.state import TrainState, key_data
from experiments.program.weights import to_evaluate
from experiments.runtime import workdir
from experiments.runtime.checkpoint import Checkpointer
from experiments.tasks.task import Sampling


def of_run(directory: epath.Path, options: Sampling) -> str:
    """Returns what the newest state of a run predicts.

    Args:
      directory: directory of a run that is finished or stopped.
      options: how to draw a text.

    Returns:
      The text.

    Raises:
      UserError: the directory has no run or no checkpoint, the run is in progress, or its task
        predicts nothing.
    """
    experiment = stored.experiment(_config(directory))
    predict = experiment.task.predict
    if predict is None:
        raise UserError(
            f"the task of {directory}, {experiment.config['task']['name']}, predicts nothing; pass "
            "the directory of a language model"
        )
    with workdir.locked(directory):
        state = _newest_state(directory, experiment)
    return predict(state, options)


def _config(directory: epath.Path) -> dict[str, Any]:
    """Returns the config of a run as plain values."""
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


def _newest_state(directory: epath.Path, experiment: Experiment) -> TrainState:
    """Restores the newest undamaged checkpoint to the first device."""
    strategy = parallel.make_strategy("jit", jax.devices()[:1])
    programs = assemble.compiled(
        experiment.task, experiment.optimizer, experiment.batches, strategy
    )
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=strategy.replicated),
        jax.eval_shape(programs.init, key_data(experiment.seed)),
    )
    with Checkpointer(
        directory,
        max_to_keep=experiment.checkpoints.max_to_keep,
        config_sha256=workdir.fingerprint([experiment.config]),
    ) as checkpointer:
        restored = checkpointer.restore_latest(shapes)
    if restored is None:
        raise UserError(f"{directory} has no checkpoint yet; train for an epoch, or until a signal")
    state, _ = restored
    return to_evaluate(state)
