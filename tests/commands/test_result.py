"""Results: one list of rows as table, json, csv and markdown."""

import json

import pytest

from memshell.errors import UsageError
from memshell.result import Column, Result, render

COLUMNS = (
    Column("RANGE", drop=2),
    Column("SIZE", right=True),
    Column("STATE"),
    Column("NODE", right=True, default=False),
    Column("NOTE", drop=1),
)
ROWS = [
    {"range": "0x0-0x7", "size": 8, "state": "online", "node": 0, "note": "a|b"},
    {"range": "0x8-0xf", "size": 128, "state": None, "node": 1, "note": 'say "x", y'},
]
RESULT = Result(rows=ROWS, columns=COLUMNS, footer="2 rows")


def test_a_table_aligns_and_ends_with_its_footer():
    assert render(RESULT) == (
        'RANGE   SIZE STATE  NOTE\n0x0-0x7    8 online a|b\n0x8-0xf  128        say "x", y\n2 rows\n'
    )


def test_columns_are_chosen_added_and_checked():
    assert render(RESULT, wish="state,size").splitlines()[0] == "STATE  SIZE"
    assert "NODE" in render(RESULT, wish="+node").splitlines()[0]
    with pytest.raises(UsageError, match="unknown column 'NOD'"):
        render(RESULT, wish="nod")


def test_a_narrow_terminal_drops_what_may_go_and_cuts_nothing():
    assert render(RESULT, width=24).splitlines()[0] == "SIZE STATE  NOTE"
    assert render(RESULT, width=5).splitlines()[0] == "SIZE STATE"


def test_json_is_the_rows_or_the_data():
    assert json.loads(render(RESULT, "json")) == ROWS
    assert json.loads(render(RESULT, "json", wish="SIZE")) == [{"size": 8}, {"size": 128}]
    assert json.loads(render(Result(text="x", data={"a": 1}), "json")) == {"a": 1}


def test_csv_quotes_and_markdown_escapes():
    assert render(RESULT, "csv").splitlines()[2] == '0x8-0xf,128,,"say ""x"", y"'
    assert render(RESULT, "md").splitlines()[:3] == [
        "| RANGE | SIZE | STATE | NOTE |",
        "|---|---:|---|---|",
        "| 0x0-0x7 | 8 | online | a\\|b |",
    ]


def test_vertical():
    assert render(RESULT, vertical=True).splitlines()[:2] == ["RANGE  0x0-0x7", " SIZE  8"]


def test_a_view_without_rows_has_every_form_too():
    """Every command takes -F table|json|csv|md."""
    assert render(Result(text="x", data={"a": 1, "b": {"c": [2, 3]}}), "csv") == "NAME,VALUE\na,1\nb.c,2 3\n"
    assert render(Result(text="x", data=[{"a": 1, "b": {"c": None}}]), "csv") == "a,b.c\n1,\n"
    assert render(Result(text="one\ntwo\n"), "md") == "| TEXT |\n|---|\n| one |\n| two |\n"


def test_a_plugins_column_computes_its_value():
    column = Column("TWICE", compute=lambda row: row["size"] * 2)
    assert render(Result(rows=ROWS, columns=(column,))).split() == ["TWICE", "16", "256"]
