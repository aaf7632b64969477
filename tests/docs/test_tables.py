"""The tables and thumbnails of README.md and docs/schedules.md show every schedule there is."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from docs.schedules import tables
from loganneal_jax import named

HINT = "run python -m docs.schedules.tables"


def test_pages_have_the_tables_of_the_registry():
    for path, text in tables.tables().items():
        assert path.read_text() == text, HINT


def test_readme_has_a_row_with_a_thumbnail_and_a_link_for_every_schedule():
    readme = tables.README.read_text()
    rows = re.findall(
        r"^\| !\[(\w+)\]\((\S+)\) \| \[`(\w+)`\]\(docs/schedules.md#\S+\) \| .+\|$", readme, re.M
    )
    assert [
        (name, f"docs/schedules/thumbnails/{name}.svg", name) for name in named.SCHEDULES
    ] == rows
    assert len(readme.splitlines()) <= 150


def test_thumbnails_show_the_schedules():
    found = {path.stem: path for path in tables.THUMBNAILS.iterdir()}
    assert set(found) == set(named.SCHEDULES), HINT
    for name, values in tables.curves().items():
        assert found[name].stat().st_size < 3000
        (line,) = ET.parse(found[name]).iter("{http://www.w3.org/2000/svg}polyline")
        drawn = [[float(x) for x in corner.split(",")] for corner in line.get("points").split()]
        # Other versions of JAX may round a coordinate to the next tenth of a pixel.
        np.testing.assert_allclose(drawn, tables.points(values), atol=0.11, err_msg=HINT)


@pytest.mark.parametrize("name", ["cosine", "triangular2"])
def test_missing_row_is_noticed(monkeypatch, name):
    tables.curves()  # which other tests share, so it must have every schedule
    # Deleting the entry, and restoring it afterwards, would change the order.
    others = {other: named.SCHEDULES[other] for other in named.SCHEDULES if other != name}
    monkeypatch.setattr(named, "SCHEDULES", others)
    assert all(path.read_text() != text for path, text in tables.tables().items())
