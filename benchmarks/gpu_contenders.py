"""What takes part on a GPU: our program whole and in part, Flax's own layers, and PyTorch.

All train in bfloat16 on images without meaning, which lie on the device.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.side_by_side import timed
from benchmarks.train_step import IMAGE_SHAPES, LEARNING_RATE, MOMENTUM, WEIGHT_DECAY

if TYPE_CHECKING:
    import numpy as np
    from ml_collections import ConfigDict

PADDING = 4


def random_images(model: str, num_images: int) -> tuple["np.ndarray", "np.ndarray"]:
    """Images, uint8, and labels of a model's data set, without meaning."""
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (num_images, *IMAGE_SHAPES[model]), np.uint8)
    return images, rng.integers(0, 10, num_images, np.int32)


def config_of(model: str, batch_size: int, *, augment: bool) -> "ConfigDict":
    """The config of a run in bfloat16."""
    from benchmarks import trainer

    config = trainer.config_of(model, batch_size=batch_size, augment=augment)
    config.data.crop_padding = PADDING
    config.model.dtype = "bfloat16"
    return config


def ours(model: str, batch_size: int, num_images: int, augment: bool = True) -> Callable[[], float]:
    """Epochs of `experiments.train`, each in one dispatch; of one the seconds a step."""
    import jax

    from benchmarks import trainer
    from experiments.data.datasets import Dataset

    images, labels = random_images(model, num_images)
    config = config_of(model, batch_size, augment=augment)
    made = trainer.make(config, Dataset(images, labels, images[:1000], labels[:1000]))
    state, steps = made.state, num_images // batch_size

    def epoch() -> None:
        nonlocal state
        state, metrics, _ = made.train(state, made.splits[0], made.order(state), steps)
        jax.block_until_ready((state, metrics))

    return timed(epoch, steps)


def fixed_batch_program(
    model: str, batch_size: int, num_images: int
) -> tuple[Any, tuple[Any, ...]]:
    """The compiled program that trains the same epochs on one batch, normalised before.

    Returns:
      The program and its arguments, of which it donates the first, the state.
    """
    import jax
    import jax.numpy as jnp
    import optax

    from experiments import parallel, step
    from experiments.architectures import make_model
    from experiments.losses import LOSSES
    from experiments.optimizers import make_optimizer

    config = config_of(model, batch_size, augment=False)
    strategy = parallel.make_strategy(config.parallel, jax.devices())
    shape, steps = IMAGE_SHAPES[model], num_images // batch_size
    network = make_model(config.model, image_shape=shape, num_classes=10)
    optimizer = make_optimizer(
        config.optimizer,
        optax.constant_schedule(LEARNING_RATE),
        weight_decay=config.optimizer.weight_decay,
    )
    train_step = partial(
        step.train_step,
        model=network,
        optimizer=optimizer,
        loss=LOSSES[config.loss.name],
        augment=lambda _, images: images,
        normalize=lambda images: images,
    )

    def train(
        state: step.TrainState, split: parallel.Split, batch: step.Batch, num_steps: jax.Array
    ) -> Any:
        # Nobody uses the batch that is gathered from the split, so the compiler leaves it out.
        steps_of_epoch = parallel.training(
            lambda state, _: train_step(state, batch),
            batch_size=batch_size,
            steps_per_epoch=steps,
        )
        return steps_of_epoch(state, split, jnp.arange(num_images), num_steps)

    init = partial(
        step.init_state, jax.random.key(0), model=network, optimizer=optimizer, image_shape=shape
    )
    state = jax.jit(init, out_shardings=strategy.sharding)()
    images, labels = (jnp.asarray(array) for array in random_images(model, num_images))
    batch = {"image": images[:batch_size] / 74 - 1.7, "label": labels[:batch_size]}
    split = parallel.Split(images, labels)
    split, batch = jax.device_put((split, batch), strategy.sharding)
    return strategy.compile(train, donate=True), (state, split, batch, steps)


def fixed_batch(model: str, batch_size: int, num_images: int) -> Callable[[], float]:
    """The same epochs on one batch that is normalised before: no pipeline."""
    import jax

    train, (state, *others) = fixed_batch_program(model, batch_size, num_images)

    def epoch() -> None:
        nonlocal state
        state, metrics, _ = train(state, *others)
        jax.block_until_ready((state, metrics))

    return timed(epoch, num_images // batch_size)


def stock_flax(model: str, batch_size: int, num_images: int) -> Callable[[], float]:
    """Steps of Flax's own layers, a dispatch each, on one batch of floats."""
    import jax
    import jax.numpy as jnp
    import optax

    from benchmarks import stock_flax as stock

    images = jax.random.normal(jax.random.key(0), (batch_size, *IMAGE_SHAPES[model]))
    labels = jax.random.randint(jax.random.key(1), (batch_size,), 0, 10)
    network = stock.make_network(model, jnp.bfloat16)
    optimizer = optax.chain(
        optax.add_decayed_weights(WEIGHT_DECAY), optax.sgd(LEARNING_RATE, MOMENTUM)
    )
    variables = jax.jit(lambda: network.init(jax.random.key(0), images[:1], train=False))()
    opt_state = optimizer.init(variables["params"])
    step, steps = stock.make_step(network, optimizer), num_images // batch_size

    def epoch() -> None:
        nonlocal variables, opt_state
        for _ in range(steps):
            variables, opt_state, loss = step(variables, opt_state, images, labels)
        jax.block_until_ready((variables, opt_state, loss))

    return timed(epoch, steps)


def gather_crop_flip(images: Any, indices: Any, offsets: Any, flips: Any) -> Any:
    """PyTorch: images out of a data set, cropped from reflected borders and flipped, in one gather.

    Args:
      images: [examples, height, width, channels], any dtype.
      indices: int64 [batch].
      offsets: int64 [batch, 2], of rows and columns, from 0 to twice the padding.
      flips: bool [batch].

    Returns:
      [batch, channels, height, width], the dtype of `images`, channels last in memory.
    """
    import torch

    def along(size: int, offset: Any) -> Any:
        places = torch.arange(size, device=images.device) + offset[:, None] - PADDING
        return size - 1 - (size - 1 - places.abs()).abs()

    rows, columns = (
        along(size, offset) for size, offset in zip(images.shape[1:3], offsets.T, strict=True)
    )
    columns = torch.where(flips[:, None], columns.flip(1), columns)
    cropped = images[indices[:, None, None], rows[:, :, None], columns[:, None, :]]
    return cropped.permute(0, 3, 1, 2)


def pytorch(
    model: str, batch_size: int, num_images: int, mode: str = "off", device: str = "cuda"
) -> Callable[[], float]:
    """Epochs of PyTorch with autocast to bfloat16, channels last, its data set on the device.

    Args:
      model: name of the network.
      batch_size: images a step.
      num_images: images of an epoch.
      mode: of torch.compile, for the normalisation, the network and its gradients; "off" for none.
      device: cuda or cpu.

    Returns:
      A function that trains an epoch and returns the seconds a step.
    """
    import torch

    from benchmarks import pytorch as peer

    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    images, labels = map(torch.from_numpy, random_images(model, num_images))
    images, labels = images.to(device), labels.to(device, torch.long)
    mean, std = images.float().mean((0, 1, 2)), images.float().std((0, 1, 2))
    network: Any = peer.make_network(model)
    network = network.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        network.parameters(), LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY, fused=True
    )

    def mean_loss(batch: Any, labels: Any) -> Any:
        normalized = (batch.float() - mean[:, None, None]) / std[:, None, None]
        with torch.autocast(device, torch.bfloat16):
            return torch.nn.functional.cross_entropy(network(normalized), labels)

    # The gather stays outside: a CUDA graph would copy the whole data set to a place of its own.
    forward = mean_loss if mode == "off" else torch.compile(mean_loss, mode=mode)

    def step(indices: Any) -> Any:
        if mode != "off":
            torch.compiler.cudagraph_mark_step_begin()
        offsets = torch.randint(2 * PADDING + 1, (batch_size, 2), device=device)
        flips = torch.rand(batch_size, device=device) < 0.5
        optimizer.zero_grad(set_to_none=True)
        loss = forward(gather_crop_flip(images, indices, offsets, flips), labels[indices])
        loss.backward()
        optimizer.step()
        return loss.detach()

    def epoch() -> None:
        order = torch.randperm(num_images, device=device)
        for start in range(0, num_images - batch_size + 1, batch_size):
            loss = step(order[start : start + batch_size])
        loss.item()
        if device == "cuda":
            torch.cuda.synchronize()

    return timed(epoch, num_images // batch_size)
