"""Expressions: units, tolerances, and what a failure says."""

import pytest

from memshell.errors import UsageError
from memshell.scenario.expression import Names, Number, evaluate, show, why_not
from memshell.scenario.syntax import parse_expression

VALUES = {"pages": Number(589824, 4096), "kb": Number(2, 1024), "word": "Movable", "yes": True}


def _names():
    return Names(VALUES.__getitem__, {"i": Number(3), "n": Number(128 << 20, 1)})


def _value(text):
    return evaluate(parse_expression(text), _names())


@pytest.mark.parametrize(
    "text",
    [
        "pages == 589824",  # a bare number counts what the other side counts
        "pages == 2304M",  # a size is compared in bytes: 589824 pages of 4 KiB
        "pages == 2415919104B",
        "pages == 2303M +- 1M",
        "pages == 589820 +- 4",
        "not pages == 2302M +- 1M",
        "pages > 2G and pages < 3G or yes == yes",
        "pages in [1, 589824]",
        'word not in ["Normal"]',
        "kb == 2K",
        "(1 + 2) * 3 - $i == 6",
        "2 + 3 * 4 == 14",
        "10 - 3 - 2 == 5",
        "3G / 64 == 48M",
        "1G / 128M == 8",
        "7 / 2 == 3.5 and 7 // 2 == 3 and 7 % 2 == 1",
        "$n * 2 == 256M",
        "-pages < 0",
        "0x10 == 16",
    ],
)
def test_holds(text):
    assert _value(text) is True


@pytest.mark.parametrize(
    "text, message",
    [
        ("1 / 0", "division by zero"),
        ("word < 3", "compares different things"),
        ("word + 1", "Movable is not a number"),
        ("$j == 3", "$j is not set; set it with: let j = ..."),
        ("pages and yes", "neither true nor false"),
        ("1G * 1G", "memory times memory"),
        ("pages < 3 +- 1", "+- goes with =="),
    ],
)
def test_nonsense_is_refused(text, message):
    with pytest.raises(UsageError) as caught:
        _value(text)
    assert message in str(caught.value)


def test_a_failure_says_what_was_seen_and_by_how_much_it_is_off():
    assert why_not(parse_expression("pages == 2G"), _names()) == ["    actual 2304M (589824 pages), off by 256M"]
    assert why_not(parse_expression("pages == 2304M and kb == 3"), _names()) == ["    actual 2K (2 kB), off by -1K"]
    assert why_not(parse_expression("pages == kb"), _names()) == [
        "    actual 2304M (589824 pages), against 2K (2 kB), off by 2359294K"
    ]


def test_sizes_are_shown_as_they_are_read():
    assert show(Number(3 << 29, 1)) == "1536M"
    assert show(Number(17)) == "17"
