"""Nineteen methods on MNIST, five seeds each: --config=configs/sweeps/mnist.py:MODEL[,EPOCHS].

    python -m experiments.sweep --config=configs/sweeps/mnist.py:nn2

Hardware: any CPU. With nn2, the sweep took 45 minutes on one core of an AMD EPYC.
docs/results/README.md has the accuracies.

The models are those of table 2 in Nakamura et al. 2021: nn2, nn3, lenet4, and vgg9. The paper
trains for 100 epochs. These runs have 10, so that a CPU can finish them.
"""

from ml_collections import ConfigDict

from configs import nakamura2021
from configs.sweeps import base, methods


def get_config(model_and_epochs: str = "nn2") -> ConfigDict:
    model, _, epochs = model_and_epochs.partition(",")
    run = nakamura2021.get_config(f"mnist,{model},sig+")
    run.epochs = float(epochs or 10)
    run.log_every_steps = 234
    config = base.make(run)
    config.settings = (
        *methods.nakamura2021(adaptive_rate=0.001),
        *methods.log_annealing_and_baselines(run),
    )
    return config
