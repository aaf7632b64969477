"""The contenders on a GPU: our program and parts of it, Flax's own layers, and PyTorch.

All of them train in bfloat16 on random images that are on the device. Each function returns a
function that trains one epoch and waits for its result.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from benchmarks.train_step import IMAGE_SHAPES, LEARNING_RATE, MOMENTUM, WEIGHT_DECAY

if TYPE_CHECKING:
    import numpy as np
    from ml_collections import ConfigDict

PADDING = 4


def random_images(model: str, num_images: int) -> tuple["np.ndarray", "np.ndarray"]:
    """Returns random uint8 images and labels, in the shape of a network's data set."""
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (num_images, *IMAGE_SHAPES[model]), np.uint8)
    return images, rng.integers(0, 10, num_images, np.int32)


def config_of(model: str, batch_size: int, *, augment: bool) -> "ConfigDict":
    """Returns the config of a run in bfloat16."""
    from benchmarks import trainer

    config = trainer.config_of(model, batch_size=batch_size, augment=augment)
    config.data.crop_padding = PADDING
    config.model.dtype = "bfloat16"
    return config


def ours(model: str, batch_size: int, num_images: int, augment: bool = True) -> Callable[[], Any]:
    """Returns a function that trains an epoch of `experiments.train` in one dispatch.

    Args:
      model: name of the network.
      batch_size: images per step.
      num_images: images per epoch.
      augment: whether to crop and flip images at random.

    Returns:
      The function, which returns the state and the metrics; its next call donates that state.
    """
    import jax

    from benchmarks import trainer
    from experiments.data.datasets import Dataset

    images, labels = random_images(model, num_images)
    config = config_of(model, batch_size, augment=augment)
    data = Dataset(images, labels, images[:1000], labels[:1000])
    made = trainer.make(config, data, LEARNING_RATE)
    state, steps = made.state, made.batches.steps_per_epoch

    def epoch() -> Any:
        nonlocal state
        state, metrics, _ = made.train(state, made.splits[0], made.order(state), steps)
        return jax.block_until_ready((state, metrics))

    return epoch


def fixed_batch_program(
    model: str, batch_size: int, num_images: int
) -> tuple[Any, tuple[Any, ...]]:
    """Compiles the program of `ours` without its input pipeline: every step takes the same batch.

    Args:
      model: name of the network.
      batch_size: images per step.
      num_images: images per epoch.

    Returns:
      The program and its arguments. It donates the first argument, the state.
    """
    import jax
    import jax.numpy as jnp

    from benchmarks import trainer
    from experiments.data.datasets import Dataset
    from experiments.program import assemble, parallel
    from experiments.program.state import TrainState
    from experiments.program.steps import Examples

    images, labels = random_images(model, num_images)
    config = config_of(model, batch_size, augment=False)
    config.data.preprocess = ()  # the fixed batch is already normalized
    made = trainer.make(config, Dataset(images, labels, images, labels), LEARNING_RATE)

    def train(state: TrainState, split: Examples, batch: Examples, num_steps: jax.Array) -> Any:
        # Nothing uses the batch gathered from the split, so the compiler removes the gather.
        task = made.task._replace(
            train_step=lambda state, _, optimizer: made.task.train_step(state, batch, optimizer)
        )
        programs = assemble.pure(task, made.optimizer, made.batches)
        return programs.train(state, split, jnp.arange(num_images), num_steps)

    strategy = parallel.make_strategy("jit", jax.devices())
    batch = {"image": jnp.asarray(images[:batch_size]) / 74 - 1.7, "label": labels[:batch_size]}
    arguments = (
        made.state,
        made.splits[0],
        jax.device_put(batch, strategy.replicated),
        made.batches.steps_per_epoch,
    )
    return strategy.compile(train, donate=True), arguments


def fixed_batch(model: str, batch_size: int, num_images: int) -> Callable[[], Any]:
    """Returns a function that trains an epoch on one batch, without an input pipeline.

    Args:
      model: name of the network.
      batch_size: images per step.
      num_images: images per epoch.

    Returns:
      The function, which returns the state and the metrics; its next call donates that state.
    """
    import jax

    train, (state, *others) = fixed_batch_program(model, batch_size, num_images)

    def epoch() -> Any:
        nonlocal state
        state, metrics, _ = train(state, *others)
        return jax.block_until_ready((state, metrics))

    return epoch


def stock_flax(model: str, batch_size: int, num_images: int) -> Callable[[], Any]:
    """Returns a function that trains an epoch with Flax's own layers on one batch of floats.

    Args:
      model: name of the network.
      batch_size: images per step.
      num_images: images per epoch.

    Returns:
      The function, which takes one dispatch per step and returns the last loss.
    """
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

    def epoch() -> Any:
        nonlocal variables, opt_state
        for _ in range(steps):
            variables, opt_state, loss = step(variables, opt_state, images, labels)
        jax.block_until_ready((variables, opt_state))
        return loss.block_until_ready()

    return epoch


def gather_crop_flip(images: Any, indices: Any, offsets: Any, flips: Any) -> Any:
    """Gathers, crops, and flips images of a data set in one PyTorch gather.

    Args:
      images: [examples, height, width, channels], any dtype.
      indices: int64 [batch].
      offsets: int64 [batch, 2], row and column of each crop in the image padded with its
        reflection, from 0 to twice the padding.
      flips: bool [batch], whether to flip left to right.

    Returns:
      [batch, channels, height, width] in channels-last layout, with the dtype of `images`.
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
) -> Callable[[], Any]:
    """Returns a function that trains an epoch in PyTorch.

    It uses autocast to bfloat16 and channels-last layout, and its data set is on the device.

    Args:
      model: name of the network.
      batch_size: images per step.
      num_images: images per epoch.
      mode: mode of torch.compile for normalization, network, and gradients; "off" to not compile.
      device: "cuda" or "cpu".

    Returns:
      The function, which returns the last loss.
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

    # The gather is not compiled, because a CUDA graph would copy the whole data set.
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

    def epoch() -> Any:
        order = torch.randperm(num_images, device=device)
        for start in range(0, num_images - batch_size + 1, batch_size):
            loss = step(order[start : start + batch_size])
        last_loss = loss.item()
        if device == "cuda":
            torch.cuda.synchronize()
        return last_loss

    return epoch
