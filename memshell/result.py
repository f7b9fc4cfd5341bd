"""What a command hands back, and how it is drawn: table, json, csv, markdown.

A command returns a Result and never prints.  ``text`` is for views that have a format of their own (the
kernel's ``/proc`` files), ``rows`` with ``columns`` for everything that is a table, ``data`` for the JSON of
a view whose JSON is not simply its rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from memshell.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

FORMATS = {
    "table": "for people: as wide as the terminal",
    "json": "for programs: one JSON document",
    "csv": "for spreadsheets: comma-separated, with a header",
    "md": "for documents: a Markdown table",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name, what it means, and whether it is shown without being asked for."""

    name: str
    help: str = ""
    right: bool = False
    default: bool = True
    key: str | None = None
    compute: Callable[[Mapping[str, Any]], Any] | None = None  # the value, for a column that a plugin adds
    width: int = 0  # characters at least, once the values are as wide as the name: libsmartcols' hint
    drop: int = 0  # columns with a higher number go first when the terminal is too narrow; 0 stays

    def of(self, row: Mapping[str, Any]) -> Any:
        """Return this column's value in *row*, which is keyed by *key* or the name in lower case."""
        if self.compute is not None:
            return self.compute(row)
        return row.get(self.key or self.name.lower())


@dataclass(frozen=True, slots=True)
class Result:
    """What a command found: a text with its own layout, or rows, and the data for JSON."""

    text: str | None = None
    rows: Sequence[Mapping[str, Any]] | None = None
    columns: tuple[Column, ...] = ()
    data: Any = None
    header: str = ""
    footer: str = ""
    painted: bool = False  # the text has colours of its own
    extended: bool = False  # the columns of plugins are among *columns*


def columns_of(result: Result) -> tuple[Column, ...]:
    """Return the declared columns, or one for each key of the first row."""
    if result.columns:
        return result.columns
    first = result.rows[0] if result.rows else {}
    return tuple(Column(key, key=key, right=isinstance(value, int)) for key, value in first.items())


def choose_columns(columns: tuple[Column, ...], wish: str | None) -> tuple[Column, ...]:
    """Return the columns to show: *wish* is ``A,B`` (these), ``+C`` (one more) or None (the default ones).

    Raises UsageError for an unknown column, with the nearest name.
    """
    default = tuple(column for column in columns if column.default)
    if wish is None:
        return default
    known = {column.name.upper(): column for column in columns}
    names = [name.strip().upper() for name in wish.lstrip("+").split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise UsageError(f"unknown column {name!r}", hint="known: " + ", ".join(known))
    chosen = tuple(known[name] for name in names)
    return tuple(dict.fromkeys(default + chosen)) if wish.startswith("+") else chosen


def cell(value: Any) -> str:
    """Return a value as a table shows it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return " ".join(cell(item) for item in value)
    return str(value)


def render(
    result: Result, form: str = "table", *, wish: str | None = None, width: int = 0, vertical: bool = False
) -> str:
    """Draw *result*; *width* is the terminal's, 0 for no limit."""
    if form == "json":
        return _json(result, wish)
    if form == "table" and (result.rows is None or (result.text is not None and wish is None)):
        return _ended(result.text or "")
    found = result.rows if result.rows is not None else rows_of(result)
    columns = choose_columns(columns_of(result if found is result.rows else Result(rows=found)), wish)
    rows = [[cell(column.of(row)) for column in columns] for row in found]
    if form == "csv":
        return _csv([column.name for column in columns], rows)
    if form == "md":
        return _markdown(columns, rows)
    if vertical:
        return _vertical(columns, rows)
    return _ended(result.header) + _table(columns, rows, width) + _ended(result.footer)


def rows_of(result: Result) -> list[dict[str, Any]]:
    """Return rows for a view that declares none: its data, by name or by record; else its text, by line."""
    if isinstance(result.data, dict):
        return [{"NAME": name, "VALUE": value} for name, value in _flat(result.data)]
    if isinstance(result.data, list):
        return [dict(_flat(record)) for record in result.data]
    return [{"TEXT": line} for line in (result.text or "").splitlines()]


def _flat(record: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested records under dotted names."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"


def _json(result: Result, wish: str | None) -> str:
    import json

    data: Any = result.data
    if data is None and result.rows is not None:
        data = [dict(row) for row in result.rows]
        if wish is not None:
            columns = choose_columns(columns_of(result), wish)
            data = [{column.name.lower(): column.of(row) for column in columns} for row in result.rows]
    if data is None:
        data = result.text
    return json.dumps(data, indent=2, default=str) + "\n"


def _csv(header: list[str], rows: list[list[str]]) -> str:
    import csv
    import io

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()


def _markdown(columns: tuple[Column, ...], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(column.name for column in columns) + " |"]
    lines.append("|" + "|".join("---:" if column.right else "---" for column in columns) + "|")
    lines += ["| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _vertical(columns: tuple[Column, ...], rows: list[list[str]]) -> str:
    wide = max((len(column.name) for column in columns), default=0)
    names = [f"{column.name:>{wide}}  " for column in columns]
    return "\n".join("".join(n + text + "\n" for n, text in zip(names, row, strict=True)) for row in rows)


def _table(columns: tuple[Column, ...], rows: list[list[str]], width: int) -> str:
    widths = [_width(column, [len(row[at]) for row in rows]) for at, column in enumerate(columns)]
    shown = _fit(columns, widths, width)
    lines = [_line(columns, widths, shown, [column.name for column in columns])]
    lines += [_line(columns, widths, shown, row) for row in rows]
    return "\n".join(lines) + "\n"


def _width(column: Column, lengths: list[int]) -> int:
    """Return a column's width, as libsmartcols of util-linux has it."""
    longest = max(lengths, default=0)
    return len(column.name) if longest < len(column.name) else max(longest, column.width)


def _fit(columns: tuple[Column, ...], widths: list[int], width: int) -> list[int]:
    """Return the positions that fit into *width*: droppable columns go first, then nothing is cut."""
    shown = list(range(len(columns)))
    while width and sum(widths[at] + 1 for at in shown) - 1 > width:
        droppable = [at for at in shown if columns[at].drop]
        if not droppable:
            break
        shown.remove(max(droppable, key=lambda at: columns[at].drop))
    return shown


def _line(columns: tuple[Column, ...], widths: list[int], shown: list[int], row: list[str]) -> str:
    parts = [row[at].rjust(widths[at]) if columns[at].right else row[at].ljust(widths[at]) for at in shown]
    return " ".join(parts).rstrip()
