"""The catalog command prints text or JSON."""

import json

from etils import epath

from experiments.runtime import workdir
from tests import commands
from tests.experiments.results.fake_results import write_run


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


def test_runs_are_listed_with_their_state(tmp_path):
    done = write_run(tmp_path / "done", [0.5], schedule="cosine", test_accuracy=0.5)
    going = write_run(tmp_path / "going", [0.5], config={"epochs": 3.0})
    (going / "summary.json").unlink()
    with workdir.locked(epath.Path(going)):
        process = command(f"--runs={tmp_path}")
    assert process.returncode == 0, process.stderr
    lines = [line.split() for line in process.stdout.splitlines()]
    assert lines == [
        ["directory", "kind", "method", "result", "state"],
        [str(done), "run", "cosine", *["accuracy", "50.00%", "on", "mnist"], "finished"],
        [str(going), "run", "sig+", *["1", "of", "3", "epochs"], "running"],
    ]
    values = json.loads(command(f"--runs={tmp_path}", "--json").stdout)
    assert [value["state"] for value in values] == ["finished", "stopped"]
    process = command(f"--runs={tmp_path}", "schedules")
    assert process.stderr == "error: --runs lists a directory; remove schedules\n"
