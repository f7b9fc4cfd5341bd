"""Which check is missed how: the table that a 4.20 kernel with the series gave, one check off at a time."""

import json
from pathlib import Path

import pytest

from memshell.errors import UsageError
from memshell.experiment.mutate import mutate, rows, show
from memshell.scenario.player import Player
from memshell.scenario.transcript import Recorder
from memshell.shell.shell import Output

SCENARIO = Path(__file__).parents[2] / "scenarios" / "experiments" / "E1.mem"
# site -> (what went wrong first, in which function, at which address or pfn); recordings D-*-1G
RECORDED = {
    "1": ("unable to handle kernel NULL pointer dereference", "free_unref_page_prepare", "0x0"),
    "4": ("BadPageState", "bad_page", "0x100001"),
    "5a": ("unable to handle kernel NULL pointer dereference", "free_unref_page_prepare", "0x0"),
    "5b": ("unable to handle kernel paging request", "free_pagetable", "0xffffea0004008000"),
    "8": ("Warning", "has_unmovable_pages", "0x100000"),
    "10": ("EINTR", "offline_pages", None),
    "12": ("kernel BUG at mm/page_alloc.c:8192!", "__offline_isolated_pages", None),
    "13": ("unable to handle kernel paging request", "free_pagetable", "0xffffea0004008000"),
}


@pytest.fixture(scope="module")
def table():
    return {row["site"]: row for row in rows(mutate(str(SCENARIO), Player().fresh, jobs=1))}


@pytest.mark.parametrize("site", ["1", "2", "3", "4", "5a", "5b", "6", "7", "8", "9", "10", "11", "12", "13"])
def test_a_missing_check(table, site):
    row = table[site]
    if site in RECORDED:
        assert (row["first"], row["function"], row["address"]) == RECORDED[site]
    else:
        assert row["first"] == ("redundant" if site in {"6", "11"} else "no difference")


def test_a_scenario_without_a_kernel_of_the_series_has_no_checks_to_forget(tmp_path):
    path = tmp_path / "plain.mem"
    path.write_text("use x86_64 ram=2G\nadd 1G\n")
    with pytest.raises(UsageError, match="plays no kernel with checks; use x86_64 profile=rfc-2018"):
        mutate(str(path), Player().fresh, jobs=1)


def test_5a_is_silent_at_online(table):
    assert table["5a"]["silent"] == "zone.0.Movable.present 262144 instead of 258048"


def test_pairs_of_checks():
    """Recordings D-1+7-1G, D-4+7-1G: site 7 changes nothing on these paths."""
    plain = show(str(SCENARIO), {}, Player().fresh)
    assert not plain.troubles
    for site in ("check.free_pagetable", "check.online_pages_range"):
        alone, both = (
            show(str(SCENARIO), dict.fromkeys(names, False), Player().fresh)
            for names in ((site,), (site, "check.free_pages_check"))
        )
        assert alone.troubles == both.troubles


def test_the_prompt_has_the_table_as_json_too():
    player = Player(output=Output(Recorder(), Recorder()))
    player.play_text("mutate experiments/E1 jobs=1 --json", "f")
    table = json.loads(player.shell.output.out.text)
    assert {row["site"]: row["function"] for row in table}["8"] == "has_unmovable_pages"
