"""The experiments of Naveen 2024: --config=configs/naveen2024.py:EXPERIMENT,BACKBONE,SCHEDULE.

    python -m experiments.train --config=configs/naveen2024.py:1,resnet34,log
    python -m experiments.train --config=configs/naveen2024.py:2,resnet50,cosine

Experiment 1 (section 2.1, figure 2) has the backbone resnet34; experiment 2 (section 2.2, figure 3)
resnet50, googlenet, xception, vgg16 and vgg19, each with a transformer beside it. The schedules are
log, cosine, step and none. For one GPU or TPU; on a CPU a few steps show that it works:
--config.epochs=0.005 --config.schedule.warmup_epochs=0. None has been run to its end here: how long
it takes and what accuracy to expect is not known yet.

What the paper leaves unsaid, and what we took for it:

- Experiment 1 prints: initial learning rate 0.0001, minimum 0.001, restart learning rate 0.1,
  warmup of 5 epochs from 0.01. Taken literally the warmup would fall, from 0.01 to 0.0001, and the
  decay would rise, from 0.0001 to 0.001. The caption of its figure 1 gives 0.0001 as the warmup's
  start, so we read the two numbers as exchanged: the warmup rises from 0.0001 to 0.01, the first
  decay falls from 0.01 to the minimum 0.001 in 10 epochs, and restarts at 0.1 follow after 15, 25
  and 45 epochs. Every printed number is used, and nothing else.
- `step` falls by a factor of 10 after 50% and 75% of the run, and `none` is constant; both start
  where the first decay of the others starts, without warmup.
- The order of the preprocessing: contrast stretching works on pixels, so it comes first;
  whitening comes last, behind contrast normalisation and the pixel mean, so that it is not undone.
- Its halt (eq. 5, 4.5 and T_t = 2): after two epochs the run stops at the first batch whose mean
  loss is above 4.5. The paper says neither what T counts nor over what the loss is taken.
- Experiment 2's learning rates: Adam's usual 0.001 down to 0.00001, without weight decay.
- The transformer: 4x4 patches, width 256, 8 heads, a perceptron of 1024, its mean concatenated to
  the features of the backbone; --config.model.attention.name=before puts it before the
  convolutions.
- The backbones are the published ones, without batch norm in VGG, for images of 32x32. The paper's
  63.5 million parameters of experiment 1 are not ResNet-34's, and it does not say how it came to
  them; its 138 and 144 million are those of VGG on images of 224x224.
"""

from ml_collections import ConfigDict

from configs import base, cells

BACKBONES = {
    "1": ("resnet34",),
    "2": ("resnet50", "googlenet", "xception", "vgg16", "vgg19"),
}
SCHEDULES = {
    "log": "cyclical_log_annealing",
    "cosine": "cyclical_cosine",
    "step": "str",
    "none": "constant",
}


def get_config(cell: str = "1,resnet34,log") -> ConfigDict:
    experiment, backbone, schedule = cells.parse(
        cell, ("experiment", "backbone", "schedule"), BACKBONES, SCHEDULES
    )
    config = base.get_config()
    config.data.preprocess = (
        "contrast_stretching",
        "global_contrast_normalization",
        "pixel_mean",
        "zca",
    )
    config.model.name = backbone
    config.schedule.name = SCHEDULES[schedule]
    config.schedule.variant = "paper"
    if experiment == "1":
        _experiment1(config)
    else:
        _experiment2(config)
    if schedule in ("step", "none"):
        config.schedule.warmup_epochs = 0.0
    return config


def _experiment1(config: ConfigDict) -> None:
    config.epochs = 60.0
    config.batch_size = 128
    config.model.attention.name = "none"
    config.loss.name = "sigmoid_categorical_cross_entropy"
    config.optimizer.name = "sgd"
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-4
    config.schedule.warmup_epochs = 5.0
    config.schedule.warmup_init_value = 0.0001
    config.schedule.init_value = 0.01
    config.schedule.init_decay_epochs = 10.0
    config.schedule.end_value = 0.001
    config.schedule.restart_value = 0.1
    config.schedule.restart_interval_epochs = 10.0
    config.schedule.restart_multiplier = 2.0
    config.guard.loss_threshold = 4.5
    config.guard.grace_epochs = 2.0


def _experiment2(config: ConfigDict) -> None:
    config.epochs = 40.0
    config.batch_size = 32
    config.model.attention.name = "beside"
    config.model.attention.width = 256
    config.model.attention.num_heads = 8
    config.model.attention.mlp_width = 1024
    config.loss.name = "softmax_cross_entropy"
    config.optimizer.name = "adam"
    config.optimizer.weight_decay = 0.0
    config.schedule.init_value = 0.001
    config.schedule.end_value = 0.00001
    config.schedule.init_decay_epochs = 10.0
    config.schedule.restart_interval_epochs = 10.0
