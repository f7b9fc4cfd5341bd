"""Write a recorded state as the kernel would show it: a /proc and /sys tree, in the kernel's own formats."""

import json
import lzma
from functools import partial
from pathlib import Path

from memshell.capture import capture as capture_with
from memshell.scenario.suite import shared_plugins

capture = partial(capture_with, shared_plugins().arches().values())
RECORDINGS = Path(__file__).parent.parent / "recordings"
# The lines of /proc/cpuinfo that tell architectures apart, as the kernels of those machines print them.
POWER = "processor\t: 0\ncpu\t\t: POWER9 (architected), altivec supported\n\nplatform\t: pSeries\n"
CPUINFO = {
    "x86_64": "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu pae lm nx pdpe1gb hypervisor\n\n",
    "ppc64le": POWER + "machine\t\t: CHRP IBM pSeries\nMMU\t\t: {mmu}\n",
    "arm64": "processor\t: 0\nBogoMIPS\t: 125.00\nFeatures\t: fp asimd cpuid\nCPU implementer\t: 0x41\nCPU part\t: 0xd07\n\n",
    "s390x": "vendor_id       : IBM/S390\n# processors    : 1\nfeatures\t: esan3 zarch stfle msa ldisp eimm\n",
}


def load(name):
    return json.loads(lzma.open(RECORDINGS / f"{name}.json.xz").read())


def write_tree(root, recording, state):
    """Write the tree under *root* and return it."""
    proc, sys = root / "proc", root / "sys"
    files = {
        proc / "zoneinfo": zoneinfo(state["zones"]),
        proc / "buddyinfo": "".join(
            f"Node {b['node']}, zone {b['zone']:>8} " + "".join(f"{n:6d} " for n in b["orders"]) + "\n"
            for b in state["buddyinfo"]
        ),
        proc / "iomem": "".join(
            f"{'  ' * depth}{start:08x}-{end:08x} : {name}\n" for depth, start, end, name in state["iomem"]
        ),
        proc / "meminfo": "".join(
            f"{k + ':':<15} {v:8d}{'' if k.startswith('Huge') else ' kB'}\n" for k, v in state["meminfo_kb"].items()
        ),
        proc / "vmstat": "".join(f"{name} {value}\n" for name, value in state["vmstat"].items()),
        proc / "version": recording["kernel"] + "\n",
        proc / "cmdline": recording["cmdline"] + " root=/dev/secret\n",
        proc / "cpuinfo": CPUINFO[recording["arch"]].format(
            mmu="Radix" if "DirectMap2M" in state["meminfo_kb"] else "Hash"
        ),
        root / "boot" / f"config-{recording['kernel'].split()[2]}": "".join(
            f"{k}={v}\n" for k, v in recording["config"].items()
        )
        + "# CONFIG_FOO is not set\n",
        sys / "devices/system/memory/block_size_bytes": f"{state['block_size_bytes']:x}\n",
        sys / "devices/system/memory/auto_online_blocks": state["auto_online_blocks"] + "\n",
    }
    files |= {sys / "module/memory_hotplug/parameters" / name: f"{value}\n" for name, value in state["params"].items()}
    files |= {sys / "devices/system/node" / k: f"{v}\n" for k, v in state["nodes"].items() if not v.startswith("!")}
    for number, block in state["memory_blocks"].items():
        folder = sys / f"devices/system/memory/memory{number}"
        shown = {
            "state": block["state"],
            "phys_index": f"{block['phys_index']:08x}",
            "removable": block["removable"],
            "valid_zones": block["valid_zones"],
        }
        files |= {folder / name: f"{text}\n" for name, text in shown.items()}
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def zoneinfo(zones):
    """Write /proc/zoneinfo: a zone without present pages ends behind its counts.

    Source: mm/vmstat.c:zoneinfo_show_print.
    """
    lines = []
    for z in zones:
        lines += [f"Node {z['node']}, zone {z['zone']:>8}", f"  pages free     {z['free']}", "        boost    0"]
        lines += [
            f"        {name:<8} {z.get(name, 0)}" for name in ("min", "low", "high", "spanned", "present", "managed")
        ]
        lines += ["        cma      0", "        protection: (0, 0, 0, 0)"]
        if z["present"]:
            lines += ["      nr_free_pages 1", "  pagesets", "    cpu: 0", f"              count:    {z['pcp_pages']}"]
            lines += [
                "              high:     378",
                "              batch:    63",
                "  vm stats threshold: 12",
                "  node_unreclaimable:  0",
            ]
            lines += [f"  start_pfn:           {z['start_pfn']}"]
    return "\n".join(lines) + "\n"
