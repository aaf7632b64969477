"""Lists the reports and the pages of results, and compares them with the stored trials.

To add a result, store its sweep in docs/results/data, and add an entry to `REPORTS` and to `PAGES`.
"""

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from docs.markers import inserted, without_tables
from docs.results import (
    ablation_claims,
    ceiling_claims,
    comparison_claims,
    comparison_tables,
    mnist_claims,
    mnist_tables,
    noise,
    profile,
    regression_claims,
    restarts,
    summary_claims,
    warmup_claims,
)
from docs.results.stored import DATA, ROOT
from experiments.results import read, report

# Folder of docs/results -> the folders of docs/results/data that its report is about.
REPORTS = {
    "mnist": ("mnist_nn2", "mnist_lenet4"),
    "fair_mnist": ("fair_mnist_nn2",),
    "log_search": ("log_search",),
    "teacher": ("teacher",),
    "teacher_short": ("teacher_short",),
    "shakespeare": ("shakespeare",),
    "shakespeare_500": ("shakespeare_500",),
    "shakespeare_lion": ("shakespeare_lion",),
    "shakespeare_muon": ("shakespeare_muon",),
    "cifar10": ("cifar10",),
    "cifar10_five_cycles": ("cifar10_five_cycles",),
    "ablation": ("ablation",),
    "ceiling": ("ceiling_teacher", "ceiling_teacher_short"),
    "warmup": ("warmup_teacher", "warmup_teacher_short"),
}
EPOCHS = (1, 3, 6, 9, 12, 15)  # of CIFAR-10, that its page shows
# Figure of docs/results -> returns its bytes.
FIGURES = {
    "ceiling.png": ceiling_claims.png,
    "noise.png": noise.png,
    "profile.png": lambda: profile.png([*summary_claims.COMPARISONS]),
    "restarts.png": restarts.png,
}


class Page(NamedTuple):
    """What a page says of the stored trials.

    Attributes:
      claims: returns every fragment of its prose that contains a number from the trials.
      tables: the name in the comments around each generated table -> its text.
      exceptions: fragment with a number that is not from the trials -> where it is from.
      section: the heading of the section that is compared, or None for the whole page.
    """

    claims: Callable[[], list[str]]
    tables: Mapping[str, Callable[[], str]] = {}
    exceptions: Mapping[str, str] = {}
    section: str | None = None


def _of_comparison(name: str) -> dict[str, Callable[[], str]]:
    """Returns the tables of every comparison, by the name in the comments around them."""
    return {
        name: functools.partial(comparison_tables.results, name),
        f"tuning of {name}": functools.partial(comparison_tables.tuning, name),
        f"budgets of {name}": functools.partial(comparison_tables.budgets, name),
    }


PAGES = {
    "README.md": Page(
        lambda: [*summary_claims.of_readme(), *mnist_claims.of_readme()],
        exceptions={"with 95% intervals": "the protocol"},
        section="Results",
    ),
    "docs/comparing.md": Page(
        mnist_claims.of_comparing,
        exceptions={"may exceed 100%": "the largest accuracy"},
    ),
    "docs/results/README.md": Page(
        summary_claims.claims, tables={"all tasks": summary_claims.summary}
    ),
    "docs/results/mnist.md": Page(
        mnist_claims.of_results,
        tables={
            "differences of NN-2": mnist_tables.differences,
            "accuracies of LeNet-4": mnist_tables.lenet4,
            "NN-2 beside the paper": lambda: mnist_tables.beside_the_paper(
                "NN-2", "mnist_nn2", "ours, 10 epochs"
            ),
            "LeNet-4 beside the paper": lambda: mnist_tables.beside_the_paper(
                "LeNet-4", "mnist_lenet4", "ours, 10 epochs, width 0.25"
            ),
        },
        exceptions={
            "a printed ± 0.04 is luck": "an example, in the table above it",
            "PyTorch's is 0.99": "a default of PyTorch",
        },
    ),
    "docs/results/linear_regression.md": Page(
        regression_claims.claims,
        tables={
            "all methods": regression_claims.methods,
            "lowest risks": lambda: regression_claims.of_the_map("Lowest risk"),
            "one cycle": lambda: regression_claims.of_the_map("Risk of log (one cycle)"),
            "five cycles": lambda: regression_claims.of_the_map("Risk of log (normalized)"),
        },
        exceptions={
            "the 95% interval of the paired difference": "the protocol",
            "within 1% of cosine's excess": "a choice",
        },
    ),
    "docs/results/cifar10.md": Page(
        comparison_claims.cifar10,
        tables={
            **_of_comparison("cifar10"),
            "epochs of cifar10": lambda: comparison_tables.anytime("cifar10", EPOCHS),
            "target of cifar10": lambda: comparison_tables.times_to_target("cifar10"),
        },
        exceptions={"with its 95% interval": "the protocol", "with 95% intervals": "the protocol"},
    ),
    "docs/results/tiny_shakespeare.md": Page(
        lambda: [*comparison_claims.shakespeare(), *restarts.claims()],
        tables={
            **_of_comparison("shakespeare"),
            **_of_comparison("shakespeare_500"),
            **_of_comparison("shakespeare_lion"),
            **_of_comparison("shakespeare_muon"),
            "restarts": restarts.table,
        },
        exceptions={"with its 95% interval": "the protocol", "with 95% intervals": "the protocol"},
    ),
    "docs/results/ablation.md": Page(
        ablation_claims.claims,
        tables={"ablation": ablation_claims.results, "tuning of ablation": ablation_claims.tuning},
        exceptions={
            "with its 95% interval": "the protocol",
            "with a decay of 0.99": "a choice",
        },
    ),
    "docs/results/ceiling.md": Page(
        ceiling_claims.claims,
        tables={
            "ceiling_teacher": lambda: comparison_tables.results("ceiling_teacher"),
            "ceiling_teacher_short": lambda: comparison_tables.results("ceiling_teacher_short"),
            "search": ceiling_claims.progress,
        },
        exceptions={"with its 95% interval": "the protocol"},
    ),
    "docs/results/teacher.md": Page(
        lambda: [*comparison_claims.teacher(), *noise.claims(), *warmup_claims.claims()],
        tables={
            **_of_comparison("teacher"),
            **_of_comparison("teacher_short"),
            "noise": noise.table,
            "warmup of teacher": lambda: warmup_claims.table("teacher"),
            "warmup of teacher_short": lambda: warmup_claims.table("teacher_short"),
        },
        exceptions={
            "with its 95% interval": "the protocol",
            "with 95% intervals": "the protocol",
            "fixes at 5% of the run": "the protocol",
            "a long one of 20%": "a choice",
        },
    ),
}
# Pages with intervals whose trials are not stored -> where the numbers are from.
UNSTORED = {"docs/averaging.md": "the sweep of its example, which takes a minute"}

# A half-width, a percentage, or a number with at least two decimals that is no version.
NUMBER = re.compile(r"± ?[\d.]*\d|(?<![\d.])(?:\d[\d.,]*%|\d+\.\d\d+)(?!\.?\d)")
CODE = re.compile(r"^ {4}.*|`[^`]*`", re.MULTILINE)


def text_of(name: str) -> str:
    """Returns a page or its section on one line, without generated tables and code."""
    text, section = (ROOT / name).read_text(), PAGES[name].section
    if section:
        (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return " ".join(CODE.sub("", without_tables(text)).split())


def missing(name: str) -> list[str]:
    """Returns the claims that a page lacks, because its text or the trials changed."""
    text = text_of(name)
    return [claim for claim in PAGES[name].claims() if claim not in text]


def unexplained(name: str) -> list[str]:
    """Returns the numbers of a page that are neither in a table, a claim, nor an exception."""
    text, page = text_of(name), PAGES[name]
    for fragment in (*page.claims(), *page.exceptions):
        text = text.replace(fragment, " ")
    return [text[max(0, at.start() - 40) : at.end() + 10] for at in NUMBER.finditer(text)]


def with_tables(name: str) -> str:
    """Returns a page with its generated tables renewed."""
    text = (ROOT / name).read_text()
    for marker, table in PAGES[name].tables.items():
        text = inserted(text, marker, table())
    return text


def report_of(folder: str) -> dict[Path, bytes]:
    """Returns the files of a report, relative to the repository, which is the current directory."""
    made = report.make(read.read([DATA / sweep for sweep in REPORTS[folder]]))
    return {DATA.parent / folder / name: content for name, content in made.items()}
