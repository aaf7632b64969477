"""Rebuilds a run, or its learning rates, from the fields that its directory stores."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

import loganneal_jax
from experiments.build import names
from experiments.build.experiment import Experiment, build, of_task
from experiments.build.models import make_model, model_label
from experiments.build.schedules import Run, make_schedule
from experiments.build.tasks import MATMUL_PRECISIONS, at_precision, preprocessing
from experiments.data import on_device
from experiments.data.inputs import Inputs
from experiments.packaged import base
from experiments.tasks import classification
from experiments.tasks.losses import LOSSES, to_probabilities


class Classifier(NamedTuple):
    """A classifier without its data set.

    Attributes:
      experiment: the experiment that trained it. Its task can make a state, but not load data.
      logits: (parameters and batch statistics, images as stored) -> float32 [batch, classes].
      probabilities: from logits to probabilities.
    """

    experiment: Experiment
    logits: Callable[[Mapping[str, Any], jax.Array], jax.Array]
    probabilities: Callable[[jax.Array], jax.Array]


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


def classifier(config: Mapping[str, Any], inputs: Inputs) -> Classifier:
    """Builds the classifier of a run without its data set.

    Args:
      config: the config that the run's directory stores, as plain values.
      inputs: the inputs that it stores.

    Returns:
      The classifier, whose steps of preprocessing are part of its logits.

    Raises:
      UserError: a part of the user's own cannot be imported.
    """
    section = ConfigDict(config)
    model = make_model(
        section.model, image_shape=inputs.image_shape, num_classes=len(inputs.class_names)
    )
    loss = names.resolve("loss.name", section.loss.name, LOSSES)
    task = classification.make_task(
        data=inputs.data,
        model_name=model_label(section.model),
        num_train=inputs.num_train,
        num_classes=len(inputs.class_names),
        load=_no_data,
        model=model,
        image_shape=inputs.image_shape,
        loss=loss,
        eval_loss=loss,
        augment=lambda key, images: images,
    )
    preprocess = on_device.chain(preprocessing(inputs.steps), inputs.fitted)
    precision = names.choose(
        "model.matmul_precision", section.model.matmul_precision, MATMUL_PRECISIONS
    )

    def logits(variables: Mapping[str, Any], images: jax.Array) -> jax.Array:
        result: Any = model.apply(variables, preprocess(images), train=False)
        return result

    return Classifier(
        experiment=dataclasses.replace(of_task(section, task), config=dict(config)),
        logits=at_precision(logits, precision),
        probabilities=to_probabilities(section.loss.name),
    )


def _no_data() -> Any:
    raise AssertionError("a classifier that was restored has no data set")


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
      AttributeError: an older version stored the fields, and one is missing. A field whose default
        is None may be missing, because None means the earlier behavior.
    """
    defaults = base.get_config().schedule
    section = ConfigDict({name: None for name in defaults if defaults[name] is None})
    section.options = ConfigDict()
    for name, value in fields.items():
        target, field = (
            (section.options, name.removeprefix("options."))
            if name.startswith("options.")
            else (section, name)
        )
        target[field] = value
    return np.asarray(loganneal_jax.tabulate(make_schedule(section, run), run.num_steps))
