"""The weights of another run, with which a new run begins."""

import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath
from flax.traverse_util import flatten_dict, unflatten_dict

from experiments.build.experiment import Experiment
from experiments.data import inputs, tensors
from experiments.errors import UserError
from experiments.program import averaging
from experiments.program.parallel import Strategy, replicate
from experiments.program.state import TrainState, key_data, make_key
from experiments.runtime import hashes, trained, workdir

FILE = "initial.safetensors"
# Parts of the names of parameters that belong to the classes, in image classification.
HEAD = ("params/head/", "/auxiliary")


class Weights(NamedTuple):
    """Weights of another run.

    Attributes:
      arrays: parameters and batch statistics by path, without those that are replaced.
      description: the directory, the step, and the hash of the parameters, and the names of the
        parameters that are replaced by new ones.
    """

    arrays: Mapping[str, np.ndarray]
    description: dict[str, Any]


def check(experiment: Experiment, directory: epath.Path) -> None:
    """Refuses weights that do not fit, before the run claims its directory.

    Args:
      experiment: an experiment whose data were read.
      directory: directory of the run.

    Raises:
      UserError: see `prepare`.
    """
    if experiment.init_from is not None:
        _take(experiment, directory)


def prepare(experiment: Experiment, directory: epath.Path) -> Weights | None:
    """Returns the weights that a run begins with, or None if they are random.

    The first start stores them in the directory of the run, so that later starts do not need the
    other run.

    Args:
      experiment: an experiment whose data were read.
      directory: directory of the run, locked.

    Raises:
      UserError: the other run has no checkpoint or is in progress, or its weights have other
        shapes.
    """
    if experiment.init_from is None:
        return None
    file = directory / FILE
    if file.exists():
        try:
            return Weights(*tensors.loads(file.read_bytes()))
        except ValueError as error:
            raise UserError(
                f"{file} is damaged ({error}); delete it, and the same command takes the weights "
                f"of {experiment.init_from} again"
            ) from error
    weights = _take(experiment, directory)
    workdir.write_atomically(file, tensors.dumps(*weights))
    replaced = weights.description["replaced"]
    also = f"; new parameters, because the classes differ: {', '.join(replaced)}"
    print(
        f"the run begins with the weights of {experiment.init_from} at step "
        f"{weights.description['step']}{also if replaced else ''}",
        file=sys.stderr,
    )
    return weights


def beginning_with(
    weights: Weights | None, experiment: Experiment, strategy: Strategy
) -> Callable[[TrainState], TrainState]:
    """Returns the function that puts weights into a state at step 0.

    Args:
      weights: the weights, or None to change nothing.
      experiment: the experiment.
      strategy: how devices share a step.

    Returns:
      A function from a state to a state, whose optimizer and averages begin with the weights.
    """
    if weights is None:
        return lambda state: state
    taken = {name: replicate(array, strategy.replicated) for name, array in weights.arrays.items()}

    def begin(state: TrainState, arrays: Mapping[str, jax.Array]) -> TrainState:
        variables = {**_variables(state), **arrays}
        new = {"params": {}, "batch_stats": {}} | unflatten_dict(variables, sep="/")
        state = state.replace(**new, opt_state=experiment.optimizer.init(new["params"]))
        return averaging.start(experiment.averaging, state)

    compiled = jax.jit(begin, out_shardings=strategy.replicated)
    return lambda state: compiled(state, taken)


def _take(experiment: Experiment, directory: epath.Path) -> Weights:
    """Reads the weights of the other run, and compares them with those of this one."""
    place: Any = experiment.init_from
    source = epath.Path(place)
    if jax.process_count() > 1:
        raise UserError(
            f"init_from={place!r} is read by one process; begin the run with one, and resume it "
            "with several"
        )
    if source.resolve() == directory.resolve():
        raise UserError(
            f"init_from={place!r} is the --workdir of this run; pass the directory of another run"
        )
    run = trained.read_run(source)
    state = jax.eval_shape(
        lambda data: experiment.task.init(make_key(data), experiment.optimizer),
        key_data(experiment.seed),
    )
    if isinstance(state.opt_state, dict):
        raise UserError(
            f"init_from={place!r} cannot be used with task.name="
            f"{experiment.config['task']['name']!r}, which has several networks"
        )
    theirs = {name: np.asarray(array) for name, array in _variables(run.state).items()}
    replaced = []
    if _classes(experiment) != (run.inputs and run.inputs.class_names):
        replaced = [name for name in theirs if any(part in name for part in HEAD)]
    _compare(place, theirs, _variables(state), replaced)
    description = {
        "workdir": place,
        "step": int(run.state.step),
        "params_sha256": hashes.tree_sha256(run.state.params),
        "replaced": sorted(replaced),
    }
    return Weights({name: theirs[name] for name in theirs if name not in replaced}, description)


def _classes(experiment: Experiment) -> tuple[str, ...] | None:
    stored = experiment.task.inputs
    return inputs.loads(stored()).class_names if stored else None


def _compare(
    place: str, theirs: Mapping[str, Any], ours: Mapping[str, Any], replaced: list[str]
) -> None:
    """Refuses the first array that only one network has, or that has another shape."""
    for name in sorted(theirs.keys() | ours.keys()):
        if name in replaced and name in ours:
            continue
        there, here = (
            str(tuple(each[name].shape)) if name in each else "missing" for each in (theirs, ours)
        )
        if there != here:
            raise UserError(
                f"init_from={place!r} has other weights: {name} is {there} there and {here} here; "
                "use the same model and images with as many channels"
            )


def _variables(state: TrainState) -> dict[str, Any]:
    """Returns the parameters and batch statistics of a state by path."""
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    return flatten_dict(variables, sep="/")
