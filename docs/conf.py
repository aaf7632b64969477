"""The settings of Sphinx: `make docs` builds the site from the pages of this folder."""

import importlib.util
import os
import sys
import tomllib
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS)]
# The examples are small, so they run on the CPU. Keras must not write into the home directory. The
# notebook runs in a process of its own, which imports the experiments from the repository.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["KERAS_HOME"] = str(ROOT / "build" / "keras")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))

import site_hooks  # noqa: E402

import loganneal_jax  # noqa: E402

_urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]

project = "loganneal_jax"
author = "The loganneal_jax authors"
copyright = f"2026, {author}"
version = release = loganneal_jax.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["gallery", "auto_gallery/*.ipynb"]  # sources, and copies for download

# Markdown: links to headings as GitHub makes them, and the notebook runs at every build.
myst_heading_anchors = 4
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True

# The docstrings write code in single backticks.
default_role = "code"
highlight_language = "text"
smartquotes = False  # would turn the two hyphens of a flag into a dash
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autosummary_generate = False
maximum_signature_line_length = 80
python_display_short_literal_types = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

# The build checks every link between pages and to documented names. It has no network, so the
# names of other libraries cannot be looked up. Only tasks of this repository stay on disk.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!loganneal_jax\.|experiments\.).*"),
    ("py:class", r"experiments\.data\.records\.Stream"),
]

_NEEDED_BY_EXAMPLE = {"pytorch": "torch", "transformers": "transformers"}
_missing = [name for name, need in _NEEDED_BY_EXAMPLE.items() if not importlib.util.find_spec(need)]
sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "auto_gallery",
    # An example whose library is not installed is shown without being run.
    "filename_pattern": rf"/(?!({'|'.join(_missing)})_)[^/]*\.py$",
    "within_subsection_order": "site_hooks.order_of_example",
    "image_scrapers": ("matplotlib", "site_hooks.scrape_figures"),
    "reset_modules": ("matplotlib", "site_hooks.use_site_style"),
    "image_srcset": ["2x"],
    "abort_on_example_error": True,
    "copyfile_regex": "",
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
}

html_theme = "furo"
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
html_title = f"loganneal_jax {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
copybutton_exclude = ".linenos, .gp, .go"
copybutton_only_copy_prompt_lines = True
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True
if "Repository" in _urls:
    html_theme_options = {
        "source_repository": _urls["Repository"],
        "source_branch": "main",
        "source_directory": "docs/",
    }


def setup(app):
    """Connects what Sphinx has no setting for."""
    site_hooks.setup(app, ROOT, _urls.get("Repository"))
