"""Classification losses: from logits and labels to the loss of each example."""

from collections.abc import Callable

import jax
import optax


def softmax_cross_entropy(
    logits: jax.Array, labels: jax.Array, *, label_smoothing: float = 0.0
) -> jax.Array:
    """Returns the cross-entropy between labels and softmax probabilities.

    With K classes and smoothing s, the target is 1 - s + s / K for the label and s / K for every
    other class (Szegedy et al. 2016, arXiv:1512.00567, section 7).

    Args:
      logits: float32 [batch, classes].
      labels: int32 [batch].
      label_smoothing: s, at least 0 and below 1.

    Returns:
      float32 [batch].

    >>> print(softmax_cross_entropy(jax.numpy.array([[0.0, 0.0]]), jax.numpy.array([1])))
    [0.6931472]
    """
    if label_smoothing == 0:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    one_hot = jax.nn.one_hot(labels, logits.shape[-1])
    return optax.softmax_cross_entropy(logits, optax.smooth_labels(one_hot, label_smoothing))


def sigmoid_categorical_cross_entropy(
    logits: jax.Array, labels: jax.Array, *, label_smoothing: float = 0.0
) -> jax.Array:
    """Returns the cross-entropy between labels and sigmoid outputs normalized to sum to one.

        loss = -log(sigmoid(z_label) / sum_k sigmoid(z_k))

    Naveen 2024 (section 2.1) uses 'categorical crossentropy [...] in favor of a sigmoid dense layer
    for outputs', and Keras' `categorical_crossentropy` normalizes this way. The loss equals the
    softmax cross-entropy of log sigmoid(z), which is finite for every finite logit. Keras clips its
    probabilities to 1e-7 instead.

    Args:
      logits: float32 [batch, classes].
      labels: int32 [batch].
      label_smoothing: as in `softmax_cross_entropy`.

    Returns:
      float32 [batch].

    >>> logits = jax.numpy.array([[-1e4, 0.0]])
    >>> print(sigmoid_categorical_cross_entropy(logits, jax.numpy.array([0])))
    [9999.307]
    """
    return softmax_cross_entropy(
        jax.nn.log_sigmoid(logits), labels, label_smoothing=label_smoothing
    )


def to_probabilities(name: str) -> Callable[[jax.Array], jax.Array]:
    """Returns the function from logits to the probabilities that a loss compares with labels.

    Args:
      name: name of the loss. One that is not in `LOSSES` has the softmax.

    >>> print(to_probabilities("softmax_cross_entropy")(jax.numpy.zeros((1, 2))))
    [[0.5 0.5]]
    """
    if name == "sigmoid_categorical_cross_entropy":
        return lambda logits: jax.nn.softmax(jax.nn.log_sigmoid(logits))
    return jax.nn.softmax


LOSSES: dict[str, Callable[..., jax.Array]] = {
    "sigmoid_categorical_cross_entropy": sigmoid_categorical_cross_entropy,
    "softmax_cross_entropy": softmax_cross_entropy,
}
