"""An architecture of a stranger is whole with its own folder alone: nothing of memshell knows riscv64 but ELF's number."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "vmlinux"))
import vmlinux_sample as sample

ROOT = Path(__file__).parent.parent.parent
PLUGIN = ROOT / "examples" / "memshell-riscv64" / "memshell_riscv64.py"
KNOWN = {"memshell/vmlinux/elf.py", "memshell/lab/image.py"}  # file formats: e_machine, and the mark of a boot image


def run(*arguments, folder):
    command = [sys.executable, "-m", "memshell", "--strict-plugins", "--plugin", str(PLUGIN), *arguments]
    environment = {**os.environ, "HOME": str(folder)}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=folder, env=environment, check=False)


def test_no_module_names_it():
    named = {
        str(path.relative_to(ROOT))
        for folder in ("memshell", "plugins")
        for path in (ROOT / folder).rglob("*.py")
        if re.search("riscv", path.read_text(encoding="utf-8"), re.IGNORECASE)
    }
    assert named <= KNOWN


LIFE = """
use riscv64 mmu=sv39 policy=memmap_on_memory
add 256M
online 32 movable
online 33 kernel
expect zone.Movable.present == 128M
expect memmap.altmap == 4M
offline 32
! remove 33
offline 33
eject 32-33
expect blocks.total == 16
check
"""


def test_memory_comes_and_goes(tmp_path):
    done = run("-c", LIFE, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def images(tmp_path, monkeypatch):
    monkeypatch.setitem(sample.TARGETS, "riscv64", ("<", 243))
    (tmp_path / "vmlinux").write_bytes(sample.example("riscv64", orders=9))
    (tmp_path / "types").write_bytes(sample.btf("riscv64", [*sample.types(), sample.regs("epc", "ra", "badaddr")]))
    return tmp_path


@pytest.mark.slow
def test_a_kernel_image_of_it_has_its_defaults(images):
    done = run("vmlinux", "vmlinux", folder=images)
    assert done.stderr == ""
    assert re.search(r"^\? section_size_bits +27  .*arch/riscv/include/asm/sparsemem.h", done.stdout, re.MULTILINE)
    assert re.search(r"^\? memory_block_size +-  .*a section", done.stdout, re.MULTILINE)
    done = run("-c", "use riscv64 vmlinux=vmlinux", folder=images)
    assert "pages of 4K, orders to 8" in done.stdout


def test_types_alone_tell_it_by_its_registers(images):
    assert "\n  riscv64, 64-bit" in run("vmlinux", "types", folder=images).stdout


def test_an_image_of_it_is_no_other_architectures(images):
    done = run("-c", "use x86_64 vmlinux=vmlinux", folder=images)
    assert done.returncode == 1
    assert "vmlinux: a kernel of riscv64, not of x86_64; use riscv64 vmlinux=vmlinux" in done.stderr


@pytest.mark.slow
def test_a_machine_of_it_is_captured_and_booted(tmp_path):
    files = {
        "proc/cpuinfo": "processor\t: 0\nhart\t\t: 0\nisa\t\t: rv64imafdc_zicsr\nmmu\t\t: sv48\nserial\t\t: 7\n",
        "proc/version": "Linux version 6.12.1 (somebody@example) #1 SMP\n",
        "sys/devices/system/memory/block_size_bytes": "8000000\n",
    }
    for number in range(16, 36):
        folder = f"sys/devices/system/memory/memory{number}"
        zone = "DMA32" if number < 32 else "Movable"
        files |= {f"{folder}/state": "online\n", f"{folder}/valid_zones": f"{zone}\n"}
    for name, text in files.items():
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text(text)
    done = run("capture", "--root", "tree", "-o", "board.json", folder=tmp_path)
    assert done.stdout == "board.json: riscv64, 6.12.1, 20 of 20 blocks of 128M online\n"
    assert '"cpu": {"isa": "rv64imafdc_zicsr", "mmu": "sv48"}' in (tmp_path / "board.json").read_text()
    done = run("-c", "use board.json; offline 33; remove 33; check", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("riscv64, 2560M, blocks of 128M, kernel v6.12, policy buddy\n")
