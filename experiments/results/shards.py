"""Merges the shards of a sweep, which trained its blocks in one directory or in several.

A shard leaves a sealed record of the whole sweep, and the blocks that it trained. All records of a
sweep list the same blocks.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from experiments import sealed
from experiments.errors import UserError
from experiments.results import methods
from experiments.results.described import broken, impossible

RECORDS = "shard-*-of-*.json"
MAY_DIFFER = "data.data_dir"  # hosts may have the data in different places


class Merged(NamedTuple):
    """A sweep that was merged from its shards.

    Attributes:
      source: its directories, as one name.
      file: one of its records, for errors.
      config: the config of the sweep.
      summary: what the summary of the sweep would say.
      table: the text of its table, as in `trials.csv`.
      parts: name of each shard -> what its own summary would say.
    """

    source: str
    file: Path
    config: dict[str, Any]
    summary: dict[str, Any]
    table: str
    parts: dict[str, dict[str, Any]]


class _Record(NamedTuple):
    """The record of a shard, and the file that it was read from."""

    file: Path
    content: dict[str, Any]

    @property
    def number(self) -> int:
        return self.content["shard"][0]

    @property
    def total(self) -> int:
        return self.content["shard"][1]

    @property
    def blocks(self) -> list[list[Any]]:
        """Name, hash of the trials, and number of trials of each block of the sweep."""
        of = self.content["blocks"]
        return [[block["name"], block["trials"], block["num_trials"]] for block in of]

    @property
    def config(self) -> dict[str, Any]:
        fields = methods.flatten(self.content["config"])
        return {name: value for name, value in fields.items() if not name.endswith(MAY_DIFFER)}


def is_shard(directory: Path) -> bool:
    """Returns whether a directory has shards of a sweep, but not the whole sweep."""
    return not (directory / "summary.json").exists() and any(directory.glob(RECORDS))


def merge(directories: Sequence[Path]) -> list[Merged]:
    """Merges shards of one or more sweeps.

    Args:
      directories: directories for which `is_shard` is true.

    Returns:
      The sweeps.

    Raises:
      UserError: a file is damaged, shards are missing, or shards disagree.
    """
    records = [
        _read_record(file) for each in sorted(directories) for file in sorted(each.glob(RECORDS))
    ]
    sweeps: dict[str, list[_Record]] = {}
    for record in records:
        sweeps.setdefault(json.dumps(record.config, sort_keys=True), []).append(record)
    for of_sweep in sweeps.values():
        missing, total = _missing(of_sweep)
        others = [record for record in records if record not in of_sweep]
        if missing and others:
            raise UserError(_mixed(of_sweep[0], others[0]))
        if missing:
            raise UserError(
                f"the sweep in {_directories(of_sweep)} lacks {_named(missing)} of {total}: pass "
                "the directories of all its shards, once their commands are done"
            )
    return [_merged(of_sweep) for of_sweep in sweeps.values()]


def _read_record(file: Path) -> _Record:
    try:
        content = sealed.loads(file.read_text(errors="replace"))
        record = _Record(file, content)
        number, total, _, _ = record.number, record.total, record.blocks, record.config
        if not 1 <= number <= total:
            raise ValueError(f"shard {number} of {total}")
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); repair it") from error
    except ValueError as error:
        raise UserError(
            f"{file} is damaged ({error}); run the command of its shard again, which writes it anew"
        ) from error
    except (AttributeError, KeyError, IndexError, TypeError) as error:
        raise broken(file, error) from error
    return record


def _missing(records: Sequence[_Record]) -> tuple[list[int], int]:
    """Returns the shards that lack a record, and the number of shards of the sweep.

    The sweep may have been divided anew. So it lacks nothing if one of its divisions is complete.
    """
    lacking = {}
    for total in sorted({record.total for record in records}):
        here = [record for record in records if record.total == total]
        needed = {block["shard"] for block in here[0].content["blocks"]}
        lacking[total] = sorted(needed - {record.number for record in here})
    total = min(lacking, key=lambda each: len(lacking[each]))
    return lacking[total], total


def _mixed(record: _Record, other: _Record) -> str:
    ours, theirs = record.config, other.config
    field = next(
        name for name in sorted(ours.keys() | theirs.keys()) if ours.get(name) != theirs.get(name)
    )
    return (
        f"{record.file.parent} and {other.file.parent} are shards of different sweeps, which "
        f"differ in {field}, and not all shards of {record.file.parent} are given; pass all shards "
        "of one sweep"
    )


def _merged(records: Sequence[_Record]) -> Merged:
    """Merges the shards of one sweep, none of which is missing."""
    first = records[0]
    for other in records[1:]:
        if other.blocks != first.blocks:
            raise UserError(
                f"{first.file} and {other.file} list different blocks of one sweep, so they were "
                "cut or tuned differently; give all shards the same tuning blocks and the same "
                "config.block_size, and run them again"
            )
    _, total = _missing(records)
    of_shard: dict[int, _Record] = {}
    for record in records:
        if record.total == total:
            of_shard.setdefault(record.number, record)
    directories = sorted({record.file.parent for record in records})
    rows: list[Any] = []
    trials, seconds = dict.fromkeys(of_shard, 0), dict.fromkeys(of_shard, 0.0)
    for block in next(iter(of_shard.values())).content["blocks"]:
        content = _block(directories, block["name"], block["trials"])
        rows += content["rows"]
        trials[block["shard"]] += block["num_trials"]
        seconds[block["shard"]] += content["seconds"]
    parts = {
        f"{record.file.parent} (shard {number}/{total})": {
            **_without_plan(record.content),
            "trials": trials[number],
            "seconds": seconds[number],
        }
        for number, record in sorted(of_shard.items())
    }
    summary = {
        **_without_plan(first.content),
        "trials": sum(trials.values()),
        "seconds": sum(seconds.values()),
    }
    return Merged(
        source=_directories(records),
        file=first.file,
        config=first.content["config"],
        summary=summary,
        table=pd.DataFrame(rows).to_csv(index=False),
        parts=parts,
    )


def _without_plan(content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value for name, value in content.items() if name not in ("config", "shard", "blocks")
    }


def _block(directories: Sequence[Path], name: str, fingerprint: str) -> dict[str, Any]:
    """Returns a block, which must be the same wherever it is."""
    found: dict[Path, dict[str, Any]] = {}
    for directory in directories:
        file = directory / "blocks" / name
        if not file.exists():
            continue
        try:
            content = sealed.loads(file.read_text(errors="replace"))
            if content.get("trials") != fingerprint:
                raise ValueError("it belongs to other trials")
        except OSError as error:
            raise UserError(f"{file} cannot be read ({error.strerror}); repair it") from error
        except ValueError as error:
            raise UserError(
                f"{file} is damaged ({error}); run the command of its shard again"
            ) from error
        if not isinstance(content.get("rows"), list) or not isinstance(
            content.get("seconds"), int | float
        ):
            raise impossible(f"{file}: rows and seconds", content.get("seconds"), "a block's")
        found[file] = content
    if not found:
        raise UserError(
            f"the sweep in {' + '.join(map(str, directories))} lacks the block {name}, although "
            "the command of its shard ended; run that command again"
        )
    (file, content), *others = found.items()
    for other, theirs in others:
        if theirs["rows"] != content["rows"]:
            raise UserError(
                f"{file} and {other} have different results of the same trials; keep one of them, "
                "and move the other away"
            )
    return content


def _directories(records: Sequence[_Record]) -> str:
    return " + ".join(sorted({str(record.file.parent) for record in records}))


def _named(numbers: Sequence[int]) -> str:
    return f"shard{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
