"""A DCGAN on MNIST.

    python -m experiments.train --config=configs/gan_mnist.py

Hardware: any CPU. On one shared core of an Intel Xeon, the run takes 6.4 minutes, and most of its
samples are recognizable digits. With averaged weights, their Frechet distance is 43.5 and their KID
77.9 (one trial, seed 0). Those of training images are 0.62 and 0.45. docs/tasks/gan.md has samples.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.epochs = 8.0
    config.batch_size = 64
    config.eval_batch_size = 500
    config.log_every_steps = 100
    config.task.name = "gan"
    config.data.name = "mnist"
    config.model.name = "dcgan"
    config.model.width_multiplier = 0.25
    config.gan.discriminator_rate = 0.5
    config.optimizer.name = "adam"
    config.optimizer.beta1 = 0.5
    config.optimizer.weight_decay = 0.0
    config.averaging.ema_decay = 0.999
    config.schedule.name = "trapezoid"
    config.schedule.peak_value = 1e-3
    config.schedule.end_value = 0.0
    return config
