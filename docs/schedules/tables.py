"""Writes what the registry of schedules determines: thumbnails, and tables of README and docs.

    python -m docs.schedules.tables

Run it after adding a schedule to `SCHEDULES` or `ALIASES` in loganneal_jax/named.py.
"""

import functools
import pathlib
import re
from typing import Any

import jax
import numpy as np

import loganneal_jax as la
from docs.markers import inserted
from experiments.build import catalog
from loganneal_jax import named, registry

FOLDER = pathlib.Path(__file__).parent
THUMBNAILS = FOLDER / "thumbnails"
README = FOLDER.parents[1] / "README.md"
PAGE = FOLDER.parent / "schedules.md"
EXTENDING = FOLDER.parent / "predicting.md"

STEPS = 120
WIDTH, HEIGHT, MARGIN = 120, 30, 2
COLOR = "#2f81c7"  # contrast of at least 3:1 with white and with GitHub's dark background
# Options that a thumbnail needs to show the form of a schedule, by option and by schedule.
OPTIONS: dict[str, Any] = {
    "half_cycle_steps": 15,
    "init_decay_steps": 30,
    "restart_interval": 30,
    "boundaries": (60, 90),
    "min_value": 0.01,
    "step_size": 30,
    "time_steps": 20,
}
EXAMPLES: dict[str, dict[str, Any]] = {
    "inverse_sqrt": {"warmup_steps": 12},
    "inverse_time": {"decay_rate": 1.0},
    "polynomial": {"power": 2.0},
    "step": {"decay_rate": 0.5},
    "trapezoid": {"warmup_steps": 12},
    "triangular_exp_range": {"decay_rate": 0.98},
}


def example(name: str) -> la.Schedule:
    """Returns the schedule of 120 steps with a peak of 1 that the thumbnail of a name shows."""
    options = {key: OPTIONS[key] for key in registry.options_of(name) if key in OPTIONS}
    if registry.has_end_value(name):
        options["end_value"] = 0.01
    options |= EXAMPLES.get(name, {})
    return la.make_schedule(name, peak_value=1.0, total_steps=STEPS, **options)


@functools.cache
def curves() -> dict[str, np.ndarray]:
    """Returns the values of every example for twice its length, from one compiled program."""
    examples = {name: example(name) for name in named.SCHEDULES}
    values = jax.jit(lambda: {name: la.tabulate(examples[name], 2 * STEPS) for name in examples})()
    return {name: np.asarray(values[name]) for name in examples}


def points(values: np.ndarray) -> list[tuple[int, float]]:
    """Returns the corners of the line in a thumbnail, in pixels from the upper left."""
    values = values[: STEPS + 1]
    x = np.linspace(MARGIN, WIDTH - MARGIN, len(values)).round()
    y = HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * values.astype(np.float64) / values.max()
    return [(int(px), round(float(py), 1)) for px, py in zip(x, y, strict=True)]


def thumbnail(name: str, values: np.ndarray) -> str:
    """Returns an SVG picture of a schedule."""
    line = " ".join(f"{x},{y}" for x, y in points(values))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img"><title>{name}</title>'
        f'<polyline fill="none" stroke="{COLOR}" stroke-width="2" stroke-linejoin="round" '
        f'points="{line}"/></svg>\n'
    )


def anchor(name: str, page: str) -> str:
    """Returns the link to the section of docs/schedules.md that describes the factory of a name."""
    built = example(name).factory.__name__
    for heading, section in re.findall(r"^## (.+)\n((?:(?!^## ).*\n)*)", page, re.MULTILINE):
        if f"`{built}(" in section:
            kept = re.sub(r"[^\w\- ]", "", heading.lower())
            return f"docs/schedules.md#{kept.replace(' ', '-')}"
    return "docs/schedules.md#schedules-by-name"


def schedules_table() -> str:
    """Returns the table of README.md: a thumbnail, a name with its link, and a sentence."""
    page = PAGE.read_text()
    rows = ["| | schedule | learning rate |", "|---|---|---|"]
    rows += [
        f"| ![{name}](docs/schedules/thumbnails/{name}.svg) | [`{name}`]({anchor(name, page)}) "
        f"| {catalog.summary(named.SCHEDULES[name])} |"
        for name in named.SCHEDULES
    ]
    return "\n".join(rows)


def names_table() -> str:
    """Returns the table of docs/schedules.md: each name with its aliases and options."""
    rows = ["| name | aliases | options |", "|---|---|---|"]
    for name in named.SCHEDULES:
        aliases = sorted(alias for alias, other in named.ALIASES.items() if other == name)
        options = set(registry.options_of(name)) - {"warmup", "warmup_init_value"}
        shown = [option for option in registry.options_of(name) if option in options]
        quoted = ", ".join(f'`"{alias}"`' for alias in aliases)
        rows.append(f'| `"{name}"` | {quoted} | {", ".join(f"`{option}`" for option in shown)} |')
    return "\n".join(rows)


def after_end(values: np.ndarray) -> str:
    """Returns what a schedule does in the steps that follow its run."""
    further, tolerance = values[STEPS:], 1e-6 * values.max()
    if further.max() == 0:
        return "the learning rate is 0, so the extension is **refused**"
    if (np.diff(further) > tolerance).any():
        return "the schedule **continues in cycles**"
    if np.ptp(further) <= tolerance:
        return "the schedule **holds its end value**"
    return "the schedule **continues to decay**"


def ends_table() -> str:
    """Returns the table of docs/predicting.md: the schedules by what follows their run."""
    names: dict[str, list[str]] = {}
    for name in named.SCHEDULES:
        names.setdefault(after_end(curves()[name]), []).append(f"`{name}`")
    rows = ["| schedules | after the end of the run |", "|---|---|"]
    return "\n".join([*rows, *(f"| {', '.join(names[end])} | {end} |" for end in names)])


def tables() -> dict[pathlib.Path, str]:
    """Returns the text of the pages whose tables list every schedule."""
    return {
        README: inserted(README.read_text(), "table of schedules", schedules_table()),
        PAGE: inserted(PAGE.read_text(), "table of names", names_table()),
        EXTENDING: inserted(EXTENDING.read_text(), "table of ends", ends_table()),
    }


def main() -> None:
    """Writes the files, and deletes the thumbnails of names that no longer exist."""
    written = {THUMBNAILS / f"{name}.svg": thumbnail(name, y) for name, y in curves().items()}
    for path in set(THUMBNAILS.glob("*.svg")) - set(written):
        path.unlink()
    for path, text in (written | tables()).items():
        path.write_text(text)


if __name__ == "__main__":
    main()
