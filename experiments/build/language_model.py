"""Turns a config into the task of a language model."""

import functools
import os
from collections.abc import Callable

import flax.linen as nn
from ml_collections import ConfigDict

from experiments.build import loading, names
from experiments.build.models import DTYPES
from experiments.data import text, windows
from experiments.data.records import Stream
from experiments.errors import UserError
from experiments.models.transformer import Transformer
from experiments.tasks import language_model
from experiments.tasks.task import Task

TOKENS = {"characters": False, "bytes": True}


def make_task(config: ConfigDict, axis_name: str | None) -> Task:
    """Prediction of each character of a text from the ones before it.

    Args:
      config: a config that `fields.check` accepted.
      axis_name: the mapped axis along which devices share a batch, if there is one.

    Returns:
      The task.

    Raises:
      UserError: a name is unknown, the text cannot be used, or the fields do not fit each other.
    """
    make_model = names.resolve("model.name", config.model.name, LANGUAGE_MODELS)
    context_length = config.data.context_length
    corpus, choice = _corpus(config)
    stream = None
    if corpus.on_disk is not None:
        stream = Stream(
            functools.partial(
                windows.readers,
                corpus.on_disk,
                num_train=corpus.num_train,
                windows=language_model.num_windows(corpus.num_train, context_length),
                context_length=context_length,
            ),
            choice.num_workers,
            choice.max_damaged,
            stride=context_length,
            offset=functools.partial(language_model.offset_of, context_length=context_length),
        )
    return language_model.make_task(
        corpus=corpus,
        model_name=f"{config.model.name} ({config.model.num_layers} layers, width "
        f"{config.model.width})",
        model=make_model(config.model, corpus.vocabulary.size, context_length),
        context_length=context_length,
        accumulate_steps=config.parallel.accumulate_steps,
        axis_name=axis_name,
        stream=stream,
        loading=choice.sentence,
    )


def _corpus(config: ConfigDict) -> tuple[text.Corpus, loading.Choice]:
    """Returns the text, with a training split of at least one window, and how it is read."""
    name, context_length = config.data.name, config.data.context_length
    if name == "markov":
        corpus, choice = text.describe(name), loading.NO_CHOICE
    else:
        data_dir = config.data.data_dir and os.path.expanduser(config.data.data_dir)
        use_bytes = names.choose("data.tokens", config.data.tokens, TOKENS)
        files = text.files_of(name, data_dir=data_dir)
        choice = loading.choose_text(config, files, use_bytes=use_bytes)
        if choice.is_streamed:
            corpus = text.describe_on_disk(name, data_dir=data_dir)
        else:
            corpus = text.describe(name, data_dir=data_dir, use_bytes=use_bytes)
    num_windows = language_model.num_windows(corpus.num_train, context_length)
    if not num_windows:
        raise UserError(
            f"data.context_length={context_length} is too long for the text {corpus.name}, "
            f"whose training split has {corpus.num_train} tokens; a window at any offset needs "
            f"{2 * context_length}"
        )
    held_out = config.data.validation_examples
    if held_out >= num_windows:
        raise UserError(
            f"data.validation_examples={held_out} leaves no training examples: {corpus.name} has "
            f"{num_windows} windows of {context_length} tokens"
        )
    if held_out:
        corpus = text.hold_out(corpus, held_out * context_length)
    return corpus, choice


def _transformer(config: ConfigDict, vocabulary_size: int, context_length: int) -> nn.Module:
    """GPT-2's decoder-only transformer without biases."""
    if config.width % config.num_heads:
        raise UserError(
            f"model.num_heads={config.num_heads} does not divide model.width={config.width}"
        )
    rate = config.dropout_rate
    return Transformer(
        vocabulary_size=vocabulary_size,
        context_length=context_length,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        width=config.width,
        dropout_rate=0.0 if rate is None else rate,
        tied_embeddings=config.tied_embeddings,
        dtype=names.choose("model.dtype", config.dtype, DTYPES),
    )


# From the section `model`, the number of tokens, and the length of the context to a Linen module,
# called as `module(tokens, train=train)`, from int32 tokens [batch, length] to float32 logits.
LANGUAGE_MODELS: dict[str, Callable[[ConfigDict, int, int], nn.Module]] = {
    "transformer": _transformer
}
