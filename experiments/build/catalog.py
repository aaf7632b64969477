"""Lists what a config can name: one line about each, and the fields that it reads.

The entries come from the dicts that `build` looks names up in, and the fields from calls of the
factories, whose reads `effects` records.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from experiments.build import effects, gan, language_model
from experiments.build.models import ATTENTION, MODELS, make_layers, make_model
from experiments.build.optimizers import OPTIMIZERS, optimizer_maker
from experiments.build.schedules import OPTIONS, Run, make_schedule
from experiments.build.tasks import TASKS
from experiments.data import augment, datasets, preprocess, text
from experiments.errors import UserError
from experiments.packaged import base
from experiments.tasks import adversarial
from experiments.tasks.losses import LOSSES
from loganneal_jax import named, registry

IMAGE_SHAPE, NUM_CLASSES = (32, 32, 3), 10
RUN = Run(steps_per_epoch=10, num_steps=100)
# A small config of each task, whose data set is built in.
SMALL: dict[str, dict[str, Any]] = {
    "classification": {"data.name": "digits", "model.name": "nn2"},
    "gan": {"data.name": "digits", "model.name": "dcgan"},
    "language_model": {"data.name": "markov", "model.name": "transformer"},
    "linear_regression": {},
}
# Fields of a data set in memory, and of one in files, which no factory can read without the files.
IMAGES = ("data.image_size", "data.validation_examples")
FILES = (
    *("data.data_dir", "data.image_size", "data.loading", "data.max_damaged"),
    *("data.memory_share", "data.validation_examples", "data.workers"),
)


class Entry(NamedTuple):
    """Something that a config can name.

    Attributes:
      name: the name.
      field: the field of the config that has it.
      summary: one line about it.
      fields: dotted fields of the config that it reads.
      aliases: other names of the same.
    """

    name: str
    field: str
    summary: str
    fields: tuple[str, ...]
    aliases: tuple[str, ...] = ()


def entries(kind: str) -> list[Entry]:
    """Returns all entries of a kind.

    Args:
      kind: a key of `KINDS`.

    Returns:
      The entries, in the order of their dicts.

    Raises:
      UserError: the kind is unknown.

    >>> [entry.name for entry in entries("losses")][:2]
    ['sigmoid_categorical_cross_entropy', 'softmax_cross_entropy']
    """
    if kind not in KINDS:
        raise UserError(f"{kind!r} is not a kind of the catalog; choose from {', '.join(KINDS)}")
    return KINDS[kind]()


def summary(value: Any) -> str:
    """Returns the first line of the documentation of a named thing.

    A partial application has the line of what it applies, followed by its keywords.

    Args:
      value: a function, a class, a partial application, or an object with a `summary`.

    >>> summary(functools.partial(summary, value=1))
    'Returns the first line of the documentation of a named thing (value=1).'
    """
    keywords: dict[str, Any] = {}
    while isinstance(value, functools.partial):
        keywords |= value.keywords
        # A factory of a network applies it to the fields of the config.
        value = value.args[0] if value.args else value.func
    line = getattr(value, "summary", None) or (inspect.getdoc(value) or "").partition("\n")[0]
    shown = ", ".join(f"{name}={_shown(each)}" for name, each in keywords.items())
    return f"{line.removesuffix('.')} ({shown})." if shown else line


def _shown(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else repr(value)


def _read(make: Callable[[ConfigDict], Any], *edits: Mapping[str, Any]) -> set[str]:
    """Returns the fields that a factory reads in any of some edits of the default config."""
    read: set[str] = set()
    for edit in edits:
        config = base.get_config()
        with config.ignore_type():
            config.update_from_flattened_dict(edit)
        recorded = effects.Recorded(config)
        # A schedule that needs options has read its fields before it refuses to do without.
        with contextlib.suppress(UserError):
            make(recorded)
        read |= recorded.read_fields
    return read


def _ordered(read: Iterable[str], section: str = "", *without: str) -> tuple[str, ...]:
    """Returns the fields of a section in the order of the config, without some of them."""
    fields = {field for field in read if field.startswith(section)} - set(without)
    places = {field: place for place, field in enumerate(effects.fields_of(base.get_config()))}
    return tuple(sorted(fields, key=lambda field: places.get(field, len(places))))


def _schedules() -> list[Entry]:
    return [
        Entry(
            name,
            "schedule.name",
            summary(factory),
            (*_schedule_fields(name), *_schedule_options(name)),
            tuple(alias for alias, of in named.ALIASES.items() if of == name),
        )
        for name, factory in named.SCHEDULES.items()
    ]


def _schedule_fields(name: str) -> tuple[str, ...]:
    chosen = {"schedule.name": name}
    cycles = {"schedule.restart_interval_epochs": 2.0, "schedule.warmup_epochs": 1.0}
    read = _read(lambda config: make_schedule(config.schedule, RUN), chosen, {**chosen, **cycles})
    return _ordered(read, "schedule.", "schedule.name")


def _schedule_options(name: str) -> list[str]:
    """Returns the options without a field of their own."""
    has_field = {*OPTIONS, "warmup_init_value"}
    return [f"schedule.options.{key}" for key in registry.options_of(name) if key not in has_field]


def _optimizers() -> list[Entry]:
    def fields(name: str) -> tuple[str, ...]:
        chosen = {"optimizer.name": name}
        coupled = {**chosen, "optimizer.weight_decay_mode": "coupled"}
        read = _read(lambda config: optimizer_maker(config.optimizer), chosen, coupled)
        return _ordered(read | {"optimizer.weight_decay"}, "optimizer.", "optimizer.name")

    return [
        Entry(name, "optimizer.name", summary(factory), fields(name))
        for name, factory in OPTIMIZERS.items()
    ]


def _models() -> list[Entry]:
    layers = make_layers("float32")

    def classifier(config: ConfigDict) -> Any:
        return make_model(config.model, image_shape=IMAGE_SHAPE, num_classes=NUM_CLASSES)

    makers: list[tuple[Mapping[str, Any], Callable[[str, ConfigDict], Any]]] = [
        (MODELS, lambda name, config: classifier(config)),
        (
            language_model.LANGUAGE_MODELS,
            lambda name, config: language_model.LANGUAGE_MODELS[name](config.model, 27, 8),
        ),
        (
            gan.GANS,
            lambda name, config: gan.GANS[name](
                config, IMAGE_SHAPE, layers, gan.DiscriminatorLayers(layers.conv, layers.norm)
            ),
        ),
    ]
    return [
        Entry(
            name,
            "model.name",
            summary(factory),
            _ordered(
                _read(
                    functools.partial(make, name),
                    {"model.name": name, "model.attention.name": "none"},
                ),
                "",
                *("model.name", "model.attention.name"),
            ),
        )
        for known, make in makers
        for name, factory in known.items()
    ]


def _attention() -> list[Entry]:
    def fields(name: str) -> tuple[str, ...]:
        read = _read(
            lambda config: make_model(
                config.model, image_shape=IMAGE_SHAPE, num_classes=NUM_CLASSES
            ),
            {"model.name": "nn2", "model.attention.name": name},
        )
        return _ordered(read, "model.attention.", "model.attention.name")

    return [
        Entry(
            name,
            "model.attention.name",
            "No attention block." if factory is None else summary(factory),
            fields(name),
        )
        for name, factory in ATTENTION.items()
    ]


def _datasets() -> list[Entry]:
    known = [
        Entry(
            name,
            "data.name",
            summary(factory),
            IMAGES if name == "digits" else FILES,
            ("folder:PATH",) if name == "folder" else (),
        )
        for name, factory in datasets.DATASETS.items()
    ]
    own = "Images in memory that a function of your own returns."
    return [*known, Entry("package.module:function", "data.name", own, IMAGES)]


def _texts() -> list[Entry]:
    files = ("data.context_length", "data.data_dir", "data.tokens", "data.validation_examples")
    in_memory = ("data.context_length", "data.validation_examples")
    return [
        Entry(name, "data.name", line, in_memory if name == "markov" else files)
        for name, line in text.KNOWN.items()
    ]


def _tasks() -> list[Entry]:
    def fields(name: str) -> tuple[str, ...]:
        read = _read(lambda config: TASKS[name](config, None), SMALL[name])
        # The catalog lists the fields of a model with the model.
        return _ordered(
            field for field in read if not field.startswith("model.") or field == "model.name"
        )

    return [Entry(name, "task.name", summary(make), fields(name)) for name, make in TASKS.items()]


def _preprocessing() -> list[Entry]:
    def fields(*steps: str) -> set[str]:
        edit = {**SMALL["classification"], "data.preprocess": steps}
        return _read(lambda config: TASKS["classification"](config, None), edit)

    return [
        Entry(name, "data.preprocess", summary(step.apply), _ordered(fields(name) - fields()))
        for name, step in preprocess.STEPS.items()
    ]


def _augmentations() -> list[Entry]:
    return [
        Entry(name, "data.augment", summary(function), ("data.augment", *of_its_own))
        for name, (function, of_its_own) in augment.AUGMENTATIONS.items()
    ]


def _losses() -> list[Entry]:
    def fields(field: str, task: str, known: Iterable[str]) -> dict[str, set[str]]:
        def read(name: str) -> set[str]:
            return _read(lambda config: TASKS[task](config, None), {**SMALL[task], field: name})

        return {name: read(name) for name in known}

    of_gans = fields("gan.loss", "gan", adversarial.LOSSES)
    shared = set.intersection(*of_gans.values())
    return [
        *(
            Entry(name, "loss.name", summary(LOSSES[name]), _ordered(read, "loss.", "loss.name"))
            for name, read in fields("loss.name", "classification", LOSSES).items()
        ),
        *(
            Entry(name, "gan.loss", summary(loss), _ordered(of_gans[name] - shared))
            for name, loss in adversarial.LOSSES.items()
        ),
    ]


KINDS: dict[str, Callable[[], list[Entry]]] = {
    "schedules": _schedules,
    "optimizers": _optimizers,
    "models": _models,
    "attention": _attention,
    "datasets": _datasets,
    "texts": _texts,
    "tasks": _tasks,
    "preprocessing": _preprocessing,
    "augmentations": _augmentations,
    "losses": _losses,
}
