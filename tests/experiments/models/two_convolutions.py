"""A network for tests of training: convolutions with batch norm that compile in a second."""

import flax.linen as nn

from experiments.models.layers import Layers, scaled

NAME = f"{__name__}:make"  # as `model.name` of a config


class TwoConvolutions(nn.Module):
    """Compiles in a fraction of the time of a ResNet."""

    channels: int
    layers: Layers

    @nn.compact
    def __call__(self, x, *, train):
        for channels, stride in ((self.channels, 1), (2 * self.channels, 2)):
            x = self.layers.conv(channels, (3, 3), stride, padding=1)(x)
            x = nn.relu(self.layers.norm(use_running_average=not train)(x))
        return x.mean(axis=(1, 2))


def make(config, num_classes, layers):
    """Builds the network with 16 and 32 channels, times the width multiplier."""
    return TwoConvolutions(scaled(16, config.width_multiplier), layers)
