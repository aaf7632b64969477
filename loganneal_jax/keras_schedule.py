"""The schedules as Keras sees them. Only this module imports Keras; see `bridges.to_keras`."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import keras  # type: ignore[import-untyped, unused-ignore]
import numpy as np

import loganneal_jax
from loganneal_jax import shapes
from loganneal_jax.schedule import Schedule


@keras.saving.register_keras_serializable(package="loganneal_jax")
class KerasSchedule(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc, unused-ignore]
    """A schedule of this library as a `LearningRateSchedule` of Keras."""

    def __init__(self, schedule: Schedule) -> None:
        """Wraps a schedule.

        Args:
          schedule: A schedule of this library.
        """
        super().__init__()
        self.schedule = schedule

    def __call__(self, step: Any) -> Any:
        """Returns the learning rate at a step, as a tensor of the backend of Keras."""
        backend = keras.backend.backend()
        if backend == "jax":
            count: Any = keras.ops.convert_to_tensor(step)
            return self.schedule(count)
        if backend == "tensorflow":
            # Unlike a Python function, the converted schedule also runs in compiled graphs.
            import tensorflow  # type: ignore[import-untyped]
            from jax.experimental import jax2tf

            convert = jax2tf.convert(self.schedule, with_gradient=False)
            return convert(tensorflow.convert_to_tensor(step))
        return keras.ops.convert_to_tensor(float(self.schedule(int(step))))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.schedule!r})"

    def get_config(self) -> dict[str, Any]:
        """Returns the names and arguments of the factories, as JSON."""
        return {"schedule": to_json(self.schedule)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> KerasSchedule:
        """Builds the schedule of a config again."""
        return cls(from_json(config["schedule"]))


def to_json(value: Any) -> Any:
    """Converts a schedule, or an argument of one, to JSON.

    Args:
      value: A schedule, a shape, a partial of a shape, a number, a string, or a sequence of these.

    Returns:
      Dicts, lists, numbers, and strings.

    Raises:
      TypeError: If `value` contains a function of another library.

    >>> to_json(loganneal_jax.rex_schedule(0.1, 0.0, 100))["factory"]
    'rex_schedule'
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, np.ndarray):
        return {"values": value.tolist(), "dtype": value.dtype.name}
    if isinstance(value, Schedule) and _factory(value.factory.__name__) is value.factory:
        options = {name: to_json(item) for name, item in value.arguments.items()}
        return {"factory": value.factory.__name__, "arguments": options}
    if isinstance(value, functools.partial) and not value.args:
        options = {name: to_json(item) for name, item in value.keywords.items()}
        return {"partial": to_json(value.func), "options": options}
    name = getattr(value, "__name__", "")
    if getattr(shapes, name, None) is value:
        return {"shape": name}
    raise TypeError(
        f"{value!r} cannot be saved, because it does not belong to loganneal_jax; "
        "use from_values(tabulate(schedule, num_steps)) instead."
    )


def from_json(value: Any) -> Any:
    """Converts the result of `to_json` back."""
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "values" in value:
        return np.array(value["values"], value["dtype"])
    if "shape" in value:
        return _shape(value["shape"])
    if "partial" in value:
        options = {name: from_json(item) for name, item in value["options"].items()}
        return functools.partial(from_json(value["partial"]), **options)
    factory = _factory(value["factory"])
    if factory is None:
        raise ValueError(f"{value['factory']!r} is not a schedule of loganneal_jax.")
    options = {name: from_json(item) for name, item in value["arguments"].items()}
    bound = inspect.BoundArguments(inspect.signature(factory), options)
    return factory(*bound.args, **bound.kwargs)


def _factory(name: str) -> Any:
    """Returns the public factory of this name, or None. A config cannot name anything else."""
    factory = getattr(loganneal_jax, name, None)
    return factory if getattr(factory, "is_schedule_factory", False) else None


def _shape(name: str) -> Any:
    shape = None if name.startswith("_") else vars(shapes).get(name)
    if not inspect.isfunction(shape) or shape.__module__ != shapes.__name__:
        raise ValueError(f"{name!r} is not a shape of loganneal_jax.shapes.")
    return shape
