"""The site, as far as no build of it is needed; `make docs` builds it with warnings as errors."""

import json
import re
import sys
from pathlib import Path

import pytest

import loganneal_jax

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
NOTEBOOK = DOCS / "notebooks" / "first_comparison.ipynb"
CONF = """
import sys
sys.path.insert(0, {docs!r})
import site_hooks
extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 2
def setup(app):
    site_hooks.setup(app, {root!r}, {repository!r})
"""


def test_the_reference_describes_every_public_name_of_the_library():
    sys.path.insert(0, str(DOCS))
    try:
        site_hooks = pytest.importorskip("site_hooks")
    finally:
        sys.path.remove(str(DOCS))
    pages = "\n".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    named = re.findall(r"^\.\. auto(?:function|class):: (\S+)$", pages, re.MULTILINE)
    for modules in re.findall(r"^\.\. public-functions:: (.*)$", pages, re.MULTILINE):
        named += [name for each in modules.split() for name in site_hooks.public_functions(each)]
    assert len(set(named)) == len(named)
    public = {f"loganneal_jax.{name}" for name in loganneal_jax.__all__}
    assert public - set(named) == {"loganneal_jax.__version__", "loganneal_jax.shapes"}
    assert "loganneal_jax.shapes.cosine" in named


def test_the_notebook_is_stored_without_outputs():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 5
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


# The Markdown parser uses parts of Sphinx that a later version removes.
PARSER_IS_OLDER = pytest.mark.filterwarnings("ignore:.* Check CHANGES for Sphinx API")


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Returns a function that builds a small site and returns the page `index`."""
    pytest.importorskip("sphinx")
    from sphinx.cmd.build import build_main

    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "file.py").write_text("x = 1\n")
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n[other](docs/other.md#a-part)\n")
    docs = tmp_path / "docs"
    (docs / "data").mkdir(parents=True)
    (docs / "gallery").mkdir()
    (docs / "gallery" / "example.py").write_text("x = 1\n")
    (docs / "auto_gallery").mkdir()
    (docs / "auto_gallery" / "index.md").write_text("# Gallery\n")
    (docs / "auto_gallery" / "example.md").write_text("# Example\n")
    (docs / "data" / "table.csv").write_text("a,b\n")
    (docs / "other.md").write_text("# Other\n\n## A part\n\n[start](index.md)\n")
    (docs / "changelog.md").write_text("```{include} ../CHANGELOG.md\n```\n")

    def make(links, repository):
        conf = CONF.format(docs=str(DOCS), root=str(tmp_path), repository=repository)
        (docs / "conf.py").write_text(conf)
        toctree = "```{toctree}\n:glob:\n*\nauto_gallery/*\n```\n"
        (docs / "index.md").write_text(f"# Start\n\n{links}\n\n{toctree}")
        out = tmp_path / "out"
        assert build_main(["-q", "-n", "-W", "-E", str(docs), str(out)]) == 0
        return {page: (out / f"{page}.html").read_text() for page in ("index", "changelog")}

    return make


@PARSER_IS_OLDER
def test_links_that_leave_the_pages_lead_to_the_repository(build):
    links = "[file](../code/file.py) [folder](../code) [table](data/table.csv) [data](data)"
    pages = build(links, "https://example.org/project")
    assert 'href="https://example.org/project/blob/main/code/file.py"' in pages["index"]
    assert 'href="https://example.org/project/tree/main/code"' in pages["index"]
    assert 'href="https://example.org/project/tree/main/docs/data"' in pages["index"]
    assert re.search(r'href="_downloads/\w+/table\.csv"', pages["index"])
    assert 'href="other.html#a-part"' in pages["changelog"]


@PARSER_IS_OLDER
def test_links_to_examples_lead_to_their_pages(build):
    page = build("[all](gallery) [one](gallery/example.py)", None)["index"]
    assert 'href="auto_gallery/index.html"' in page
    assert 'href="auto_gallery/example.html"' in page


@PARSER_IS_OLDER
def test_without_an_address_of_the_repository_files_are_downloads_and_folders_are_text(build):
    page = build("[file](../code/file.py) [folder](../code)", None)["index"]
    assert re.search(r'href="_downloads/\w+/file\.py"', page)
    assert "folder" in page
    assert not re.search(r"<a[^>]*>(<[^>]*>)*folder", page)


@PARSER_IS_OLDER
def test_a_link_to_nothing_fails_the_build(build, capsys):
    with pytest.raises(AssertionError):
        build("[gone](../code/gone.py)", "https://example.org/project")
    assert "gone.py" in capsys.readouterr().err


@pytest.mark.slow
def test_the_notebook_runs_and_ends_with_a_figure(monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=200, kernel_name="python3").execute()
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    assert "image/png" in outputs[-1][-1].data
    table = outputs[-2][-1].data["text/plain"]
    assert all(name in table for name in ("cosine", "linear", "log_annealing"))
