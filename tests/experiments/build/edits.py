"""Changes to configs that the tests of build/ share."""

from ml_collections import ConfigDict

MISSING = object()


def change(config, path, value):
    """Sets a dotted field to a value of any type, or deletes it if the value is MISSING."""
    *sections, name = path.split(".")
    with config.ignore_type():
        for section in sections:
            config = config[section]
        if name in config:
            del config[name]  # otherwise ConfigDict casts the value to the type of the old one
        if value is not MISSING:
            config[name] = value


def leaves(config, prefix=""):
    """Returns the type of every field that is not a section, by dotted name."""
    types = {}
    for name in config:
        if isinstance(config[name], ConfigDict):
            types |= leaves(config[name], f"{prefix}{name}.")
        else:
            types[prefix + name] = config.get_type(name)
    return types


def assert_one_sentence(error):
    assert "\n" not in str(error)
    assert len(str(error)) < 1000
