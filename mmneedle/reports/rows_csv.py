"""Rows as CSV, as every report writes them."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any


def csv_text(rows: Sequence[Mapping[str, Any]], names: Sequence[str] = ()) -> str:
    """Rows as CSV with a header line (RFC 4180 with LF), an empty field for null.

    Args:
        rows: by name; one may lack names that others have.
        names: the columns; all names in the rows' order by default.
    """
    names = names or list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return out.getvalue()


def _cell(value: object) -> object:
    """A field that no spreadsheet takes for a formula: text gets an apostrophe before = + - @.

    Numbers stay as they are (OWASP, "CSV Injection").
    """
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value
