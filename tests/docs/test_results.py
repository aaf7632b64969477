"""The pages of results agree with the stored trials, and `make results` finds no difference."""

import contextlib
import itertools
import shutil

import pytest

from docs.results import comparison_tables, mnist_tables, pages, rebuild, stored
from tests.commands import ROOT

HINT = "run make results"


@pytest.mark.parametrize("name", pages.PAGES)
def test_page_has_the_tables_and_claims_of_the_stored_trials(name):
    assert pages.with_tables(name) == (ROOT / name).read_text(), HINT
    assert pages.missing(name) == []


@pytest.mark.parametrize("name", pages.PAGES)
def test_every_number_of_a_page_is_in_a_table_or_a_claim(name, monkeypatch):
    assert pages.unexplained(name) == []
    page = pages.PAGES[name]
    for exception in page.exceptions:
        others = {text: why for text, why in page.exceptions.items() if text != exception}
        monkeypatch.setitem(pages.PAGES, name, page._replace(exceptions=others))
        assert pages.unexplained(name) != [], f"{exception} needs no exception"


def test_every_page_with_intervals_is_listed():
    found = {
        str(page.relative_to(ROOT))
        for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
        if "±" in page.read_text() and page.name != "report.md"
    }
    assert found <= {*pages.PAGES, *pages.UNSTORED}
    assert set(pages.UNSTORED) <= found


def test_every_stored_sweep_and_every_report_is_listed():
    results = ROOT / "docs" / "results"
    listed = [sweep for sweeps in pages.REPORTS.values() for sweep in sweeps]
    assert sorted(listed) == sorted(
        sweep.parent.name for sweep in (results / "data").glob("*/trials.csv")
    )
    assert {page.parent.name for page in results.glob("*/report.md")} == set(pages.REPORTS)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("by 0.13 ± 0.05, and ±2 at 0.1", ["0.13", "± 0.05", "±2"]),
        ("5% or 14.5% of 1,000 (98.81).", ["5%", "14.5%", "98.81"]),
        ("jax 0.10.2, Python 3.11.7, 5,000 of 2 in 1.5 s", []),
    ],
)
def test_numbers_of_results_are_found(text, numbers):
    assert pages.NUMBER.findall(text) == numbers


def test_changed_page_is_noticed(monkeypatch):
    name = "docs/results/mnist.md"
    text = pages.text_of(name)
    claim = "it matches a constant learning rate at *its* tuned peak (+0.07 ± 0.28)"
    assert claim in text
    monkeypatch.setattr(pages, "text_of", lambda name: text.replace("+0.07 ± 0.28", "+0.08 ± 0.28"))
    assert pages.missing(name) == [claim]
    assert len(pages.unexplained(name)) == 2


def test_changed_trial_is_noticed(monkeypatch):
    """One more point of accuracy for one trial changes a table and claims of two pages."""
    sweep = stored.load("fair_mnist_nn2")
    trials = sweep.trials.copy()
    (changed,) = trials.index[
        (trials.phase == "final") & (trials.setting == "log (normalized)") & (trials.seed == 3)
    ]
    trials.loc[changed, "last"] += 0.01
    load = stored.load
    others = {"fair_mnist_nn2": sweep._replace(trials=trials)}
    monkeypatch.setattr(stored, "load", lambda name: others.get(name) or load(name))
    page = "docs/results/mnist.md"
    assert mnist_tables.differences() not in (ROOT / page).read_text()
    assert len(pages.missing(page)) == 3
    assert len(pages.missing("README.md")) == 1


def test_claim_that_is_no_longer_true_is_on_no_page():
    assert stored.if_true(True, "a is b") == "a is b"
    assert stored.if_true(False, "a is b") != "a is b"


def rows_of(table):
    """Returns the cells of a Markdown table by its first column."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    return {first: cells for first, *cells in lines[2:]}


def test_budget_is_the_mean_of_one_peak_and_the_best_of_all():
    tuned = stored.load("cifar10").tuned
    means = 100 * tuned[tuned.setting == "cosine"].groupby(comparison_tables.PEAK)["last"].mean()
    cells = [float(cell) for cell in rows_of(comparison_tables.budgets("cifar10"))["cosine"]]
    assert len(cells) == len(means)
    assert cells[0] == pytest.approx(means.mean(), abs=0.005)
    pairs = [max(pair) for pair in itertools.combinations(means, 2)]
    assert cells[1] == pytest.approx(sum(pairs) / len(pairs), abs=0.005)
    assert cells[-1] == pytest.approx(means.max(), abs=0.005)


def test_time_to_target_counts_the_trials_that_reach_it():
    sweep = stored.load("cifar10")
    aim = comparison_tables.target(sweep)
    best = sweep.epochs("constant").groupby("seed").test_accuracy.max()
    reached, epochs = rows_of(comparison_tables.times_to_target("cifar10"))["constant"]
    assert reached == f"{(best >= aim).sum()} of {len(best)}"
    first = min(
        epoch
        for epoch, accuracy in sweep.epochs("constant")[["epoch", "test_accuracy"]].to_numpy()
        if accuracy >= aim
    )
    assert f"({first:g} to" in epochs


@pytest.mark.parametrize(
    ("name", "worse", "better"),
    [("cifar10", "constant", None), ("shakespeare", "constant", "linear")],
)
def test_only_a_better_method_is_worse_by_a_negative_amount(name, worse, better):
    """For an accuracy, a lower score is worse; for a loss, a higher one is."""
    assert not comparison_tables.worse_by(name, worse).startswith("-")
    if better:
        assert comparison_tables.worse_by(name, better).startswith("-")


def test_method_that_was_tuned_again_has_its_own_trials():
    again = stored.load("cifar10_five_cycles")
    method = "log (normalized)"
    assert list(comparison_tables.scores("cifar10", method)) == list(again.scores(method))
    others = stored.load("cifar10")
    assert list(comparison_tables.scores("cifar10", "cosine")) == list(others.scores("cosine"))


@pytest.fixture(scope="module")
def made():
    """The files of the smallest report."""
    with contextlib.chdir(ROOT):
        return pages.report_of("log_search")


def test_published_report_is_that_of_the_stored_trials(made):
    for path, content in made.items():
        # Other versions of matplotlib draw other bytes.
        if path.suffix != ".png":
            assert (ROOT / path).read_bytes() == content, HINT


@pytest.mark.slow
@pytest.mark.parametrize("folder", pages.REPORTS)
def test_rebuild_finds_no_difference(folder, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert list(rebuild.changed(folder)) == [], HINT


@pytest.mark.slow
@pytest.mark.parametrize("name", pages.FIGURES)
def test_published_figure_is_that_of_the_stored_trials(name):
    figure = ROOT / "docs" / "results" / name
    assert pages.FIGURES[name]() == figure.read_bytes(), HINT


def test_rebuild_restores_files_and_names_them(made, monkeypatch, tmp_path, capsys):
    folder = tmp_path / "docs" / "results" / "log_search"
    folder.mkdir(parents=True)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")  # which the command sets
    for path, content in made.items():
        (tmp_path / path).write_bytes(content)
    two_pages = {name: pages.PAGES[name] for name in ("README.md", "docs/results/mnist.md")}
    monkeypatch.setattr(pages, "PAGES", two_pages)
    for name in two_pages:
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    monkeypatch.setattr(rebuild, "ROOT", tmp_path)
    monkeypatch.setattr(pages, "REPORTS", {"log_search": pages.REPORTS["log_search"]})
    monkeypatch.setattr(pages, "report_of", lambda folder: made)
    monkeypatch.setattr(pages, "FIGURES", {})
    with pytest.raises(SystemExit) as ended:
        rebuild.main()
    assert ended.value.code == 0
    assert capsys.readouterr().out == "no file changed, and the pages have every claim\n"

    (folder / "mnist_best.csv").write_text("model\n")
    (folder / "mnist_ranking.png").unlink()
    (folder / "old.csv").touch()
    page = tmp_path / "docs" / "results" / "mnist.md"
    whole = page.read_text()
    assert "98.95, 99.20" in whole
    page.write_text(whole.replace("98.95, 99.20", "98.95, 99.21"))
    readme = tmp_path / "README.md"
    readme.write_text(readme.read_text().replace("On MNIST with", "With"))
    with pytest.raises(SystemExit) as ended:
        rebuild.main()
    assert ended.value.code == 1
    names = ("mnist_best.csv", "mnist_ranking.png", "old.csv")
    changed = [*(f"log_search/{name}" for name in names), "mnist.md"]
    assert capsys.readouterr().out.splitlines() == [
        "changed: " + ", ".join(f"docs/results/{name}" for name in changed),
        "README.md lacks: On MNIST with a two-layer network and five seeds",
    ]
    assert page.read_text() == whole
    assert {path: (tmp_path / path).read_bytes() for path in made} == made
    assert not (folder / "old.csv").exists()
