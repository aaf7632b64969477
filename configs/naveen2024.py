"""The experiments of Naveen 2024: --config=configs/naveen2024.py:EXPERIMENT,BACKBONE,SCHEDULE.

    python -m experiments.train --config=configs/naveen2024.py:1,resnet34,log
    python -m experiments.train --config=configs/naveen2024.py:2,resnet50,cosine

Hardware: one GPU or TPU. Time and accuracy are unknown: no cell has been run to its end here. To
try a few steps on a CPU, add --config.epochs=0.005 --config.schedule.warmup_epochs=0.

Experiment 1 (section 2.1, figure 2) has the backbone resnet34. Experiment 2 (section 2.2, figure 3)
has the backbones resnet50, googlenet, xception, vgg16, and vgg19, each with a transformer beside
it. The schedules are log, cosine, step, and none.

Our choices where the paper is silent or ambiguous:

- Schedule of experiment 1. The paper prints an initial learning rate of 0.0001, a minimum of 0.001,
  a restart learning rate of 0.1, and a warmup of 5 epochs from 0.01. Taken literally, the warmup
  would fall from 0.01 to 0.0001, and the decay would rise from 0.0001 to 0.001. The caption of
  figure 1 gives 0.0001 as the start of the warmup, so we exchange the two numbers. The warmup rises
  from 0.0001 to 0.01. The first decay falls from 0.01 to the minimum of 0.001 in 10 epochs.
  Restarts at 0.1 follow after 15, 25, and 45 epochs. This uses every printed number and no other.
- `step` falls by a factor of 10 after 50% and after 75% of the run. `none` is constant. Both start
  without a warmup, at the learning rate where the first decay of the other schedules starts.
- Order of preprocessing. Contrast stretching takes pixel values, so it comes first. Whitening comes
  after contrast normalization and the pixel mean, so that no later step undoes it.
- Halt (eq. 5, 4.5, T_t = 2). After two epochs, the run stops at the first batch whose mean loss is
  above 4.5. The paper does not say what T counts, or over what the loss is averaged.
- Learning rates of experiment 2. Adam's usual 0.001 falls to 0.00001, without weight decay.
- Transformer. It has 4x4 patches, width 256, 8 heads, and an MLP of width 1024. Its mean is
  concatenated to the features of the backbone. --config.model.attention.name=before places it
  before the convolutions instead.
- Backbones. They are the published ones for 32x32 images, and VGG has no batch norm. The paper's
  63.5 million parameters for experiment 1 are not those of ResNet-34, and the paper does not
  explain them. Its 138 and 144 million are those of VGG for 224x224 images.
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


def get_config(cell: str = "") -> ConfigDict:
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
    cyclical = schedule in ("log", "cosine")
    if experiment == "1":
        _experiment1(config, cyclical)
    else:
        _experiment2(config, cyclical)
    return config


def _experiment1(config: ConfigDict, cyclical: bool) -> None:
    config.epochs = 60.0
    config.batch_size = 128
    config.model.attention.name = "none"
    config.loss.name = "sigmoid_categorical_cross_entropy"
    config.optimizer.name = "sgd"
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-4
    config.guard.loss_threshold = 4.5
    config.guard.grace_epochs = 2.0
    config.schedule.peak_value = 0.01
    if cyclical:
        config.schedule.warmup_epochs = 5.0
        config.schedule.warmup_init_value = 0.0001
        config.schedule.end_value = 0.001
        config.schedule.init_decay_epochs = 10.0
        config.schedule.restart_value = 0.1
        config.schedule.restart_interval_epochs = 10.0
        config.schedule.restart_multiplier = 2.0


def _experiment2(config: ConfigDict, cyclical: bool) -> None:
    config.epochs = 40.0
    config.batch_size = 32
    config.model.attention.name = "beside"
    config.model.attention.width = 256
    config.model.attention.num_heads = 8
    config.model.attention.mlp_width = 1024
    config.loss.name = "softmax_cross_entropy"
    config.optimizer.name = "adam"
    config.optimizer.weight_decay = 0.0
    config.schedule.peak_value = 0.001
    if cyclical:
        config.schedule.end_value = 0.00001
        config.schedule.init_decay_epochs = 10.0
        config.schedule.restart_interval_epochs = 10.0
