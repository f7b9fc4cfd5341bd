"""Facts from kernel images: vmlinux, modules, boot images and BTF, of any architecture that memshell models.

``read_facts(path)`` reads what an experiment needs. ``Image(path)`` looks up structs, enumerations and
symbols one at a time.
"""

from memshell.vmlinux.derive import Fact
from memshell.vmlinux.facts import ENUMS, STRUCTS, Facts, facts_of, find_config, read_facts
from memshell.vmlinux.image import Image
from memshell.vmlinux.layout import Enum, Member, Struct
from memshell.vmlinux.render import enum_lines, render, struct_lines
from memshell.vmlinux.symbols import Symbol

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
    "render",
    "struct_lines",
]
