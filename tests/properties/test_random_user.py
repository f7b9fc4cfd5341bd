"""A random user of every architecture, caller and fault: what holds together holds, undo gives it back, what is saved replays."""

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from memshell.api import Session
from memshell.errors import KernelError, UsageError
from memshell.mm.invariants import violations

sys.path.insert(0, str(Path(__file__).parent))
from random_user import Drawn, Nobody, User, fault_of, play, shorten

# Each of these broke the model once: the fewest commands that did.
FOUND = {
    "an allocation's number and virtio-mem's mark are two things": """
        use x86_64 auto_online=online_movable
        virtio-mem 300M
        alloc 16M
        free all""",
    "virtio-mem brings only its own pages": """
        use x86_64 auto_online=online_movable
        virtio-mem 128M
        add 256M
        online all""",
    "a DIMM that goes does not take virtio-mem's group along": """
        use x86_64
        virtio-mem 512M
        eject 0x100000000 128M via=acpi
        virtio-mem 1G""",
    "pages that a balloon holds are nobody's to take": """
        use x86_64 ram=256M profile=v6.18 auto_online=online_movable
        virtio-mem 384M region=1024M
        alloc 405392K ballooned order=1
        virtio-mem 2M""",
    "two drivers cannot both give pages to the buddy": """
        use x86_64 ram=512M profile=v6.16 auto_online=online_movable
        virtio-mem 0M region=1024M
        add 0x130000000 128M via=hv_balloon
        virtio-mem 2M""",
    "the driver's pages count once when an offline is cancelled, too": """
        use x86_64 ram=256M block=1G profile=v5.15 auto_online=online_movable
        add 512M
        virtio-mem 512M region=8192M
        alloc 364160K unmovable
        offline 5""",
    "more PageOffline pages than managed ones wrap": """
        use powerpc profile=v6.1
        alloc 1G ballooned
        offline online""",
    "of a range at the heads of the lists only whole blocks are": """
        use powerpc ram=512M block=256M page=4K profile=v6.12
        virtio-mem 256M region=2048M
        online 4-7 movable
        virtio-mem 2M
        alloc 78592K movable order=6
        virtio-mem 256M
        alloc 204800K movable order=11""",
    "a PMD that a neighbour filled with base pages is filled on": """
        use x86_64 ram=256M block=1G struct_page=56 gbpages=off profile=v5.10
        add 1G
        add 1G
        add 5G""",
    "a device may be on a node that never had memory": """
        use powerpc ram=1G block=1G page=4K mmu=hash
        probe 0x280000000 2M mode=devdax node=1""",
    "a device in a hole between boot memory is none of the block's": """
        use arm64 ram=1G page=64K profile=v6.1
        probe 0x200000 2M mode=devdax map=dev align=64K""",
    "an alignment above the device": """
        use powerpc
        probe 0x80000000 2M mode=devdax align=1G""",
    "the pages of powerpc's list of mappings hold no struct page": """
        use powerpc page=4K mmu=hash large_pages=off
        add 256M""",
    "a block whose driver takes it away while others go offline": """
        use s390 ram=512M standby=1G block=1M edat=off profile=v7.0 auto_online=online_movable online_policy=auto-movable
        virtio-mem 384M region=1024M
        add 0x58000000 128M via=sclp
        offline all""",
    "a block whose driver takes it away as soon as it is online": """
        use s390 ram=2G standby=0 block=1M edat=off profile=v7.3
        virtio-mem 128M region=1024M block_size=4M
        add 0xa8000000 384M via=sclp
        online last""",
    "LMBs of several adds go at once": """
        use powerpc ram=512M
        add 1792M
        add 256M via=dlpar
        eject 8-11""",
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_stays_mended(name):
    lines = [line.strip() for line in FOUND[name].strip().splitlines()]
    assert fault_of(lines) is None


def test_free_pages_never_exceed_what_is_there():
    session = Session()
    session.run("use x86_64; virtio-mem 2M; online 32 movable; alloc 1M")
    before = session.shell.machine.mm.totalram_pages
    session.run("free 1")
    assert session.shell.machine.mm.totalram_pages == before
    with pytest.raises(UsageError, match="there is no allocation"):
        session.run("free 1")


def test_check_names_the_bug_that_excuses_a_rule():
    session = Session()
    session.run("use powerpc profile=v6.1; alloc 1G ballooned")
    with pytest.raises(KernelError):
        session.run("offline online")
    assert violations(session.shell.machine.mm) == []
    assert "managed lacks" in session.run("check")
    assert "(bug.offline_counts_page_offline)" in session.run("check")


def test_remove_says_what_lost_its_direct_map():
    session = Session()
    assert "memory32-38 lost their direct map" in session.run("use x86_64; add 1G; remove 39")
    assert "as the kernel's bug leaves it: memory32 has lost its direct map" in session.run("check")


def test_a_fault_is_found_and_shortened(monkeypatch):
    """The random user is a check that can fail: a model that forgets to count is noticed, and the noise is left out."""
    from memshell.mm.memory_hotplug import offline

    monkeypatch.setattr(offline, "adjust_present_page_count", lambda *_args, **_keys: None)
    lines = ["use x86_64 ram=512M", "add 256M", "touch 1M", "online all movable", "alloc 1M", "offline 32"]
    assert "present" in fault_of(lines)
    assert shorten(lines) == ["use x86_64 ram=512M", "add 256M", "online all movable", "offline 32"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 9))
def test_seeds(seed):
    for number in range(seed * 1000, seed * 1000 + 12):
        play(number, 25)


class Typing(RuleBasedStateMachine):
    """The same user, whose words hypothesis draws and shortens."""

    @initialize(data=st.data())
    def boot(self, data):
        self.user = User(Drawn(data))

    @rule(data=st.data())
    def type_a_line(self, data):
        self.user.chance = Drawn(data)
        self.user.step()

    def teardown(self):
        if hasattr(self, "user"):
            self.user.chance = Nobody()
            self.user.replays()


Typing.TestCase.settings = settings(
    max_examples=60, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
)  # fmt: skip
TestTyping = pytest.mark.slow(Typing.TestCase)
