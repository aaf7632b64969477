"""Generative adversarial networks: a generator of images against a discriminator of real ones."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from clu import metrics as clu_metrics

from experiments.program.state import TrainState, run_keys
from experiments.program.steps import Examples, make_evaluate
from experiments.tasks.adversarial import AdversarialLoss, penalties
from experiments.tasks.feature_distance import Moments, frechet_distance, kid
from experiments.tasks.task import Data, Floor, Metric, Task

NETWORKS = ("generator", "discriminator")
FLOOR_BATCH = 500  # images whose features are computed at once
PICTURES_PER_SIDE = 8  # samples along each side of the grid of pictures
FIXED_NOISE = 2**32 - 1  # folded into a key whose other folds are steps, which are smaller


class Rates(NamedTuple):
    """Factor of the schedule's learning rate for each network."""

    generator: float
    discriminator: float


EQUAL = Rates(1.0, 1.0)


@flax.struct.dataclass
class Losses(clu_metrics.Collection):
    """Mean losses; `loss` is the sum of both."""

    loss: clu_metrics.Average.from_output("loss")  # type: ignore[valid-type]
    generator_loss: clu_metrics.Average.from_output("generator_loss")  # type: ignore[valid-type]
    discriminator_loss: clu_metrics.Average.from_output(  # type: ignore[valid-type]
        "discriminator_loss"
    )

    def compute(self) -> dict[str, Any]:
        """Returns the value of each metric by name."""
        # clu divides a float by an integer.
        with jax.numpy_dtype_promotion("standard"):
            return super().compute()


@flax.struct.dataclass
class Evaluation(clu_metrics.Collection):
    """Mean losses, and distances between the features of real and of generated images."""

    loss: clu_metrics.Average.from_output("loss")  # type: ignore[valid-type]
    generator_loss: clu_metrics.Average.from_output("generator_loss")  # type: ignore[valid-type]
    discriminator_loss: clu_metrics.Average.from_output(  # type: ignore[valid-type]
        "discriminator_loss"
    )
    real: Moments.from_output("real")  # type: ignore[valid-type]
    samples: Moments.from_output("samples")  # type: ignore[valid-type]

    def compute(self) -> dict[str, Any]:
        """Returns the value of each metric by name."""
        with jax.numpy_dtype_promotion("standard"):
            averages = {name: getattr(self, name).compute() for name in LOSS_NAMES}
        return averages | distances(self.real, self.samples)


LOSS_NAMES = ("loss", "generator_loss", "discriminator_loss")
METRICS = {
    **{name: Metric("min") for name in LOSS_NAMES},
    "frechet_distance": Metric("min"),
    "kid": Metric("min"),
}


def distances(real: Moments, others: Moments) -> dict[str, float]:
    """Returns the Frechet distance and the KID of other images from real ones."""
    return {"frechet_distance": frechet_distance(real, others), "kid": kid(real, others)}


def make_task(
    *,
    data: str,
    model_name: str,
    num_train: int,
    load: Callable[[], tuple[np.ndarray, np.ndarray]],
    features: Callable[[], Callable[[jax.Array], jax.Array]],
    generator: nn.Module,
    discriminator: nn.Module,
    image_shape: tuple[int, int, int],
    latent_size: int,
    loss: AdversarialLoss,
    gradient_penalty: float = 0.0,
    discriminator_steps: int = 1,
    rates: Rates = EQUAL,
    axis_name: str | None = None,
) -> Task:
    """Makes the task of training a generator against a discriminator.

    A training step makes `discriminator_steps` updates of the discriminator, each on its own part
    of the batch and on as many generated images, and then one update of the generator. All of them
    use the learning rate of the training step, times the factor of the network.

    Args:
      data: name of the data set.
      model_name: name of the model.
      num_train: images in the training split.
      load: reads the data set; returns its training and its test images, uint8.
      features: returns the function from float images in -1..1 to features. `Task.load` calls it
        first, outside of every program, so it must be cached by the caller.
      generator: Linen module from noise [batch, latent_size] to images in -1..1.
      discriminator: Linen module from images to logits [batch].
      image_shape: height, width, and channels of an image.
      latent_size: number of normal random numbers from which an image is generated.
      loss: the losses.
      gradient_penalty: factor of the penalty, if the loss has one.
      discriminator_steps: updates of the discriminator per step; it divides the batch.
      rates: factor of the learning rate for each network (Heusel et al. 2017, arXiv:1706.08500).
      axis_name: the mapped axis along which devices share a batch.

    Returns:
      The task. Its batches have `image` uint8 [batch, height, width, channels], and in evaluation
      `mask` bool [batch] and `index` int32 [batch], from which the noise is drawn.
    """
    modules = {"generator": generator, "discriminator": discriminator}

    def load_arrays() -> Data:
        features()
        train, test = load()
        index = np.arange(len(test), dtype=np.int32)
        return Data(train={"image": train}, test={"image": test, "index": index})

    def init(key: jax.Array, optimizer: optax.GradientTransformation) -> TrainState:
        inputs = {
            "generator": jnp.zeros((1, latent_size)),
            "discriminator": jnp.zeros((1, *image_shape)),
        }
        keys = dict(zip(NETWORKS, jax.random.split(run_keys(key).init), strict=True))
        variables = {
            name: modules[name].init(keys[name], inputs[name], train=False) for name in NETWORKS
        }
        params = {name: variables[name]["params"] for name in NETWORKS}
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats={name: variables[name].get("batch_stats", {}) for name in NETWORKS},
            opt_state={name: optimizer.init(params[name]) for name in NETWORKS},
            key=key,
        )

    def apply(name: str, params: Any, stats: Any, inputs: jax.Array) -> tuple[jax.Array, Any]:
        """Applies a network in training; returns its outputs and its new batch statistics."""
        outputs, changed = modules[name].apply(
            {"params": params, "batch_stats": stats}, inputs, train=True, mutable=["batch_stats"]
        )
        return outputs, changed.get("batch_stats", {})

    def drawn(
        draw: Callable[..., jax.Array], key: jax.Array, number: int, *shape: int
    ) -> jax.Array:
        """Draws numbers for the images of all devices, and returns those of this device."""
        if axis_name is None:
            return draw(key, (number, *shape))
        of_all = draw(key, (number * jax.lax.axis_size(axis_name), *shape))
        return jax.lax.dynamic_slice_in_dim(of_all, jax.lax.axis_index(axis_name) * number, number)

    def mean_over_devices(tree: Any) -> Any:
        return jax.lax.pmean(tree, axis_name) if axis_name else tree

    def updated(
        state: TrainState,
        name: str,
        gradients: Any,
        stats: Any,
        optimizer: optax.GradientTransformation,
    ) -> TrainState:
        """Updates one network of a state, at the learning rate of the state's step."""
        gradients, stats = mean_over_devices((gradients, stats))
        opt_state = at_step(state.opt_state[name], state.step)
        updates, opt_state = optimizer.update(gradients, opt_state, state.params[name])
        updates = jax.tree.map(lambda update: getattr(rates, name) * update, updates)
        params = optax.apply_updates(state.params[name], updates)
        return state.replace(
            params={**state.params, name: params},
            batch_stats={**state.batch_stats, name: stats},
            opt_state={**state.opt_state, name: opt_state},
        )

    def update_discriminator(
        state: TrainState, real: jax.Array, key: jax.Array, optimizer: Any
    ) -> tuple[TrainState, jax.Array]:
        noise_key, mix_key = jax.random.split(key)
        noise = drawn(jax.random.normal, noise_key, len(real), latent_size)
        fake, _ = apply(
            "generator", state.params["generator"], state.batch_stats["generator"], noise
        )

        def mean_loss(params: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
            stats = state.batch_stats["discriminator"]
            of_real, stats = apply("discriminator", params, stats, real)
            of_fake, stats = apply("discriminator", params, stats, fake)
            losses = loss.real(of_real) + loss.fake(of_fake)
            if loss.gradient_penalty:
                share = drawn(jax.random.uniform, mix_key, len(real), 1, 1, 1)
                mixed = real + share * (fake - real)
                losses += gradient_penalty * penalties(
                    lambda images: apply("discriminator", params, stats, images)[0], mixed
                )
            return losses.mean(), (losses, stats)

        gradients, (losses, stats) = jax.grad(mean_loss, has_aux=True)(
            state.params["discriminator"]
        )
        return updated(state, "discriminator", gradients, stats, optimizer), losses

    def update_generator(
        state: TrainState, number: int, key: jax.Array, optimizer: Any
    ) -> tuple[TrainState, jax.Array]:
        noise = drawn(jax.random.normal, key, number, latent_size)

        def mean_loss(params: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
            fake, stats = apply("generator", params, state.batch_stats["generator"], noise)
            logits, _ = apply(
                "discriminator",
                state.params["discriminator"],
                state.batch_stats["discriminator"],
                fake,
            )
            losses = loss.generator(logits)
            return losses.mean(), (losses, stats)

        gradients, (losses, stats) = jax.grad(mean_loss, has_aux=True)(state.params["generator"])
        return updated(state, "generator", gradients, stats, optimizer), losses

    def train_step(
        state: TrainState, batch: Examples, optimizer: optax.GradientTransformation
    ) -> tuple[TrainState, Losses]:
        real = scaled_images(batch["image"])
        # Take every k-th image, so that each device holds part of every part.
        parts = jnp.moveaxis(real.reshape(-1, discriminator_steps, *image_shape), 1, 0)
        key = jax.random.fold_in(run_keys(state.key).dropout, state.step)
        *keys, generator_key = jax.random.split(key, discriminator_steps + 1)
        if discriminator_steps == 1:
            state, of_parts = update_discriminator(state, parts[0], keys[0], optimizer)
        else:
            state, of_parts = jax.lax.scan(
                lambda state, part: update_discriminator(state, *part, optimizer),
                state,
                (parts, jnp.stack(keys)),
            )
            of_parts = of_parts.mean(0)
        state, of_generator = update_generator(state, parts.shape[1], generator_key, optimizer)
        metrics = Losses.single_from_model_output(
            loss=of_parts + of_generator,
            generator_loss=of_generator,
            discriminator_loss=of_parts,
        )
        if axis_name:
            metrics = jax.lax.psum(metrics, axis_name)
        return state.replace(step=state.step + 1), metrics

    def generated(state: TrainState, index: jax.Array) -> jax.Array:
        """Generates one image for each index, in -1..1."""
        key = jax.random.fold_in(run_keys(state.key).dropout, FIXED_NOISE)
        noise = jax.vmap(
            lambda each: jax.random.normal(jax.random.fold_in(key, each), (latent_size,))
        )(index)
        return evaluated(state, "generator", noise)

    def evaluated(state: TrainState, name: str, inputs: jax.Array) -> jax.Array:
        variables = {"params": state.params[name], "batch_stats": state.batch_stats[name]}
        outputs: Any = modules[name].apply(variables, inputs, train=False)
        return outputs

    def eval_step(state: TrainState, batch: Examples) -> Evaluation:
        real = scaled_images(batch["image"])
        fake = generated(state, batch["index"])
        of_real, of_fake = (evaluated(state, "discriminator", images) for images in (real, fake))
        of_generator = loss.generator(of_fake)
        of_discriminator = loss.real(of_real) + loss.fake(of_fake)
        # Real images have 256 levels, and so must those that are compared with them.
        as_stored = scaled_images(levels(fake))
        metrics = Evaluation.single_from_model_output(
            loss=of_generator + of_discriminator,
            generator_loss=of_generator,
            discriminator_loss=of_discriminator,
            real=features()(real),
            samples=features()(as_stored),
            mask=batch["mask"],
        )
        return jax.lax.psum(metrics, axis_name) if axis_name else metrics

    @functools.cache
    def floors() -> Mapping[str, Floor]:
        """Compares as many training images as there are test images with the test images."""
        train, test = load()
        number = min(len(train), len(test))
        chosen = np.sort(np.random.default_rng(0).permutation(len(train))[:number])

        def moments(_: Any, batch: Examples) -> Moments:
            values = features()(scaled_images(batch["image"]))
            return Moments.from_model_output(values, mask=batch["mask"])

        evaluate = jax.jit(make_evaluate(moments, Moments.empty, batch_size=FLOOR_BATCH))
        sums = (
            jax.device_get(evaluate(None, {"image": jax.device_put(images)}))
            for images in (test, train[chosen])
        )
        return {
            name: Floor(value, "distance of training images from test images")
            for name, value in distances(*sums).items()
        }

    def pictures(state: TrainState) -> Mapping[str, jax.Array]:
        side = PICTURES_PER_SIDE
        images = levels(generated(state, jnp.arange(side * side)))
        height, width, channels = image_shape
        rows = images.reshape(side, side, height, width, channels).transpose(0, 2, 1, 3, 4)
        return {"samples": rows.reshape(side * height, side * width, channels)}

    return Task(
        data=data,
        model=model_name,
        num_train=num_train,
        load=load_arrays,
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        collection=Losses,
        evaluation=Evaluation,
        metrics=METRICS,
        objective="frechet_distance",
        floors=floors,
        pictures=pictures,
    )


def at_step(opt_state: Any, step: jax.Array) -> Any:
    """Returns the state of an optimizer whose schedule is at a step.

    A schedule counts the updates of its optimizer, and the discriminator may make several per step.
    Other counts, such as that of Adam's bias correction, stay.

    Args:
      opt_state: state of an optax chain.
      step: int32 scalar.

    Returns:
      The state with the count of `optax.scale_by_schedule` set to the step.

    >>> optimizer = optax.chain(optax.scale_by_adam(), optax.scale_by_schedule(lambda count: 0.1))
    >>> state = at_step(optimizer.init(jnp.zeros(2)), jnp.asarray(7, jnp.int32))
    >>> print(state[0].count, state[1].count)
    0 7
    """

    def is_schedule(part: Any) -> bool:
        return isinstance(part, optax.ScaleByScheduleState)

    return jax.tree.map(
        lambda part: part._replace(count=step) if is_schedule(part) else part,
        opt_state,
        is_leaf=is_schedule,
    )


def scaled_images(images: jax.Array) -> jax.Array:
    """Maps the levels 0..255 of an image to -1..1, in float32."""
    return images.astype(jnp.float32) / 127.5 - 1.0


def levels(images: jax.Array) -> jax.Array:
    """Maps -1..1 to the levels of an image, uint8."""
    return jnp.round((images + 1.0) * 127.5).clip(0, 255).astype(jnp.uint8)
