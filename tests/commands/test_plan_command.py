"""plan: the ways to add memory are played, and what is recommended is what its scenario shows."""

import json

import pytest

from memshell import GiB, MiB
from memshell.__main__ import main
from memshell.scenario.suite import play_case

BLOCK = 128 * MiB


def ways(prompt, command):
    return prompt.json(command)["ways"]


def find(rows, **wanted):
    return next(row for row in rows if all(row[key] == value for key, value in wanted.items()))


@pytest.fixture(scope="module")
def guest(new_prompt):
    """The ways of a guest of 1G that shall have 64G more: a memmap of 1G."""
    prompt = new_prompt()
    prompt("use x86_64 ram=1G profile=v6.12")
    return prompt, prompt.json("plan 64G")


@pytest.mark.slow
def test_an_8g_guest_with_512g_to_come_and_to_go(prompt):
    prompt("use x86_64 ram=8G profile=v6.12")
    found = prompt.json("plan 512G")
    best = found["ways"][0]
    assert (best["policy"], best["zone"], best["dimms"], best["fits"]) == ("memmap_on_memory", "movable", 1, "ok")
    assert (best["unplug"], best["inside"], best["existing"]) == (512 * GiB, 8 * GiB, 0)
    assert best["usable"] == pytest.approx(504 * GiB, rel=1e-4)  # but for page tables
    assert "    policy memmap_on_memory" in found["recommended"]
    assert "    boot the kernel with memory_hotplug.memmap_on_memory=Y" in found["recommended"]
    assert len(prompt.machine.steps) == 1, "the session's machine is as before"


def test_what_fails_is_a_row_with_the_largest_add_that_fits(guest, new_prompt):
    _prompt, found = guest
    row = find(found["ways"], policy="buddy", zone="movable", dimms=1)
    assert (row["fits"], row["unplug"]) == ("ENOMEM", 0)
    assert row["lost"] > 700 * MiB, "a failed add keeps its memmap until the next reboot"
    again = new_prompt()
    again(f"use x86_64 ram=1G profile=v6.12; add {row['largest'] >> 20}M; undo")
    assert "ENOMEM" in again.fails(f"add {(row['largest'] + BLOCK) >> 20}M")


def test_what_is_in_a_kernel_zone_does_not_surely_go(guest):
    _prompt, found = guest
    assert find(found["ways"], policy="buddy", zone="kernel", dimms=8)["unplug"] == 0
    mixed = find(found["ways"], policy="buddy", zone="mixed")
    assert (mixed["fits"], mixed["unplug"]) == ("ok", 63 * GiB)
    assert [row["way"] for row in found["ways"]] == list(range(1, len(found["ways"]) + 1))
    assert [row["fits"] == "ok" for row in found["ways"]] == sorted(
        (r["fits"] == "ok" for r in found["ways"]), reverse=True
    )


def test_each_number_is_that_of_the_session_that_does_it(guest):
    prompt, found = guest
    row = find(found["ways"], policy="buddy", zone="auto", dimms=8, ratio=301)
    free = prompt.player.eval("free")
    prompt("set online_policy=auto-movable; repeat 8; add 8G; online offline; end")
    assert prompt.player.eval("free") - free == row["usable"]
    assert prompt.player.eval("zone.Movable.present") == row["unplug"]
    prompt("undo 17")


@pytest.mark.slow
@pytest.mark.parametrize("way", [1, 5, -1])
def test_the_scenario_shows_what_the_table_says(guest, tmp_path, way):
    prompt, found = guest
    number = way if way > 0 else len(found["ways"])
    path = tmp_path / "plan.mem"
    assert f"memshell run {path} plays it" in prompt(f"plan 64G way={number} out={path}")
    case = play_case(str(path))
    assert case.ok, case.all_failures()
    assert ("! add" in path.read_text()) == (found["ways"][number - 1]["fits"] != "ok")
    assert "exists; --force" in prompt.fails(f"plan 64G out={path}")


def test_what_stays_is_ranked_by_what_it_gives(prompt):
    prompt("use x86_64 ram=8G")
    rows = ways(prompt, "plan 16G --keep")
    assert (rows[0]["zone"], rows[0]["policy"]) == ("kernel", "buddy")
    assert rows[0]["kernel"] == max(row["kernel"] for row in rows)
    assert "UNPLUG" not in prompt("plan 16G --keep").splitlines()[0]


def test_only_what_the_kernel_has_is_tried(prompt):
    prompt("use x86_64 ram=2G profile=v5.10")
    rows = ways(prompt, "plan 8G")
    assert {row["policy"] for row in rows} == {"buddy"}
    assert not any(row["zone"] == "auto" for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    "machine", ["powerpc ram=8G", "s390 ram=4G", "arm64 ram=4G page=64K", "x86_64 ram=4G profile=rfc-2018"]
)
def test_every_architecture_has_a_plan(prompt, machine):
    prompt(f"use {machine}")
    found = prompt.json("plan 16G")
    assert found["ways"][0]["fits"] == "ok"
    assert found["recommended"][0].startswith("recommended: ")


@pytest.mark.slow
def test_padding_is_tried_where_a_memmap_does_not_fit_its_block(prompt):
    prompt("use powerpc ram=8G")  # 64K pages: the memmap of a block of 256M is no whole number of 64K pages
    rows = ways(prompt, "plan 16G")
    assert find(rows, policy="memmap_on_memory_force", zone="movable")["wasted"] > 0


def test_it_begins_with_the_machine_as_it_stands(prompt):
    prompt("add 16G; online offline kernel")
    assert ways(prompt, "plan 16G")[0]["kernel"] > 16 * GiB


@pytest.mark.parametrize(
    "command, said",
    [
        ("plan 100M", "100M is not whole blocks; a block has 128M"),
        ("plan", "required: size"),
        ("plan 1G way=99", "there is no way 99; the table has 1 to"),
        ("plan 1G wya=1", "did you mean way="),
    ],
)
def test_what_cannot_be_planned_is_one_line(prompt, command, said):
    message = prompt.fails(command)
    assert said in message
    assert "\n" not in message


def test_a_wide_table_drops_what_matters_least(prompt):
    prompt.player.shell.output.width = 80
    table = prompt("plan 8G").partition("\n\n")[0].splitlines()
    assert max(map(len, table)) <= 80
    assert {"POLICY", "ZONE", "FITS", "MEMMAP", "USABLE", "UNPLUG", "LOST", "MOST"} <= set(table[0].split())


def test_the_mode_is_the_command_on_a_machine_of_its_own(capsys):
    assert main(["plan", "ram=8G", "add=8G"]) == 0
    out, error = capsys.readouterr()
    assert error.startswith("x86_64, 8G")
    assert "recommended: all 8G can go again" in out
    assert main(["-F", "json", "plan", "powerpc", "ram=8G", "add=16G", "--keep"]) == 0
    assert json.loads(capsys.readouterr().out)["ways"]


@pytest.mark.parametrize(
    "words", [["ram=8G"], ["add=1G", "add=2G"], ["add=1G", "rm=8G"], ["add=1X"], ["x86_65", "add=1G"]]
)
def test_the_mode_refuses_in_one_line(capsys, words):
    assert main(["plan", *words]) == 2
    assert len(capsys.readouterr().err.splitlines()) <= 2


def test_a_file_writes_no_plan(tmp_path):
    (tmp_path / "a.mem").write_text(f"use x86_64 ram=2G\nplan 1G out={tmp_path}/p.mem\n")
    case = play_case(str(tmp_path / "a.mem"))
    assert "a file may not" in case.errors[0]
    assert not (tmp_path / "p.mem").exists()


def test_what_is_offline_already_is_no_gain(prompt, tmp_path):
    prompt("add 4G")
    rows = prompt.json(f"plan 1G out={tmp_path}/p.mem")["ways"]
    assert rows[0]["usable"] < GiB + MiB
    assert "online 64-71" in (tmp_path / "p.mem").read_text()
    assert play_case(str(tmp_path / "p.mem")).all_failures() == []


def test_the_advice_fits_the_terminal(prompt):
    prompt.player.shell.output.width = 80
    assert max(map(len, prompt("plan 8G").splitlines())) <= 80


def test_memory_that_would_come_online_by_itself_is_onlined_by_hand(prompt):
    prompt("use x86_64 ram=2G auto_online=online")
    found = prompt.json("plan 8G")
    assert {row["unplug"] for row in found["ways"] if row["zone"] == "movable"} == {8 * GiB}
    assert "    set auto_online_blocks=offline" in found["recommended"]
    assert "    echo offline > /sys/devices/system/memory/auto_online_blocks" in found["recommended"]
