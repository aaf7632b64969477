"""The check of a config's fields: their names, types, ranges, and combinations."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import base, quickstart
from experiments.build import fields
from experiments.errors import UserError
from tests.experiments.build.edits import MISSING, assert_one_sentence, change, leaves

ROOT = Path(__file__).parents[3]
HUGE = 10**5000  # Python refuses to print that many digits


def test_check_imports_nothing_that_takes_seconds():
    script = (
        "import sys\n"
        "from configs import quickstart\n"
        "from experiments.build import fields\n"
        "fields.check(quickstart.get_config())\n"
        "slow = {'jax', 'flax', 'optax', 'orbax', 'clu', 'numpy', 'tensorflow',\n"
        "        'tensorflow_datasets', 'matplotlib', 'pandas', 'sklearn'}\n"
        "assert not slow & set(sys.modules), slow & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, timeout=60)


BAD = [
    ("epoch", 3, "unknown field 'epoch': the config of a run has averaging, batch_size, "),
    ("schedule.slop", 3.0, "unknown field 'schedule.slop': schedule has base, boundaries, .*slope"),
    ("model.attention.heads", 3, "'model.attention.heads': model.attention has mlp_width, name, "),
    ("two\nlines", 3, r"unknown field 'two\\nlines': the config of a run has "),
    ("seed", MISSING, "the config has no field seed; configs/base.py has all fields"),
    ("schedule.slope", MISSING, "the config has no field schedule.slope; configs/base.py"),
    ("model.attention", MISSING, "the config has no field model.attention; configs/base.py"),
    ("guard", MISSING, "the config has no field guard; configs/base.py"),
    ("schedule", MISSING, "the config has no section schedule, so it is not the config of a run"),
    ("schedule", "cosine", "schedule='cosine' is a value; it must be a section with .* slope"),
    ("model.attention", None, "model.attention=None is a value; it must be a section with .*width"),
    ("seed", ConfigDict({"a": 1}), "seed=.*a.*1.* has the wrong type, a section; .* an int"),
    ("data.preprocess", ConfigDict(), "data.preprocess=.* a section; it must be a tuple of str"),
    ("seed", "0", "seed='0' has the wrong type, str; it must be an int"),
    ("seed", 0.0, "seed=0.0 has the wrong type, float; it must be an int"),
    ("seed", None, "seed=None has the wrong type, NoneType; it must be an int"),
    ("seed", True, "seed=True has the wrong type, bool; it must be an int"),
    ("seed", np.ones((2, 2)), r"seed=array\(\[\[1., 1.\], \[1., 1.\]\]\) has the wrong type, nda"),
    ("data.image_size", "a", "image_size='a' has the wrong type, str; it must be an int or None"),
    ("data.augment", 1, "data.augment=1 has the wrong type, int; it must be True or False"),
    ("data.augment", None, "data.augment=None has the wrong type, NoneType; .* True or False"),
    ("epochs", True, "epochs=True has the wrong type, bool; it must be a number"),
    ("epochs", 1j, "epochs=1j has the wrong type, complex; it must be a number"),
    ("schedule.base", "e", "schedule.base='e' has the wrong type, str; it must be a number or No"),
    ("model.name", 18, "model.name=18 has the wrong type, int; it must be a string"),
    ("model.name", None, "model.name=None has the wrong type, NoneType; it must be a string"),
    (
        "optimizer.weight_decay_mode",
        1,
        "weight_decay_mode=1 has the wrong type, int; it must be a string or None",
    ),
    ("data.preprocess", "zca", "preprocess='zca' has the wrong type, str; .* a tuple of strings"),
    ("data.preprocess", (1,), r"preprocess=\(1,\) has the wrong type, tuple; .* tuple of strings"),
    ("data.preprocess", (HUGE,), "preprocess=tuple has the wrong type, tuple; .* tuple of strin"),
    ("data.preprocess", None, "preprocess=None has the wrong type, NoneType; .* tuple of strings"),
    ("schedule.boundaries", 0.5, "boundaries=0.5 has the wrong type, float; .* tuple of numbers"),
    ("schedule.boundaries", ("a",), r"boundaries=\('a',\) has the wrong type, tuple; .*numbers"),
    ("schedule.boundaries", (True,), r"boundaries=\(True,\) has the wrong type, tuple; .*numbers"),
    ("schedule.boundaries", (0.7, 0.5), r"boundaries=\(0.7, 0.5\) .* in increasing order"),
    ("schedule.boundaries", (0.5, 1.5), r"boundaries=\(0.5, 1.5\) .* at most 1"),
    ("schedule.boundaries", (0.0,), r"boundaries=\(0.0,\) .* above 0"),
    ("schedule.boundaries", (math.nan,), r"boundaries=\(nan,\) .* above 0"),
    ("schedule.boundaries", (HUGE,), "boundaries=tuple is out of range; .* at most 1"),
    ("seed", HUGE, "seed=int of 16610 bits is out of range; it must be at least 0 and below 4294"),
    ("epochs", -HUGE, "epochs=int of 16610 bits is out of range; it must be above 0 and at most 1"),
    ("epochs", 1e300, r"epochs=1e\+300 is out of range; it must be above 0 and at most 1000000000"),
    ("batch_size", 10**6, "batch_size=1000000 is out of range; it must be at least 1 and at most"),
    ("data.image_size", 10**6, "image_size=1000000 is out of range; .* at most 4096"),
    ("model.width_multiplier", 1e3, "width_multiplier=1000.0 is out of range; .* at most 64"),
    ("model.width_multiplier", math.nan, "width_multiplier=nan is out of range; .* above 0"),
    ("model.attention.width", 10**6, "width=1000000 is out of range; .* at most 16384"),
    ("schedule.peak_value", math.inf, "peak_value=inf is out of range; .* at most 1000000"),
    ("schedule.restart_decay", 1.5, "restart_decay=1.5 is out of range; .* at most 1"),
    ("schedule.cooldown_fraction", 1.5, "cooldown_fraction=1.5 is out of range; .* at most 1"),
    ("guard.loss_threshold", 0.0, "loss_threshold=0.0 is out of range; it must be above 0"),
    ("guard.grace_epochs", -1.0, "grace_epochs=-1.0 is out of range; it must be at least 0"),
    ("guard.max_rollbacks", 1001, "max_rollbacks=1001 is out of range; .* at most 1000"),
    ("guard.peak_factor", 1.5, "peak_factor=1.5 is out of range; it must be above 0 and at most 1"),
    ("guard.extra_warmup_epochs", -1.0, "extra_warmup_epochs=-1.0 is out of range"),
]


@pytest.mark.parametrize(("path", "value", "message"), BAD, ids=[message for *_, message in BAD])
def test_wrong_field_is_refused_in_one_sentence(path, value, message):
    config = quickstart.get_config()
    change(config, path, value)
    with pytest.raises(UserError, match=message) as error:
        fields.check(config)
    assert_one_sentence(error.value)


@pytest.mark.parametrize("path", leaves(base.get_config()))
def test_every_field_is_required(path):
    config = quickstart.get_config()
    change(config, path, MISSING)
    with pytest.raises(UserError, match=f"^the config has no field {path}; configs/base.py"):
        fields.check(config)


COMBINATIONS = [
    (
        {"schedule.warmup_epochs": 9.0, "epochs": 8.0},
        "schedule.warmup_epochs=9.0 is longer than the run, epochs=8.0",
    ),
    (
        {"model.attention.width": 32, "model.attention.num_heads": 5},
        "model.attention.num_heads=5 does not divide model.attention.width=32",
    ),
    (
        {"batch_size": 64, "parallel.accumulate_steps": 3},
        "batch_size=64 cannot be divided into parallel.accumulate_steps=3 equal micro-batches",
    ),
    (
        {"guard.max_rollbacks": 1, "guard.peak_factor": 1.0},
        "guard.max_rollbacks=1 .* would repeat the same steps",
    ),
]


@pytest.mark.parametrize(("changes", "message"), COMBINATIONS)
def test_contradicting_fields_are_refused_in_one_sentence(changes, message):
    config = quickstart.get_config()
    for path, value in changes.items():
        change(config, path, value)
    with pytest.raises(UserError, match=message) as error:
        fields.check(config)
    assert_one_sentence(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 20, "schedule.peak_value": 0},
        {"data.preprocess": [], "schedule.boundaries": [1]},
        {"data.image_size": None, "model.dropout_rate": None, "optimizer.weight_decay_mode": None},
        {"model.attention.name": "none", "model.attention.num_heads": 5},
        {"schedule.name": "constant", "schedule.end_value": 0.2},
        {"guard.max_rollbacks": 1, "guard.peak_factor": 1.0, "guard.extra_warmup_epochs": 1.0},
        {"task.options": ConfigDict({"anything": 1, "section": {"name": "a"}})},
    ],
)
def test_usable_fields_are_accepted(changes):
    config = quickstart.get_config()
    for path, value in changes.items():
        change(config, path, value)
    fields.check(config)


def test_reference_that_cannot_be_computed_is_refused():
    config = quickstart.get_config()
    config.schedule.warmup_epochs = 1.0 / config.get_oneway_ref("epochs")
    fields.check(config)
    config.epochs = 0.0
    with pytest.raises(
        UserError, match=r"schedule\.warmup_epochs cannot be computed .*: ZeroDivisi"
    ):
        fields.check(config)
