"""Says in which environments the trials of a table were made, if these differ."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from experiments.results.described import ENVIRONMENT
from experiments.results.methods import flatten

LONGEST = 40  # characters of a value that is shown


def remarks(summaries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns remarks about the environments of some directories, one per line.

    Args:
      summaries: directory -> its summary. Fields that an older summary lacks are not compared.

    Returns:
      One line that names what differs, and one per directory whose environment changed during the
      run. Empty if there is nothing to say.
    """
    lines = []
    different = list(_differences(summaries))
    if different:
        lines.append(
            f"**Trials of these tables come from different environments**: {'; '.join(different)}."
        )
    for source, summary in summaries.items():
        changes = summary.get("environment_changes") or []
        texts = [
            f"step {change['step']} on ("
            + ", ".join(
                f"{name}: {_shown(old)} to {_shown(new)}"
                for name, (old, new) in change["changed"].items()
            )
            + ")"
            for change in changes
        ]
        if texts:
            lines.append(f"**Not bit-exact**: {source} from {', and from '.join(texts)}.")
    return lines


def _differences(summaries: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    environments = {
        source: flatten({name: summary[name] for name in ENVIRONMENT if name in summary})
        for source, summary in summaries.items()
    }
    for field in dict.fromkeys(name for of in environments.values() for name in of):
        found: dict[str, list[str]] = {}
        for source, environment in environments.items():
            if field in environment:
                found.setdefault(_text(environment[field]), []).append(source)
        if len(found) > 1:
            values = ", ".join(
                f"{_shown_text(text)} in {' and '.join(sources)}" for text, sources in found.items()
            )
            yield f"{field} is {values}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _shown(value: Any) -> str:
    return _shown_text(_text(value))


def _shown_text(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
