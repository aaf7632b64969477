"""One NVIDIA GPU: ResNet-18 in bfloat16 beside PyTorch and stock Flax, and what a run takes there.

    pip install -e '.[benchmarks,cuda]' and a PyTorch with CUDA
    python -m benchmarks.gpu [--part=speed|pipeline|profile|accuracy|all] [--rounds=5]
        [--compile=reduce-overhead,max-autotune] [--data_dir=DIR] [--epochs=200]

speed: an epoch of 50,000 random images in batches of 512, by three contenders that take turns, and
how much of the GPU's measured peak each uses. pipeline: the share of an epoch that gather, crop,
flip and normalisation take. profile: the share of it in which the GPU is busy. accuracy: CIFAR-10
in one run, and the seconds to 94% and 96%. Of several GPUs the first one is used, or the one that
CUDA_VISIBLE_DEVICES names.
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
from benchmarks.side_by_side import Contender, environment, measure, ratio
from benchmarks.train_step import IMAGE_SHAPES
from experiments.errors import UserError

TASK = {"model": "resnet18", "batch_size": 512, "num_images": 50_000}
PEAK_SIZES = (4096, 8192, 16384)
PEAK_OPERATIONS = 2e14  # in one dispatch: a third of a second at 600 TFLOP/s


def peak(sizes: Sequence[int], operations: float, rounds: int = 3) -> tuple[float, int]:
    """The best rate of products of square bfloat16 matrices, each made of the one before.

    Args:
      sizes: rows of the matrices.
      operations: of one dispatch, about.
      rounds: dispatches of every size that are timed.

    Returns:
      Operations a second, a product and a sum being two, and the size that has it.
    """
    import jax
    import jax.numpy as jnp

    rates = []
    for size in sizes:
        number = max(1, round(operations / (2 * size**3)))
        x, y = jax.random.normal(jax.random.key(0), (2, size, size)).astype(jnp.bfloat16)
        # So that a product is as large as its factor.
        y = y / size**0.5

        @partial(jax.jit, static_argnums=2)
        def multiply(x: jax.Array, y: jax.Array, number: int) -> jax.Array:
            return jax.lax.fori_loop(0, number, lambda _, x: x @ y, x)

        multiply(x, y, number).block_until_ready()
        for _ in range(rounds):
            started = time.perf_counter()
            multiply(x, y, number).block_until_ready()
            rates.append((2 * size**3 * number / (time.perf_counter() - started), size))
    return max(rates)


def flops_per_image(model: str) -> float:
    """Operations of a training step an image: three times those that XLA counts forward."""
    import jax
    import jax.numpy as jnp

    from benchmarks import stock_flax as stock

    # In Flax's own layers: no algorithm that needs fewer is counted as less of a model.
    network = stock.make_network(model, jnp.bfloat16)
    image = jax.ShapeDtypeStruct((1, *IMAGE_SHAPES[model]), jnp.float32)
    forward = partial(network.apply, train=False)
    variables = jax.eval_shape(partial(network.init, train=False), jax.random.key(0), image)
    counted: Any = jax.jit(forward).lower(variables, image).cost_analysis()
    return 3 * counted["flops"]


def busy(profile: Any, plane: str = "/device:GPU:0", line: str = "Stream") -> tuple[float, float]:
    """Seconds in which a device works, and from its first work to the end of its last.

    Args:
      profile: a `jax.profiler.ProfileData`.
      plane: of the device.
      line: how the names of its streams begin; other lines summarise them.

    Returns:
      The two numbers.

    Raises:
      UserError: there is no such line, or nothing in it.
    """
    found = [candidate for candidate in profile.planes if candidate.name == plane]
    lines = [entry for each in found for entry in each.lines if entry.name.startswith(line)]
    spans = sorted((event.start_ns, event.end_ns) for entry in lines for event in entry.events)
    if not spans:
        raise UserError(
            f"the trace has no events in a line {line!r} of the plane {plane!r}; its planes are "
            f"{', '.join(candidate.name for candidate in profile.planes)}"
        )
    (first, reached), worked = spans[0], 0.0
    since = first
    for start, end in spans:
        if start > reached:
            worked += reached - since
            since = start
        reached = max(reached, end)
    return (worked + reached - since) / 1e9, (reached - first) / 1e9


def traced_epoch(task: Mapping[str, Any], **names: str) -> tuple[float, float, float]:
    """Of an epoch of ours the seconds that the device works, its span, and the seconds by clock."""
    import jax

    work = ours(**task)
    with tempfile.TemporaryDirectory() as directory:
        jax.profiler.start_trace(directory)
        seconds = work() * (task["num_images"] // task["batch_size"])
        jax.profiler.stop_trace()
        (path,) = glob.glob(f"{directory}/**/*.xplane.pb", recursive=True)
        return *busy(jax.profiler.ProfileData.from_file(path), **names), seconds


def print_speed(
    task: Mapping[str, Any],
    contenders: Mapping[str, Contender],
    *,
    rounds: int,
    sizes: Sequence[int] = PEAK_SIZES,
    operations: float = PEAK_OPERATIONS,
) -> None:
    """Images a second and model FLOP utilisation of contenders, of which the first is ours."""
    best, size = alone(peak, sizes, operations)
    flops = alone(flops_per_image, task["model"])
    print(
        f"{task['model']}, batch {task['batch_size']}, bfloat16, {rounds} rounds. Model FLOPs: "
        f"{flops / 1e9:.4g} GFLOP an image, three times XLA's count of the forward pass; peak "
        f"measured: {best / 1e12:.4g} TFLOP/s, bfloat16 products of {size}x{size}.\n"
    )
    seconds = measure(contenders, rounds=rounds)
    first = next(iter(seconds))
    print(f"| | images/s, median (least to most) | model FLOP utilisation | {first} is faster |")
    print("|---|---|---|---|")
    for name, values in seconds.items():
        low, middle, high = (
            task["batch_size"] / pick(values) for pick in (max, statistics.median, min)
        )
        faster = "" if name == first else f"{ratio(seconds[first], values):.2f} times"
        print(
            f"| {name} | {middle:,.0f} ({low:,.0f} to {high:,.0f}) "
            f"| {middle * flops / best:.1%} | {faster} |"
        )


def print_pipeline(task: Mapping[str, Any], *, rounds: int) -> None:
    """The share of a step that its input takes: what is saved by leaving it out."""
    contenders = {
        "the whole program": Contender(ours, task),
        "without crop and flip": Contender(ours, {**task, "augment": False}),
        "on a fixed, normalised batch": Contender(fixed_batch, task),
    }
    seconds = measure(contenders, rounds=rounds)
    whole = seconds["the whole program"]
    print("| | ms a step, median (least to most) | share of the whole saved, median |")
    print("|---|---|---|")
    for name, values in seconds.items():
        low, middle, high = (1e3 * pick(values) for pick in (min, statistics.median, max))
        saved = "" if values is whole else f"{1 - ratio(values, whole) ** -1:.1%}"
        print(f"| {name} | {middle:.3f} ({low:.3f} to {high:.3f}) | {saved} |")


def print_profile(task: Mapping[str, Any], **names: str) -> None:
    """The share of an epoch in which the device is busy."""
    worked, span, seconds = alone(traced_epoch, task, **names)
    print("| an epoch, traced | seconds | device busy |")
    print("|---|---|---|")
    print(f"| from the device's first work to its last | {span:.3f} | {worked / span:.2%} |")
    print(f"| by clock, from dispatch to result | {seconds:.3f} | {worked / seconds:.2%} |")


def alone(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a function returns in a process of its own, which leaves the device as it was."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()


def jax_devices() -> list[tuple[str, str, str]]:
    """Platform, kind and the platform's version of each device that jax sees."""
    import jax

    return [
        (device.platform, device.device_kind, " ".join(device.client.platform_version.split()))
        for device in jax.devices()
    ]


def torch_cuda() -> str | None:
    """The CUDA of a PyTorch that sees a GPU."""
    try:
        import torch
    except ImportError:
        return None
    return torch.version.cuda if torch.cuda.is_available() else None


def main() -> None:
    """Measures the parts that are asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parts = ("speed", "pipeline", "profile", "accuracy")
    parser.add_argument("--part", choices=(*parts, "all"), default="all")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender")
    parser.add_argument(
        "--compile", default="reduce-overhead,max-autotune", help="modes of torch.compile, or off"
    )
    parser.add_argument("--data_dir", help="of tensorflow-datasets, with CIFAR-10 in it")
    parser.add_argument("--epochs", type=int, default=200, help="of the part accuracy")
    options = parser.parse_args()
    # Read where jax and PyTorch begin. jax would take three quarters of the memory at once.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    try:
        measure_parts(parts if options.part == "all" else (options.part,), options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def measure_parts(parts: Sequence[str], options: argparse.Namespace) -> None:
    """Measures parts, one after another, and prints their tables.

    Raises:
      UserError: there is not one GPU.
    """
    devices = alone(jax_devices)
    if [platform for platform, *_ in devices] != ["gpu"]:
        found = ", ".join(f"{kind} ({platform})" for platform, kind, _ in devices)
        raise UserError(f"this benchmark needs one NVIDIA GPU that jax can use; jax has: {found}")
    ((_, kind, version),) = devices
    cuda = alone(torch_cuda) if "speed" in parts else None
    packages = ("jax", "jaxlib", "flax", "optax", *(["torch"] if cuda else []))
    torch_version = f", PyTorch's CUDA {cuda}" if cuda else ""
    line = f"{kind} ({version}{torch_version}); {environment(*packages)}"
    for part in parts:
        print(f"\n## {part}\n\n{line}\n", flush=True)
        if part == "speed":
            contenders = {"loganneal_jax": Contender(ours, TASK)}
            contenders["stock Flax"] = Contender(stock_flax, TASK)
            for mode in options.compile.split(",") if cuda else ():
                contenders[f"PyTorch, {mode}"] = Contender(pytorch, {**TASK, "mode": mode})
            if not cuda:
                print("PyTorch is left out: it is not installed or sees no GPU.\n")
            print_speed(TASK, contenders, rounds=options.rounds)
        elif part == "pipeline":
            print_pipeline(TASK, rounds=options.rounds)
        elif part == "profile":
            print_profile(TASK)
        else:
            # It imports jax, which the processes of PyTorch do without.
            from benchmarks import accuracy

            alone(accuracy.cifar10, options.data_dir, options.epochs)


if __name__ == "__main__":
    main()
