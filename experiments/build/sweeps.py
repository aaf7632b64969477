"""Turns the config of a sweep into its plan's ingredients, and each trial into an experiment."""

import copy
import itertools
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments.build import fields, ranges
from experiments.build.experiment import Experiment, build, plain, with_seed
from experiments.errors import UserError

RANGES = {
    "block_size": ranges.COUNT,
    "checkpoint_every_epochs": ranges.COUNT,
    "tune.max_extensions": ranges.EXTENSIONS,
}
SELECTIONS = BEST, ONE_STANDARD_ERROR = ("best", "one_standard_error")
RULE = {"selection": BEST, "max_extensions": 0}  # fields of `tune` that older configs lack
# Ratios of neighbors in a grid that may grow; values that are rounded to three digits pass.
RATIO_TOLERANCE = 0.02
LAST_STEPS = 100  # one over the share of a run in which a restart is late

ALL_TRIALS = "all trials of a sweep must share it; set base.{path} instead"
NO_RESULT = "it changes no result; set base.{path} instead"
# Why a setting or the grid may not change a field, by the field or its section.
SHARED = {
    "seed": "the sweep trains every setting with the same seeds; set seeds and tune.seeds",
    "epochs": ALL_TRIALS,
    "batch_size": ALL_TRIALS,
    "eval_batch_size": NO_RESULT,
    "log_every_steps": NO_RESULT,
    "task": ALL_TRIALS,
    "data.validation_examples": "tuning and the final trials would evaluate other examples than "
    "they say; set tune.validation_examples",
    "data.data_dir": NO_RESULT,
    "checkpoint": "it changes no result; set checkpoint_every_epochs",
    "guard": "a sweep runs every trial to its end, so the guard changes no result",
    "parallel": ALL_TRIALS,
}


class Axis(NamedTuple):
    """One axis of the grid: a dotted field, and the values to try."""

    field: str
    values: Sequence[float]


class Sweep(NamedTuple):
    """A sweep: settings x seeds, each setting tuned over a grid first.

    Attributes:
      config: the config as plain values; the directory of the sweep stores it.
      base: the config of its runs, from which `experiment` builds the trials.
      settings: name of each setting -> the dotted fields in which it differs from the base.
      seeds: seeds of the final trials.
      grid: the axes of the grid; empty without tuning.
      tune_seeds: seeds of the tuning trials.
      validation_examples: training examples held out while tuning.
      block_size: trials per program, or None for as many as fit into memory.
      checkpoint_every_epochs: epochs between checkpoints of a block.
      given: dotted fields of the base that were set on the command line.
      selection: how tuning chooses a point, one of `SELECTIONS`.
      max_extensions: how many times each edge of the grid may grow.
    """

    config: dict[str, Any]
    base: ConfigDict
    settings: Mapping[str, Mapping[str, Any]]
    seeds: Sequence[int]
    grid: Sequence[Axis]
    tune_seeds: Sequence[int]
    validation_examples: int
    block_size: int | None
    checkpoint_every_epochs: int
    given: Collection[str] = ()
    selection: str = BEST
    max_extensions: int = 0

    def experiment(
        self, setting: str, point: Mapping[str, float], seed: int, *, validation_examples: int = 0
    ) -> Experiment:
        """Builds the experiment of one trial.

        Args:
          setting: name of the setting.
          point: values of the fields of the grid.
          seed: seed of the trial.
          validation_examples: training examples to hold out and evaluate in place of the test
            split, or 0 to leave that to the base config.

        Returns:
          The experiment.

        Raises:
          UserError: the config of the trial cannot be used.
        """
        own = {**self.settings[setting], **point}
        config = self._config_of_trial(setting, point, seed, validation_examples)
        _check_trial(config, setting)
        # The setting's own choice in a section replaces the command line's for all settings.
        sections = {path.partition(".")[0] for path in own}
        given = {*own, *(path for path in self.given if path.partition(".")[0] not in sections)}
        try:
            return build(config, given)
        except UserError as error:
            raise UserError(f"{_named(setting, point)}: {error}") from error

    def experiments(
        self,
        setting: str,
        point: Mapping[str, float],
        seeds: Sequence[int],
        *,
        validation_examples: int = 0,
    ) -> list[Experiment]:
        """Builds the experiments of trials that differ in the seed.

        Trials share what the seed does not change, because building it takes most of the time.

        Args:
          setting: name of the setting.
          point: values of the fields of the grid.
          seeds: seeds of the trials.
          validation_examples: as for `experiment`.

        Returns:
          One experiment per seed.

        Raises:
          UserError: the config of a trial cannot be used.
        """
        built: dict[str, Experiment] = {}  # by the config without its seed
        experiments = []
        for seed in seeds:
            config = self._config_of_trial(setting, point, seed, validation_examples)
            shared = json.dumps({**plain(config), "seed": None}, sort_keys=True)
            if shared not in built:
                built[shared] = self.experiment(
                    setting, point, seed, validation_examples=validation_examples
                )
            try:
                experiments.append(with_seed(built[shared], seed))
            except UserError as error:
                raise UserError(f"{_named(setting, point)}: {error}") from error
        return experiments

    def _config_of_trial(
        self, setting: str, point: Mapping[str, float], seed: int, validation_examples: int
    ) -> ConfigDict:
        held_out = {"data.validation_examples": validation_examples} if validation_examples else {}
        return self.config_of(setting, {"seed": seed, **held_out, **point})

    def config_of(self, setting: str, changes: Mapping[str, float] | None = None) -> ConfigDict:
        """Returns the config of a setting, in which nothing is checked.

        Args:
          setting: name of the setting.
          changes: values of more dotted fields.

        Returns:
          The config, with references resolved.

        Raises:
          UserError: a value has the wrong type.
        """
        # A deep copy keeps references between fields, which are resolved once all values are set.
        config = copy.deepcopy(self.base)
        for path, value in {**self.settings[setting], **(changes or {})}.items():
            _set(config, path, value, f"setting {setting!r}")
        return config.copy_and_resolve_references()


def _named(setting: str, point: Mapping[str, float]) -> str:
    at = ", ".join(f"{path}={value}" for path, value in point.items())
    return f"setting {setting!r}{at and f' at {at}'}"


def late_restart(experiment: Experiment) -> int | None:
    """Returns the step at which a schedule restarts in the last hundredth of the run, or None.

    Such a trial is judged by what a few steps at a high learning rate leave. This happens where the
    length of a cycle is rounded, such as in tuning, whose epochs have fewer steps.
    """
    schedule = experiment.config["schedule"]
    first = experiment.num_steps - experiment.num_steps // LAST_STEPS
    if schedule.get("restart_interval_epochs") is None or first == experiment.num_steps:
        return None
    steps = np.arange(first - 1, experiment.num_steps, dtype=np.int32)
    rises = np.diff(np.asarray(experiment.schedule(jax.device_put(steps))))
    if rises.max() <= schedule["peak_value"] / 4:
        return None
    return int(steps[1 + int(np.argmax(rises))])


def read_sweep(config: ConfigDict, given: Collection[str] = ()) -> Sweep:
    """Checks the config of a sweep and reads it.

    Args:
      config: a config of `configs/sweeps/`.
      given: dotted fields of the config that were set on the command line.

    Returns:
      The sweep. Its trials are checked when they are built.

    Raises:
      UserError: the sweep has no trials, has some twice, or names fields that runs do not have.
    """
    if "settings" not in config:
        raise UserError(
            "the config has no settings, so it is not the config of a sweep; see configs/sweeps/"
        )
    ranges.check(config, RANGES)
    names = [setting.get("name") for setting in config.settings]
    for what, values in (("settings", names), ("seeds", config.seeds)):
        if not values:
            raise UserError(f"the sweep has no {what}; it needs at least one")
        _refuse_duplicates(what, values)
    for setting in config.settings:
        if not isinstance(setting.get("name"), str) or not setting["name"]:
            raise UserError(f"the setting {setting} has no name")
        for path in setting.keys() - {"name"}:
            _check_field(config.base, path, f"setting {setting['name']!r}")
            _check_own(path, f"setting {setting['name']!r}")
    _check_grid(config)
    _check_rule(config)
    return Sweep(
        config=_stored(config),
        base=config.base,
        settings={
            setting["name"]: {path: value for path, value in setting.items() if path != "name"}
            for setting in config.settings
        },
        seeds=tuple(config.seeds),
        grid=tuple(Axis(axis["field"], tuple(axis["values"])) for axis in config.grid),
        tune_seeds=tuple(config.tune.seeds),
        validation_examples=config.tune.validation_examples,
        block_size=config.block_size,
        checkpoint_every_epochs=config.checkpoint_every_epochs,
        given=tuple(path.removeprefix("base.") for path in given if path.startswith("base.")),
        selection=config.tune.selection,
        max_extensions=config.tune.max_extensions,
    )


def _stored(config: ConfigDict) -> dict[str, Any]:
    """Returns the config as plain values; without a rule of tuning, it is that of older sweeps."""
    stored = plain(config)
    rule = {name: value for name, value in stored["tune"].items() if RULE.get(name) != value}
    return {**stored, "tune": rule}


def _check_grid(config: ConfigDict) -> None:
    for axis in config.grid:
        if set(axis) != {"field", "values"}:
            raise UserError(f"the grid has {axis}; each axis has a field and values")
    _refuse_duplicates("grid", [axis["field"] for axis in config.grid])
    for axis in config.grid:
        path, values = axis["field"], axis["values"]
        _check_field(config.base, path, "grid")
        _check_own(path, "grid")
        if path not in ranges.CONFIG:
            raise UserError(f"the grid's field {path} is not numeric; a grid has numbers only")
        if not values:
            raise UserError(f"the grid's field {path} has no values; it needs at least one")
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise UserError(
                    f"the grid's field {path} has the value {value!r}, which is not a number"
                )
        _refuse_duplicates(f"grid's field {path}", values)
        for setting in config.settings:
            if path in setting:
                raise UserError(f"setting {setting['name']!r} fixes {path}, which the grid tunes")
    if not config.grid:
        return
    if not config.tune.seeds:
        raise UserError("the sweep has a grid but no tune.seeds to tune with")
    _refuse_duplicates("tune.seeds", config.tune.seeds)
    both = sorted(set(config.seeds) & set(config.tune.seeds))
    if both:
        raise UserError(f"seeds and tune.seeds both have {both[0]}; final seeds must be fresh")
    if config.tune.validation_examples < 1:
        raise UserError(
            f"tune.validation_examples={config.tune.validation_examples} is out of range; it "
            "must be at least 1 with a grid"
        )


def _check_rule(config: ConfigDict) -> None:
    """Refuses a rule of tuning that the grid or the tuning seeds do not allow."""
    selection, extensions = config.tune.selection, config.tune.max_extensions
    if selection not in SELECTIONS:
        raise UserError(
            f"tune.selection={selection!r} is unknown; choose from {', '.join(SELECTIONS)}"
        )
    axes, seeds = len(config.grid), len(config.tune.seeds)
    if selection == ONE_STANDARD_ERROR and (axes != 1 or seeds < 2):
        raise UserError(
            f"tune.selection={selection!r} needs a grid of one field and at least 2 tune.seeds, "
            f"but there are {axes} fields and {seeds} tune.seeds"
        )
    if not extensions:
        return
    if axes != 1:
        raise UserError(
            f"tune.max_extensions={extensions} needs a grid of one field, but there are {axes}"
        )
    values = config.grid[0]["values"]
    if not _is_geometric(values):
        raise UserError(
            f"tune.max_extensions={extensions} needs a grid of at least 2 positive values in "
            f"ascending geometric progression, such as (0.1, 0.2, 0.4), not {tuple(values)}"
        )


def _is_geometric(values: Sequence[float]) -> bool:
    """Returns whether values are positive and ascend by one ratio.

    >>> [_is_geometric(values) for values in ((0.1, 0.2, 0.4), (0.01, 0.0316, 0.1), (0.1, 0.2))]
    [True, True, True]
    >>> [_is_geometric(values) for values in ((0.1, 0.2, 0.3), (0.2, 0.1), (0, 1), (1,))]
    [False, False, False, False]
    """
    if len(values) < 2 or min(values) <= 0:
        return False
    ratios = [high / low for low, high in itertools.pairwise(values)]
    return min(ratios) > 1 and max(ratios) <= (1 + RATIO_TOLERANCE) * min(ratios)


def _check_trial(config: ConfigDict, setting: str) -> None:
    if config.init_from is not None:
        raise UserError(
            f"setting {setting!r}: init_from={config.init_from!r} does not work in a sweep, whose "
            "trials begin with random weights; use experiments.train"
        )
    if config.guard.loss_threshold is not None or config.guard.max_rollbacks:
        raise UserError(
            f"setting {setting!r}: a sweep runs every trial to its end, so it does not support "
            "guard.loss_threshold and guard.max_rollbacks"
        )
    if config.parallel.strategy != "jit":
        raise UserError(
            f"setting {setting!r}: parallel.strategy={config.parallel.strategy!r} does not work in "
            "a sweep, where each trial runs on one device; use 'jit'"
        )


def _set(config: ConfigDict, path: str, value: Any, where: str) -> None:
    *sections, name = path.split(".")
    section = config
    for part in sections:
        section = section[part]
    try:
        with section.unlocked():  # options, which are free, may be new
            section[name] = value
    except TypeError as error:
        raise UserError(f"{where}: {path}={value!r} has the wrong type: {error}") from error


def _check_field(base: ConfigDict, path: str, where: str) -> None:
    if path.rpartition(".")[0] in fields.FREE:
        return
    try:
        value = ranges.field(base, path)
    except (KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{where}: unknown field {path!r}") from error
    if isinstance(value, ConfigDict):
        raise UserError(f"{where}: {path!r} is a section, not a field")


def _check_own(path: str, where: str) -> None:
    """Refuses a field in which the trials of a sweep must not differ."""
    for shared, reason in SHARED.items():
        if path == shared or path.startswith(f"{shared}."):
            raise UserError(f"{where}: {path} cannot differ: {reason.format(path=path)}")


def _refuse_duplicates(what: str, values: Sequence[Any]) -> None:
    twice = [value for value in values if list(values).count(value) > 1]
    if twice:
        raise UserError(f"the sweep's {what} have {twice[0]!r} twice")
