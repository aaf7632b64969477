"""Trials share a method exactly if their configs agree in every field but the seed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.errors import UserError
from experiments.results import methods
from experiments.results.methods import Unit, named

TEXTS = st.text("aB1 .,=|()\\\n\"'é\u200b", max_size=4)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXTS,
    st.sampled_from(["None", "True", "1", "[0.5]", '"a"']),
    st.lists(st.sampled_from([0.5, 0.25, "a"]), max_size=2),
)
CONFIGS = st.dictionaries(st.sampled_from(["epochs", "data.name", "model.variant"]), VALUES)


def unit(source, setting="sig+"):
    return Unit(source, "mnist", "test", "nn2", setting)


def same(one, other):
    """Returns whether two configs are the same, where a missing field is None and 1 is 1.0."""
    fields = one.keys() | other.keys()
    pairs = [(one.get(field), other.get(field)) for field in fields]
    return all(a == b and isinstance(a, bool) == isinstance(b, bool) for a, b in pairs)


@settings(deadline=None)
@given(st.lists(CONFIGS, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_methods_are_the_classes_of_equal_configs(configs, order):
    units = {unit(str(i)): config for i, config in enumerate(configs)}
    names = named(units)
    for one, config in units.items():
        for other, another in units.items():
            assert (names[one] == names[other]) == same(config, another)
    shuffled = list(units.items())
    order.shuffle(shuffled)
    assert named(dict(shuffled)) == names
    assert all(name.isprintable() for name in names.values())


@settings(deadline=None)
@given(CONFIGS, CONFIGS)
def test_other_settings_data_splits_and_models_do_not_change_a_name(config, another):
    first = unit("a")
    for change in ({"setting": "b"}, {"data": "b"}, {"split": "validation"}, {"model": "b"}):
        assert (
            named({first: config, first._replace(source="b", **change): another})[first] == "sig+"
        )


@settings(deadline=None)
@given(VALUES, VALUES)
def test_values_differ_exactly_if_their_texts_do(one, other):
    assert (methods.text(one) == methods.text(other)) == same({"a": one}, {"a": other})


@settings(deadline=None)
@given(TEXTS, TEXTS)
def test_printable_names_differ_exactly_if_names_do(one, other):
    assert (methods.printable(one) == methods.printable(other)) == (one == other)
    assert methods.printable(one).isprintable()


def test_setting_with_the_name_of_a_made_up_method_is_refused():
    units = {
        unit("a"): {"epochs": 1},
        unit("b"): {"epochs": 2},
        unit("c", "sig+ (epochs=2)"): {"epochs": 3},
    }
    with pytest.raises(UserError) as caught:
        named(units)
    assert str(caught.value) == (
        "mnist, nn2 has two methods with the name sig+ (epochs=2), which differ in epochs: 2 in b "
        "and 3 in c; report them separately"
    )
