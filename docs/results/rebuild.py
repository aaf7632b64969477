"""Rebuilds the reports and the tables of docs/results from the stored trials.

    python -m docs.results.rebuild

It names the files that changed, and the claims that a page lacks. The exit code is 0 if there are
none. The figures have the same bytes with all versions in constraints.txt.
"""

import contextlib
import os
import sys
from pathlib import Path

from docs.results import pages
from docs.results.stored import DATA, ROOT


def changed(folder: str) -> dict[Path, bytes | None]:
    """Returns the files of a report that differ from the stored ones, relative to the repository.

    Args:
      folder: one of `pages.REPORTS`.

    Returns:
      Path -> its new content, or None if the report no longer has it.
    """
    made: dict[Path, bytes | None] = dict(pages.report_of(folder))
    made |= dict.fromkeys(set((DATA.parent / folder).glob("*")) - set(made))
    return {path: new for path, new in made.items() if _content(path) != new}


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def main() -> None:
    """Writes the files, and exits with code 1 if one changed or a page lacks a claim."""
    # A report only computes schedules, so it leaves accelerators to the runs that use them.
    os.environ["JAX_PLATFORMS"] = "cpu"
    faults = []
    with contextlib.chdir(ROOT):
        files: dict[Path, bytes | None] = {}
        for folder in pages.REPORTS:
            files |= changed(folder)
        figures = {DATA.parent / name: draw() for name, draw in pages.FIGURES.items()}
        files |= {path: new for path, new in figures.items() if _content(path) != new}
        texts = {Path(name): pages.with_tables(name).encode() for name in pages.PAGES}
        files |= {path: text for path, text in texts.items() if path.read_bytes() != text}
        for path, content in sorted(files.items()):
            if content is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        if files:
            faults.append(f"changed: {', '.join(map(str, sorted(files)))}")
        for name in pages.PAGES:
            faults += [f"{name} lacks: {claim}" for claim in pages.missing(name)]
    print("\n".join(faults) or "no file changed, and the pages have every claim")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
