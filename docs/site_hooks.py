"""What the site needs and Sphinx has no setting for: links to code, formulas, and figures."""

import importlib
import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.typing
import optax
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import stringify_annotation

import loganneal_jax

# The examples run in this order in one process, which crashes if TensorFlow, which Keras loads,
# comes before PyTorch.
EXAMPLES = (
    "all_schedules",
    "optax_chain",
    "pytorch_model",
    "transformers_trainer",
    "keras_model",
    "choose_a_peak",
    "restarts_and_snapshots",
    "compare_schedules",
)


def setup(app: Sphinx, root: Path, repository: str | None) -> None:
    """Registers the hooks.

    Args:
      app: the builder of the site.
      root: folder of the repository.
      repository: its address, or None if it has none.
    """
    app.add_config_value("repository_root", str(root), "env")
    app.add_config_value("repository", repository, "env")
    app.add_transform(RepositoryLinks)
    app.add_directive("public-functions", PublicFunctions)
    # Napoleon rewrites the sections of a docstring at the default priority, 500.
    app.connect("autodoc-process-docstring", mark_formulas, priority=400)
    app.connect("autodoc-process-signature", name_types)


class RepositoryLinks(SphinxTransform):
    """Makes the relative links of a page work on the site as they do in the repository.

    A link to a page becomes a link within the site, also on a page that includes a file of another
    folder. A link to the gallery or to a script in it leads to the page that is made from it. A
    link to another file leads to the repository, if its address is known. Otherwise Sphinx offers
    the file as a download.
    """

    default_priority = 500

    def apply(self, **kwargs: Any) -> None:
        """Replaces the links of one page."""
        for node in list(self._links()):
            target, _, anchor = node["reftarget"].partition("#")
            docs, root = Path(self.env.srcdir), Path(self.config.repository_root)
            included = self.env.docname in ("changelog", "contributing")
            folder = root if included else docs / Path(self.env.docname).parent
            path = (folder / target).resolve()
            if not target or not path.exists():
                continue
            inside = path.is_relative_to(docs)
            page = self.env.path2doc(path) if inside and path.is_file() else None
            if path.is_relative_to(docs / "gallery"):
                page = f"auto_gallery/{path.stem if path.is_file() else 'index'}"
            if page:
                found: nodes.Element = addnodes.pending_xref(
                    refdomain="doc",
                    reftype="myst",
                    reftarget=page,
                    reftargetid=anchor or None,
                    refdoc=self.env.docname,
                    refexplicit=True,
                )
            elif (inside and path.is_file()) or (path.is_file() and not self.config.repository):
                found = addnodes.download_reference(
                    refdomain=None,
                    reftype="myst",
                    reftarget=f"/{os.path.relpath(path, docs)}",
                    refdoc=self.env.docname,
                )
            elif self.config.repository:
                kind = "tree" if path.is_dir() else "blob"
                to = path.relative_to(root).as_posix()
                found = nodes.reference(refuri=f"{self.config.repository}/{kind}/main/{to}")
            else:
                found = nodes.inline()
            found += node.children
            node.replace_self(found)

    def _links(self) -> Iterator[nodes.Element]:
        """Yields the relative links of Markdown pages."""
        for kind in (addnodes.download_reference, addnodes.pending_xref):
            for node in self.document.findall(kind):
                if node.get("reftype") == "myst" and node.get("refdomain") is None:
                    yield node


class PublicFunctions(SphinxDirective):
    """Describes the public functions of modules of the library, after a table of them."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Returns the table and the descriptions."""
        names = [name for module in self.arguments[0].split() for name in public_functions(module)]
        rows = [f"   ~{name}" for name in names]
        table = [".. autosummary::", "   :nosignatures:", "", *rows, ""]
        return self.parse_text_to_nodes(
            "\n".join([*table, *(f".. autofunction:: {name}" for name in names)])
        )


def public_functions(module: str) -> list[str]:
    """Returns the names by which users import the functions of a module, in its order.

    Args:
      module: name of a module in `loganneal_jax`.

    >>> public_functions("range_test"), public_functions("shapes")[:2]
    (['loganneal_jax.range_test_schedule'],
     ['loganneal_jax.shapes.constant', 'loganneal_jax.shapes.linear'])
    """
    found = importlib.import_module(f"loganneal_jax.{module}")
    own = [
        name
        for name, value in vars(found).items()
        if inspect.isfunction(value) and value.__module__ == found.__name__
    ]
    if module in loganneal_jax.__all__:
        return [f"{found.__name__}.{name}" for name in own if not name.startswith("_")]
    return [f"loganneal_jax.{name}" for name in own if name in loganneal_jax.__all__]


def mark_formulas(
    app: Any, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Marks the indented blocks of a docstring as literal blocks, in place.

    reStructuredText would read the stars and bars of a formula as markup. A space that does not
    break keeps the summary of a table from ending at "eq.".

    >>> lines = ["The value is", "", "    a**x |b|", "", "Args:", "  x: a number."]
    >>> mark_formulas(None, "function", "f", None, None, lines)
    >>> lines
    ['The value is', '', '::', '', '    a**x |b|', '', 'Args:', '  x: a number.']
    """
    marked: list[str] = []
    literal = False
    for before, line in zip(["", *lines], lines, strict=False):
        indented = line.startswith("    ")
        if indented and not before.strip() and not literal:
            marked += ["::", ""]
            literal = True
        elif line.strip() and not indented:
            literal = False
        marked.append(line.replace("eq. (", "eq.\N{NO-BREAK SPACE}("))
    lines[:] = marked


def name_types(
    app: Any, what: str, name: str, obj: object, options: object, signature: str, returns: str
) -> tuple[str, str] | None:
    """Returns a signature in which the long unions of jax and optax have their names again."""
    if not signature:
        return None
    for short, kind in (("optax.Schedule", optax.Schedule), ("ArrayLike", jax.typing.ArrayLike)):
        signature = signature.replace(stringify_annotation(kind, "smart"), short)
    return signature, returns


def order_of_example(file: str) -> int:
    """Returns the place of an example in the gallery; a new file comes last."""
    name = Path(file).stem
    return EXAMPLES.index(name) if name in EXAMPLES else len(EXAMPLES)


def use_site_style(gallery: object, file: object) -> None:
    """Draws on a transparent background, in colors that the color-blind can tell apart."""
    import matplotlib.pyplot as plt

    plt.style.use(["tableau-colorblind10", {"savefig.transparent": True}])
    plt.rcParams |= {
        "figure.figsize": (7, 4),
        "figure.constrained_layout.use": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.size": 11,
    }


def scrape_figures(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Shows the figures that an example made without pyplot, each once.

    Returns:
      reStructuredText with the pictures.
    """
    from matplotlib.figure import Figure
    from sphinx_gallery.scrapers import figure_rst

    paths = []
    for value in block_vars["example_globals"].values():
        # Figures of pyplot have a number, and those that were shown have a label.
        if isinstance(value, Figure) and not hasattr(value, "number") and not value.get_label():
            paths.append(next(block_vars["image_path_iterator"]))
            value.savefig(paths[-1])
            value.set_label("shown")
    return figure_rst(paths, gallery_conf["src_dir"])
