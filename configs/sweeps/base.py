"""Every field of a sweep, with its default."""

from ml_collections import ConfigDict, config_dict


def make(base: ConfigDict) -> ConfigDict:
    """Returns the config of a sweep without settings, whose runs have the config `base`."""
    config = ConfigDict()
    config.base = base
    # One dict per setting: its name, and the values of the dotted fields in which it differs
    config.settings = ()
    config.seeds = (0, 1, 2, 3, 4)

    # One dict per tuned field, {"field": ..., "values": ...}. Each setting is tuned over all
    # combinations of the values, on a validation split. It is then trained with the best one and
    # with `seeds`.
    config.grid = ()
    config.tune = ConfigDict()
    config.tune.seeds = ()
    config.tune.validation_examples = 0  # training examples held out while tuning
    # "best": the point with the best mean. "one_standard_error": the middle of all points whose
    # mean is within one standard error of the best
    config.tune.selection = "best"
    # How many times each edge of the grid may grow by a point, while the best mean of a setting is
    # at that edge
    config.tune.max_extensions = 0

    # Trials per block. None: up to five on each CPU device; on an accelerator, as many as fit into
    # memory
    config.block_size = config_dict.placeholder(int)
    config.checkpoint_every_epochs = 1
    return config
