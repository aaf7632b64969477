"""Experiment 1 of naveen2024 (section 2.1, figure 2): ResNet-34 on CIFAR-10, SGD, 60 epochs.

    python -m experiments.train --config=configs/cifar10_resnet34.py
    the same with --config.schedule.name=cyclical_cosine, str or constant for the other curves

For one GPU or TPU; on a CPU a few steps show that it works: --config.epochs=0.005
--config.schedule.warmup_epochs=0. How long it takes and what accuracy to expect is not known yet:
it has not been run to its end.

How the paper's parameters were reconciled. It prints: initial learning rate 0.0001, minimum 0.001,
restart learning rate 0.1, warmup of 5 epochs from 0.01. Taken literally the warmup would fall, from
0.01 to 0.0001, and the decay would rise, from 0.0001 to 0.001. The caption of its figure 1 gives
0.0001 as the warmup's start, so we read the two numbers as exchanged: the warmup rises from 0.0001
to 0.01, the first decay falls from 0.01 to the minimum 0.001 in 10 epochs, and restarts at 0.1
follow after 15, 25 and 45 epochs. Every printed number is used, and nothing else.

Where we differ: preprocessing is per-channel standardisation, not yet the paper's chain; the loss
is softmax cross-entropy, not yet its sigmoid outputs; the backbone is the published ResNet-34 of 21
million parameters, where the paper names 63.5 million without saying how.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.epochs = 60.0
    config.batch_size = 128

    config.model.name = "resnet34"
    config.model.attention.name = "none"

    config.optimizer.name = "sgd"
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-4

    config.schedule.name = "cyclical_log_annealing"
    config.schedule.variant = "paper"
    config.schedule.warmup_epochs = 5.0
    config.schedule.warmup_init_value = 0.0001
    config.schedule.init_value = 0.01
    config.schedule.init_decay_epochs = 10.0
    config.schedule.end_value = 0.001
    config.schedule.restart_value = 0.1
    config.schedule.restart_interval_epochs = 10.0
    config.schedule.restart_multiplier = 2.0
    return config
