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
    from memshell.arch import BootMemory as BootMemory
    from memshell.arch import BootZone as BootZone
    from memshell.arch import Option as Option
    from memshell.commands.public import ADDRESS as ADDRESS
    from memshell.commands.public import BLOCKS as BLOCKS
    from memshell.commands.public import FILE as FILE
    from memshell.commands.public import INT as INT
    from memshell.commands.public import PFN as PFN
    from memshell.commands.public import SIZE as SIZE
    from memshell.commands.public import TEXT as TEXT
    from memshell.commands.public import Arg as Arg
    from memshell.commands.public import ArgType as ArgType
    from memshell.commands.public import Column as Column
    from memshell.commands.public import Command as Command
    from memshell.commands.public import Result as Result
    from memshell.commands.public import Shell as Shell
    from memshell.commands.public import arg as arg
    from memshell.commands.public import choice as choice
    from memshell.commands.public import command as command
    from memshell.errors import CommandError as CommandError
    from memshell.errors import KernelError as KernelError
    from memshell.errors import MemshellError as MemshellError
    from memshell.errors import OutOfMemory as OutOfMemory
    from memshell.errors import PluginError as PluginError
    from memshell.errors import UsageError as UsageError
    from memshell.hookspecs import Context as Context
    from memshell.hookspecs import hookimpl as hookimpl
    from memshell.mm import mirrors as mirrors
    from memshell.mm.init_64_powerpc import PowerMmu as PowerMmu
    from memshell.mm.init_64_x86 import map_range as map_range
    from memshell.mm.init_64_x86 import x86_arch_add_memory as x86_arch_add_memory
    from memshell.mm.init_64_x86 import x86_arch_remove_memory as x86_arch_remove_memory
    from memshell.mm.init_64_x86 import x86_vmemmap_free as x86_vmemmap_free
    from memshell.mm.init_64_x86 import x86_vmemmap_populate as x86_vmemmap_populate
    from memshell.mm.memory_hotplug import add_pages as add_pages
    from memshell.mm.memory_hotplug import remove_pages as remove_pages
    from memshell.mm.memory_hotplug_rfc import veto_from_range as veto_from_range
    from memshell.mm.memremap import VmemAltmap as VmemAltmap
    from memshell.mm.mmzone import ZoneType as ZoneType
    from memshell.mm.pfn import GiB as GiB
    from memshell.mm.pfn import KiB as KiB
    from memshell.mm.pfn import MiB as MiB
    from memshell.mm.pfn import TiB as TiB
    from memshell.mm.pfn import align_down as align_down
    from memshell.mm.pfn import align_up as align_up
    from memshell.mm.pfn import format_size as format_size
    from memshell.mm.pfn import memparse as memparse
    from memshell.mm.profile import Profile as Profile
    from memshell.mm.radix_pgtable import radix_tables as radix_tables
    from memshell.mm.sclp import insert_increments as insert_increments
    from memshell.mm.sclp import sclp_add_standby_memory as sclp_add_standby_memory
    from memshell.mm.sclp import sclp_mem_notifier as sclp_mem_notifier
    from memshell.mm.sparse_vmemmap import ensure_table as ensure_table
    from memshell.mm.sparse_vmemmap import free_empty_table as free_empty_table
    from memshell.mm.sparse_vmemmap import free_vmemmap_pages as free_vmemmap_pages
    from memshell.mm.sparse_vmemmap import leaf_pfn as leaf_pfn
    from memshell.mm.sparse_vmemmap import set_early_leaves as set_early_leaves
    from memshell.mm.sparse_vmemmap import set_leaf as set_leaf
    from memshell.mm.sparse_vmemmap import struct_pages_in_use as struct_pages_in_use
    from memshell.mm.sparse_vmemmap import vmemmap_alloc_block_buf as vmemmap_alloc_block_buf
    from memshell.mm.sparse_vmemmap import vmemmap_populate_basepages as vmemmap_populate_basepages
    from memshell.mm.sparse_vmemmap import vmemmap_populate_hugepages as vmemmap_populate_hugepages
    from memshell.mm.state import Leaf as Leaf
    from memshell.mm.state import Mm as Mm
    from memshell.mm.vmem import crst_tables as crst_tables
    from memshell.mm.vmem import vmem_add_mapping as vmem_add_mapping
    from memshell.mm.vmem import vmem_map_init as vmem_map_init
    from memshell.mm.vmem import vmem_remove_mapping as vmem_remove_mapping
    from memshell.mm.vmem import vmem_vmemmap_free as vmem_vmemmap_free
    from memshell.mm.vmem import vmem_vmemmap_populate as vmem_vmemmap_populate
    from memshell.mm.vmemmap_rfc import fill_partly_removed_leaf as fill_partly_removed_leaf
    from memshell.mm.vmemmap_rfc import free_pagetable as free_pagetable
    from memshell.mm.vmemmap_rfc import marks_memmap as marks_memmap
    from memshell.policy import MemmapRequest as MemmapRequest
    from memshell.policy import Placement as Placement
    from memshell.policy import Policy as Policy

__version__ = "0.1.0"

_MODULES = {
    "memshell.api": "Machine",
    "memshell.arch": "Arch BootMemory BootZone Option",
    "memshell.commands.public": (
        "ADDRESS BLOCKS FILE INT PFN SIZE TEXT Arg ArgType Column Command Result Shell arg choice command"
    ),
    "memshell.errors": "CommandError KernelError MemshellError OutOfMemory PluginError UsageError",
    "memshell.hookspecs": "Context hookimpl",
    "memshell.mm": "mirrors",
    "memshell.mm.init_64_x86": (
        "map_range x86_arch_add_memory x86_arch_remove_memory x86_vmemmap_free x86_vmemmap_populate"
    ),
    "memshell.mm.init_64_powerpc": "PowerMmu",
    "memshell.mm.memory_hotplug": "add_pages remove_pages",
    "memshell.mm.memory_hotplug_rfc": "veto_from_range",
    "memshell.mm.memremap": "VmemAltmap",
    "memshell.mm.mmzone": "ZoneType",
    "memshell.mm.pfn": "GiB KiB MiB TiB align_down align_up format_size memparse",
    "memshell.mm.profile": "Profile",
    "memshell.mm.radix_pgtable": "radix_tables",
    "memshell.mm.sclp": "insert_increments sclp_add_standby_memory sclp_mem_notifier",
    "memshell.mm.sparse_vmemmap": (
        "ensure_table free_empty_table free_vmemmap_pages leaf_pfn set_early_leaves set_leaf struct_pages_in_use "
        "vmemmap_alloc_block_buf vmemmap_populate_basepages vmemmap_populate_hugepages"
    ),
    "memshell.mm.state": "Leaf Mm",
    "memshell.mm.vmemmap_rfc": "fill_partly_removed_leaf free_pagetable marks_memmap",
    "memshell.mm.vmem": (
        "crst_tables vmem_add_mapping vmem_map_init vmem_remove_mapping vmem_vmemmap_free vmem_vmemmap_populate"
    ),
    "memshell.policy": "MemmapRequest Placement Policy",
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
