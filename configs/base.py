"""Every field of a run, with its default; the other configs change some of them.

Fields that end in `_epochs` may be fractions of an epoch. An epoch has as many steps as the
training split has full batches.

A field that has no effect, such as `schedule.slope` with the schedule `cosine`, must have its
default. Where a flag or a setting of a sweep changes a section, the fields that the config file set
for its own choice, and that the change leaves without effect, return to their defaults. A field
that you set yourself must have an effect.

The comment beside a name says which dict has the names; an unknown name prints them all. Except for
modes, a name may also be `package.module:attribute`, which is imported. docs/experiments.md shows
how to add a schedule, an optimizer, a model, or a task.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.epochs = 10.0
    config.batch_size = 128
    config.eval_batch_size = 500
    config.log_every_steps = 50  # steps per dispatch, and between two progress reports

    config.task = ConfigDict()
    config.task.name = "classification"  # TASKS in experiments/build/tasks.py
    config.task.options = ConfigDict()  # fields of a task defined elsewhere; any names

    # The task linear_regression: Gaussian inputs with variances i**-exponent
    config.linear_regression = ConfigDict()
    config.linear_regression.dimensions = 100  # number of inputs
    config.linear_regression.exponent = 1.0  # decay of the spectrum
    config.linear_regression.noise = 0.1  # standard deviation of the labels' noise

    config.data = ConfigDict()
    # Classification: DATASETS in experiments/data/datasets.py, folder:PATH (of images), arrays that
    # package.module:function returns, or another image classification data set of tfds.
    # Language model: markov (drawn from a random chain), folder (the .txt files in data_dir), or a
    # tfds data set of texts
    config.data.name = "cifar10"
    # Directory of tfds; None: TFDS_DATA_DIR, or the default of tfds. For folder: of the files
    config.data.data_dir = config_dict.placeholder(str)  # not for digits and markov
    config.data.image_size = config_dict.placeholder(int)  # pixels; None: the data set's own
    # memory (decoded once, kept on the devices), stream (read from disk all the time), or auto:
    # stream if the decoded images take more than memory_share of a device's memory
    config.data.loading = "auto"  # not for digits
    config.data.memory_share = 0.25  # auto
    # Processes that read a data set; 0: a thread; None: one per core, at most 16
    config.data.workers = config_dict.placeholder(int)  # stream
    # Examples that may be replaced by others because they cannot be read
    config.data.max_damaged = 0  # stream
    # Training examples that are held out and evaluated in place of the test split
    config.data.validation_examples = 0
    # Applied to the whole data set in this order; STEPS in experiments/data/preprocess.py
    config.data.preprocess = ("standardize",)
    config.data.zca_epsilon = 0.1  # in units of the mean eigenvalue; added to every eigenvalue
    config.data.augment = True  # random crops, and flips if a mirrored image keeps its class
    config.data.crop_padding = 4  # pixels
    config.data.context_length = 64  # language model: tokens from which the next one is predicted
    config.data.tokens = "characters"  # language model: characters or bytes; not for markov

    config.model = ConfigDict()
    # MODELS in experiments/build/models.py; for a language model, LANGUAGE_MODELS in
    # experiments/build/language_model.py
    config.model.name = "resnet18"
    config.model.width_multiplier = 1.0  # factor of the published numbers of channels
    config.model.variant = "cifar"  # cifar for small images, or imagenet for large ones
    config.model.dtype = "float32"  # of the computation, or bfloat16; parameters are float32
    # Precision of float32 matrix products on a GPU or TPU, which also have faster and coarser ones:
    # default (jax's own choice), high, or highest (full float32). A CPU always uses float32
    config.model.matmul_precision = "default"
    config.model.batch_norm = False  # VGG networks only; the later networks always have it
    config.model.auxiliary_heads = False  # googlenet only
    config.model.dropout_rate = config_dict.placeholder(float)  # None: the network's own
    config.model.num_layers = 4  # transformer
    config.model.num_heads = 4  # transformer: attention heads, which divide the width
    config.model.width = 128  # transformer
    config.model.tied_embeddings = True  # transformer: the last layer is the transposed embedding
    config.model.attention = ConfigDict()
    # beside (its mean is concatenated to the features), before (added to the image), or none
    config.model.attention.name = "beside"
    config.model.attention.patch_size = 4  # pixels
    config.model.attention.width = 64
    config.model.attention.num_heads = 4
    config.model.attention.mlp_width = 128

    config.optimizer = ConfigDict()
    config.optimizer.name = "sgd"  # OPTIMIZERS in experiments/build/optimizers.py
    config.optimizer.momentum = 0.9  # sgd and rmsprop
    config.optimizer.nesterov = False  # sgd
    # None: optax's default for the optimizer. docs/optimizers.md lists which optimizer reads which
    config.optimizer.beta1 = config_dict.placeholder(float)  # decay of the gradient's average
    config.optimizer.beta2 = config_dict.placeholder(float)  # decay of the squares' average
    config.optimizer.beta3 = config_dict.placeholder(float)  # adan and prodigy
    config.optimizer.epsilon = config_dict.placeholder(float)  # added to the denominator
    # muon: root mean square of a matrix's update, as in AdamW at 0.2; None: sqrt(max(1, out / in))
    config.optimizer.consistent_rms = config_dict.placeholder(float)
    config.optimizer.weight_decay = 5e-4  # factor of the parameters
    # coupled (added to the gradient, as in both papers) or decoupled (added to the update);
    # None: the optimizer's own, in docs/optimizers.md
    config.optimizer.weight_decay_mode = config_dict.placeholder(str)
    # Parameters that decay: all (as in both papers), or kernels (no biases or norms)
    config.optimizer.weight_decay_mask = "all"
    config.optimizer.clip_norm = config_dict.placeholder(float)  # global norm; None: no clipping

    # Changing the name changes the schedule. Its other fields keep their values if it uses them.
    config.schedule = ConfigDict()
    # SCHEDULES in loganneal_jax/named.py
    config.schedule.name = "cyclical_log_annealing"
    config.schedule.peak_value = 0.1  # the learning rate at which the first decay begins
    config.schedule.end_value = 0.001
    config.schedule.init_decay_epochs = 10.0
    config.schedule.restart_interval_epochs = config_dict.placeholder(float)  # None: no restarts
    config.schedule.restart_multiplier = 1.0
    config.schedule.restart_value = config_dict.placeholder(float)  # None: peak_value
    config.schedule.restart_decay = 1.0
    config.schedule.warmup_epochs = 0.0
    config.schedule.warmup_init_value = 0.0
    config.schedule.variant = "paper"  # log annealing: paper (eq. 4) or normalized
    config.schedule.base = config_dict.placeholder(float)  # None: 1 / (peak_value - end_value)
    config.schedule.first_step = 1.0  # log annealing: value of T_cur at a restart
    config.schedule.slope = 5.0  # sig, sig+, and rep
    config.schedule.boundaries = (0.5, 0.75)  # str and str+: fractions of the run
    config.schedule.decay_rate = 0.1  # str and str+: factor at each boundary
    config.schedule.cooldown = "linear"  # trap: linear, 1-sqrt, or cosine
    config.schedule.cooldown_fraction = 0.2  # trap: fraction of the run
    config.schedule.half_cycle_epochs = 1.0  # triangular schedules: from end_value to peak_value
    config.schedule.triangle_decay_rate = 0.9999  # triangular_exp_range: factor per step
    # Options of loganneal_jax.make_schedule that have no field here, such as power of polynomial
    config.schedule.options = ConfigDict()

    config.loss = ConfigDict()
    config.loss.name = "softmax_cross_entropy"  # LOSSES in experiments/tasks/losses.py
    config.loss.label_smoothing = 0.0  # training loss only; evaluation does not smooth

    # Averages of the weights, evaluated beside the last weights (docs/averaging.md)
    config.averaging = ConfigDict()
    # Decay of an exponential moving average, such as 0.99; it rises to this value. None: off
    config.averaging.ema_decay = config_dict.placeholder(float)
    # First epoch whose weights at its end count in an equal-weight mean (SWA); None: off
    config.averaging.swa_start_epoch = config_dict.placeholder(int)
    # Whether to keep the weights at the end of the last cycle; None: off
    config.averaging.cycle_snapshots = config_dict.placeholder(bool)

    # task.name='gan'; model.name is one of GANS in experiments/build/gan.py
    config.gan = ConfigDict()
    config.gan.loss = "non_saturating"  # LOSSES in experiments/tasks/adversarial.py
    config.gan.gradient_penalty = 10.0  # wasserstein: factor of the penalty
    config.gan.latent_size = 64  # normal random numbers from which an image is generated
    # Updates of the discriminator per step, each on its own part of the batch
    config.gan.discriminator_steps = 1
    config.gan.generator_rate = 1.0  # factor of the schedule's learning rate
    config.gan.discriminator_rate = 1.0  # factor of the schedule's learning rate
    config.gan.spectral_norm = False  # of the discriminator, in place of its batch norm
    config.gan.upsampling = "pixel_shuffle"  # or transposed (convolutions)

    # naveen2024, eq. (5), and the remedy in its text: earlier weights, and another schedule
    config.guard = ConfigDict()
    # A run stops at a step with a higher loss (naveen2024: 4.5); None: only if the loss or a
    # parameter is not finite
    config.guard.loss_threshold = config_dict.placeholder(float)
    config.guard.grace_epochs = 2.0  # epochs at the start in which every finite loss is allowed
    # Number of times to return to the newest checkpoint and continue with an adjusted schedule
    config.guard.max_rollbacks = 0
    config.guard.peak_factor = 0.5  # factor of the peak at each rollback
    config.guard.extra_warmup_epochs = 0.0  # added to schedule.warmup_epochs at each rollback

    # How the devices of all processes share the examples of a step
    config.parallel = ConfigDict()
    # jit: one program over a mesh, in which batch norm sees the whole batch; pmap: one program per
    # device, in which it sees the device's share
    config.parallel.strategy = "jit"
    config.parallel.sync_batch_norm = False  # pmap: batch norm sees the whole batch
    # Micro-batches per step, processed one after another to save memory; batch norm sees one
    config.parallel.accumulate_steps = 1

    config.checkpoint = ConfigDict()
    config.checkpoint.every_epochs = 1
    config.checkpoint.max_to_keep = 2
    return config
