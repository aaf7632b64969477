"""Compares the reading of images from disk with PyTorch's DataLoader and tf.data.

    taskset -c 0,1 python -m benchmarks.loading

All contenders read the same records in a random order, decode them, cut out random parts, and
resize those to 224x224 pixels, with two workers. PyTorch gets the functions that read and decode
here. tf.data decodes and cuts with its own operations, and reads TFRecord files, whose order it can
only shuffle. A second table has the share of a step that waits for data.
"""

import argparse
import io
import itertools
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 224
BATCH = 64
WORKERS = 2
WARMUP = 12  # batches that workers may have read ahead before the clock starts
FORMATS: dict[str, dict[str, Any]] = {"jpeg": {"quality": 90}, "png": {}}
Make = Callable[[str], Iterator[int]]  # from a directory to the sizes of consecutive batches


def write(directory: str, *, kind: str, count: int) -> None:
    """Writes the same images as array_record and as TFRecord: photographs of 500x375 pixels."""
    import tensorflow as tf  # type: ignore[import-untyped]
    from array_record.python.array_record_module import ArrayRecordWriter
    from sklearn.datasets import load_sample_images
    from tensorflow_datasets.proto import tf_example_pb2

    rng = np.random.default_rng(0)
    photographs = load_sample_images().images
    writer = ArrayRecordWriter(f"{directory}/{kind}.array_record", "group_size:1")
    with tf.io.TFRecordWriter(f"{directory}/{kind}.tfrecord") as other:
        for index in range(count):
            example = tf_example_pb2.Example()
            picture = _part(photographs[index % 2], rng)
            file = io.BytesIO()
            picture.save(file, kind, **FORMATS[kind])
            example.features.feature["image"].bytes_list.value.append(file.getvalue())
            example.features.feature["label"].int64_list.value.append(index % 1000)
            record = example.SerializeToString()
            writer.write(record)
            other.write(record)
    writer.close()


def _part(photograph: np.ndarray, rng: np.random.Generator) -> Any:
    from PIL import Image

    top, left = rng.integers(0, 40), rng.integers(0, 120)
    return Image.fromarray(photograph[top : top + 380, left : left + 520]).resize((500, 375))


def reader_of(directory: str, kind: str) -> Any:
    """Returns the images as the training split of a run."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    from experiments.data.pictures import cropped
    from experiments.data.records import Images, Records, Shard

    file = f"{directory}/{kind}.array_record"
    count = len(ArrayRecordDataSource(file))
    decode = partial(cropped, side=SIDE, channels=3, random_parts=True)
    return Images(
        "the benchmark",
        Records([Shard(file, 0, count, count)]),
        decode=decode,
        image_shape=(SIDE, SIDE, 3),
        num_classes=1000,
    )


def ours(directory: str, kind: str) -> Iterator[int]:
    """Yields the sizes of batches that Grain's workers read as in a run."""
    from experiments.data import orders, streaming
    from experiments.data.records import Readers

    reader = reader_of(directory, kind)
    steps = len(reader) // BATCH
    plan = streaming.Plan(1000 * steps, steps, BATCH, BATCH, len(reader), 0)
    rows = streaming.Rows(np.arange(BATCH), np.arange(BATCH))

    def order_of(epoch: int) -> orders.Order:
        indices = np.random.default_rng(epoch).permutation(len(reader)).astype(np.int32)
        return orders.Order(indices, np.int32(0))

    with orders.Orders(len(reader), order_of) as shared:
        source = streaming.Batches(
            Readers(reader, reader), plan, shared, rows, first_step=0, seed=0, replace_damaged=False
        )
        with streaming.read_ahead(source, WORKERS) as batches:
            for step in itertools.count():
                shared.provide(step // steps)
                yield len(next(batches).arrays["image"])


class Examples:
    """The same reader as a data set of PyTorch, example by example.

    Args:
      reader: the reader.
    """

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def __len__(self) -> int:
        return len(self._reader)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        arrays = self._reader.read([index], (0, index))
        return arrays["image"][0], int(arrays["label"][0])


def pytorch(directory: str, kind: str) -> Iterator[int]:
    """Yields the sizes of batches of PyTorch's DataLoader."""
    import torch

    examples: Any = Examples(reader_of(directory, kind))  # a data set by its methods alone
    loader: Any = torch.utils.data.DataLoader(
        examples,
        batch_size=BATCH,
        shuffle=True,
        num_workers=WORKERS,
        drop_last=True,
        persistent_workers=True,
        multiprocessing_context="spawn",  # array_record has threads, which a fork would lose
    )
    while True:
        for images, _ in loader:
            yield len(images)


def tf_data(directory: str, kind: str) -> Iterator[int]:
    """Yields the sizes of batches of tf.data."""
    import tensorflow as tf

    features = {
        "image": tf.io.FixedLenFeature([], tf.string),
        "label": tf.io.FixedLenFeature([], tf.int64),
    }

    def decode(record: Any) -> tuple[Any, Any]:
        example = tf.io.parse_single_example(record, features)
        encoded = example["image"]
        shape = tf.constant([375, 500, 3])
        if kind == "jpeg":
            shape = tf.io.extract_jpeg_shape(encoded)
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            shape,
            tf.zeros([1, 0, 4]),
            area_range=(0.08, 1.0),
            use_image_if_no_bounding_boxes=True,
        )
        if kind == "jpeg":
            window = tf.concat([begin[:2], size[:2]], 0)
            part = tf.io.decode_and_crop_jpeg(encoded, window, channels=3)
        else:
            part = tf.slice(tf.io.decode_png(encoded, channels=3), begin, size)
        image = tf.image.resize(part, (SIDE, SIDE), antialias=True)
        return tf.cast(tf.round(image), tf.uint8), example["label"]

    options = tf.data.Options()
    options.threading.private_threadpool_size = WORKERS
    records = tf.data.TFRecordDataset(f"{directory}/{kind}.tfrecord").shuffle(1000).repeat()
    batches = records.map(decode, num_parallel_calls=WORKERS).batch(BATCH).prefetch(2)
    for images, _ in batches.with_options(options):
        yield len(images)


CONTENDERS: dict[str, Callable[[str, str], Iterator[int]]] = {
    "ours (Grain)": ours,
    "PyTorch DataLoader": pytorch,
    "tf.data": tf_data,
}


def speed(name: str, directory: str, kind: str, seconds: float) -> float:
    """Returns images per second of a contender, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_time, args=(name, directory, kind, seconds, send))
    process.start()
    send.close()
    result: float = receive.recv()
    process.join()
    return result


def _time(name: str, directory: str, kind: str, seconds: float, send: Any) -> None:
    sizes = CONTENDERS[name](directory, kind)
    for _ in range(WARMUP):
        next(sizes)
    start, images = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        images += next(sizes)
    send.send(images / (time.perf_counter() - start))
    sizes.close()  # type: ignore[attr-defined]


def waiting(config_name: str, loading: str, seconds: float) -> tuple[float, float]:
    """Trains on a real data set for some seconds.

    Args:
      config_name: "cifar10_cpu" or "nn2".
      loading: `data.loading`.
      seconds: least time to train after a warmup.

    Returns:
      Milliseconds per step, and the share of that time that waited for data.
    """
    import jax

    from configs import cifar10_cpu, nakamura2021
    from experiments.build.experiment import build
    from experiments.program import assemble, parallel
    from experiments.program.state import key_data
    from experiments.runtime import feed

    is_cifar = config_name == "cifar10_cpu"
    config = cifar10_cpu.get_config() if is_cifar else nakamura2021.get_config("mnist,nn2,sig")
    config.data.loading = loading
    if loading == "stream":
        config.data.workers = WORKERS
    experiment = build(config)
    strategy = parallel.make_strategy("jit", jax.devices())
    programs = assemble.compiled(
        experiment.task, experiment.optimizer, experiment.batches, strategy
    )
    data = feed.make_feed(experiment, feed.read(experiment), strategy)
    state = programs.init(parallel.replicate(key_data(0), strategy.replicated))
    step = steps = 0
    start = waited = 0.0
    with data.reading_from(0, ()):
        data.start_epoch(programs, state)
        while step + data.steps_per_dispatch <= experiment.steps_per_epoch:
            end = step + data.steps_per_dispatch
            state, *_ = data.train(programs, state, step, end)
            jax.block_until_ready(state)
            if step == 2 * data.steps_per_dispatch:
                start, steps = time.perf_counter(), end
                waited = getattr(data, "waited_seconds", 0.0)
            step = end
            if start and time.perf_counter() - start > seconds:
                break
        passed = time.perf_counter() - start
        waited = getattr(data, "waited_seconds", 0.0) - waited
    return 1000 * passed / (step - steps), waited / passed


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=2000, help="images of each format")
    parser.add_argument("--seconds", type=float, default=5, help="seconds per measurement")
    parser.add_argument("--rounds", type=int, default=3, help="turns per contender")
    parser.add_argument("--only", choices=["read", "steps"], help="print only one table")
    options = parser.parse_args()
    if options.only != "steps":
        with tempfile.TemporaryDirectory() as directory:
            compare(directory, options)
    if options.only == "read":
        return
    print("\n| config | loading | ms per step | share that waits for data |\n|---|---|---|---|")
    for config_name in ("cifar10_cpu", "nn2"):
        for loading in ("memory", "stream"):
            milliseconds, share = waiting(config_name, loading, options.seconds)
            print(f"| {config_name} | {loading} | {milliseconds:.2f} | {share:.1%} |", flush=True)


def compare(directory: str, options: argparse.Namespace) -> None:
    """Prints the images per second of all contenders."""
    print("| format | " + " | ".join(CONTENDERS) + " |\n|---|" + "---|" * len(CONTENDERS))
    for kind in FORMATS:
        write(directory, kind=kind, count=options.images)
        size = Path(directory, f"{kind}.tfrecord").stat().st_size / options.images / 1000
        speeds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
        for _ in range(options.rounds):
            for name, values in speeds.items():
                values.append(speed(name, directory, kind, options.seconds))
        cells = [
            f"{np.median(values):.0f} ({min(values):.0f} to {max(values):.0f})"
            for values in speeds.values()
        ]
        print(f"| {kind}, {size:.0f} kB | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
