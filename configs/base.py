"""Every field there is, with its default; the other configs change some of them.

Fields that end in `_epochs` may be fractions of an epoch. An epoch has as many steps as whole
batches fit into the training split.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.epochs = 10.0
    config.batch_size = 128
    config.eval_batch_size = 500
    config.log_every_steps = 50  # steps in one dispatch, and between two reports of progress

    config.data = ConfigDict()
    # cifar10, cifar100, svhn_cropped, mnist, fashion_mnist, digits, or any other set of tfds
    config.data.name = "cifar10"
    config.data.data_dir = config_dict.placeholder(
        str
    )  # of tfds; None: TFDS_DATA_DIR or its default
    config.data.image_size = config_dict.placeholder(int)  # pixels; None: the data set's own
    # Held out from the training split, to be evaluated in place of the test split
    config.data.validation_examples = 0
    # Steps applied to the whole set, in this order: contrast_stretching (first),
    # global_contrast_normalization, pixel_mean, standardize, zca (last)
    config.data.preprocess = ("standardize",)
    config.data.zca_epsilon = 0.1  # times the mean eigenvalue, added to each
    config.data.augment = True  # random crops, and flips where they keep the class
    config.data.crop_padding = 4  # pixels

    config.model = ConfigDict()
    # nn2, nn3, lenet4, vgg9, vgg16, vgg19, resnet10, resnet18, resnet34, resnet50, densenet100,
    # densenet121, googlenet or xception
    config.model.name = "resnet18"
    config.model.width_multiplier = 1.0  # times the published numbers of channels
    config.model.variant = "cifar"  # cifar or imagenet: for small images or for large ones
    config.model.dtype = "float32"  # of the computation, or bfloat16; parameters are float32
    # Of products of float32 numbers on a GPU or TPU, which have faster and coarser ones: default
    # (jax's own choice), high or highest (of float32 itself). A CPU always has float32's
    config.model.matmul_precision = "default"
    config.model.batch_norm = False  # of the vggs; the later networks always have it
    config.model.auxiliary_heads = False  # of googlenet
    config.model.dropout_rate = config_dict.placeholder(float)  # None: the network's own
    config.model.attention = ConfigDict()
    # beside (its mean concatenated to the features), before (added to the image) or none
    config.model.attention.name = "beside"
    config.model.attention.patch_size = 4  # pixels
    config.model.attention.width = 64
    config.model.attention.num_heads = 4
    config.model.attention.mlp_width = 128

    config.optimizer = ConfigDict()
    config.optimizer.name = "sgd"  # sgd, adam, adamw or rmsprop
    config.optimizer.momentum = 0.9  # of sgd and rmsprop
    config.optimizer.nesterov = False  # of sgd
    config.optimizer.weight_decay = 5e-4  # times the parameters, added to gradient or update
    config.optimizer.decay = config_dict.placeholder(str)  # coupled (to the gradient: both papers)
    # or decoupled (to the update); None: coupled, for adamw decoupled
    config.optimizer.decayed = "all"  # all parameters (both papers), or kernels: no biases or norms
    config.optimizer.clip_norm = config_dict.placeholder(float)  # of all gradients; None: no limit

    # A schedule is changed by its name: the fields that the named one does not have are not used.
    config.schedule = ConfigDict()
    config.schedule.name = "cyclical_log_annealing"
    config.schedule.init_value = 0.1  # the peak: the learning rate where the first decay begins
    config.schedule.end_value = 0.001
    config.schedule.init_decay_epochs = 10.0
    config.schedule.restart_interval_epochs = config_dict.placeholder(float)  # None: no restarts
    config.schedule.restart_multiplier = 1.0
    config.schedule.restart_value = config_dict.placeholder(float)  # None: init_value
    config.schedule.restart_decay = 1.0
    config.schedule.warmup_epochs = 0.0
    config.schedule.warmup_init_value = 0.0
    config.schedule.variant = "paper"  # of log annealing: paper (eq. 4) or normalised
    config.schedule.base = config_dict.placeholder(float)  # None: 1 / (init_value - end_value)
    config.schedule.first_step = 1.0  # of log annealing: steps counted at the restart itself
    config.schedule.slope = 5.0  # of sig, sig+ and rep
    config.schedule.boundaries = (0.5, 0.75)  # of str and str+: fractions of the run
    config.schedule.decay_rate = 0.1  # of str and str+: the factor at each boundary
    config.schedule.cooldown = "linear"  # of trap: linear, 1-sqrt or cosine
    config.schedule.cooldown_fraction = 0.2  # of trap: fraction of the run
    config.schedule.half_cycle_epochs = 1.0  # of triangular schedules: from end_value to init_value
    config.schedule.triangle_decay_rate = 0.9999  # of triangular_exp_range: the factor of a step

    config.loss = ConfigDict()
    config.loss.name = "softmax_cross_entropy"  # or sigmoid_categorical_cross_entropy
    config.loss.label_smoothing = 0.0  # of the training loss; the test loss is without

    # naveen2024, eq. (5), and the remedy its text names: weights saved before, another schedule
    config.guard = ConfigDict()
    # The run stops at a step whose loss is above this (naveen2024: 4.5); None: only where the loss
    # or a parameter is no number
    config.guard.loss_threshold = config_dict.placeholder(float)
    config.guard.grace_epochs = 2.0  # at the start of the run, in which no loss is too high
    # How often to go back to the newest checkpoint and on with an adjusted schedule
    config.guard.max_rollbacks = 0
    config.guard.peak_factor = 0.5  # times the peak, each time
    config.guard.extra_warmup_epochs = 0.0  # added to schedule.warmup_epochs, each time

    # How the devices, of all processes together, share the images of a step
    config.parallel = ConfigDict()
    # jit: one program over a mesh, in which batch norm sees the whole batch; pmap: a program for
    # each device, in which it sees the device's share alone
    config.parallel.strategy = "jit"
    config.parallel.sync_batch_norm = False  # of pmap: over the whole batch after all
    # Pieces of a batch, computed one after another for want of memory; batch norm sees a piece
    config.parallel.accumulate_steps = 1

    config.checkpoint = ConfigDict()
    config.checkpoint.every_epochs = 1
    config.checkpoint.max_to_keep = 2
    return config
