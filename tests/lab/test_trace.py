"""Call trees out of the text of a trace."""

from memshell.lab.trace import answer, calls_of, probe_names

TEXT = """\
# tracer: nop
#
              sh-71      [000] .....    12.500000: E_memory_subsys_online: (memory_subsys_online+0x0/0xf0)
              sh-71      [000] .....    12.500010: E_online_pages: (online_pages+0x0/0x330)
     kworker/0:1-9       [000] .....    12.500012: E_memory_notify: (memory_notify+0x0/0x20)
              sh-71      [000] .....    12.500020: E_set_zone_contiguous: (set_zone_contiguous+0x0/0x90)
              sh-71      [000] d....    12.500030: X_set_zone_contiguous: (online_pages+0x1/0x330 <- set_zone_contiguous)
              sh-71      [000] d....    12.500110: X_online_pages: (memory_block_online+0x1/0x2 <- online_pages) r=0xfffffff0
"""


def test_calls_nest_by_task_and_errnos_are_read():
    assert calls_of(TEXT) == [
        [0, "memory_subsys_online", [], None, None],
        [1, "online_pages", [], -16, 100],
        [0, "memory_notify", [], None, None],
        [2, "set_zone_contiguous", [], None, 10],
    ]


def test_the_answer_is_that_of_the_first_name_that_was_called():
    calls = [[0, "__add_memory", [], -17, 5], [1, "add_memory_resource", [], 0, 4]]
    assert answer(calls, ("add_memory_resource", "__add_memory")) == 0
    assert answer(calls, ("add_memory_resource", "__add_memory"), failed=True) == -17
    assert answer([], ("add_memory",)) is None


def test_what_everybody_calls_has_no_probe():
    assert {"online_pages", "offline_pages", "add_memory_resource"} <= set(probe_names())
    assert not {"put_page", "lru_add_drain", "__alloc_pages"} & set(probe_names())
