"""The kernel that is to boot: an image, a Debian package, or a built tree; with its configuration and modules."""

from __future__ import annotations

import io
import re
import struct
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from memshell.errors import ImageError
from memshell.paths import cache_path
from memshell.vmlinux.blob import Blob, BytesBlob, open_file
from memshell.vmlinux.compress import inflate, kind_of

# Where the architecture's boot format says what it is: (offset, bytes) -> name.
MAGICS = (
    (0x202, b"HdrS", "x86_64"),  # Documentation/arch/x86/boot.rst
    (56, b"ARM\x64", "arm64"),  # Documentation/arch/arm64/booting.rst
    (56, b"RSC\x05", "riscv64"),  # Documentation/arch/riscv/boot-image-header.rst
    (0x10008, b"S390EP", "s390"),  # arch/s390/boot/head.S
)
ELF_MACHINES = {21: "powerpc", 22: "s390", 62: "x86_64", 183: "arm64", 243: "riscv64"}
IN_TREE = (
    "arch/x86/boot/bzImage",
    "arch/s390/boot/bzImage",
    "arch/arm64/boot/Image.gz",
    "arch/arm64/boot/Image",
    "arch/riscv/boot/Image",
    "vmlinux",
)


@dataclass(frozen=True, slots=True)
class Image:
    """A kernel to boot: the file for QEMU, its architecture, its configuration's text, and the folder of its modules."""

    kernel: Path
    arch: str
    config: str
    modules: Path | None

    def has(self, option: str) -> bool | None:
        """Whether the kernel was built with CONFIG_*option*, as module too; None where no configuration is known."""
        return bool(re.search(rf"^CONFIG_{option}=[ym]", self.config, re.MULTILINE)) if self.config else None


def open_image(path: Path, modules: Path | None = None) -> Image:
    """Return the image at *path*; a package is unpacked once, into memshell's cache.  Raises `ImageError` for what is none."""
    if not path.exists():
        raise ImageError(f"no kernel {path}: no such file", hint="--kernel takes a vmlinuz, a .deb, or a built tree")
    if path.is_dir():
        return _from_tree(path, modules)
    if path.suffix == ".deb":
        return _from_tree(_unpacked_deb(path), modules)
    return _from_file(path, modules, _config_of(path))


def _from_file(kernel: Path, modules: Path | None, config: Path | None) -> Image:
    text = config.read_text(encoding="utf-8", errors="replace") if config is not None else ""
    return Image(kernel, arch_of(kernel), text, modules)


def _config_of(kernel: Path) -> Path | None:
    release = kernel.name.partition("-")[2]
    config = kernel.with_name(f"config-{release}")
    return config if release and config.is_file() else None


def _from_tree(root: Path, modules: Path | None) -> Image:
    """Return the image of a built kernel tree, or of an unpacked package."""
    packaged = sorted(root.glob("boot/vmlinu[xz]-*"))
    if packaged:
        found = modules or next(iter([*root.glob("lib/modules/*"), *root.glob("usr/lib/modules/*")]), None)
        return _from_file(packaged[-1], found, _config_of(packaged[-1]))
    built = next((root / name for name in IN_TREE if (root / name).is_file()), None)
    if built is None:
        raise ImageError(f"{root} has no built kernel", hint=f"make {IN_TREE[0].rpartition('/')[2]} there first")
    config = root / ".config"
    return _from_file(built, modules or root, config if config.is_file() else None)


def arch_of(kernel: Path) -> str:
    """Return the architecture that an image boots on.  Raises `ImageError` for a file that is no kernel."""
    blob: Blob = open_file(kernel)
    if kind_of(blob.read(0, min(8, blob.size))) == "gzip":
        blob = inflate("gzip", blob)
    head = blob.read(0, min(0x10010, blob.size))
    for offset, magic, name in MAGICS:
        if head[offset : offset + len(magic)] == magic:
            return name
    if head[:4] == b"\x7fELF":
        (machine,) = struct.unpack_from("<H" if head[5] == 1 else ">H", head, 18)
        if machine in ELF_MACHINES:
            return ELF_MACHINES[machine]
    raise ImageError(f"{kernel} is no kernel image that QEMU boots", hint="a vmlinuz, bzImage, Image or vmlinux")


def plain_bytes(blob: Blob) -> bytes:
    """Return what *blob* holds, unpacked where it is compressed."""
    kind = kind_of(blob.read(0, min(8, blob.size)))
    whole = blob if kind is None else inflate(kind, blob)
    return whole.read(0, whole.size)


# --- packages ---


def _unpacked_deb(path: Path) -> Path:
    """Return the folder that the package is unpacked in."""
    status = path.stat()
    folder = cache_path() / "kernels" / f"{path.stem}-{status.st_size}-{status.st_mtime_ns}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent) as fresh:
            inner = Path(fresh) / "package"
            unpack_deb(path, inner)
            inner.rename(folder)
    return folder


def unpack_deb(path: Path, workdir: Path) -> None:
    """Unpack the kernel, its configuration and its modules from a Debian package."""
    data = dict(_members(path.read_bytes(), path))
    name = next((name for name in data if name.startswith("data.tar")), None)
    if name is None:
        raise ImageError(f"{path} is no Debian package of a kernel: it has no data.tar")
    try:
        with tarfile.open(fileobj=io.BytesIO(plain_bytes(BytesBlob(data[name])))) as archive:
            archive.extractall(workdir, [item for item in archive if _is_wanted(item)], filter="data")
    except (tarfile.TarError, OSError) as error:
        raise ImageError(f"{path} cannot be unpacked: {error}") from error
    if not any(workdir.glob("boot/vmlinu[xz]-*")):
        raise ImageError(f"{path} has no kernel in it", hint="take the package linux-image-RELEASE, not a meta-package")


def _is_wanted(item: tarfile.TarInfo) -> bool:
    path = PurePosixPath(item.name)
    if not item.isfile():
        return False
    return path.parent.name == "boot" or ".ko" in path.name or path.name.startswith("modules.")


def _members(data: bytes, path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the members of an ar archive: a header of 60 bytes each.  Source: deb(5), ar(5)."""
    if not data.startswith(b"!<arch>\n"):
        raise ImageError(f"{path} is no Debian package")
    at = 8
    while at + 60 <= len(data):
        name = data[at : at + 16].decode("ascii", "replace").strip().rstrip("/")
        size = int(data[at + 48 : at + 58] or b"0")
        yield name, data[at + 60 : at + 60 + size]
        at += 60 + size + size % 2


# --- modules ---


def load_modules(folder: Path | None, names: Iterable[str]) -> dict[str, bytes]:
    """Return the modules *names* and what they need, unpacked, in the order to load them; those that are built in are absent."""
    if folder is None:
        return {}
    paths = {path.name.partition(".ko")[0].replace("-", "_"): path for path in folder.rglob("*.ko*")}
    ordered: dict[str, bytes] = {}

    def take(name: str) -> None:
        if name in ordered or name not in paths:
            return
        data = _unpacked(paths[name])
        for other in depends(data):
            take(other)
        ordered[name] = data

    for name in names:
        take(name)
    return ordered


def depends(module: bytes) -> list[str]:
    """Return the modules that *module* says it needs, in its .modinfo."""
    found = re.search(rb"\0depends=([^\0]*)\0", module)
    return found[1].decode().replace("-", "_").split(",") if found and found[1] else []


def _unpacked(path: Path) -> bytes:
    return plain_bytes(open_file(path))
