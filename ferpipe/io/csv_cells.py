"""Cells of CSV tables that a spreadsheet would run as formulas.

A class or a file named ``=HYPERLINK(...)`` is a formula for whoever opens the table. The
writers put an apostrophe before text that begins like a formula, as OWASP advises; the
readers remove it.
"""

import re
from typing import Any

__all__ = ["plain_cell", "safe_cell"]

# also the wide forms of the signs, which some spreadsheets take too
_SIGNS = "=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20"
_FORMULA = re.compile(f"[' ]*[{_SIGNS}]")
_MARKED = re.compile(f"'[' ]*[{_SIGNS}]")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def safe_cell(value: Any) -> Any:
    """Mark a text so that no spreadsheet runs it as a formula.

    Parameters
    ----------
    value : object
        Content of a cell; values that are no text, and numbers, are returned unchanged.

    Returns
    -------
    value : object

    Examples
    --------
    >>> safe_cell("=1+1"), safe_cell("-0.5"), safe_cell("anger")
    ("'=1+1", '-0.5', 'anger')
    """
    if not isinstance(value, str) or _NUMBER.fullmatch(value):
        return value
    return f"'{value}" if _FORMULA.match(value) else value


def plain_cell(value: Any) -> Any:
    """Undo :func:`safe_cell`.

    Examples
    --------
    >>> plain_cell("'=1+1"), plain_cell("'tis")
    ('=1+1', "'tis")
    """
    if isinstance(value, str) and _MARKED.match(value):
        return value[1:]
    return value
