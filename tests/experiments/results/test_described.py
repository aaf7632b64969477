"""A summary with odd or impossible content is refused in one sentence."""

import pytest

from experiments.errors import UserError
from experiments.results import read
from tests.experiments.results.fake_results import trial, write_run, write_sweep

ADVICE = "restore the file, or run its command again with another --workdir"


def rejected(directory):
    with pytest.raises(UserError) as caught:
        read.read([directory])
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{directory / 'summary.json'}")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seconds": -1.0}, ": seconds is -1.0, but must be a number of at least 0; "),
        ({"seconds": float("nan")}, ": seconds is nan, but must be a number of at least 0; "),
        ({"seconds": True}, ": seconds is True, but must be a number of at least 0; "),
        ({"seconds": "60"}, ": seconds is '60', but must be a number of at least 0; "),
        ({"device": None}, ": device is None, but must be a text; "),
        ({"device_count": 0}, ": device_count is 0, but must be an integer of at least 1; "),
        ({"versions": ["jax"]}, ": versions is ['jax'], but must be an object of texts; "),
        ({"versions": {"jax": 1}}, ": versions is {'jax': 1}, but must be an object of texts; "),
        ({"objective": 5}, ": objective is 5, but must be a text; "),
        ({"metrics": []}, ": metrics is [], but must be an object of objects; "),
        ({"epochs": "3"}, ": epochs is '3', but must be a number above 0; "),
        ({"steps": -7}, ": steps is -7, but must be an integer of at least 1; "),
        ({"data": {"name": "mnist"}}, ": data is {'name': 'mnist'}, but must be a text; "),
        ({"chance": 0.1}, ": chance is 0.1, but must be an object of objects; "),
        ({"settings": []}, ": settings is [], but must be an object of objects; "),
        (
            {"environment_changes": [{"step": "1"}]},
            ": environment_changes is [{'step': '1'}], but must be a list of objects with an "
            'integer "step" and "changed", an object of pairs; ',
        ),
    ],
)
def test_field_of_another_type_is_refused(tmp_path, fields, message):
    run = write_run(tmp_path / "run", [0.5], **fields)
    assert rejected(run) == message + ADVICE


@pytest.mark.parametrize(
    ("chance", "allowed"),
    [(1.5, "a fraction from 0 to 1"), ("x", "a fraction from 0 to 1"), (True, "a fraction")],
)
def test_impossible_chance_level_is_refused(tmp_path, chance, allowed):
    metrics = {
        "accuracy": {"direction": "max", "percent": True, "chance": chance},
        "loss": {"direction": "min", "percent": False, "chance": None},
    }
    run = write_run(tmp_path / "run", [0.5], metrics=metrics)
    expected = f": chance level of accuracy is {chance!r}, but must be {allowed}"
    assert rejected(run).startswith(expected)


@pytest.mark.parametrize("percent", [None, 1, "yes"])
def test_metric_that_is_neither_percent_nor_not_is_refused(tmp_path, percent):
    metrics = {"accuracy": {"direction": "max", "percent": percent}}
    run = write_run(tmp_path / "run", [0.5], metrics=metrics)
    assert f"ValueError percent {percent!r}, neither true nor false" in rejected(run)


@pytest.mark.parametrize("name", ["summary.json", "config.json"])
@pytest.mark.parametrize("content", ["", "[]", "null", "5", '"x"', "{", "[" * 10**5, "\0", "{}"])
@pytest.mark.parametrize("kind", ["run", "sweep"])
def test_damaged_file_is_refused(tmp_path, kind, name, content):
    where = tmp_path / kind
    if kind == "run":
        write_run(where, [0.5])
    else:
        write_sweep(where, [trial([0.5])])
    (where / name).write_text(content)
    with pytest.raises(UserError) as caught:
        read.read([where])
    assert str(caught.value).startswith(
        f"{where / name} is unreadable, truncated, or lacks a field: "
    )
    assert "\n" not in str(caught.value)
