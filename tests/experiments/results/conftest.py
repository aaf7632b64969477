"""Keeps reports fast in a worker that ran other tests before."""

import gc

import pytest


@pytest.fixture(autouse=True, scope="module")
def _small_heap():
    """Speeds up the garbage collections that statsmodels starts for each table."""
    gc.freeze()
    yield
    gc.unfreeze()
