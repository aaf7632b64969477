"""A DCGAN on CIFAR-10.

    python -m experiments.train --config=configs/gan_cifar10.py

Hardware: one GPU or TPU, or a patient CPU. No run has been made to its end. The classifier of
features is trained at the first start.
"""

from ml_collections import ConfigDict

from configs import gan_mnist


def get_config() -> ConfigDict:
    config = gan_mnist.get_config()
    config.epochs = 100.0
    config.data.name = "cifar10"
    config.model.width_multiplier = 1.0
    config.gan.loss = "hinge"
    config.gan.spectral_norm = True
    config.gan.latent_size = 128
    return config
