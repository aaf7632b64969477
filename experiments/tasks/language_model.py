"""A language model: a network that predicts each token of a text from the tokens before it."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from clu import metrics as clu_metrics

from experiments.data.records import Stream
from experiments.data.text import Corpus
from experiments.program.state import TrainState, run_keys
from experiments.program.steps import Examples
from experiments.tasks import sampling
from experiments.tasks.accumulation import accumulate
from experiments.tasks.task import Data, Floor, Metric, Sampling, Task

_Mean = clu_metrics.Average.from_output("loss")


@flax.struct.dataclass
class BitsPerCharacter(_Mean):  # type: ignore[valid-type, misc]
    """Mean loss over the counted tokens, in bits."""

    def compute(self) -> jax.Array:
        """Returns the loss in nats divided by log 2."""
        return super().compute() / math.log(2)


@flax.struct.dataclass
class Perplexity(_Mean):  # type: ignore[valid-type, misc]
    """Exponential of the mean loss over the counted tokens."""

    def compute(self) -> jax.Array:
        """Returns the number of equally likely tokens that have this loss."""
        return jnp.exp(super().compute())


@flax.struct.dataclass
class Metrics(clu_metrics.Collection):
    """Mean loss over the counted tokens, in nats, in bits, and as a perplexity."""

    loss: _Mean  # type: ignore[valid-type]
    bits_per_character: BitsPerCharacter
    perplexity: Perplexity

    def compute(self) -> dict[str, jax.Array]:
        """Returns the value of each metric by name."""
        # clu divides a float by an integer.
        with jax.numpy_dtype_promotion("standard"):
            return super().compute()


def values_of(loss: float) -> dict[str, float]:
    """Returns the metrics of a model with this loss.

    >>> values_of(math.log(4))
    {'loss': 1.3862943611198906, 'bits_per_character': 2.0, 'perplexity': 4.0}
    """
    return {
        "loss": loss,
        "bits_per_character": loss / math.log(2),
        "perplexity": math.exp(loss),
    }


def metrics_of(vocabulary_size: int) -> dict[str, Metric]:
    """Returns how to read the metrics; a guess gives every token the same probability."""
    guess = values_of(math.log(vocabulary_size))
    return {name: Metric("min", chance=value) for name, value in guess.items()}


def num_windows(num_tokens: int, context_length: int) -> int:
    """Returns the number of windows in an epoch, which fit into the text at any offset.

    A window has `context_length` + 1 tokens, and shares one with the next window. The offset of an
    epoch is less than `context_length`.

    >>> num_windows(9, 4), num_windows(8, 4), num_windows(7, 4)
    (1, 1, 0)
    """
    return max(0, num_tokens // context_length - 1)


def offset_of(key: jax.Array, context_length: int) -> jax.Array:
    """Returns the position of the first window of an epoch, from the key of the epoch."""
    return jax.random.randint(key, (), 0, context_length)


def window_cutter(context_length: int) -> Callable[[Examples, jax.Array, jax.Array], Examples]:
    """Makes the function that cuts windows from a text.

    Args:
      context_length: number of predictions in a window.

    Returns:
      A function (split, indices [batch], key of the epoch) -> batch, as `Task.batch`. Its `tokens`
      are [batch, context_length + 1].
    """

    def cut(split: Examples, indices: jax.Array, key: jax.Array) -> Examples:
        starts = offset_of(key, context_length) + indices * context_length
        positions = starts[:, jnp.newaxis] + jnp.arange(context_length + 1)[jnp.newaxis]
        return {"tokens": split["tokens"][positions]}

    return cut


def windows_to_evaluate(
    tokens: np.ndarray, *, before: int, context_length: int
) -> dict[str, np.ndarray]:
    """Divides a text into windows that predict each of its tokens exactly once.

    Args:
      tokens: integers [tokens].
      before: the token before the first one, from which that is predicted.
      context_length: number of predictions in a window.

    Returns:
      `tokens` [windows, context_length + 1] with the dtype of the text; and `count`, int32
      [windows], the predictions that count. The last window is filled with zeros.

    >>> windows = windows_to_evaluate(np.array([5, 6, 7]), before=4, context_length=2)
    >>> windows["tokens"].tolist(), windows["count"].tolist()
    ([[4, 5, 6], [6, 7, 0]], [2, 1])
    """
    count = math.ceil(tokens.size / context_length)
    filled = np.zeros(count * context_length + 1, tokens.dtype)
    filled[0], filled[1 : tokens.size + 1] = before, tokens
    starts = np.arange(count)[:, np.newaxis] * context_length
    return {
        "tokens": filled[starts + np.arange(context_length + 1)],
        "count": np.minimum(context_length, tokens.size - starts[:, 0]).astype(np.int32),
    }


def make_task(
    *,
    corpus: Corpus,
    model_name: str,
    model: nn.Module,
    context_length: int,
    accumulate_steps: int = 1,
    axis_name: str | None = None,
    stream: Stream | None = None,
    loading: str = "",
) -> Task:
    """Makes the task of predicting each token of a text from the ones before it.

    Args:
      corpus: the text.
      model_name: name of the model.
      model: Linen module from int32 tokens [batch, length] to float32 logits of the token after
        each of them, called as `model(tokens, train=...)`.
      context_length: number of tokens in the input of the model.
      accumulate_steps: micro-batches per step.
      axis_name: the mapped axis along which devices share a batch. Gradients are averaged over it.
      stream: see `Task`.
      loading: see `Task`.

    Returns:
      The task. An example is a window of `tokens`, [batch, context_length + 1]; in evaluation, a
      batch also has `mask` bool [batch] and `count` int32 [batch], the predictions that count.
    """

    def load_arrays() -> Data:
        train, test = corpus.load()
        return Data(
            train={"tokens": train},
            test=windows_to_evaluate(test, before=train[-1], context_length=context_length),
        )

    def init(key: jax.Array, optimizer: optax.GradientTransformation) -> TrainState:
        tokens = jnp.zeros((1, context_length), jnp.int32)
        params = model.init(run_keys(key).init, tokens, train=False)["params"]
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats={},
            opt_state=optimizer.init(params),
            key=key,
        )

    def losses_of(params: Any, tokens: jax.Array, **options: Any) -> jax.Array:
        tokens = tokens.astype(jnp.int32)
        logits: Any = model.apply({"params": params}, tokens[:, :-1], **options)
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:])

    def train_step(
        state: TrainState, batch: Examples, optimizer: optax.GradientTransformation
    ) -> tuple[TrainState, Metrics]:
        dropout_key = jax.random.fold_in(run_keys(state.key).dropout, state.step)
        if axis_name:
            dropout_key = jax.random.fold_in(dropout_key, jax.lax.axis_index(axis_name))

        def gradients_of(
            batch_stats: Any, dropout_key: jax.Array, batch: Examples
        ) -> tuple[Any, Any, Metrics]:
            def mean_loss(params: Any) -> tuple[jax.Array, jax.Array]:
                losses = losses_of(
                    params, batch["tokens"], train=True, rngs={"dropout": dropout_key}
                )
                return losses.mean(), losses

            gradients, losses = jax.grad(mean_loss, has_aux=True)(state.params)
            return gradients, batch_stats, Metrics.single_from_model_output(loss=losses)

        gradients, _, metrics = accumulate(
            gradients_of,
            accumulate_steps,
            params=state.params,
            batch_stats={},
            key=dropout_key,
            batch=batch,
            no_metrics=Metrics.empty(),
        )
        if axis_name:
            gradients = jax.lax.pmean(gradients, axis_name)
            metrics = jax.lax.psum(metrics, axis_name)
        return state.apply_gradients(gradients, optimizer), metrics

    def eval_step(state: TrainState, batch: Examples) -> Metrics:
        counted = jnp.arange(context_length)[jnp.newaxis] < batch["count"][:, jnp.newaxis]
        metrics = Metrics.single_from_model_output(
            loss=losses_of(state.params, batch["tokens"], train=False),
            mask=batch["mask"][:, jnp.newaxis] & counted,
        )
        return jax.lax.psum(metrics, axis_name) if axis_name else metrics

    def floors() -> Mapping[str, Floor]:
        if corpus.entropy_rate is None:
            return {}
        return {
            name: Floor(value, "entropy rate of the chain")
            for name, value in values_of(corpus.entropy_rate).items()
        }

    def predict(state: TrainState, options: Sampling) -> str:
        def logits_of(params: Any, tokens: jax.Array) -> Any:
            return model.apply({"params": params}, tokens, train=False)

        return sampling.continued(
            logits_of, state.params, corpus.vocabulary, context_length, options
        )

    return Task(
        data=corpus.name,
        model=model_name,
        num_train=num_windows(corpus.num_train, context_length),
        load=load_arrays,
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        collection=Metrics,
        metrics=metrics_of(corpus.vocabulary.size),
        objective="loss",
        batch=window_cutter(context_length),
        floors=floors,
        predict=predict,
        stream=stream,
        loading=loading,
    )
