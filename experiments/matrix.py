"""From a sweep's config to its trials, every one of them a config of a single run."""

import copy
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from experiments import build, ranges
from experiments.errors import UserError

RANGES = {"block_size": ranges.COUNT, "checkpoint_every_epochs": ranges.COUNT}


class Trial(NamedTuple):
    """One run of a sweep.

    Attributes:
      phase: "tune" (evaluated on a validation split) or "final" (on the test split).
      setting: name of the setting.
      values: dotted field -> value, of the fields that are tuned.
      config: the config of the run.
      experiment: what was built from it.
    """

    phase: str
    setting: str
    values: Mapping[str, float]
    config: ConfigDict
    experiment: build.Experiment


def check(config: ConfigDict) -> None:
    """Refuses a sweep that has no trials, has some twice, or has fields that runs do not have.

    Args:
      config: a config of `configs/sweeps/`.

    Raises:
      UserError: the matrix is empty, or something in it is there twice, unknown or not a number.
    """
    if "settings" not in config:
        raise UserError("the config has no settings: it is none of a sweep; see configs/sweeps/")
    ranges.check(config, RANGES)
    names = [setting.get("name") for setting in config.settings]
    for what, values in (("settings", names), ("seeds", config.seeds)):
        if not values:
            raise UserError(f"the sweep has no {what}; it needs at least one")
        _refuse_twice(what, values)
    for setting in config.settings:
        if not isinstance(setting.get("name"), str) or not setting["name"]:
            raise UserError(f"the setting {setting} has no name")
        for path in setting.keys() - {"name"}:
            _known(config.base, path, f"setting {setting['name']!r}")
    for axis in config.grid:
        if set(axis) != {"field", "values"}:
            raise UserError(f"the grid has {axis}; each of it has a field and values")
    _refuse_twice("grid", [axis["field"] for axis in config.grid])
    for axis in config.grid:
        path, values = axis["field"], axis["values"]
        _known(config.base, path, "grid")
        if path not in ranges.CONFIG:
            raise UserError(f"the grid's field {path} is not a number; a grid is of numbers")
        if not values:
            raise UserError(f"the grid's field {path} has no values; it needs at least one")
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise UserError(f"the grid's field {path} has the value {value!r}, not a number")
        _refuse_twice(f"grid's field {path}", values)
        for setting in config.settings:
            if path in setting:
                raise UserError(f"setting {setting['name']!r} fixes {path}, which the grid tunes")
    if config.grid:
        if not config.tune.seeds:
            raise UserError("the sweep has a grid but no tune.seeds to choose from it by")
        _refuse_twice("tune.seeds", config.tune.seeds)
        both = sorted(set(config.seeds) & set(config.tune.seeds))
        if both:
            raise UserError(f"seeds and tune.seeds both have {both[0]}; final seeds must be fresh")
        if config.tune.validation_examples < 1:
            raise UserError(
                f"tune.validation_examples={config.tune.validation_examples} is out of range; it "
                "must be at least 1 where there is a grid"
            )


def tuning_trials(config: ConfigDict) -> list[Trial]:
    """Every setting at every point of the grid, each with the tuning seeds; none without a grid.

    Args:
      config: a sweep's config that `check` accepted.

    Returns:
      The trials, on a validation split held out from the training split.

    Raises:
      UserError: a trial's config cannot be used.
    """
    if not config.grid:
        return []
    base = copy.deepcopy(config.base)
    base.data.validation_examples = config.tune.validation_examples
    return [
        _trial("tune", base, setting, point, seed)
        for setting in config.settings
        for point in grid_points(config)
        for seed in config.tune.seeds
    ]


def final_trials(config: ConfigDict, chosen: Mapping[str, Mapping[str, float]]) -> list[Trial]:
    """Every setting at its chosen point of the grid, each with the sweep's seeds.

    Args:
      config: a sweep's config that `check` accepted.
      chosen: setting -> point of the grid; a point without a grid is empty.

    Returns:
      The trials, on the test split.

    Raises:
      UserError: a trial's config cannot be used.
    """
    return [
        _trial("final", config.base, setting, chosen[setting["name"]], seed)
        for setting in config.settings
        for seed in config.seeds
    ]


def grid_points(config: ConfigDict) -> list[dict[str, float]]:
    """All combinations of the grid's values; a single empty one without a grid."""
    fields = [axis["field"] for axis in config.grid]
    values = itertools.product(*(axis["values"] for axis in config.grid))
    return [dict(zip(fields, point, strict=True)) for point in values]


def best_points(
    config: ConfigDict, accuracies: Sequence[tuple[str, Mapping[str, float], float]]
) -> dict[str, dict[str, float]]:
    """The point of the grid at which each setting has the highest mean accuracy.

    Args:
      config: a sweep's config.
      accuracies: of each tuning trial: its setting, its point, and the mean validation accuracy of
        its last tenth of epochs, NaN if it diverged.

    Returns:
      Setting -> point; the first of equal ones. A point of which a trial diverged is worse than
      every point of which none did.
    """
    chosen = {}
    for setting in config.settings:
        name = setting["name"]

        def mean_accuracy(point: Mapping[str, float], name: str = name) -> float:
            of_point = [a for n, p, a in accuracies if n == name and p == point]
            mean = sum(of_point) / len(of_point)
            return -math.inf if math.isnan(mean) else mean

        chosen[name] = max(grid_points(config), key=mean_accuracy)
    return chosen


def _trial(
    phase: str,
    base: ConfigDict,
    setting: Mapping[str, Any],
    point: Mapping[str, float],
    seed: int,
) -> Trial:
    # A deep copy keeps the references of one field to another, which are resolved once all are set.
    config = copy.deepcopy(base)
    _set(config, "seed", seed, f"setting {setting['name']!r}")
    values = {path: value for path, value in setting.items() if path != "name"}
    for path, value in {**values, **point}.items():
        _set(config, path, value, f"setting {setting['name']!r}")
    config = config.copy_and_resolve_references()
    if config.guard.loss_threshold is not None or config.guard.max_rollbacks:
        raise UserError(
            f"setting {setting['name']!r}: a sweep runs every trial to its end, so it takes no "
            "guard.loss_threshold and no guard.max_rollbacks"
        )
    if config.parallel.strategy != "jit":
        raise UserError(
            f"setting {setting['name']!r}: parallel.strategy={config.parallel.strategy!r} is not "
            "for a sweep, each of whose trials runs on one device"
        )
    try:
        experiment = build.build(config)
    except UserError as error:
        at = ", ".join(f"{path}={value}" for path, value in point.items())
        raise UserError(f"setting {setting['name']!r}{at and f' at {at}'}: {error}") from error
    return Trial(phase, setting["name"], point, config, experiment)


def _set(config: ConfigDict, path: str, value: Any, where: str) -> None:
    *sections, name = path.split(".")
    section = config
    for part in sections:
        section = section[part]
    try:
        section[name] = value
    except TypeError as error:
        raise UserError(f"{where}: {path}={value!r} has the wrong type: {error}") from error


def _known(base: ConfigDict, path: str, where: str) -> None:
    try:
        value = ranges.field(base, path)
    except (KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{where}: unknown field {path!r}") from error
    if isinstance(value, ConfigDict):
        raise UserError(f"{where}: {path!r} is a section, not a field")


def _refuse_twice(what: str, values: Sequence[Any]) -> None:
    twice = [value for value in values if list(values).count(value) > 1]
    if twice:
        raise UserError(f"the sweep's {what} have {twice[0]!r} twice")
