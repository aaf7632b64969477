"""ResNet-50 on ImageNet, streamed from disk, with warmup and cosine annealing.

    python -m experiments.train --config=configs/imagenet_resnet50.py

Hardware: a slice of 8 or more TPU cores, or 8 GPUs. Time and accuracy are unknown: this has not
been run here. With this recipe, the ImageNet example of Flax reports 76.3% to 76.7% top-1 accuracy
in 2 to 13 hours (examples/imagenet/README.md in google/flax).

The recipe is that of Goyal et al. 2017 (arXiv:1706.02677): SGD with Nesterov momentum of 0.9, a
learning rate of 0.1 per 256 images after a warmup of 5 epochs, and a weight decay of 1e-4 that
does not apply to biases and norms. As in Flax's example, the learning rate falls along a cosine
over 100 epochs instead of in steps, and label smoothing is 0.1. Training uses random parts of the
images, and mirrors half of them. docs/data.md explains how to prepare `imagenet2012`.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.epochs = 100.0
    config.batch_size = 1024
    config.eval_batch_size = 1024
    config.log_every_steps = 100
    config.data.name = "imagenet2012"
    config.data.image_size = 224
    config.data.loading = "stream"
    config.model.name = "resnet50"
    config.model.variant = "imagenet"
    config.model.dtype = "bfloat16"
    config.model.attention.name = "none"
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 1e-4
    config.optimizer.weight_decay_mask = "kernels"
    config.loss.label_smoothing = 0.1
    config.schedule.name = "cosine"
    config.schedule.peak_value = 0.1 * config.batch_size / 256
    config.schedule.end_value = 0.0
    config.schedule.warmup_epochs = 5.0
    return config
