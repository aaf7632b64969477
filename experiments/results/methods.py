"""Names methods, so that the trials of a method agree in every config field but the seed."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from experiments.errors import UserError

# The trials of a method may differ in these fields: where the data and the checkpoints are, and how
# many steps or examples are processed at once. They change at most the last digits of a sum.
# parallel.strategy is not among them, because batch norm sees a share of the batch under pmap.
# A setting of a sweep also has its own name, which the name of the method begins with.
IGNORED = re.compile(r"name|seed|data\.data_dir|log_every_steps|eval_batch_size|checkpoint\..*")

# The names of a run's schedule and optimizer begin the name of its method.
NAMED = re.compile(r"(schedule|optimizer)\.")

Config = Mapping[str, Any]  # dotted field -> value


class Unit(NamedTuple):
    """The trials of one directory and setting, which have one config but for their seeds.

    Attributes:
      source: the directory.
      data: name of the data set.
      split: the split that is evaluated, "test" or "validation".
      model: name of the model.
      setting: name of the setting, or of the run's schedule and optimizer.
    """

    source: str
    data: str
    split: str
    model: str
    setting: str


def flatten(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the fields of a nested config by dotted name.

    >>> flatten({"seed": 0, "data": {"name": "mnist"}})
    {'seed': 0, 'data.name': 'mnist'}
    """
    fields: dict[str, Any] = {}
    for name, value in section.items():
        if isinstance(value, Mapping):
            fields |= flatten(value, f"{prefix}{name}.")
        else:
            fields[f"{prefix}{name}"] = value
    return fields


def printable(name: str) -> str:
    r"""Escapes characters that would break a table or a heading, such as a newline.

    >>> print(printable("two\nlines"))
    two\nlines
    """
    return "".join(
        letter
        if letter.isprintable() and letter != "\\"
        else letter.encode("unicode_escape").decode()
        for letter in name
    )


def named(configs: Mapping[Unit, Config], *, are_runs: bool = False) -> dict[Unit, str]:
    """Names the method of each unit.

    Units of one data set, split, model, and setting that agree in every field are one method, named
    after the setting. Otherwise they are several methods, named by the fields that differ too, such
    as `cosine (schedule.peak_value=0.05)`. A field that a config lacks is None, because a new field
    is added with None where that means the earlier behavior.

    Single runs that are compared with one another differ in whatever their user changed. Fields
    outside of the schedule and the optimizer, such as the batch size, become part of the name of
    each run then, if they differ between runs of one data set, split, and model.

    Args:
      configs: unit -> its config.
      are_runs: whether all units are single runs.

    Returns:
      Unit -> name of its method.

    Raises:
      UserError: two methods would have the same name.
    """
    groups: dict[tuple[str, ...], list[Unit]] = {}
    for unit in configs:
        groups.setdefault(unit[1:], []).append(unit)
    names: dict[Unit, str] = {}
    for units in groups.values():
        fields = differing([configs[unit] for unit in units])
        if are_runs:
            same_table = [of for unit, of in configs.items() if unit[1:4] == units[0][1:4]]
            others = [field for field in differing(same_table) if not NAMED.match(field)]
            fields = sorted({*fields, *others})
        for unit in units:
            values = ", ".join(f"{field}={text(configs[unit].get(field))}" for field in fields)
            names[unit] = printable(unit.setting) + (f" ({values})" if values else "")
    _check_distinct(configs, names)
    return names


def differing(configs: Iterable[Config], *, ignored: re.Pattern[str] = IGNORED) -> list[str]:
    """Returns the fields in which configs differ, sorted.

    >>> differing([{"seed": 0, "epochs": 5}, {"seed": 1, "epochs": 5.0, "batch_size": 64}])
    ['batch_size']
    """
    texts = [{field: text(value) for field, value in config.items()} for config in configs]
    fields = sorted({field for config in texts for field in config if not ignored.fullmatch(field)})
    return [field for field in fields if len({config.get(field, "None") for config in texts}) > 1]


def _check_distinct(configs: Mapping[Unit, Config], names: Mapping[Unit, str]) -> None:
    first: dict[tuple[str, ...], Unit] = {}
    for unit, name in names.items():
        other = first.setdefault((*unit[1:4], name), unit)
        fields = differing([configs[other], configs[unit]])
        if other.setting != unit.setting and fields:
            field = fields[0]
            values = " and ".join(
                f"{text(configs[each].get(field))} in {each.source}" for each in (other, unit)
            )
            raise UserError(
                f"{unit.data}, {unit.model} has two methods with the name {name}, which differ in "
                f"{field}: {values}; report them separately"
            )


def text(value: Any) -> str:
    """Returns a value as names show it; different values have different texts.

    >>> text(0.1), text(None), text("None")
    ('0.1', 'None', "'None'")
    """
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, int | float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w./:+-]*", value):
        return value if value not in ("None", "True", "False") else repr(value)
    return printable(json.dumps(value, ensure_ascii=False))
