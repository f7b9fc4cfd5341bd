"""memshell: try out Linux memory hotplug before you do it to a machine.

This module is the public API; nothing else is. Names are loaded when they are first used, so that importing
`memshell` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memshell.api import Machine as Machine
    from memshell.arch import Arch as Arch
    from memshell.arch import BootBlock as BootBlock
    from memshell.arch import BootMemory as BootMemory
    from memshell.arch import BootZone as BootZone
    from memshell.arch import Option as Option
    from memshell.arch import TableLevel as TableLevel
    from memshell.commands import ADDRESS as ADDRESS
    from memshell.commands import BLOCKS as BLOCKS
    from memshell.commands import FILE as FILE
    from memshell.commands import INT as INT
    from memshell.commands import PFN as PFN
    from memshell.commands import SIZE as SIZE
    from memshell.commands import TEXT as TEXT
    from memshell.commands import Arg as Arg
    from memshell.commands import ArgType as ArgType
    from memshell.commands import Column as Column
    from memshell.commands import Command as Command
    from memshell.commands import Result as Result
    from memshell.commands import Shell as Shell
    from memshell.commands import arg as arg
    from memshell.commands import choice as choice
    from memshell.commands import command as command
    from memshell.drivers.base.memory.state import memory_subsys_offline as memory_subsys_offline
    from memshell.drivers.base.memory.state import memory_subsys_online as memory_subsys_online
    from memshell.drivers.callers import Caller as Caller
    from memshell.drivers.callers import Request as Request
    from memshell.errors import CommandError as CommandError
    from memshell.errors import KernelError as KernelError
    from memshell.errors import MemshellError as MemshellError
    from memshell.errors import OutOfMemory as OutOfMemory
    from memshell.errors import PluginError as PluginError
    from memshell.errors import UsageError as UsageError
    from memshell.hookspecs import Context as Context
    from memshell.hookspecs import FaultPoint as FaultPoint
    from memshell.hookspecs import FeatureGroup as FeatureGroup
    from memshell.hookspecs import Format as Format
    from memshell.hookspecs import Quantity as Quantity
    from memshell.hookspecs import hookimpl as hookimpl
    from memshell.mm import mirrors as mirrors
    from memshell.mm.events import Event as Event
    from memshell.mm.fault import page_fault as page_fault
    from memshell.mm.feature import feature as feature
    from memshell.mm.memory_hotplug import MHP_MEMMAP_ON_MEMORY as MHP_MEMMAP_ON_MEMORY
    from memshell.mm.memory_hotplug.add import add_memory as add_memory
    from memshell.mm.memory_hotplug.add import add_pages as add_pages
    from memshell.mm.memory_hotplug.memmap_on_memory import (
        mhp_supports_memmap_on_memory as mhp_supports_memmap_on_memory,
    )
    from memshell.mm.memory_hotplug.offline import offline_pages as offline_pages
    from memshell.mm.memory_hotplug.online import online_pages as online_pages
    from memshell.mm.memory_hotplug.remove import offline_and_remove_memory as offline_and_remove_memory
    from memshell.mm.memory_hotplug.remove import remove_memory as remove_memory
    from memshell.mm.memory_hotplug.remove import remove_memory_locked as remove_memory_locked
    from memshell.mm.memory_hotplug.remove import remove_pages as remove_pages
    from memshell.mm.memremap import AltmapRow as AltmapRow
    from memshell.mm.memremap import VmemAltmap as VmemAltmap
    from memshell.mm.mmzone import ZoneType as ZoneType
    from memshell.mm.page import Owner as Owner
    from memshell.mm.pfn import GiB as GiB
    from memshell.mm.pfn import KiB as KiB
    from memshell.mm.pfn import MiB as MiB
    from memshell.mm.pfn import TiB as TiB
    from memshell.mm.pfn import align_down as align_down
    from memshell.mm.pfn import align_up as align_up
    from memshell.mm.pfn import format_size as format_size
    from memshell.mm.pfn import memparse as memparse
    from memshell.mm.pgtable import ensure_table as ensure_table
    from memshell.mm.pgtable import ensure_tables as ensure_tables
    from memshell.mm.pgtable import free_empty_table as free_empty_table
    from memshell.mm.pgtable import free_unused_tables as free_unused_tables
    from memshell.mm.pgtable import leaf_pfn as leaf_pfn
    from memshell.mm.pgtable import set_early_leaves as set_early_leaves
    from memshell.mm.pgtable import set_fragments_left as set_fragments_left
    from memshell.mm.pgtable import set_leaf as set_leaf
    from memshell.mm.profile import Profile as Profile
    from memshell.mm.profile import released as released
    from memshell.mm.sparse_vmemmap import free_leaves as free_leaves
    from memshell.mm.sparse_vmemmap import free_vmemmap_leaf as free_vmemmap_leaf
    from memshell.mm.sparse_vmemmap import free_vmemmap_pages as free_vmemmap_pages
    from memshell.mm.sparse_vmemmap import populate_leaves as populate_leaves
    from memshell.mm.sparse_vmemmap import struct_pages_in_use as struct_pages_in_use
    from memshell.mm.sparse_vmemmap import vmemmap_alloc_block_buf as vmemmap_alloc_block_buf
    from memshell.mm.sparse_vmemmap import vmemmap_populate_basepages as vmemmap_populate_basepages
    from memshell.mm.sparse_vmemmap import vmemmap_populate_hugepages as vmemmap_populate_hugepages
    from memshell.mm.state import Leaf as Leaf
    from memshell.mm.state import Mm as Mm
    from memshell.policy import MemmapRequest as MemmapRequest
    from memshell.policy import Placement as Placement
    from memshell.policy import Policy as Policy
    from memshell.series.struct_page import filled as filled
    from memshell.vmlinux.defaults import ArchDefaults as ArchDefaults

__version__ = "0.1.0"

_MODULES = {
    "memshell.api": "Machine",
    "memshell.arch": "Arch BootBlock BootMemory BootZone Option TableLevel",
    "memshell.commands": (
        "ADDRESS BLOCKS FILE INT PFN SIZE TEXT Arg ArgType Column Command Result Shell arg choice command"
    ),
    "memshell.drivers.base.memory.state": "memory_subsys_offline memory_subsys_online",
    "memshell.drivers.callers": "Caller Request",
    "memshell.errors": "CommandError KernelError MemshellError OutOfMemory PluginError UsageError",
    "memshell.hookspecs": "Context FaultPoint FeatureGroup Format Quantity hookimpl",
    "memshell.mm": "mirrors",
    "memshell.mm.events": "Event",
    "memshell.mm.fault": "page_fault",
    "memshell.mm.feature": "feature",
    "memshell.mm.memory_hotplug": "MHP_MEMMAP_ON_MEMORY",
    "memshell.mm.memory_hotplug.add": "add_memory add_pages",
    "memshell.mm.memory_hotplug.memmap_on_memory": "mhp_supports_memmap_on_memory",
    "memshell.mm.memory_hotplug.offline": "offline_pages",
    "memshell.mm.memory_hotplug.online": "online_pages",
    "memshell.mm.memory_hotplug.remove": "offline_and_remove_memory remove_memory remove_memory_locked remove_pages",
    "memshell.mm.memremap": "AltmapRow VmemAltmap",
    "memshell.mm.mmzone": "ZoneType",
    "memshell.mm.page": "Owner",
    "memshell.mm.pfn": "GiB KiB MiB TiB align_down align_up format_size memparse",
    "memshell.mm.pgtable": (
        "ensure_table ensure_tables free_empty_table free_unused_tables leaf_pfn set_early_leaves set_fragments_left "
        "set_leaf"
    ),
    "memshell.mm.profile": "Profile released",
    "memshell.mm.sparse_vmemmap": (
        "free_leaves free_vmemmap_leaf free_vmemmap_pages populate_leaves struct_pages_in_use vmemmap_alloc_block_buf "
        "vmemmap_populate_basepages vmemmap_populate_hugepages"
    ),
    "memshell.mm.state": "Leaf Mm",
    "memshell.vmlinux.defaults": "ArchDefaults",
    "memshell.policy": "MemmapRequest Placement Policy",
    "memshell.series.struct_page": "filled",
}
_HOME = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = sorted(_HOME)  # noqa: PLE0605  # a sorted list of strings is what the rule wants; it cannot see that


def __getattr__(name: str) -> Any:
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module 'memshell' has no attribute {name!r}")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
