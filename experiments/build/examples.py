"""The fields with which `experiments.plot` draws a schedule of a given name."""

from collections.abc import Collection, Mapping, Sequence

from ml_collections import ConfigDict

from experiments.build import effects
from experiments.build.schedules import Run, make_schedule
from experiments.errors import UserError
from experiments.packaged import base

# What the name of a schedule promises and the defaults lack, as fractions of the run.
WARMUP = {"warmup_epochs": 0.1}
CYCLES = {"init_decay_epochs": 0.2, "restart_interval_epochs": 0.2}
EXAMPLES: dict[str, dict[str, float]] = {
    **dict.fromkeys(("sig+", "str+", "trap", "trapezoid", "wsd"), WARMUP),
    **dict.fromkeys(("cla", "cyclical_log_annealing", "cyclical_cosine"), CYCLES),
}


def by_name(
    section: ConfigDict, names: Sequence[str], *, run: Run, given: Collection[str]
) -> dict[str, ConfigDict]:
    """Returns the sections of schedules that differ in name.

    The defaults of `configs/base.py` have no warmup and no restarts. A schedule that is named after
    one of them gets it from `EXAMPLES`, unless a field of it is set, and its title says so.

    Args:
      section: section `schedule` of a config.
      names: names of the schedules, used instead of the section's own.
      run: length of the run.
      given: dotted fields of the config that were set by hand.

    Returns:
      Title -> section.
    """
    section = section.copy_and_resolve_references()
    defaults = base.get_config().schedule
    epochs = run.num_steps / run.steps_per_epoch
    sections: dict[str, ConfigDict] = {}
    for name in names:
        each = section.copy_and_resolve_references()
        each.name = name
        example = {field: factor * epochs for field, factor in EXAMPLES.get(name, {}).items()}
        if "warmup_epochs" in example:
            example["warmup_init_value"] = 0.1 * each.peak_value
        untouched = all(
            each[field] == defaults[field] and f"schedule.{field}" not in given for field in example
        )
        title = name
        if example and untouched:
            each.update(example)
            shown = [f"{field}={value:g}" for field, value in example.items()]
            title = "\n".join([name, *shown])
        sections[title] = each
    return sections


def check_used(sections: Mapping[str, ConfigDict], run: Run, given: Collection[str]) -> None:
    """Refuses a field of the command line that has no effect on any of the schedules.

    Args:
      sections: title -> section `schedule` of a config.
      run: length of the run.
      given: dotted fields of the config that were set by hand.

    Raises:
      UserError: a field has no effect, or a schedule cannot be built.
    """
    used: set[str] = set()
    values = {}
    for section in sections.values():
        recorded = effects.Recorded(section.copy_and_resolve_references(), "schedule.")
        make_schedule(recorded, run)
        used |= recorded.read_fields
        values = effects.unrecorded(recorded)
    defaults = base.get_config().schedule
    for path in sorted({path for path in given if path.startswith("schedule.")} - used):
        name = path.removeprefix("schedule.")
        if name in defaults and values[name] != defaults[name]:
            drawn = ", ".join(title.partition("\n")[0] for title in sections)
            raise UserError(f"{path}={values[name]!r} has no effect on {drawn}; remove it")
