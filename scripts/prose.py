"""Checks the prose of the Markdown pages: proselint, and no sentence that is too long.

    python scripts/prose.py

The section `[tool.prose]` of pyproject.toml lists the pages and the settings. The script exists
because proselint reads no pyproject.toml and takes code for prose.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from proselint.checks import __register__
from proselint.config import DEFAULT, Config
from proselint.registry import CheckRegistry
from proselint.tools import LintFile

ROOT = Path(__file__).resolve().parents[1]
# Fenced and indented code, tables, and comments.
BLOCK = re.compile(r"^```.*?^```|^ {4,}\S[^\n]*$|^ *\|[^\n]*$|<!--.*?-->", re.DOTALL | re.MULTILINE)
IN_LINE = re.compile(r"`[^`\n]+`|(?<=\])\([^)\s]+\)")  # code, and the addresses of links
PARAGRAPH = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.|#+) )")
SENTENCE = re.compile(r"(?<=[.!?:;])[\"')*]*\s+")


def prose(text: str) -> str:
    r"""Returns a page without code and tables. Positions and numbers of words stay.

    >>> prose("Run `make`, see [a](b.md).\n\n    make\n")
    'Run qqqqqq, see [a]qqqqqq.\n\n        \n'
    """
    text = BLOCK.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    return IN_LINE.sub(lambda match: "q" * len(match[0]), text)


def long_sentences(text: str, max_words: int) -> Iterator[str]:
    """Yields a message for each sentence of a page with too many words.

    >>> list(long_sentences("One two three. Four.", 2))
    ['3 words, more than 2: One two three.']
    """
    for paragraph in PARAGRAPH.split(text):
        for sentence in SENTENCE.split(paragraph):
            words = re.findall(r"\w\S*", sentence)
            if len(words) > max_words:
                yield f"{len(words)} words, more than {max_words}: {' '.join(words[:12])}"


def main() -> None:
    """Prints the faults, and exits with code 1 if there are any."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["prose"]
    CheckRegistry().register_many(__register__)
    checks = DEFAULT["checks"] | dict.fromkeys(settings["disable"], False)
    by_depth = sorted(checks.items(), key=lambda check: -check[0].count("."))
    config = Config(max_errors=0, checks=dict(by_depth))
    excluded = {path for pattern in settings["exclude"] for path in ROOT.glob(pattern)}
    pages = {path for pattern in settings["pages"] for path in ROOT.glob(pattern)} - excluded
    faults = []
    for page in sorted(pages):
        name, text = page.relative_to(ROOT), prose(page.read_text())
        for result in LintFile(str(name), text).lint(config):
            faults.append(f"{name}:{result.pos[0]}: {result.check_result.message}")
        faults += [f"{name}: {long}" for long in long_sentences(text, settings["max_words"])]
    print("\n".join(faults))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
