"""Windows that are read from disk are those that are cut from the text in memory."""

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.data import documents, windows
from experiments.tasks import language_model


class InMemory:
    """A text whose bytes are in memory."""

    def __init__(self, content):
        self._content = content

    def __len__(self):
        return len(self._content)

    def read(self, start, stop):
        assert 0 <= start <= stop <= len(self)
        return self._content[start:stop]


@settings(deadline=None)  # jax compiles
@given(st.data(), st.integers(1, 9), st.integers(0, 8))
def test_windows_equal_those_in_memory(data, context_length, epoch):
    train = data.draw(st.binary(min_size=2 * context_length, max_size=100))
    test = data.draw(st.binary(min_size=1, max_size=30))
    tokens = np.frombuffer(train, np.uint8)
    count = language_model.num_windows(len(train), context_length)
    readers = windows.readers(
        documents.Part(InMemory(b"x" + train + test), 1, 1 + len(train) + len(test)),
        num_train=len(train),
        windows=count,
        context_length=context_length,
    )
    assert len(readers.train) == count
    key = jax.random.key(epoch)
    offset = int(language_model.offset_of(key, context_length))
    indices = np.arange(count)
    cut = language_model.window_cutter(context_length)({"tokens": tokens}, indices, key)
    found = readers.train.read(offset + context_length * indices)
    np.testing.assert_array_equal(found["tokens"], cut["tokens"])
    assert (found["count"] == context_length).all()
    expected = language_model.windows_to_evaluate(
        np.frombuffer(test, np.uint8), before=tokens[-1], context_length=context_length
    )
    found = readers.test.read(range(len(readers.test)))
    assert found.keys() == expected.keys() == readers.test.layouts.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype == readers.test.layouts[name].dtype
