"""Lists what a config can name: python -m experiments.catalog [KIND...] [--json].

Each schedule, optimizer, model, data set, task, preprocessing step, augmentation, and loss has one
line, the config fields that it reads, and its aliases. With --runs=DIR, the command lists the runs
and sweeps in a directory instead, with their method, result, and state.
"""

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags
from etils import epath

from experiments import cli
from experiments.errors import UserError

if TYPE_CHECKING:
    from experiments.build.catalog import Entry
    from experiments.results.directories import Listed

WIDTH = 100


def main(*kinds: str) -> None:
    """Prints the entries of some kinds, or of all, or what a directory has."""
    if flags.FLAGS.runs is not None:
        if kinds:
            raise UserError(f"--runs lists a directory; remove {kinds[0]}")
        _print_runs(Path(flags.FLAGS.runs).expanduser())
        return
    from experiments.build import catalog  # imports jax, which takes a second

    found = {kind: catalog.entries(kind) for kind in kinds or catalog.KINDS}
    if flags.FLAGS.json:
        values = {kind: [entry._asdict() for entry in each] for kind, each in found.items()}
        print(json.dumps(values, indent=2))
    else:
        print("\n\n".join(_text(kind, each) for kind, each in found.items()))


def _print_runs(directory: Path) -> None:
    from experiments.results.directories import listed  # imports pandas, which takes a second
    from experiments.runtime import workdir

    found = listed(directory, lambda path: workdir.in_use(epath.Path(path)))
    if flags.FLAGS.json:
        print(json.dumps([each._asdict() for each in found], indent=2))
    elif found:
        print("\n".join(_columns(found)))
    else:
        print(f"{directory} has no runs and no sweeps")


def _columns(found: "Sequence[Listed]") -> list[str]:
    """Returns one line per directory, in aligned columns under their names."""
    rows = [found[0]._fields, *found]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _text(kind: str, entries: "Sequence[Entry]") -> str:
    lines = [kind]
    for entry in entries:
        also = f" (also {', '.join(entry.aliases)})" if entry.aliases else ""
        fields = f"Fields: {', '.join(entry.fields)}." if entry.fields else "Fields: none."
        lines += ["", *_wrapped(f"{entry.field}={entry.name}{also}", 2)]
        lines += [*_wrapped(entry.summary, 6), *_wrapped(fields, 6)]
    return "\n".join(lines)


def _wrapped(text: str, indent: int) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + 2 if indent < 6 else indent),
        break_long_words=False,
        break_on_hyphens=False,
    )


def define_flags() -> None:
    """Defines the flags of the command; importing it must not, because other commands do too."""
    flags.DEFINE_bool("json", False, "Print JSON: kind -> list of entries, or a list of runs.")
    flags.DEFINE_string("runs", None, "Directory whose runs and sweeps to list instead.")


if __name__ == "__main__":
    define_flags()
    cli.run(main, positional=True)
