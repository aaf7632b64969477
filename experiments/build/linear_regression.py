"""Turns a config into the task of linear regression."""

from ml_collections import ConfigDict

from experiments.errors import UserError
from experiments.tasks import linear_regression
from experiments.tasks.task import Task


def make_task(config: ConfigDict, axis_name: str | None) -> Task:
    """Linear regression on Gaussian inputs with a power-law spectrum.

    Args:
      config: a config that `fields.check` accepted.
      axis_name: the mapped axis along which devices share a batch, if there is one.

    Returns:
      The task.

    Raises:
      UserError: no examples are left to train with.
    """
    num_validation = config.data.validation_examples
    if num_validation >= linear_regression.EPOCH_EXAMPLES:
        raise UserError(
            f"data.validation_examples={num_validation} leaves no training examples: an epoch of "
            f"linear_regression has {linear_regression.EPOCH_EXAMPLES}"
        )
    section = config.linear_regression
    return linear_regression.make_task(
        dimensions=section.dimensions,
        exponent=section.exponent,
        noise=section.noise,
        num_validation=num_validation,
        accumulate_steps=config.parallel.accumulate_steps,
        axis_name=axis_name,
    )
