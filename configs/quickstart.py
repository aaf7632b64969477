"""A small ResNet with attention on handwritten digits, with cyclical log annealing.

    make train        or:  python -m experiments.train --config=configs/quickstart.py

Hardware: any CPU. On 2 cores, the run takes 24 s. Over 5 seeds, two processors, and jax 0.10 and
0.12, its test accuracy is 98.1% to 100%. docs/reproducing.md lists them.

The data are scikit-learn's 1,797 digits, which need no network. With the normalized variant, each
cycle ends at `end_value`. With eq. (4) as printed (--config.schedule.variant=paper), each cycle
ends at three quarters of the peak.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.epochs = 20.0
    config.batch_size = 64
    config.eval_batch_size = 360

    config.data.name = "digits"
    config.data.image_size = 16
    config.data.crop_padding = 1

    config.model.name = "resnet10"
    config.model.width_multiplier = 0.25
    config.model.attention.width = 32

    config.schedule.variant = "normalized"
    config.schedule.init_decay_epochs = 5.0
    config.schedule.restart_interval_epochs = 5.0
    config.schedule.restart_multiplier = 2.0
    return config
