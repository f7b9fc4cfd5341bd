"""Expectations on what a kernel shows."""

import pytest

from memshell.lab.judge import KernelState, NotSeen

SHOWN = {"state": "online", "valid_zones": "Movable"}
STEP = {
    "n": 0,
    "state": {"block_size_bytes": 128 << 20, "memory_blocks": {"32": SHOWN, "33": {**SHOWN, "state": "offline"}}},
    "kpageflags_runs": [[0x100000, 512, 1 << 37], [0x100200, 0x7E00, 1 << 10], [0x108000, 0x8000, 1 << 20]],
}


def test_only_an_online_block_shows_its_own_memmap():
    state = KernelState({"steps": [STEP]}, 0, "")
    assert state.look_up("block.32.vmemmap_pages").number == 512
    with pytest.raises(NotSeen, match="only of an online block"):
        state.look_up("block.33.vmemmap_pages")
