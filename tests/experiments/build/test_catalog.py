"""The catalog has every name that a config accepts, once, with the fields that matter."""

import contextlib

import numpy as np
import pytest
from PIL import Image

from configs import base
from experiments.build import catalog, effects, gan, language_model, models, optimizers, schedules
from experiments.build.tasks import TASKS
from experiments.data import augment, datasets, preprocess, text
from experiments.errors import UserError
from experiments.tasks import adversarial, losses

REGISTRIES = {
    "schedules": [schedules.SCHEDULES],
    "optimizers": [optimizers.OPTIMIZERS],
    "models": [models.MODELS, language_model.LANGUAGE_MODELS, gan.GANS],
    "attention": [models.ATTENTION],
    "datasets": [datasets.DATASETS],
    "texts": [text.KNOWN],
    "tasks": [TASKS],
    "preprocessing": [preprocess.STEPS],
    "augmentations": [augment.AUGMENTATIONS],
    "losses": [losses.LOSSES, adversarial.LOSSES],
}
ADDED = {"datasets": {"folder:PATH", "package.module:function"}}


@pytest.fixture(scope="module")
def entries():
    return {kind: catalog.entries(kind) for kind in catalog.KINDS}


def test_every_registered_name_is_listed_once(entries):
    assert entries.keys() == REGISTRIES.keys()
    for kind, registries in REGISTRIES.items():
        names = [name for entry in entries[kind] for name in (entry.name, *entry.aliases)]
        expected = {name for registry in registries for name in registry} | ADDED.get(kind, set())
        assert sorted(names) == sorted(expected), kind


def test_every_entry_has_one_line_and_fields_that_exist(entries):
    fields = set(effects.fields_of(base.get_config()))
    for kind, listed in entries.items():
        for entry in listed:
            assert len(entry.summary) > 10, entry
            assert "\n" not in entry.summary
            assert entry.field in fields
            unknown = set(entry.fields) - fields
            assert all(field.startswith("schedule.options.") for field in unknown), (kind, unknown)


def fields_of(listed, name):
    (found,) = [entry for entry in listed if entry.name == name]
    return set(found.fields)


def test_fields_are_those_that_act(entries):
    cosine = fields_of(entries["schedules"], "cosine")
    assert {"schedule.peak_value", "schedule.end_value", "schedule.options.exponent"} < cosine
    assert cosine.isdisjoint({"schedule.name", "schedule.slope", "schedule.base"})
    log = fields_of(entries["schedules"], "cyclical_log_annealing")
    assert {"schedule.base", "schedule.restart_decay", "schedule.restart_value"} < log
    assert "optimizer.beta3" in fields_of(entries["optimizers"], "adan")
    assert "optimizer.beta3" not in fields_of(entries["optimizers"], "adam")
    assert "model.batch_norm" in fields_of(entries["models"], "vgg9")
    assert fields_of(entries["preprocessing"], "zca") == {"data.zca_epsilon"}
    assert fields_of(entries["losses"], "wasserstein") == {"gan.gradient_penalty"}


def read_by_classification(**edits):
    config = base.get_config()
    with config.ignore_type():
        config.update_from_flattened_dict({"model.name": "nn2", **edits})
    recorded = effects.Recorded(config)
    with contextlib.suppress(UserError):
        TASKS["classification"](recorded, None)
    return {field for field in recorded.read_fields if field.startswith("data.")}


def test_fields_of_data_sets_are_those_that_a_real_one_reads(entries, tmp_path):
    for index in range(4):
        file = tmp_path / f"class{index % 2}" / f"{index}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8), index, np.uint8)).save(file)
    files = {"data.name": "folder", "data.data_dir": str(tmp_path), "data.validation_examples": 1}
    in_memory = read_by_classification(**{"data.name": "digits"})
    own = in_memory - fields_of(entries["datasets"], "digits")
    assert own == {
        *("data.augment", "data.crop_padding", "data.name", "data.preprocess"),
    }
    read = {
        field
        for loading in ("auto", "stream")
        for field in read_by_classification(**files, **{"data.loading": loading})
    }
    assert read - own == fields_of(entries["datasets"], "folder")


def test_unknown_kind_is_refused():
    with pytest.raises(UserError, match=r"^'colors' is not a kind of the catalog; choose from sch"):
        catalog.entries("colors")
