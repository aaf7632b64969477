"""Every field of a run, with its default. The other configs change some of them.

Fields that end in `_epochs` may be fractions of an epoch. An epoch has one step per full batch of
the training split.

A field that has no effect, such as `schedule.slope` with the schedule `cosine`, must have its
default. If a flag or a setting of a sweep changes a section, some fields that the config file set
may lose their effect; they return to their defaults. A field that you set yourself must have an
effect.

The comment beside a name field says which dict lists the names; an unknown name prints them all.
Except for modes, a name may also be `package.module:attribute`, which is imported.
docs/experiments.md shows how to add a schedule, an optimizer, a model, or a task.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.epochs = 10.0
    config.batch_size = 128
    config.eval_batch_size = 500
    config.log_every_steps = 50  # steps per dispatch and per progress report

    # Directory of a run whose newest weights this run starts with (--init_from). None: random ones
    config.init_from = config_dict.placeholder(str)

    config.task = ConfigDict()
    config.task.name = "classification"  # TASKS in experiments/build/tasks.py
    config.task.options = ConfigDict()  # fields of a task of your own; any names

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
    # Directory of tfds, or of the files of folder. None: TFDS_DATA_DIR, or the default of tfds
    config.data.data_dir = config_dict.placeholder(str)  # not for digits and markov
    config.data.image_size = config_dict.placeholder(int)  # pixels; None: the data set's own
    # memory (decoded once, kept on the devices), stream (read from disk at every step), or auto:
    # stream if the decoded images or the text take more than memory_share of a device's memory
    config.data.loading = "auto"  # not for digits and markov
    config.data.memory_share = 0.25  # auto
    # Processes that read a data set. 0: a thread; None: one per core, at most 16
    config.data.workers = config_dict.placeholder(int)  # stream
    # Maximum number of unreadable examples, which other examples replace
    config.data.max_damaged = 0  # stream, images
    # Number of training examples that are held out and evaluated instead of the test split
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
    config.model.width_multiplier = 1.0  # multiplies the published numbers of channels
    config.model.variant = "cifar"  # cifar for small images, or imagenet for large ones
    config.model.dtype = "float32"  # or bfloat16, for the computation; parameters stay float32
    # Precision of float32 matrix products on a GPU or TPU, which may round their operands: default
    # (jax's own choice), high, or highest (full float32). A CPU always uses float32
    config.model.matmul_precision = "default"
    config.model.batch_norm = False  # VGG only; newer networks always have it
    config.model.auxiliary_heads = False  # googlenet only
    config.model.dropout_rate = config_dict.placeholder(float)  # None: the network's own
    config.model.num_layers = 4  # transformer
    config.model.num_heads = 4  # transformer: number of attention heads; must divide the width
    config.model.width = 128  # transformer
    config.model.tied_embeddings = True  # transformer: the last layer is the transposed embedding
    config.model.attention = ConfigDict()
    # beside (the mean of its tokens is concatenated to the features), before (its output is added
    # to the image), or none
    config.model.attention.name = "beside"
    config.model.attention.patch_size = 4  # pixels
    config.model.attention.width = 64
    config.model.attention.num_heads = 4
    config.model.attention.mlp_width = 128

    config.optimizer = ConfigDict()
    config.optimizer.name = "sgd"  # OPTIMIZERS in experiments/build/optimizers.py
    config.optimizer.momentum = 0.9  # sgd and rmsprop
    config.optimizer.nesterov = False  # sgd
    # None: optax's default for the optimizer. docs/optimizers.md lists the fields of each optimizer
    config.optimizer.beta1 = config_dict.placeholder(float)  # decay of the gradient's average
    config.optimizer.beta2 = config_dict.placeholder(float)  # decay of the squares' average
    config.optimizer.beta3 = config_dict.placeholder(float)  # adan and prodigy
    config.optimizer.epsilon = config_dict.placeholder(float)  # added to the denominator
    # muon: root mean square of a matrix's update; 0.2 is as in AdamW. None: sqrt(max(1, out / in))
    config.optimizer.consistent_rms = config_dict.placeholder(float)
    config.optimizer.weight_decay = 5e-4  # multiplies the parameters
    # coupled (added to the gradient, as in both papers) or decoupled (added to the update);
    # None: the optimizer's default, in docs/optimizers.md
    config.optimizer.weight_decay_mode = config_dict.placeholder(str)
    # Parameters that decay: all (as in both papers), or kernels (no biases or norms)
    config.optimizer.weight_decay_mask = "all"
    config.optimizer.clip_norm = config_dict.placeholder(float)  # global norm; None: no clipping

    # Change the name to change the schedule. The fields that both schedules use keep their values.
    config.schedule = ConfigDict()
    # SCHEDULES in loganneal_jax/named.py
    config.schedule.name = "cyclical_log_annealing"
    config.schedule.peak_value = 0.1  # learning rate at which the first decay starts
    config.schedule.end_value = 0.001
    # Length of the run for which the schedule is made. None: epochs. --extend_to_epochs sets it to
    # the length of the first run
    config.schedule.total_epochs = config_dict.placeholder(float)
    config.schedule.init_decay_epochs = 10.0
    config.schedule.restart_interval_epochs = config_dict.placeholder(float)  # None: no restarts
    config.schedule.restart_multiplier = 1.0
    config.schedule.restart_value = config_dict.placeholder(float)  # None: peak_value
    config.schedule.restart_decay = 1.0
    config.schedule.warmup_epochs = 0.0
    config.schedule.warmup_init_value = 0.0
    config.schedule.variant = "paper"  # log annealing: paper (eq. 4) or normalized
    config.schedule.base = config_dict.placeholder(float)  # None: 1 / (peak_value - end_value)
    config.schedule.first_step = 1.0  # log annealing: T_cur at a restart
    config.schedule.slope = 5.0  # sig, sig+, and rep
    config.schedule.boundaries = (0.5, 0.75)  # str and str+: fractions of the run
    config.schedule.decay_rate = 0.1  # str and str+: factor at each boundary
    config.schedule.cooldown = "linear"  # trap: linear, 1-sqrt, or cosine
    config.schedule.cooldown_fraction = 0.2  # trap: fraction of the run
    config.schedule.half_cycle_epochs = 1.0  # triangular schedules: from end_value to peak_value
    config.schedule.triangle_decay_rate = 0.9999  # triangular_exp_range: factor per step
    # Options of loganneal_jax.make_schedule without a field here, such as power of polynomial
    config.schedule.options = ConfigDict()

    config.loss = ConfigDict()
    config.loss.name = "softmax_cross_entropy"  # LOSSES in experiments/tasks/losses.py
    config.loss.label_smoothing = 0.0  # training loss only; evaluation does not smooth

    # Averages of the weights, evaluated beside the last weights (docs/averaging.md)
    config.averaging = ConfigDict()
    # Decay of an exponential moving average, such as 0.99. It rises to this value. None: off
    config.averaging.ema_decay = config_dict.placeholder(float)
    # First epoch whose final weights enter an equal-weight mean (SWA). None: off
    config.averaging.swa_start_epoch = config_dict.placeholder(int)
    # True: keep the weights at the end of the last complete cycle. None: off
    config.averaging.cycle_snapshots = config_dict.placeholder(bool)

    # task.name='gan'; model.name is one of GANS in experiments/build/gan.py
    config.gan = ConfigDict()
    config.gan.loss = "non_saturating"  # LOSSES in experiments/tasks/adversarial.py
    config.gan.gradient_penalty = 10.0  # wasserstein: weight of the penalty
    config.gan.latent_size = 64  # number of random numbers from which an image is generated
    # Updates of the discriminator per step. Each uses its own part of the batch
    config.gan.discriminator_steps = 1
    config.gan.generator_rate = 1.0  # multiplies the learning rate of the schedule
    config.gan.discriminator_rate = 1.0  # multiplies the learning rate of the schedule
    config.gan.spectral_norm = False  # in the discriminator, instead of batch norm
    config.gan.upsampling = "pixel_shuffle"  # or transposed (convolutions)

    # The halt of naveen2024, eq. (5), and its remedy: earlier weights and an adjusted schedule
    config.guard = ConfigDict()
    # The run stops at a step whose loss is higher (naveen2024: 4.5). None: it stops only if the
    # loss or a parameter is not finite
    config.guard.loss_threshold = config_dict.placeholder(float)
    config.guard.grace_epochs = 2.0  # epochs at the start in which every finite loss is allowed
    # Number of times to return to the newest checkpoint and continue with an adjusted schedule
    config.guard.max_rollbacks = 0
    config.guard.peak_factor = 0.5  # multiplies the peak at each rollback
    config.guard.extra_warmup_epochs = 0.0  # added to schedule.warmup_epochs at each rollback

    # How the devices of all processes share a step
    config.parallel = ConfigDict()
    # jit: one program over a mesh; batch norm sees the whole batch. pmap: one program per device;
    # batch norm sees only the device's share
    config.parallel.strategy = "jit"
    config.parallel.sync_batch_norm = False  # pmap: batch norm sees the whole batch
    # Micro-batches per step, one after another, to save memory. Batch norm sees one of them
    config.parallel.accumulate_steps = 1

    config.checkpoint = ConfigDict()
    config.checkpoint.every_epochs = 1
    config.checkpoint.max_to_keep = 2  # newest ones
    # Whether to keep also the best one, by the task's objective
    config.checkpoint.keep_best = False
    return config
