"""Measures ResNet-18 in bfloat16 on one NVIDIA GPU, with stock Flax and PyTorch as peers.

    pip install -e '.[benchmarks,cuda]' and a PyTorch with CUDA
    python -m benchmarks.gpu [--part=speed|pipeline|profile|accuracy|all] [--rounds=5]
        [--compile=reduce-overhead,max-autotune] [--data_dir=DIR] [--epochs=200]

speed: three contenders take turns on an epoch of 50,000 random images in batches of 512; also
reports the share of the GPU's measured peak that each reaches. pipeline: the share of an epoch
spent in gather, crop, flip, and normalization. profile: the share of an epoch in which the GPU is
busy. accuracy: one run on CIFAR-10, and the time to 94% and 96%. On a machine with several GPUs, it
uses the first one, or the one in CUDA_VISIBLE_DEVICES.
"""

import argparse
import glob
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

from benchmarks.gpu_contenders import fixed_batch, ours, pytorch, stock_flax
from benchmarks.side_by_side import Contender, Make, environment, measure, ratio
from benchmarks.train_step import IMAGE_SHAPES
from experiments.errors import UserError

WORKLOAD = {"model": "resnet18", "batch_size": 512, "num_images": 50_000}
PEAK_SIZES = (4096, 8192, 16384)
PEAK_OPERATIONS = 2e14  # per dispatch, which takes a third of a second at 600 TFLOP/s


def contender(make: Make, workload: Mapping[str, Any], **options: Any) -> Contender:
    """Returns a contender that trains the epochs of a workload.

    Args:
      make: a function of `gpu_contenders`.
      workload: model, batch_size, and num_images.
      **options: further arguments of `make`.

    Returns:
      The contender, timed per step.
    """
    steps = workload["num_images"] // workload["batch_size"]
    return Contender(make, {**workload, **options}, steps)


def peak(
    sizes: Sequence[int],
    operations: float,
    rounds: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, int]:
    """Measures the highest rate of products of square bfloat16 matrices.

    Args:
      sizes: numbers of rows to try. In a dispatch, each product is a factor of the next one.
      operations: approximate number of operations per dispatch.
      rounds: timed dispatches per size.
      clock: returns the time in seconds.

    Returns:
      Operations per second, where a multiply-add counts as two, and the size that reached it.
    """
    import jax
    import jax.numpy as jnp

    rates = []
    for size in sizes:
        number = max(1, round(operations / (2 * size**3)))
        x, y = jax.random.normal(jax.random.key(0), (2, size, size)).astype(jnp.bfloat16)
        # Keep the products at the same magnitude.
        y = y / size**0.5

        @partial(jax.jit, static_argnums=2)
        def multiply(x: jax.Array, y: jax.Array, number: int) -> jax.Array:
            return jax.lax.fori_loop(0, number, lambda _, x: x @ y, x)

        multiply(x, y, number).block_until_ready()
        for _ in range(rounds):
            started = clock()
            multiply(x, y, number).block_until_ready()
            rates.append((2 * size**3 * number / (clock() - started), size))
    return max(rates)


def flops_per_image(model: str) -> float:
    """Returns the operations of a training step per image: three times XLA's forward count."""
    import jax
    import jax.numpy as jnp

    from benchmarks import stock_flax as stock

    # Count Flax's own layers, so that a faster algorithm does not lower the count.
    network = stock.make_network(model, jnp.bfloat16)
    image = jax.ShapeDtypeStruct((1, *IMAGE_SHAPES[model]), jnp.float32)
    forward = partial(network.apply, train=False)
    variables = jax.eval_shape(partial(network.init, train=False), jax.random.key(0), image)
    # Only a CPU counts without compiling.
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        counted: Any = jax.jit(forward).lower(variables, image).cost_analysis()
    return 3 * counted["flops"]


def busy(profile: Any, plane: str = "/device:GPU:0", line: str = "Stream") -> tuple[float, float]:
    """Returns the time in which a device is busy, and the span from its first to its last event.

    Args:
      profile: a `jax.profiler.ProfileData`.
      plane: name of the device's plane.
      line: prefix of the names of its streams; other lines summarize them.

    Returns:
      Seconds busy, and seconds of the span.

    Raises:
      UserError: the plane has no such line, or the line has no events.
    """
    planes = [each for each in profile.planes if each.name == plane]
    lines = [entry for each in planes for entry in each.lines if entry.name.startswith(line)]
    spans = sorted((event.start_ns, event.end_ns) for entry in lines for event in entry.events)
    if not spans:
        raise UserError(
            f"the trace has no events in a line {line!r} of the plane {plane!r}; its planes are "
            f"{', '.join(each.name for each in profile.planes)}"
        )
    (first, reached), worked = spans[0], 0.0
    since = first
    for start, end in spans:
        if start > reached:
            worked += reached - since
            since = start
        reached = max(reached, end)
    return (worked + reached - since) / 1e9, (reached - first) / 1e9


def traced_epoch(workload: Mapping[str, Any], **names: str) -> tuple[float, float, float]:
    """Traces one epoch of our program, after a warmup epoch.

    Args:
      workload: model, batch_size, and num_images.
      **names: `plane` and `line` of `busy`.

    Returns:
      Seconds that the device is busy, seconds of its span, and seconds by the host's clock.
    """
    import jax

    epoch = ours(**workload)
    epoch()
    with tempfile.TemporaryDirectory() as directory:
        jax.profiler.start_trace(directory)
        started = time.perf_counter()
        epoch()
        seconds = time.perf_counter() - started
        jax.profiler.stop_trace()
        (path,) = glob.glob(f"{directory}/**/*.xplane.pb", recursive=True)
        return *busy(jax.profiler.ProfileData.from_file(path), **names), seconds


def print_speed(
    workload: Mapping[str, Any],
    contenders: Mapping[str, Contender],
    *,
    rounds: int,
    sizes: Sequence[int] = PEAK_SIZES,
    operations: float = PEAK_OPERATIONS,
) -> None:
    """Prints images per second and model FLOP utilization of each contender.

    Args:
      workload: model, batch_size, and num_images.
      contenders: contenders by name, ours first.
      rounds: turns per contender.
      sizes: see `peak`.
      operations: see `peak`.
    """
    best, size = in_own_process(peak, sizes, operations)
    flops = in_own_process(flops_per_image, workload["model"])
    print(
        f"{workload['model']}, batch {workload['batch_size']}, bfloat16, {rounds} rounds. Model "
        f"FLOPs: {flops / 1e9:.4g} GFLOP per image, three times XLA's count of the forward pass. "
        f"Measured peak: {best / 1e12:.4g} TFLOP/s, bfloat16 products of {size}x{size}.\n"
    )
    seconds = measure(contenders, rounds=rounds).seconds
    first = next(iter(seconds))
    print(
        "| | images/s, median (min to max) | model FLOP utilization | time relative to "
        f"{first} |\n|---|---|---|---|"
    )
    for name, values in seconds.items():
        low, middle, high = (
            workload["batch_size"] / pick(values) for pick in (max, statistics.median, min)
        )
        relative = "" if name == first else f"{ratio(seconds[first], values):.2f}"
        print(
            f"| {name} | {middle:,.0f} ({low:,.0f} to {high:,.0f}) "
            f"| {middle * flops / best:.1%} | {relative} |"
        )


def print_pipeline(workload: Mapping[str, Any], *, rounds: int) -> None:
    """Prints the share of a step that the input pipeline takes: the time saved without it.

    Args:
      workload: model, batch_size, and num_images.
      rounds: turns per contender.
    """
    contenders = {
        "full program": contender(ours, workload),
        "without crop and flip": contender(ours, workload, augment=False),
        "on a fixed, normalized batch": contender(fixed_batch, workload),
    }
    seconds = measure(contenders, rounds=rounds).seconds
    full = seconds["full program"]
    print("| | ms per step, median (min to max) | share saved, median |")
    print("|---|---|---|")
    for name, values in seconds.items():
        low, middle, high = (1e3 * pick(values) for pick in (min, statistics.median, max))
        saved = "" if values is full else f"{1 - ratio(values, full) ** -1:.1%}"
        print(f"| {name} | {middle:.3f} ({low:.3f} to {high:.3f}) | {saved} |")


def print_profile(workload: Mapping[str, Any], **names: str) -> None:
    """Prints the share of an epoch in which the device is busy.

    Args:
      workload: model, batch_size, and num_images.
      **names: `plane` and `line` of `busy`.
    """
    worked, span, seconds = in_own_process(traced_epoch, workload, **names)
    print("| traced epoch | seconds | device busy |")
    print("|---|---|---|")
    print(f"| from the device's first event to its last | {span:.3f} | {worked / span:.2%} |")
    print(f"| from dispatch to result on the host | {seconds:.3f} | {worked / seconds:.2%} |")


def in_own_process(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Returns the result of a function run in a new process, which frees the device at its end."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()


def jax_devices() -> list[tuple[str, str, str]]:
    """Returns platform, kind, and platform version of each device that jax finds."""
    import jax

    return [
        (device.platform, device.device_kind, " ".join(device.client.platform_version.split()))
        for device in jax.devices()
    ]


def torch_cuda() -> str | None:
    """Returns the CUDA version of PyTorch, or None if PyTorch is missing or finds no GPU."""
    try:
        import torch
    except ImportError:
        return None
    return torch.version.cuda if torch.cuda.is_available() else None


def main() -> None:
    """Measures the parts that the flags select."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parts = ("speed", "pipeline", "profile", "accuracy")
    parser.add_argument("--part", choices=(*parts, "all"), default="all", help="what to measure")
    parser.add_argument("--rounds", type=int, default=5, help="turns per contender")
    parser.add_argument(
        "--compile",
        default="reduce-overhead,max-autotune",
        help="comma-separated modes of torch.compile, or off",
    )
    parser.add_argument("--data_dir", help="directory of tfds, with CIFAR-10")
    parser.add_argument("--epochs", type=int, default=200, help="epochs of the accuracy part")
    options = parser.parse_args()
    # jax and PyTorch read these when they start. By default, jax reserves 3/4 of the memory.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    try:
        measure_parts(parts if options.part == "all" else (options.part,), options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def measure_parts(parts: Sequence[str], options: argparse.Namespace) -> None:
    """Measures parts one after another, and prints their tables.

    Args:
      parts: names of the parts.
      options: the flags of the command.

    Raises:
      UserError: jax does not find exactly one GPU.
    """
    devices = in_own_process(jax_devices)
    if [platform for platform, *_ in devices] != ["gpu"]:
        found = ", ".join(f"{kind} ({platform})" for platform, kind, _ in devices)
        raise UserError(f"this benchmark needs one NVIDIA GPU, but jax finds: {found}")
    ((_, kind, version),) = devices
    cuda = in_own_process(torch_cuda) if "speed" in parts else None
    packages = ("jax", "jaxlib", "flax", "optax", *(["torch"] if cuda else []))
    torch_version = f", PyTorch's CUDA {cuda}" if cuda else ""
    line = f"{kind} ({version}{torch_version}); {environment(*packages)}"
    for part in parts:
        print(f"\n## {part}\n\n{line}\n", flush=True)
        if part == "speed":
            contenders = {
                "loganneal_jax": contender(ours, WORKLOAD),
                "stock Flax": contender(stock_flax, WORKLOAD),
            }
            for mode in options.compile.split(",") if cuda else ():
                contenders[f"PyTorch, {mode}"] = contender(pytorch, WORKLOAD, mode=mode)
            if not cuda:
                print("PyTorch is left out, because it is not installed or finds no GPU.\n")
            print_speed(WORKLOAD, contenders, rounds=options.rounds)
        elif part == "pipeline":
            print_pipeline(WORKLOAD, rounds=options.rounds)
        elif part == "profile":
            print_profile(WORKLOAD)
        else:
            # This imports jax, which PyTorch's processes must not import.
            from benchmarks import accuracy

            in_own_process(accuracy.cifar10, options.data_dir, options.epochs)


if __name__ == "__main__":
    main()
