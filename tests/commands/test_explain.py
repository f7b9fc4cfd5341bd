"""--explain: the kernel's call chain, readable for one block and for a thousand."""

import json

import pytest

from memshell.mm.events import Trace
from memshell.scenario.suite import shared_plugins
from memshell.scenario.transcript import Session
from memshell.shell.explain import tree_text


@pytest.fixture
def session():
    made = Session(shared_plugins)
    made.type("use x86_64 ram=2G profile=v6.12")
    return made


def test_calls_are_shown_as_a_tree_with_their_file(session):
    lines = session.type("add 1G --explain")
    assert "  __add_memory(0, 0x100000000, 0x40000000, 2)  [mm/memory_hotplug.c]" in lines
    inner = next(line for line in lines if "sparse_add_section" in line)
    assert inner.strip() == "sparse_add_section(0, 0x100000, 32768, None)  x 8  [mm/sparse.c, simplified]"


@pytest.mark.slow
def test_a_thousand_blocks_are_as_readable_as_one(session):
    session.type("policy memmap_on_memory")
    session.type("add 128G")
    assert len(session.type("online offline movable --explain")) < 100


def test_what_fails_is_explained_too(session):
    session.type("add 1G")
    session.type("online 32 movable")
    lines = session.type("remove 32-39 --explain")
    assert any(line.endswith("= -EBUSY  [mm/memory_hotplug.c]") for line in lines)
    assert "EBUSY" in lines[-1]


def test_json_has_every_call(session):
    calls = json.loads("\n".join(session.type("add 1G --explain -F json")))
    assert sum(call["name"] == "sparse_add_section" for call in calls) == 8
    assert set(calls[0]) == {"depth", "name", "where", "args", "ret"}


def test_a_step_without_a_recorded_call_tells_its_effects(session):
    assert session.type("alloc 1M --explain")[1].startswith("mm/page_alloc.c:__alloc_pages: ")
    assert session.type("policy buddy --explain")[1] == "a setting was changed, no kernel function ran"


def test_a_view_says_that_it_calls_nothing(session):
    assert session.type("lsmem --explain") == ["lsmem reads the state and calls nothing in the kernel"]


def test_notes_stand_under_the_call_that_left_them():
    trace = Trace()
    with trace.call("outer", "mm/a.c:outer", (1,)):
        trace.note("1 + 1 = 2")
        for _ in range(3):
            trace.leaf("kswapd_run")
            trace.leaf("kcompactd_run")
    assert tree_text(trace).splitlines() == [
        "outer(1)  [mm/a.c]",
        "    | 1 + 1 = 2",
        "  kswapd_run()  x 3  [mm/vmscan.c]",
        "  kcompactd_run()  x 3  [mm/compaction.c]",
    ]


def test_a_trace_with_a_limit_ends_the_command_and_leaves_the_machine_as_it_was():
    from memshell import Machine
    from memshell.mm.events import TraceFull

    made = Machine.boot("x86_64", ram="2G")
    made.tracing, made.trace_limit = True, 20
    with pytest.raises(TraceFull):
        made.run("add 1G")
    assert 20 <= len(made.last_trace.calls) < 30
    assert len(made.steps) == 1
