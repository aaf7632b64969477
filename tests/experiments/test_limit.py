"""The command compares every schedule with the limit, and reports mistakes in one sentence."""

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from experiments.results import limit, limit_map_report

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "experiments.limit", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_command_prints_and_writes_the_table_of_four_problems(tmp_path):
    finished = command("--steps=16", "--dimensions=3", f"--out={tmp_path / 'new' / 'limit'}")
    assert finished.returncode == 0, finished.stderr
    *lines, spread, last = finished.stdout.splitlines()
    assert float(re.search(r"end within (\S+) of each other$", spread)[1]) < 1e-6
    out = tmp_path / "new" / "limit"
    assert last == f"wrote {out / 'limit.md'} and {out / 'limit.png'}"
    assert (out / "limit.md").read_text().splitlines() == lines
    rows = {cells[1].strip(): cells[2:-1] for cells in (line.split("|") for line in lines[2:])}
    assert set(rows) == {"limit", *limit.schedules(16)}
    assert all(len(cells) == 4 for cells in rows.values())
    percent = [float(cell.split("%")[0]) for name in rows if name != "limit" for cell in rows[name]]
    assert min(percent) > 0
    assert max(percent) < 1000
    assert (out / "limit.png").stat().st_size > 10_000


def test_command_maps_the_problems_and_continues(tmp_path):
    tiny = ("--map", "--dimensions=3", "--exponent=1", "--noise=1", f"--out={tmp_path}")
    first = command(*tiny, "--batch_size=2", "--steps=10")
    assert first.returncode == 0, first.stderr
    assert (tmp_path / "map.md").read_text() in first.stdout
    files = [tmp_path / name for name in ("map.csv", "map.md", "map.png")]
    assert first.stdout.splitlines()[-1] == "wrote {}, {}, and {}".format(*files)
    assert (tmp_path / "map.png").stat().st_size > 10_000
    rows = pd.read_csv(tmp_path / "map.csv")
    assert len(rows) == 24
    assert set(rows.method) == set(limit_map_report.COLORS)
    assert (rows.excess > 0).all()
    # The stored problem is not computed again, so a wrong number in it stays.
    rows.assign(risk=7.0).to_csv(tmp_path / "map.csv", index=False)
    again = command(*tiny, "--batch_size=2", "--steps=10")
    assert again.returncode == 0, again.stderr
    assert (pd.read_csv(tmp_path / "map.csv").risk == 7).all()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--steps=7", "--steps=7 is out of range; it must be at least 8"),
        ("--dimensions=0", "--dimensions=0 is out of range; it must be at least 1"),
        ("--batch_size=-1", "--batch_size=-1 is out of range; it must be at least 1"),
        ("--exponent=-1", "--exponent=-1.0 is out of range; it must be at least 0"),
        ("--noise=nan", "--noise=nan is out of range; it must be at least 0"),
        ("--map --steps=9", "--steps=9 is out of range; it must be at least 10"),
        ("--steps=8 --steps=9", "--steps is given 2 times; only --map takes several"),
        ("--out=README.md", "File exists: README.md"),
    ],
)
def test_mistake_is_one_sentence(argument, message):
    finished = command(*argument.split())
    assert finished.returncode == 2
    assert finished.stderr == f"error: {message}\n"
