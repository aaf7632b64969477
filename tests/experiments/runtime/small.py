"""A run that takes a second: a fully connected network on the digits, 5 steps per epoch."""

from configs import quickstart
from experiments.build.experiment import build


def small_experiment(**fields):
    """Builds the experiment.

    Args:
      **fields: fields of the config to change; dotted names are passed as `**{"guard.x": 1}`.
    """
    config = quickstart.get_config()
    config.update(epochs=1.0, batch_size=256, log_every_steps=3)
    config.data.image_size = 8
    config.model.update(name="nn2", width_multiplier=0.02)
    config.model.attention.name = "none"
    config.update_from_flattened_dict(fields)
    return build(config, ["model.attention.name", *fields])
