"""The files for contributors agree with the Makefile, with .ci/run, and with the code."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def recipe(target):
    """Returns the commands of a target of the Makefile, which set up .venv first."""
    makefile = (ROOT / "Makefile").read_text()
    (lines,) = re.findall(rf"^{target}: .*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    return [line.strip().replace("$(VENV)", ".venv") for line in lines.splitlines()]


def test_pre_commit_runs_the_commands_of_make_lint():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    (local,) = config["repos"]
    entries = [hook["entry"] for hook in local["hooks"]]
    # A shell expands the patterns of shellcheck.
    assert [re.sub(r"^sh -c '(.*)'$", r"\1", entry) for entry in entries] == recipe("lint")
    assert {hook["language"] for hook in local["hooks"]} == {"system"}
    assert len({hook["id"] for hook in local["hooks"]}) == len(entries)


def test_workflow_runs_every_target_of_ci():
    script = (ROOT / ".ci" / "run").read_text()
    targets = set(" ".join(re.findall(r"^ *make ([a-z -]+)", script, re.MULTILINE)).split())
    versions = set(re.findall(r"^export PYTHON=python(\S+)$", script, re.MULTILINE))
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    cells = jobs["test"]["strategy"]["matrix"]["include"]
    assert {cell["python"] for cell in cells} == versions
    made = [cell["targets"] for cell in cells]
    for job in jobs.values():
        for step in job["steps"]:
            made += re.findall(r"^make ([a-z -]+)", step.get("run", ""))
    # `make test-all` runs the tests of `make test`, too.
    covered = {*" ".join(made).split(), "test"}
    assert {"lint", "test-all", "docs"} <= targets <= covered
    assert [cell["python"] for cell in cells if "test-all" in cell["targets"]] == ["3.11", "3.12"]


def test_every_file_that_contributing_names_exists():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"`([\w./-]+/[\w./-]*|[\w-]+\.(?:md|py|toml|txt|yaml))`", text))
    assert len(named) > 20
    folders = [
        folder
        for top in (ROOT, *ROOT.iterdir())
        if top.is_dir() and (top.name == ".github" or not top.name.startswith("."))
        for folder in ([top] if top == ROOT else [top, *top.rglob("*/")])
    ]
    missing = sorted(name for name in named if not any((at / name).exists() for at in folders))
    assert missing == []
