"""Experiment 2 of naveen2024 (section 2.2, figure 3): ResNet-50 with attention, Adam, 40 epochs.

    python -m experiments.train --config=configs/cifar10_attention.py
    the same with --config.schedule.name=cyclical_cosine or constant for the other curves

For one GPU or TPU; on a CPU a few steps show that it works: --config.epochs=0.001. How long it
takes and what accuracy to expect is not known yet: it has not been run to its end.

The paper gives batch 32, 40 epochs, a restart every 10 epochs and no warmup. It does not give the
learning rates, for which we take Adam's usual 0.001 down to 0.00001, nor the size of its attention
block, for which we take 4x4 patches and a width of 256: 'one multi-head attention transformer',
mean-pooled and concatenated to the features of ResNet-50, 'over 23 million parameters' (ours: 25).
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.epochs = 40.0
    config.batch_size = 32

    config.model.name = "resnet50"
    config.model.attention.name = "beside"
    config.model.attention.width = 256
    config.model.attention.num_heads = 8
    config.model.attention.mlp_width = 1024

    config.optimizer.name = "adam"
    config.optimizer.weight_decay = 0.0

    config.schedule.name = "cyclical_log_annealing"
    config.schedule.variant = "paper"
    config.schedule.init_value = 0.001
    config.schedule.end_value = 0.00001
    config.schedule.init_decay_epochs = 10.0
    config.schedule.restart_interval_epochs = 10.0
    return config
