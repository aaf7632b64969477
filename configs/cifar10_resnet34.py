"""ResNet-34 on CIFAR-10: experiment 1 of Naveen 2024 (section 2.1, figure 2).

    python -m experiments.train --config=configs/cifar10_resnet34.py

Hardware: one GPU or TPU. Time and accuracy are unknown: the 60 epochs have not been run here.

Add --config.schedule.name=cyclical_cosine for another curve of the figure. This is the cell
1,resnet34,log of configs/naveen2024.py, which lists our choices where the paper is silent.
"""

from ml_collections import ConfigDict

from configs import naveen2024


def get_config() -> ConfigDict:
    return naveen2024.get_config("1,resnet34,log")
