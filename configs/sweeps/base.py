"""Every field of a sweep, with its default."""

from ml_collections import ConfigDict, config_dict


def make(base: ConfigDict) -> ConfigDict:
    """A sweep over nothing yet, of runs like `base`."""
    config = ConfigDict()
    config.base = base
    # One dict a setting: its name, and the fields in which it differs from base, by dotted name
    config.settings = ()
    config.seeds = (0, 1, 2, 3, 4)

    # One dict a field, {"field": ..., "values": ...}: every setting is tuned over all combinations
    # of the values, on a validation split, and trained with the best ones and fresh seeds.
    config.grid = ()
    config.tune = ConfigDict()
    config.tune.seeds = ()
    config.tune.validation_examples = 0  # held out from the training split while tuning

    # Trials in one program at once; None: as many as fit into memory
    config.block_size = config_dict.placeholder(int)
    config.checkpoint_every_epochs = 1
    return config
