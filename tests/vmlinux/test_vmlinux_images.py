"""Every file that people have leads to the same kernel: boot images, compressed files, BTF on its own, modules."""

import gzip
import lzma
import os
import struct
import sys

import pytest
import vmlinux_build as b
import vmlinux_sample as sample

from memshell.errors import ImageError
from memshell.vmlinux import Image, read_facts


def zstd(data):
    return pytest.importorskip("zstandard").ZstdCompressor().compress(data)


def lz4_legacy(data):
    block = pytest.importorskip("lz4.block")
    pieces = [data[at : at + (8 << 20)] for at in range(0, len(data), 8 << 20)]
    packed = [block.compress(piece, store_size=False) for piece in pieces]
    return b"\x02\x21\x4c\x18" + b"".join(struct.pack("<I", len(piece)) + piece for piece in packed)


SQUEEZE = {"gzip": gzip.compress, "xz": lzma.compress, "zstd": zstd, "lz4": lz4_legacy}


def bzimage(payload, size, release=b"6.99.0-sample (somebody@example) #1 SMP"):
    """An x86 boot image: one sector of setup, then the payload, which ends in its unpacked size."""
    image = bytearray(2048)
    image[0x1F1] = 1
    image[0x202:0x206] = b"HdrS"
    text = 0x300
    struct.pack_into("<HxxxxxxH", image, 0x206, 0x20F, text - 0x200)
    struct.pack_into("<H", image, 0x236, 1)
    struct.pack_into("<II", image, 0x248, 1024, len(payload) + 4)
    image[text : text + len(release)] = release
    return bytes(image) + payload + struct.pack("<I", size)


@pytest.mark.parametrize("how", SQUEEZE)
def test_bzimage(tmp_path, how):
    inner = sample.image()
    (tmp_path / "vmlinuz").write_bytes(bzimage(SQUEEZE[how](inner), len(inner)))
    image = Image(tmp_path / "vmlinuz")
    assert image.struct("page").size == 64
    assert image.release == ("6.99.0-sample", "the bzImage header")
    assert image.layers == [f"bzImage, {how}", "ELF"]


@pytest.mark.parametrize("how", SQUEEZE)
def test_s390_boot_image_with_btf_in_a_raw_kernel(tmp_path, how):
    kernel = b"\0" * 4096 + sample.BANNER + b"\0" * 512 + sample.btf("s390x") + b"\0" * 256
    front = bytearray(0x11000)
    front[0x10008:0x1000E] = b"S390EP"
    front[0x100:0x103] = b"\x1f\x8b\x08"  # looks like gzip and is none
    (tmp_path / "vmlinuz").write_bytes(bytes(front) + SQUEEZE[how](kernel) + b"\0" * 64)
    facts = read_facts(tmp_path / "vmlinuz")
    assert (facts.arch, facts.endian, facts.source) == ("s390x", "big", "btf")
    assert facts.structs["page"].size == 64
    assert facts.release == "6.99.0-sample"


def test_raw_kernel_without_types_says_what_is_missing(tmp_path):
    front = bytearray(0x11000)
    front[0x10008:0x1000E] = b"S390EP"
    (tmp_path / "image").write_bytes(bytes(front) + lzma.compress(b"\0" * 4096 + sample.BANNER + b"\0" * 256))
    facts = read_facts(tmp_path / "image")
    assert (facts.arch, facts.source, facts.release) == ("s390x", "none", "6.99.0-sample")
    assert facts.structs["page"] is None
    page_size = facts.facts["page_size"]
    assert (page_size.value, page_size.read) == (4096, False)
    assert "not in the file" in page_size.how
    assert "arch/s390" in page_size.how


@pytest.mark.parametrize("how", ["gzip", "xz"])
def test_powerpc_boot_wrapper(tmp_path, how):
    wrapped = SQUEEZE[how](sample.image("ppc64"))
    (tmp_path / "zImage").write_bytes(b.elf({".kernel:vmlinux.strip": wrapped}, ">", 21))
    facts = read_facts(tmp_path / "zImage")
    assert (facts.arch, facts.structs["page"].size) == ("ppc64", 64)


@pytest.mark.parametrize("how", ["gzip", "xz", "zstd"])
def test_compressed_files_one_in_another(tmp_path, how):
    inner = sample.image("s390x")
    (tmp_path / "vmlinux.z").write_bytes(SQUEEZE[how](inner))
    assert read_facts(tmp_path / "vmlinux.z").structs["page"].size == 64
    packed = bzimage(gzip.compress(sample.image()), 1)
    (tmp_path / "vmlinuz.z").write_bytes(SQUEEZE[how](packed))
    assert read_facts(tmp_path / "vmlinuz.z").arch == "x86_64"


REGS = {
    "x86_64": ("<", "r15", "orig_ax"),
    "s390x": (">", "psw", "gprs"),
    "ppc64": (">", "nip", "ccr"),
    "ppc64le": ("<", "nip", "ccr"),
}


@pytest.mark.parametrize("arch", REGS)
def test_btf_alone_tells_its_architecture(tmp_path, arch):
    order, *names = REGS[arch]
    (tmp_path / "btf").write_bytes(b.btf([*sample.types(), sample.regs(*names)], order))
    facts = read_facts(tmp_path / "btf")
    assert (facts.arch, facts.source, facts.bits) == (arch, "btf", 64)
    assert facts.release is None
    with pytest.raises(ImageError, match="no symbol table"):
        Image(tmp_path / "btf").symbol("online_pages")


def test_btf_that_does_not_tell_its_architecture_says_so(tmp_path):
    (tmp_path / "btf").write_bytes(sample.btf())
    facts = read_facts(tmp_path / "btf")
    assert facts.arch is None
    assert facts.facts["page_size"].value is None


def test_a_file_that_is_read_a_page_at_a_time(tmp_path, monkeypatch):
    # sysfs answers so: /sys/kernel/btf/vmlinux gives 4096 bytes for every read.
    many = [b.Enumeration(f"filler_{n}", {f"VALUE_{n}": n}) for n in range(400)]
    (tmp_path / "vmlinux").write_bytes(b.btf([*sample.types(), *many]))
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, offset: pread(fd, min(size, 4096), offset))
    assert Image(tmp_path / "vmlinux").struct("page").size == 64


def split_module(order="<"):
    """BTF of a kernel, and of a module whose struct uses a type of the kernel's."""
    roots = sample.types()
    base = b.btf(roots, order)
    strings = struct.unpack_from(order + "I", base, 20)[0]
    own = b.Record("struct", "my_device", 72, [("page", roots[0], 0), ("id", roots[0].members[0][1], 64)])
    return base, b.btf([own], order, b._all(roots), strings)


@pytest.mark.parametrize("order", ["<", ">"])
def test_btf_of_a_module_continues_that_of_its_kernel(tmp_path, order):
    base, module = split_module(order)
    (tmp_path / "vmlinux").write_bytes(base)
    (tmp_path / "my_module").write_bytes(module)
    image = Image(tmp_path / "my_module")
    assert image.struct("my_device").members["id"].offset == 64
    assert image.struct("page").size == 64


def test_btf_of_a_module_without_its_kernel_is_refused(tmp_path):
    base, module = split_module()
    (tmp_path / "my_module").write_bytes(module)
    with pytest.raises(ImageError, match=r"a module's BTF.*vmlinux"):
        Image(tmp_path / "my_module")
    (tmp_path / "kernel").write_bytes(base)
    assert Image(tmp_path / "my_module", base=tmp_path / "kernel").struct("my_device").size == 72


def test_module_file_carries_its_own_base(tmp_path):
    base, module = split_module()
    (tmp_path / "my.ko").write_bytes(b.elf({".BTF": module, ".BTF.base": base}, kind=1))
    assert Image(tmp_path / "my.ko").struct("my_device").size == 72


def test_symbols_of_what_is_not_linked_have_no_address(tmp_path):
    (tmp_path / "my.o").write_bytes(sample.image(kind=1))
    with pytest.raises(ImageError, match="not linked"):
        read_facts(tmp_path / "my.o", symbols=["online_pages"])
    assert read_facts(tmp_path / "my.o").symbols == {}


@pytest.mark.parametrize("kind, module", [("lz4", "lz4"), ("zstd", "zstandard")])
def test_a_missing_library_is_named(tmp_path, monkeypatch, kind, module):
    (tmp_path / "vmlinuz").write_bytes(bzimage(SQUEEZE[kind](sample.image()), 1))
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImageError, match=f"pip install {module}"):
        Image(tmp_path / "vmlinuz")


def test_stripped_kernel_names_its_debug_file(tmp_path):
    link = b"vmlinux-6.99.debug\0\0" + b"\1\2\3\4"
    (tmp_path / "vmlinux").write_bytes(b.elf({".gnu_debuglink": link}))
    with pytest.raises(ImageError, match=r"vmlinux-6\.99\.debug"):
        Image(tmp_path / "vmlinux")


def test_separate_debug_file(tmp_path):
    sections = b.Dwarf(sample.types()).sections()
    text = b.Section(b"", 8, addr=0x81000000, size=1 << 20)  # objcopy --only-keep-debug leaves NOBITS
    (tmp_path / "vmlinux.debug").write_bytes(b.elf({".rodata": text, **sections}, symbols=sample.symbols()))
    facts = read_facts(tmp_path / "vmlinux.debug", symbols=["online_pages"])
    assert facts.structs["page"].size == 64
    assert facts.symbols["online_pages"] == 0x81002000
    assert facts.release is None
