"""Facts from kernel images: vmlinux, modules, boot images and BTF, of any architecture that memshell models.

``read_facts(path)`` reads what an experiment needs. ``Image(path)`` looks up structs, enumerations and
symbols one at a time. The modules are loaded when a name is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memshell.vmlinux.derive import Fact as Fact
    from memshell.vmlinux.facts import ENUMS as ENUMS
    from memshell.vmlinux.facts import STRUCTS as STRUCTS
    from memshell.vmlinux.facts import Facts as Facts
    from memshell.vmlinux.facts import facts_of as facts_of
    from memshell.vmlinux.facts import find_config as find_config
    from memshell.vmlinux.facts import read_facts as read_facts
    from memshell.vmlinux.image import Image as Image
    from memshell.vmlinux.layout import Enum as Enum
    from memshell.vmlinux.layout import Member as Member
    from memshell.vmlinux.layout import Struct as Struct
    from memshell.vmlinux.render import enum_lines as enum_lines
    from memshell.vmlinux.render import struct_lines as struct_lines
    from memshell.vmlinux.symbols import Symbol as Symbol

_MODULES = {
    "derive": "Fact",
    "facts": "ENUMS STRUCTS Facts facts_of find_config read_facts",
    "image": "Image",
    "layout": "Enum Member Struct",
    "render": "enum_lines struct_lines",
    "symbols": "Symbol",
}
_HOME = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = [
    "ENUMS",
    "STRUCTS",
    "Enum",
    "Fact",
    "Facts",
    "Image",
    "Member",
    "Struct",
    "Symbol",
    "enum_lines",
    "facts_of",
    "find_config",
    "read_facts",
    "struct_lines",
]


def __getattr__(name: str) -> Any:
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
    return value
