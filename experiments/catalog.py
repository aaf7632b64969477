"""Lists what a config can name: python -m experiments.catalog [KIND...] [--json].

Each schedule, optimizer, model, data set, task, preprocessing step, augmentation, and loss has one
line, the config fields that it reads, and its aliases.
"""

import json
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags

from experiments import cli

if TYPE_CHECKING:
    from experiments.build.catalog import Entry

WIDTH = 100


def main(*kinds: str) -> None:
    """Prints the entries of some kinds, or of all."""
    from experiments.build import catalog  # imports jax, which takes a second

    found = {kind: catalog.entries(kind) for kind in kinds or catalog.KINDS}
    if flags.FLAGS.json:
        values = {kind: [entry._asdict() for entry in each] for kind, each in found.items()}
        print(json.dumps(values, indent=2))
    else:
        print("\n\n".join(_text(kind, each) for kind, each in found.items()))


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
    flags.DEFINE_bool("json", False, "Print JSON: kind -> list of entries.")


if __name__ == "__main__":
    define_flags()
    cli.run(main, positional=True)
