"""Keeps reports fast in a worker that ran other tests before."""

import gc

import pytest


@pytest.fixture(autouse=True, scope="module")
def _small_heap():
    """Hides earlier objects from the garbage collector; statsmodels runs it for every table."""
    gc.freeze()
    yield
    gc.unfreeze()
