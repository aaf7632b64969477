"""Names in a config: known names, `package.module:attribute`, and errors of one sentence."""

import math
import re

import pytest

from experiments.build import names
from experiments.errors import UserError

KNOWN = {"one": 1, "two": 2}


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """A directory on the import path, outside the packages of this project."""
    (tmp_path / "own_names.py").write_text("THREE = 3\n")
    (tmp_path / "own_broken.py").write_text("raise RuntimeError('first line\\nsecond line')\n")
    (tmp_path / "own_syntax.py").write_text("def\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize("find", [names.choose, names.resolve])
def test_known_name_gives_its_value(find):
    assert find("a.name", "two", KNOWN) == 2


@pytest.mark.parametrize("find", [names.check, names.choose])
@pytest.mark.parametrize("name", ["three", "own_names:THREE", ""])
def test_unknown_name_is_refused_with_the_choices(modules, find, name):
    with pytest.raises(UserError) as error:
        find("a.name", name, KNOWN)
    assert str(error.value) == f"a.name={name!r} is unknown; choose from one, two"


def test_unknown_name_that_may_be_imported_is_refused_with_both_possibilities():
    with pytest.raises(UserError) as error:
        names.resolve("a.name", "three", KNOWN)
    assert str(error.value) == (
        "a.name='three' is unknown; choose from one, two, or name your own as "
        "package.module:attribute"
    )


def test_attribute_of_a_module_is_imported(modules):
    assert names.resolve("a.name", "own_names:THREE", KNOWN) == 3


def test_known_name_takes_precedence_over_a_module(modules):
    assert names.resolve("a.name", "own_names:THREE", {"own_names:THREE": 4}) == 4


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_such_module:x", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("own_names.part:x", "ModuleNotFoundError: No module named 'own_names.part'.*"),
        ("own_names:FOUR", "AttributeError: module 'own_names' has no attribute 'FOUR'.*"),
        ("own_names:", "AttributeError: module 'own_names' has no attribute ''"),
        ("own_broken:x", "RuntimeError: first line second line"),
        ("own_syntax:x", "SyntaxError: .*own_syntax.py, line 1.*"),
        (":x", "ValueError: Empty module name"),
        (".relative:x", "TypeError: .*relative import.*"),
    ],
)
def test_name_that_cannot_be_imported_is_refused_with_the_reason(modules, name, reason):
    with pytest.raises(UserError) as error:
        names.resolve("a.name", name, KNOWN)
    message = f"a.name={name!r} cannot be imported: {reason}"
    assert re.fullmatch(message, str(error.value)), str(error.value)


def test_attribute_must_be_callable_if_the_known_values_are(modules):
    with pytest.raises(UserError) as error:
        names.resolve("a.name", "own_names:THREE", {"one": abs})
    assert str(error.value) == "a.name='own_names:THREE' has type int; it must be a function"
    assert names.resolve("a.name", "math:sqrt", {"one": abs}) is math.sqrt


def test_long_name_is_shortened_in_the_message():
    with pytest.raises(UserError, match=r"^a\.name='x{199}\.\.\. is unknown; choose from one, two"):
        names.resolve("a.name", "x" * 10**6, KNOWN)


def test_line_break_in_a_name_is_escaped_in_the_message():
    with pytest.raises(UserError, match=r"^a\.name='resnet\\n18' is unknown; choose from one"):
        names.resolve("a.name", "resnet\n18", KNOWN)
