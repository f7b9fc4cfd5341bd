"""What is kept of a sweep: each row as it comes, so that one that was interrupted goes on where it ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memshell.errors import CommandError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

ENDINGS = (".csv", ".md", ".json", ".parquet", ".sqlite", ".db", ".txt")


class Kept:
    """The rows of a sweep that are done, by number; with a file, they stand in FILE.part until all are."""

    def __init__(self, out: Path | None, grid: object, *, resume: bool, force: bool) -> None:
        self.rows: dict[int, dict[str, Any]] = {}
        self.out = out
        self.part = None if out is None else out.with_name(out.name + ".part")
        self._grid = json.dumps(grid)
        if self.part is None:
            if resume:
                raise UsageError("--resume goes on with a file", hint="name it: out=FILE.csv")
            return
        self._begin(self.part, resume=resume, force=force)

    def _begin(self, part: Path, *, resume: bool, force: bool) -> None:
        assert self.out is not None
        if part.exists() and resume:
            self._read(part)
            return
        if part.exists() and not force:
            raise UsageError(f"{part} is of a sweep that did not end", hint="--resume goes on, --force begins anew")
        if self.out.exists() and not force:
            raise CommandError(f"{self.out} exists", hint="--force writes over it")
        part.write_text(self._grid + "\n", encoding="utf-8")

    def _read(self, part: Path) -> None:
        """Take in what is done; a line that was cut off by the end of the power is played again."""
        grid, *lines = part.read_text(encoding="utf-8").splitlines() or [""]
        if grid != self._grid:
            raise UsageError(f"{part} is of another grid or scenario", hint="--force begins anew")
        for line in lines:
            try:
                number, row = json.loads(line)
            except ValueError:
                continue
            self.rows[number] = row
        text = "".join(json.dumps([number, row]) + "\n" for number, row in self.rows.items())
        part.write_text(f"{grid}\n{text}", encoding="utf-8")

    def add(self, number: int, row: dict[str, Any]) -> bool:
        """Keep a row; return whether it is a new one: no cell is there twice."""
        if number in self.rows:
            return False
        self.rows[number] = row
        if self.part is not None:
            with self.part.open("a", encoding="utf-8") as file:
                file.write(json.dumps([number, row]) + "\n")
        return True

    def in_order(self) -> list[dict[str, Any]]:
        """Return the rows in the order of the grid."""
        return [self.rows[number] for number in sorted(self.rows)]

    def done(self) -> None:
        """Forget the part: all rows are in the file."""
        if self.part is not None:
            self.part.unlink(missing_ok=True)


def write_rows(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """Write rows in the form that the ending says.  Raises `CommandError` for Parquet without pyarrow."""
    ending = out.suffix.lower()
    if ending == ".parquet":
        _parquet(rows, out)
    elif ending in {".sqlite", ".db"}:
        _sqlite(rows, out)
    else:
        from memshell.result import Result, render

        form = {".csv": "csv", ".md": "md", ".json": "json"}.get(ending, "table")
        out.write_text(render(Result(rows=rows), form), encoding="utf-8")


def check_ending(out: Path) -> None:
    """Raise `UsageError` for a file that cannot be written, before anything is played."""
    if out.suffix.lower() not in ENDINGS:
        raise UsageError(f"{out}: a table ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
    if out.suffix.lower() == ".parquet":
        _pyarrow()
    if not out.parent.is_dir():
        raise UsageError(f"there is no folder {out.parent}")


def _pyarrow() -> Any:
    try:
        import pyarrow as pa
    except ImportError as error:
        hint = "pip install pyarrow; .csv, .json and .sqlite need nothing"
        raise CommandError("Parquet is written by pyarrow, which is not installed", hint=hint) from error
    return pa


def _parquet(rows: Sequence[dict[str, Any]], out: Path) -> None:
    arrow = _pyarrow()
    import pyarrow.parquet

    pyarrow.parquet.write_table(arrow.Table.from_pylist(list(rows)), out)


def _sqlite(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """Write the table ``sweep``, a column for each name."""
    import sqlite3
    from contextlib import closing

    out.unlink(missing_ok=True)
    names = list(rows[0]) if rows else ["outcome"]
    columns = ", ".join('"' + name.replace('"', '""') + '"' for name in names)
    with closing(sqlite3.connect(out)) as base, base:
        base.execute(f"CREATE TABLE sweep ({columns})")
        places = ", ".join("?" * len(names))
        values = [[row.get(name) for name in names] for row in rows]
        base.executemany(f"INSERT INTO sweep VALUES ({places})", values)  # noqa: S608 - places are question marks
