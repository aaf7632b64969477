"""Replaces and removes the generated tables of a page, which stand between two comments."""

import re


def inserted(text: str, marker: str, table: str) -> str:
    r"""Returns a page with the table between two comments that carry a marker replaced.

    >>> page = "A\n<!-- m -->\n\nold\n\n<!-- end of m -->\nB"
    >>> inserted(page, "m", "new")
    'A\n<!-- m -->\n\nnew\n\n<!-- end of m -->\nB'
    """
    begin, end = f"<!-- {marker} -->", f"<!-- end of {marker} -->"
    before, rest = text.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n\n{table}\n\n{end}{after}"


def without_tables(text: str) -> str:
    r"""Returns a page without its generated tables.

    >>> without_tables("A\n<!-- m -->\n\nold\n\n<!-- end of m -->\nB")
    'A\n\nB'
    """
    return re.sub(r"<!-- (.+?) -->.*?<!-- end of \1 -->", "", text, flags=re.DOTALL)
