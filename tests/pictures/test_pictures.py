"""Pictures: everything on them is inside of them, is what the state says, and is to scale."""

import re
from itertools import pairwise
from xml.etree.ElementTree import fromstring

import pytest

from memshell import Machine
from memshell.pictures.block import backing, block, sentence
from memshell.pictures.canvas import DARK, LIGHT, Box, Line, Picture, Words
from memshell.pictures.kinds import LEGEND, runs
from memshell.pictures.machine import change, machine
from memshell.pictures.sections import sections
from memshell.pictures.steps import Shown, steps
from memshell.pictures.svg import svg
from memshell.pictures.tables import tables
from memshell.pictures.zones import zones
from memshell.scenario.suite import shared_plugins

MACHINES = {
    "x86_64 buddy": ("x86_64", {"ram": "2G", "nodes": 2}, "add 1G node=1; online 32-35 movable; alloc 300M pinned; add 2G"),
    "x86_64 memmap_on_memory": ("x86_64", {"ram": "2G", "policy": "memmap_on_memory"}, "add 1G; online 32-35 movable"),
    "x86_64 large": ("x86_64", {"ram": "64G"}, "add 512G; online all movable; probe 0x20000000000 2064M mode=devdax"),
    "powerpc 64K": (
        "powerpc", {"ram": "4G", "page": "64K", "policy": "memmap_on_memory_force"}, "add 1G; online 16-17 movable",
    ),
    "s390": ("s390", {"ram": "2G", "standby": "4G"}, "online 16-20 movable"),
    "arm64": ("arm64", {"ram": "4G"}, "add 1G; online last movable"),
    "series": ("x86_64", {"ram": "2G", "profile": "rfc-2018"}, "add 1G; online 32-33 movable"),
}  # fmt: skip


@pytest.fixture(scope="module", params=MACHINES)
def played(request):
    arch, options, commands = MACHINES[request.param]
    made = Machine.boot(arch, plugins=shared_plugins(), **{"policy": "buddy", **options})
    for line in commands.split("; "):
        made.run(line)
    return made


def all_pictures(played, theme="light"):
    mm, last = played.mm, played.mm.blocks.last()
    yield machine(mm, theme)
    yield change((f"step 0: {played.steps[0].command}"[:40], played.steps[0].mm), ("now", mm), theme)
    yield from (block(mm, number, theme) for number in (0, last))
    yield sections(mm, [0, last], theme)
    yield zones(mm, theme)
    yield tables(mm, [last - 1, last], theme)
    yield steps([Shown(step.n, step.command, "ok", step.mm) for step in played.steps], theme)


def test_nothing_is_clipped(played):
    for picture in all_pictures(played):
        for shape in picture.shapes:
            if isinstance(shape, Words):
                left = shape.x - {"start": 0, "middle": 0.5, "end": 1}[shape.anchor] * shape.width
                assert left >= 0, shape
                assert left + shape.width <= picture.width, shape
                assert shape.y <= picture.height
            elif isinstance(shape, Box):
                assert shape.x >= 0
                assert shape.x + shape.width <= picture.width, shape
                assert shape.y + shape.height <= picture.height
            elif isinstance(shape, Line):
                assert max(shape.x1, shape.x2) <= picture.width


def test_what_is_written_is_well_formed_and_says_all_colours(played):
    for theme, palette in (("light", LIGHT), ("dark", DARK)):
        for picture in all_pictures(played, theme):
            text = svg(picture)
            fromstring(text)
            assert {*re.findall(r"#[0-9a-f]{6}", text)} <= {*palette.values()}


def test_runs_cover_every_page_once(played):
    mm = played.mm
    end = (mm.blocks.last() + 1) * mm.block_pages
    found = runs(mm, 0, end)
    assert found[0][0] == 0
    assert found[-1][1] == end
    assert all(a[1] == b[0] and a[2] != b[2] for a, b in pairwise(found))
    assert {kind for _, _, kind in found} <= LEGEND.keys()


def boxes(picture, kind):
    return [shape for shape in picture.shapes if isinstance(shape, Box) and shape.fill == kind]


def block_of(policy):
    made = Machine.boot("x86_64", ram="2G", policy=policy, plugins=shared_plugins())
    made.run("add 1G; online 32-35 movable")
    return made.mm


def test_a_block_that_keeps_its_memmap_shows_it_to_scale():
    mm = block_of("memmap_on_memory")
    picture = block(mm, 32)
    first = next(box for box in boxes(picture, "memmap") if "0x100000-0x1001ff" in box.title)
    whole = next(box for box in picture.shapes if isinstance(box, Box) and box.fill is None)
    assert first.width / (whole.width - 2) == pytest.approx(512 / 32768, rel=0.01)
    assert "keeps the first 2M (1.6 %) for its own memmap" in sentence(mm, 32, backing(mm, 32))


def test_the_pageblocks_of_a_block_are_counted_by_migratetype():
    words = [shape.text for shape in block(block_of("buddy"), 32).shapes if isinstance(shape, Words)]
    assert "pageblocks: 64 Movable" in words


def test_a_block_whose_memmap_is_elsewhere_says_where():
    mm = block_of("buddy")
    found = backing(mm, 32)
    assert mm.pages.get(found.first).owner.value == "memmap"
    words = [shape.text for shape in block(mm, 32).shapes if isinstance(shape, Words)]
    assert "its struct pages: 2M of another block" in words
    assert any(f"memory{found.first // mm.block_pages}, which was there before" in text for text in words)


def test_what_a_block_keeps_beyond_its_memmap_is_padding():
    made = Machine.boot(
        "powerpc", ram="4G", page="64K", policy="memmap_on_memory_force", plugins=shared_plugins()
    )  # fmt: skip
    made.run("add 1G; online 16 movable")
    assert runs(made.mm, 0x10000, 0x11000) == [
        (0x10000, 0x10004, "memmap"), (0x10004, 0x10020, "padding"), (0x10020, 0x11000, "free"),
    ]  # fmt: skip


def test_rows_that_look_alike_are_drawn_once():
    made = Machine.boot("x86_64", ram="4G", plugins=shared_plugins())
    small = len(machine(made.mm).shapes)
    made.run("add 128G; online all movable")
    assert len(machine(made.mm).shapes) < 3 * small


def test_the_blocks_that_a_step_changed_are_marked():
    made = Machine.boot("x86_64", ram="2G", plugins=shared_plugins())
    made.run("add 1G")
    made.run("online 33 movable")
    picture = change(("before", made.steps[1].mm), ("after", made.mm))
    marked = [shape for shape in picture.shapes if isinstance(shape, Box) and shape.bold]
    assert [box.title.partition(":")[0] for box in marked if box.title] == ["memory33"]


def test_words_are_escaped():
    picture = Picture(100)
    picture.add(Words(1, 10, "<a> & b"), Box(1, 1, 5, 5, "free", title='<"&>'))
    root = fromstring(svg(picture))
    assert [node.text for node in root.iter() if node.text and node.text.strip()] == ["<a> & b", '<"&>']


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_differ_in_grey_too(theme):
    """In print and for people who see few colours, what stands beside each other differs in how bright it is."""
    palette = {"light": LIGHT, "dark": DARK}[theme]

    def grey(name):
        red, green, blue = (int(palette[name][at : at + 2], 16) for at in (1, 3, 5))
        return (0.299 * red + 0.587 * green + 0.114 * blue) / 255

    for a, b in (
        ("memmap", "free"),
        ("memmap", "in use"),
        ("memmap", "kernel"),
        ("pinned", "free"),
        ("kernel", "free"),
    ):
        assert abs(grey(a) - grey(b)) > 0.12, (a, b)
    assert abs(grey("ink") - grey("paper")) > 0.7
    assert abs(grey("ink") - grey("free")) > 0.4


def test_a_png_has_two_pixels_for_a_point(tmp_path):
    pytest.importorskip("matplotlib", reason="a PNG is drawn by matplotlib")
    from memshell.pictures.png import write_png

    mm = block_of("memmap_on_memory")
    picture = block(mm, 32)
    write_png(picture, tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    assert (width, height) == pytest.approx((2 * picture.width, 2 * picture.height), abs=2)


def test_device_memory_is_seen_where_no_block_is():
    made = Machine.boot("x86_64", ram="2G", plugins=shared_plugins())
    made.run("probe 0x400000000 1040M mode=devdax")
    picture = machine(made.mm)
    assert sum(box.width for box in boxes(picture, "device") if box.height > 12) == pytest.approx(
        1040 / 128 * 96, abs=2
    )
    words = [shape.text for shape in picture.shapes if isinstance(shape, Words)]
    assert "Device" in words
    assert not any("memory128" in text for text in words)
