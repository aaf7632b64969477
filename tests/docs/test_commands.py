"""Every command of the README and of docs/ names modules, flags, and configs that exist."""

import os
import re
import shlex
from pathlib import Path

import pytest
from absl import flags
from ml_collections import config_flags

from experiments.build.experiment import build

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = re.compile(r"python -m ((?:experiments|benchmarks)\.\w+)([^`|#\n]*)")
TARGET = re.compile(r"(?:^|`)make ([a-z-]+)(?=`|$|\s+#)", re.MULTILINE)
# Parts of commands that stand for files and modules of the reader.
YOURS = re.compile(r"my_|MY_|flowers|--config=runs/|/tmp/mine")


def found(pattern):
    """Returns the matches in all pages, without repetitions, in order."""
    pages = [page.read_text().replace("\\\n", " ") for page in PAGES]
    return list(dict.fromkeys(match for page in pages for match in pattern.findall(page)))


COMMANDS = found(COMMAND)


def words(arguments):
    return shlex.split(arguments.replace("[", "").replace("]", ""))


@pytest.mark.parametrize("module", sorted({module for module, _ in COMMANDS}))
def test_command_is_there_and_has_its_flags(module):
    sources = [ROOT / f"{module.replace('.', '/')}.py", ROOT / "experiments" / "cli.py"]
    names = "\n".join(source.read_text() for source in sources)
    given = [word for name, arguments in COMMANDS if name == module for word in words(arguments)]
    used = {word.split("=")[0] for word in given if word.startswith("--")}
    missing = [
        flag
        for flag in used
        if not flag.startswith("--config.") and not {f'"{flag}"', f'"{flag[2:]}"'} & quoted(names)
    ]
    assert not missing


def quoted(text):
    return set(re.findall(r'"[\w-]+"', text))


def test_targets_of_make_are_there():
    rules = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    targets = set(found(TARGET))
    assert {"train", "docs"} <= targets <= set(rules)


RUNS = [
    (module, arguments)
    for module, arguments in COMMANDS
    if module in ("experiments.train", "experiments.sweep")
    and "--config=" in arguments
    and not YOURS.search(arguments)
]


@pytest.mark.skipif("TFDS_DATA_DIR" not in os.environ, reason="TFDS_DATA_DIR names no data sets")
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # of ml_collections
@pytest.mark.parametrize(("module", "arguments"), RUNS)
def test_config_of_a_command_can_be_built(module, arguments):
    values = flags.FlagValues()
    own = [word for word in words(arguments) if word.startswith("--config")]
    argv = ["command", *(word for word in own if not word.endswith("=None"))]
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    values(argv)
    if module == "experiments.train":
        given = [word.split("=")[0].removeprefix("--config.") for word in own[1:]]
        build(values.config, given)
