"""The Python API: what scripts and notebooks stand on."""

from io import StringIO

import pytest

from memshell import GiB, KernelError, Machine, UsageError
from memshell.machine import Machine as BaseMachine


@pytest.fixture
def guest():
    return Machine.boot("x86_64", ram="2G", policy="memmap_on_memory")


def test_it_boots_and_runs(guest):
    assert guest.run("add 1G").startswith("1G at 0x100000000")
    assert (
        guest.run("online all movable; expect blocks.online == 24")
        == "memory32-39 online in Movable: 1008M and 16M memmap\n"
    )
    assert (guest.arch.name, guest.profile, guest.policy) == ("x86_64", "v6.12", "memmap_on_memory")
    assert guest.zones[0, "Movable"].present << 12 == GiB
    assert {event.kind for event in guest.events} == {"BlockOnlined"}
    assert guest.check() == []
    assert isinstance(guest, BaseMachine)


def test_options_may_be_numbers():
    assert sorted(Machine.boot("x86_64", nodes=3).mm.nodes) == [0, 1, 2]


@pytest.mark.parametrize(
    "arguments, options, says",
    [
        (("x86_46",), {}, "unknown architecture 'x86_46'; did you mean x86_64?"),
        (("x86_64",), {"rm": "2G"}, "unknown key 'rm'; did you mean 'ram'?"),
        (("x86_64",), {"policy": "budy"}, "did you mean buddy?"),
        (("x86_64",), {"profile": "v9"}, "unknown profile 'v9'"),
        (("x86_64",), {"ram": "2G; add 1G"}, "is not a size"),
    ],
)
def test_a_wrong_name_is_one_line(arguments, options, says):
    with pytest.raises(UsageError) as failed:
        Machine.boot(*arguments, **options)
    assert says in str(failed.value)


def test_errors_are_those_of_the_commands(guest):
    with pytest.raises(KernelError) as failed:
        guest.run("add 1G; add 0x100000000 1G")
    assert failed.value.errno == "EEXIST"
    assert "<python>" not in str(failed.value)
    assert 32 in guest.blocks, "what came before the failure is done"


def test_views_as_data(guest):
    assert guest.data("meminfo")["MemTotal"] == guest.mem_total >> 10
    assert guest.data("zoneinfo")[0]["zone"] == "DMA"
    assert guest.mem_free == sum(row["free"] for row in guest.data("zoneinfo")) << 12


def test_history(guest):
    guest.run("add 1G; online 32 movable")
    assert "memory.32.state" in [change.path for change in guest.diff(1, 2)]
    guest.undo()
    assert guest.blocks[32].state == "offline"
    guest.redo()
    assert guest.blocks[32].state == "online"


def test_use_in_a_command_makes_it_another_machine(guest):
    guest.run("add 1G")
    guest.run("use s390 ram=4G")
    assert (guest.arch.name, len(guest.steps), 8 in guest.blocks) == ("s390", 1, True)
    guest.run("add 1G")
    assert len(guest.steps) == 2


def test_what_is_returned_is_not_the_state(guest):
    guest.blocks.clear()
    guest.zones.clear()
    assert guest.blocks
    assert guest.check() == []


def test_a_machine_draws_itself(guest):
    from rich.console import Console

    assert repr(guest) == "<Machine x86_64, 2G, blocks of 128M, kernel v6.12, policy memmap_on_memory>"
    assert "DMA32" in str(guest)
    console = Console(width=60, record=True, file=StringIO())
    console.print(guest)
    assert max(len(line) for line in console.export_text().splitlines()) <= 60
    html = guest._repr_html_()
    assert html.startswith("<svg")
    assert "DMA32" in html
    assert guest._repr_mimebundle_() == {"text/plain": str(guest), "text/html": html}
