"""The kernel's parameters: what they are at first, as text, and on the command line."""

import pytest

from memshell.errors import UsageError
from memshell.mm.kconfig import configured
from memshell.mm.params import PARAMETERS, Params, boot_params, boot_words, memmap_on_memory, read_sysfs, unread
from memshell.profiles import PROFILES


def test_a_default_is_a_value_that_can_be_given():
    for name, parameter in PARAMETERS.items():
        shown = Params().text(name)
        assert not shown or Params().with_text(name, shown) == Params()
        assert parameter.text


@pytest.mark.parametrize(
    "cmdline, changed",
    [
        ("quiet movable_node", {"movable_node": True}),
        ("memhp_default_state=online_movable", {"auto_online_blocks": "online_movable"}),
        ("memory_hotplug.online_policy=auto-movable", {"online_policy": "auto-movable"}),
        ("memory_hotplug.auto_movable_ratio=400 memory_hotplug.auto_movable_ratio=10", {"auto_movable_ratio": 10}),
        ("memory_hotplug.auto_movable_numa_aware=0", {"auto_movable_numa_aware": False}),
        ("hugetlb_free_vmemmap=on transparent_hugepage=never", {"hugetlb_free_vmemmap": True, "transparent_hugepage": "never"}),
        ("memhp_default_state=sometimes online_policy=auto-movable", {}),
        ("memory_hotplug.movable_node=Y memory_hotplug.memmap_on_memory=Y", {}),
    ],
)  # fmt: skip
def test_the_command_line(cmdline, changed):
    params = boot_params(cmdline)
    assert {
        name: getattr(params, name) for name in PARAMETERS if getattr(params, name) != getattr(Params(), name)
    } == changed


def test_words_boot_what_they_were_made_of():
    params = Params(auto_online_blocks="online", auto_movable_ratio=7, auto_movable_numa_aware=False, movable_node=True)
    assert boot_words(params) == [
        "memhp_default_state=online",
        "memory_hotplug.auto_movable_ratio=7",
        "memory_hotplug.auto_movable_numa_aware=N",
        "movable_node=on",
    ]
    assert boot_params(" ".join(boot_words(params))) == params


def test_what_nobody_reads_is_named():
    read = "mem=2G movable_node memhp_default_state=online memory_hotplug.memmap_on_memory=force nogbpages"
    assert unread(read) == []
    assert unread("numa=fake=4 page_alloc.shuffle=1 memhp_default_state=often") == [
        "page_alloc.shuffle=1",
        "memhp_default_state=often",
    ]
    assert memmap_on_memory(read) == "force"


def test_a_kernel_reads_the_words_that_it_was_built_for():
    old, bare = PROFILES["v5.10"], PROFILES["v6.12"]
    for name in ("config.cma", "config.hugetlb_page", "config.mhp_memmap_on_memory", "config.transparent_hugepage"):
        bare = bare.with_feature(name, False)
    words = (
        "cma=64M hugepages=4 hugepagesz=2M memory_hotplug.memmap_on_memory=Y transparent_hugepage=never movable_node"
    )
    assert unread(words, PROFILES["v6.12"]) == []
    assert unread(words, bare) == words.split()[:-1]
    assert boot_params(words, bare) == Params(movable_node=True)
    policy = "memory_hotplug.online_policy=auto-movable"
    assert unread(policy, old) == [policy]
    assert boot_params(policy, old) == Params()
    assert unread("rodata=full", others=("rodata",)) == []


def test_the_configuration_chooses_what_nobody_sets():
    config = {"CONFIG_MHP_DEFAULT_ONLINE_TYPE_ONLINE_KERNEL": "y", "CONFIG_TRANSPARENT_HUGEPAGE_NEVER": "y"}
    built = configured(config)
    assert built == Params(auto_online_blocks="online_kernel", transparent_hugepage="never")
    assert boot_params("memhp_default_state=offline", params=built).auto_online_blocks == "offline"


def test_sysfs_shows_what_can_be_written_there():
    shown = {"auto_movable_ratio": "100", "movable_node": "Y", "memmap_on_memory": "Y", "auto_online_blocks": "online"}
    assert read_sysfs(Params(), shown) == Params(auto_movable_ratio=100, auto_online_blocks="online")


@pytest.mark.parametrize(
    "name, given, words",
    [
        ("auto_movable_ratio", "much", "whole number"),
        ("online_policy", "contig-zone", "did you mean contig-zones?"),
        ("movable_node", "maybe", "one of Y, N"),
        ("memmap_content", "byte:x", "whole number"),
        ("memmap_content", "byte", "stale, zero"),
    ],
)
def test_a_value_that_cannot_be(name, given, words):
    with pytest.raises(UsageError, match="whole number" if "whole" in words else None) as caught:
        Params().with_text(name, given)
    assert words in str(caught.value)
