"""Finds the fields of a config that have no effect, by recording which fields are read.

A field that cannot act is refused if it differs from its default in `configs/base.py`. A factory
therefore reads only the fields that it uses, before it returns.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from experiments.build.ranges import shown
from experiments.errors import UserError
from experiments.packaged import base

# What a field needs in order to act, where the name of its section is not the whole reason.
NEEDS = {
    "data.data_dir": "a data set of tfds, or data.name='folder'",
    "data.context_length": "task.name='language_model'",
    "data.tokens": "a language model of a text other than markov",
    **dict.fromkeys(
        (f"linear_regression.{name}" for name in ("dimensions", "exponent", "noise")),
        "task.name='linear_regression'",
    ),
    "data.loading": "a data set that is read from files",
    "data.memory_share": "data.loading='auto' and a data set that is read from files",
    "data.workers": "a data set that is streamed, as with data.loading='stream'",
    "data.max_damaged": "a data set of images that is streamed, as with data.loading='stream'",
    "data.zca_epsilon": "the step zca in data.preprocess",
    "data.crop_padding": "data.augment=True and images of equal size",
    "schedule.restart_multiplier": "a schedule with restarts, and schedule.restart_interval_epochs",
    "schedule.restart_value": "a schedule with restarts, and schedule.restart_interval_epochs",
    "schedule.restart_decay": "a schedule with restarts, and schedule.restart_interval_epochs",
    "schedule.warmup_init_value": "a schedule.warmup_epochs of at least one step",
    "schedule.base": "log annealing with schedule.variant='paper'",
    **dict.fromkeys(
        (
            *("gan.loss", "gan.latent_size", "gan.discriminator_steps", "gan.generator_rate"),
            *("gan.discriminator_rate", "gan.spectral_norm", "gan.upsampling"),
        ),
        "task.name='gan'",
    ),
    "gan.gradient_penalty": "task.name='gan' with gan.loss='wasserstein'",
    "guard.grace_epochs": "guard.loss_threshold",
    "guard.peak_factor": "guard.max_rollbacks of at least 1",
    "guard.extra_warmup_epochs": "guard.max_rollbacks of at least 1",
    "parallel.sync_batch_norm": "parallel.strategy='pmap'",
}


class Recorded(ConfigDict):
    """A copy of a config that records the dotted names of the fields that are read.

    Args:
      config: the config, without references.
      prefix: dotted name of the section, with a dot at its end.
      read: the set that the names are added to, or None for a new one.
    """

    def __init__(
        self, config: ConfigDict | None = None, prefix: str = "", read: set[str] | None = None
    ) -> None:
        super().__init__()
        object.__setattr__(self, "_prefix", prefix)
        object.__setattr__(self, "read_fields", set() if read is None else read)
        object.__setattr__(self, "unrecorded", ConfigDict() if config is None else config)
        for name, value in self.unrecorded.items():
            if isinstance(value, ConfigDict):
                value = Recorded(value, f"{prefix}{name}.", self.read_fields)
            self[name] = value

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        if not isinstance(value, ConfigDict):
            self.read_fields.add(self._prefix + key)
        return value

    def to_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Returns the section as a dict; all its fields count as read."""
        return self.copy_and_resolve_references().to_dict(*args, **kwargs)

    def to_json(self, *args: Any, **kwargs: Any) -> str:
        """Returns the section as JSON; all its fields count as read."""
        return self.copy_and_resolve_references().to_json(*args, **kwargs)

    def copy_and_resolve_references(self, visit_map: Any = None) -> ConfigDict:
        """Returns a copy that records nothing; all fields of the section count as read."""
        self.read_fields.update(path for path, _ in _leaves(self.unrecorded, self._prefix))
        return self.unrecorded.copy_and_resolve_references(visit_map)

    def __copy__(self) -> ConfigDict:
        return self.copy_and_resolve_references()

    def __deepcopy__(self, memo: Any) -> ConfigDict:
        return self.copy_and_resolve_references()


def fields_of(config: ConfigDict) -> list[str]:
    """Returns the dotted names of all fields of a config, in their order."""
    return [path for path, _ in _leaves(config)]


def unrecorded(config: ConfigDict) -> ConfigDict:
    """Returns a config, or a section, in which reading a field is not recorded."""
    return config.unrecorded if isinstance(config, Recorded) else config


def without_effect(config: Recorded) -> list[str]:
    """Returns the dotted fields that differ from their defaults although nobody has read them.

    Args:
      config: the config that the factories have read.

    Returns:
      The fields, in the order of the config. A field that `configs/base.py` does not have is one of
      the options of a schedule or a task; its default is to be absent.

    >>> config = base.get_config()
    >>> config.schedule.slope = 7.0
    >>> without_effect(Recorded(config))
    ['schedule.slope']
    """
    defaults = dict(_leaves(base.get_config()))
    return [
        path
        for path, value in _leaves(config.unrecorded)
        if path not in config.read_fields
        and (path not in defaults or _plain(value) != _plain(defaults[path]))
    ]


def settle(config: Recorded, given: Collection[str]) -> ConfigDict:
    """Returns a config without values that have no effect, or refuses them.

    Whoever changes a section leaves some of its other fields without effect: those that the config
    file set for its own choice. They return to their defaults. All others are refused.

    Args:
      config: the config that the factories have read.
      given: dotted fields that were set on the command line, or by a setting of a sweep.

    Returns:
      A plain copy.

    Raises:
      UserError: a field without effect was given, or nothing else was given in its section.
    """
    defaults = dict(_leaves(base.get_config()))
    changed = {path.partition(".")[0] for path in given}
    settled = config.unrecorded.copy_and_resolve_references()
    for path in without_effect(config):
        section, *sections, name = path.split(".")
        if path in given or not changed & {section, "task"}:
            raise _refusal(config.unrecorded, path, defaults)
        fields = settled[section]
        for each in sections:
            fields = fields[each]
        with fields.ignore_type(), fields.unlocked():
            if path in defaults:
                fields[name] = defaults[path]
            else:
                del fields[name]
    return settled


def _refusal(config: ConfigDict, path: str, defaults: Mapping[str, Any]) -> UserError:
    values = dict(_leaves(config))
    parents = [path.rsplit(".", depth)[0] for depth in range(1, path.count(".") + 1)]
    named = [f"{parent}.name" for parent in parents if f"{parent}.name" in values]
    if path in NEEDS:
        reason = f" here; it needs {NEEDS[path]}"
    elif named:
        reason = f" with {named[0]}={shown(values[named[0]])}"
    else:
        reason = ""
    default = f", or set it to its default, {shown(defaults[path])}" if path in defaults else ""
    return UserError(f"{path}={shown(values[path])} has no effect{reason}; remove it{default}")


def _leaves(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
