"""The catalog command prints text or JSON."""

import json

from tests import commands


def command(*arguments):
    return commands.run("experiments.catalog", *arguments)


def test_kinds_narrow_the_catalog():
    process = command("preprocessing", "tasks")
    assert (process.returncode, process.stderr) == (0, "")
    kinds = [line for line in process.stdout.splitlines() if line and not line.startswith(" ")]
    assert kinds == ["preprocessing", "tasks"]
    assert "  data.preprocess=zca\n      Decorrelates" in process.stdout
    assert "      Fields: data.zca_epsilon.\n" in process.stdout
    assert max(map(len, process.stdout.splitlines())) <= 100


def test_json_has_the_same_entries():
    process = command("--json")
    assert process.returncode == 0, process.stderr
    values = json.loads(process.stdout)
    (cosine,) = [entry for entry in values["schedules"] if entry["name"] == "cosine"]
    assert cosine["field"] == "schedule.name"
    assert "schedule.end_value" in cosine["fields"]
    assert "cosine_decay" in cosine["aliases"]


def test_unknown_kind_is_one_sentence():
    process = command("colors")
    assert process.returncode == 2
    assert process.stderr.startswith("error: 'colors' is not a kind of the catalog; choose from ")
    assert process.stderr.count("\n") == 1
