"""Batches from disk are those of the order of each epoch, whoever reads them."""

import collections
import threading
import time

import numpy as np
import pytest

from experiments.data import streaming
from experiments.data.cache import Layout
from experiments.data.orders import Order, Orders
from experiments.data.records import Damaged, Readers
from experiments.data.streaming import Batches, Plan, Rows
from experiments.errors import UserError

PLAN = Plan(
    num_steps=7, steps_per_epoch=3, batch_size=4, eval_batch_size=4, num_train=13, num_test=6
)
WHOLE = Rows(np.arange(4), np.arange(4))


class Numbers:
    """A reader whose examples are their own indices, some of which are damaged."""

    def __init__(self, length, damaged=()):
        self.layouts = {"number": Layout((), "int64")}
        self.length = length
        self.damaged = damaged

    def __len__(self):
        return self.length

    def read(self, indices, seeds=None):
        for index in indices:
            if index in self.damaged:
                raise Damaged(f"example {index} cannot be read", index)
        return {"number": np.array(indices, np.int64)}


def order_of(epoch):
    indices = np.random.default_rng(epoch).permutation(PLAN.num_train).astype(np.int32)
    return Order(indices, np.int32(epoch))


def without_offset(epoch):
    return order_of(epoch)._replace(offset=np.int32(0))


def read(rows=WHOLE, first_step=0, workers=0, damaged=((), ()), replace_damaged=False):
    """Reads a run from a step on; returns its batches."""
    readers = Readers(Numbers(PLAN.num_train, damaged[0]), Numbers(PLAN.num_test, damaged[1]))
    batches = []
    with Orders(PLAN.num_train, without_offset) as orders:
        source = Batches(
            readers,
            PLAN,
            orders,
            rows,
            first_step=first_step,
            seed=5,
            replace_damaged=replace_damaged,
        )
        with streaming.read_ahead(source, workers) as elements:
            for index in range(len(source)):
                orders.provide(PLAN.at(PLAN.position(first_step) + index)[0])
                batch = next(elements)
                batches.append(batch._replace(arrays=dict(batch.arrays)))
            assert next(elements, None) is None
    return batches


def numbers(batches):
    return [batch.arrays["number"].tolist() for batch in batches]


def expected_numbers():
    found = []
    for epoch, steps in enumerate((3, 3, 1)):
        found += order_of(epoch).indices[: 4 * steps].reshape(steps, 4).tolist()
        found += [[0, 1, 2, 3], [4, 5, 0, 0]]
    return found


def test_batches_follow_the_order_of_each_epoch_and_each_epoch_ends_with_an_evaluation():
    batches = read()
    assert numbers(batches) == expected_numbers()
    masks = [batch.arrays["mask"].tolist() for batch in batches if "mask" in batch.arrays]
    assert masks == 3 * [[True] * 4, [True, True, False, False]]


@pytest.mark.parametrize("step", range(7))
def test_run_from_any_step_on_reads_the_rest_of_the_batches(step):
    assert numbers(read(first_step=step)) == expected_numbers()[PLAN.position(step) :]


def test_processes_together_read_every_example_of_an_epoch_exactly_once():
    halves = [read(Rows(np.array(rows), np.array(rows))) for rows in ((0, 1), (2, 3))]
    for split, (first, end), counted in (
        ("train", (0, 3), order_of(0).indices[:12]),
        ("test", (3, 5), range(6)),
    ):
        seen = collections.Counter()
        for half in halves:
            for batch in half[first:end]:
                mask = batch.arrays.get("mask", np.ones(2, bool))
                assert len(mask) == 2
                seen.update(batch.arrays["number"][mask].tolist())
        assert seen == collections.Counter(np.asarray(counted).tolist()), split


def test_damaged_example_ends_the_run_unless_it_may_be_skipped():
    damaged = int(order_of(0).indices[5])
    with pytest.raises(UserError, match=f"example {damaged} cannot be read"):
        read(damaged=((damaged,), ()))


def test_damaged_examples_are_replaced_by_the_next_ones_and_not_evaluated():
    damaged = int(order_of(0).indices[5])
    next_one = (damaged + 1) % PLAN.num_train
    batches = read(damaged=((damaged,), (4,)), replace_damaged=True)
    replaced = [[next_one if n == damaged else n for n in step] for step in expected_numbers()[:3]]
    assert numbers(batches)[:3] == replaced
    assert [batch.damaged for batch in batches[:3]] == [[], [(0, damaged)], []]
    assert batches[4].arrays["mask"].tolist() == [False, True, False, False]
    assert batches[4].damaged == [(1, 4)]
    # The replacement does not depend on what was read before.
    later = read(damaged=((damaged,), (4,)), replace_damaged=True, first_step=4)
    assert numbers(later) == numbers(batches)[PLAN.position(4) :]


def test_data_set_without_any_readable_example_is_refused():
    with pytest.raises(UserError, match="no example of the data set can be read"):
        read(damaged=(range(13), ()), replace_damaged=True)


def test_reader_gets_an_index_times_the_stride_plus_the_offset_of_the_epoch():
    stride = 2**40  # positions in a large text exceed 32 bits
    with Orders(PLAN.num_train, order_of, stride=stride) as orders:
        orders.provide(3)
        for epoch in (3, 4):
            expected = order_of(epoch).indices[5:7].astype(np.int64) * stride + epoch
            np.testing.assert_array_equal(orders.read(epoch, 5, np.arange(2)), expected)


def test_reader_that_still_reads_when_the_stream_ends_does_not_crash_the_process():
    """The stream ends between the read of the array and that of its values."""
    orders = Orders(PLAN.num_train, order_of)
    orders.__enter__()
    orders.provide(0)

    class Rows:
        def __radd__(self, start):
            orders.__exit__()
            return start + np.arange(2)

    np.testing.assert_array_equal(orders.read(0, 5, Rows()), order_of(0).indices[5:7])
    with pytest.raises(RuntimeError, match="the stream was closed"):
        orders.read(5, 0, np.arange(2))


def test_reader_that_waits_for_an_order_gives_up_when_the_stream_is_closed():
    errors = []
    with Orders(PLAN.num_train, order_of) as orders:
        orders.provide(0)

        def wait():
            try:
                orders.read(5, 0, np.arange(2))
            except RuntimeError as error:
                errors.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.01)
        assert thread.is_alive()
        orders.close()
        thread.join(10)
    assert len(errors) == 1


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_worker_processes_read_the_same_batches_in_the_same_order(workers):
    assert numbers(read(workers=workers)) == expected_numbers()
    damaged = int(order_of(0).indices[5])
    with pytest.raises(UserError, match=f"example {damaged} cannot be read"):
        read(damaged=((damaged,), ()), workers=workers)
