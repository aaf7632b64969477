"""A report says when its trials come from different environments."""

import pytest

from experiments.results import environments, report
from tests.experiments.results.fake_results import trial, write_run, write_sweep

OTHER = {"versions": {"python": "3.11.7", "jax": "0.12.0"}, "threads": 1}


def test_difference_stands_below_the_heading_of_its_table(tmp_path):
    first = write_sweep(tmp_path / "a", [trial([0.5, 0.6])], threads=2, xla_flags="-x " * 30)
    second = write_run(tmp_path / "b", [0.5, 0.6], seed=1, **OTHER, xla_flags="")
    elsewhere = write_run(tmp_path / "c", [0.5, 0.6], data="digits", device="other CPU")
    report.write([first, second, elsewhere], tmp_path / "out")
    mnist, digits = (tmp_path / "out" / "report.md").read_text().split("## mnist\n\n")[::-1]
    shortened = ("-x " * 30)[:39] + "…"
    line = (
        "**Trials of these tables come from different environments**: versions.jax is 0.10.2 in "
        f"{first}, 0.12.0 in {second}; xla_flags is {shortened} in {first},  in {second}; threads "
        f"is 2 in {first}, 1 in {second}."
    )
    found = [each for each in mnist.splitlines() if "different environments" in each]
    assert sorted(found[0].split(": ", 1)[1][:-1].split("; ")) == sorted(
        line.split(": ", 1)[1][:-1].split("; ")
    )
    assert mnist.index("different environments") < mnist.index("**Mean")
    assert "different environments" not in digits


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {}),
        ({"threads": 2}, {}),
        ({"commit": "a", "seconds": 1}, {"commit": "a", "seconds": 2}),
    ],
)
def test_equal_or_unknown_environments_are_no_difference(first, second):
    assert environments.remarks({"a": first, "b": second}) == []


def test_change_during_a_run_is_named(tmp_path):
    changes = [
        {"step": 14, "changed": {"threads": [2, 1]}},
        {"step": 21, "changed": {"versions.jax": ["0.10.2", "0.12.0"], "xla_flags": [None, "-a"]}},
    ]
    run = write_run(tmp_path / "a", [0.5, 0.6], environment_changes=changes)
    report.write([run], tmp_path / "out")
    assert (
        f"\n**Not bit-exact**: {run} from step 14 on (threads: 2 to 1), and from step 21 on "
        "(versions.jax: 0.10.2 to 0.12.0, xla_flags: null to -a).\n"
    ) in (tmp_path / "out" / "report.md").read_text()
