"""The page in a real browser: slider, zoom, hover, keys, links; and that what it shows is the state."""

import contextlib
import io
import json
import re
import shutil
import time
from itertools import pairwise

import pytest

from memshell import KernelError, Machine
from memshell.commands.drawing import filmed
from memshell.pictures.canvas import LIGHT
from memshell.pictures.kinds import runs
from memshell.scenario.suite import shared_plugins

COMMANDS = ("add 1G", "online 32-37 movable", "alloc 300M", "alloc 200M pinned", "offline 36", "offline 32")


def driver():
    """Return a headless Chromium.  Skips where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium, which drives the browser, is not installed")
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    if missing := [name for name, path in programs.items() if path is None]:
        pytest.skip(f"{' and '.join(missing)} not installed: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"]
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1440,950"):
        options.add_argument(word)
    for word in ("--force-device-scale-factor=1", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    try:
        return webdriver.Chrome(options=options, service=webdriver.ChromeService(programs["chromedriver"]))
    except pytest.importorskip("selenium.common").WebDriverException as error:
        pytest.skip(f"Chromium does not start here: {error.msg}")


@pytest.fixture(scope="module")
def chromium():
    made = driver()
    yield made
    made.quit()


@pytest.fixture
def browser(chromium):
    """A browser in which nothing may go to the console."""
    yield chromium
    assert chromium.get_log("browser") == []


def played(*commands, **options):
    made = Machine.boot("x86_64", plugins=shared_plugins(), **{"ram": "2G", "policy": "memmap_on_memory", **options})
    for command in commands:
        with contextlib.suppress(KernelError):  # the page shows it
            made.run(command)
    return made


def write(path, **machines):
    shell = next(iter(machines.values())).session.shell
    text = filmed("a <page>", {name: made.steps for name, made in machines.items()}, shell)
    path.write_text(text, encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def machine():
    return played(*COMMANDS)


@pytest.fixture(scope="module")
def page(machine, tmp_path_factory):
    return write(tmp_path_factory.mktemp("page") / "page.html", memmap_on_memory=machine)


def text(browser, selector):
    return browser.find_element("css selector", selector).text


def type_(browser, *keys):
    browser.find_element("tag name", "body").send_keys(*keys)


def cells(browser):
    return {cell["id"]: cell for cell in browser.execute_script("return document.querySelector('canvas').cells")}


def point_at(browser, x, y):
    """Move the pointer to a place of the canvas."""
    from selenium.webdriver.common.action_chains import ActionChains

    canvas = browser.find_element("css selector", "canvas")
    ActionChains(browser).move_to_element_with_offset(
        canvas, round(x - canvas.rect["width"] / 2), round(y - canvas.rect["height"] / 2)
    ).perform()


def test_the_page_needs_no_network_and_has_no_pages_one_by_one(machine, tmp_path):
    write(tmp_path / "a.html", one=machine)
    html = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in html, "the browser asks nobody for anything"
    assert not re.findall(r"""(?:src|href)=["'](?!data:)|@import|url\(|https?://""", html)
    assert html.count("</script>") == 2
    assert "<title>a &lt;page&gt;</title>" in html
    [data] = json.loads(re.search(r'type="application/json">(.*?)</script>', html)[1])
    assert [step["command"] for step in data["steps"]][1:] == list(COMMANDS)


@pytest.mark.slow
def test_the_slider_goes_through_the_steps(browser, page):
    from selenium.webdriver.common.keys import Keys

    browser.get(page)
    assert text(browser, "#count") == "step 6 of 6"
    slider = browser.find_element("id", "slider")
    slider.send_keys(Keys.ARROW_LEFT)
    assert text(browser, "#count") == "step 5 of 6"
    assert text(browser, "#said") == "> offline 36"
    assert browser.current_url.endswith("#step=5")
    browser.find_elements("css selector", "#commands li")[1].click()
    assert text(browser, "#said") == "> add 1G"
    assert "mhp_supports_memmap_on_memory" in text(browser, "#reasons pre")
    assert "Movable" not in text(browser, "#zones")
    type_(browser, Keys.ARROW_RIGHT)
    assert re.search(r"0 Movable 768M 768M 756M 756M", text(browser, "#zones"))


@pytest.mark.slow
def test_it_zooms_from_the_machine_to_a_page(browser, page):
    from selenium.webdriver.common.keys import Keys

    browser.get("about:blank")
    browser.get(page + "#step=2")
    cell = cells(browser)[34]
    point_at(browser, cell["x"] + 20, cell["y"] + 8)
    browser.execute_script("document.querySelector('canvas').dispatchEvent(new MouseEvent('mouseleave'))")
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).click().perform()
    assert browser.current_url.endswith("#step=2&block=34")
    assert text(browser, ".crumbs") == "machine ▸ memory34"
    assert "It keeps its first 2M (1.6 %) for its own memmap: 32768 struct pages of 64 bytes, 2M." in text(
        browser, ".words"
    )
    type_(browser, Keys.ENTER)
    assert browser.current_url.endswith("#step=2&pfn=0x110000")
    assert "the struct pages of pfn 0x110000 to 0x11003f" in text(browser, "#here")
    type_(browser, "j")
    assert "the struct pages of pfn 0x110040 to 0x11007f" in text(browser, "#here")
    type_(browser, Keys.ESCAPE, Keys.ESCAPE)
    assert browser.current_url.endswith("#step=2")


@pytest.mark.slow
def test_hovering_says_what_a_page_is_and_why(browser, page):
    browser.get("about:blank")
    browser.get(page + "#step=4&block=33")
    point_at(browser, 300, 34)  # in the first row, behind the memmap
    tip = text(browser, "#tip")
    for words in ("memory33, online, node 0", "movable, in use (alloc 1)", "Movable, node 0", "uptodate lru", "pfn"):
        assert words in tip
    assert "so since step 3: alloc 300M" in tip
    point_at(browser, 110, 34)
    tip = text(browser, "#tip")
    assert "memmap of its own memory block" in tip
    assert "owner_private" in tip
    assert "so since step 1: add 1G" in tip
    assert "512 pages of each block are kept for it" in tip


@pytest.mark.slow
def test_the_keyboard_does_everything(browser, page):
    from selenium.webdriver.common.keys import Keys

    browser.get("about:blank")
    browser.get(page)
    type_(browser, Keys.HOME)
    assert text(browser, "#count") == "step 0 of 6"
    type_(browser, Keys.END, "k")
    assert "memory39" in text(browser, "#here")
    type_(browser, "?")
    assert "previous block" in text(browser, "#keys")
    root = browser.find_element("tag name", "html")
    type_(browser, "t", "t")
    assert root.get_attribute("data-theme") == "dark"
    type_(browser, "t")
    type_(browser, Keys.HOME, " ")
    deadline = time.monotonic() + 10
    while text(browser, "#count") == "step 0 of 6":
        assert time.monotonic() < deadline, "it does not play"
    assert text(browser, "#play") == "⏸ pause"
    type_(browser, " ")


@pytest.mark.slow
def test_a_link_leads_to_its_step_and_a_wrong_one_to_the_page(browser, page):
    browser.get("about:blank")
    browser.get(page + "#step=1")
    assert text(browser, "#said") == "> add 1G"
    browser.execute_script("location.hash = 'step=3'")
    deadline = time.monotonic() + 5
    while text(browser, "#said") != "> alloc 300M":
        assert time.monotonic() < deadline
    for wrong in ("#step=99", "#step=x&block=7777", "#pfn=1e99"):
        browser.get("about:blank")
        browser.get(page + wrong)
        assert text(browser, "#count") == "step 6 of 6"


@pytest.mark.slow
def test_the_screenshot_shows_the_state(browser, page, machine):
    """The colour in the middle of each cell is that of the page there, for every block and step."""
    image = pytest.importorskip("matplotlib.image", reason="matplotlib reads the screenshot")
    browser.get("about:blank")
    browser.get(page)
    names = {colour: name for name, colour in LIGHT.items()}
    for n, step in enumerate(machine.steps):
        browser.execute_script(f"look({{step: {n}}})")
        shot = image.imread(io.BytesIO(browser.get_screenshot_as_png()), format="png")
        corner = browser.execute_script(
            "const r = document.querySelector('canvas').getBoundingClientRect(); return [r.left, r.top]"
        )
        for number, cell in cells(browser).items():
            if number not in step.mm.blocks or step.mm.blocks[number].state != "online":
                continue
            pfn, near = round((number + 0.55) * step.mm.block_pages), round(0.03 * step.mm.block_pages)
            kinds = [kind for _, _, kind in runs(step.mm, pfn - near, pfn + near)]
            if len(kinds) > 1:
                continue  # an edge, where colours mix
            x, y = corner[0] + cell["x"] + 0.55 * cell["width"], corner[1] + cell["y"] + 0.75 * cell["height"]
            red, green, blue = (round(255 * part) for part in shot[round(y)][round(x)][:3])
            assert names.get(f"#{red:02x}{green:02x}{blue:02x}") == kinds[0], (n, number)


@pytest.mark.slow
def test_two_kernels_stand_side_by_side(browser, tmp_path, machine):
    address = write(tmp_path / "two.html", buddy=played(*COMMANDS, policy="buddy"), memmap_on_memory=machine)
    browser.get(address + "#step=2")
    assert len(browser.find_elements("css selector", "canvas")) == 2
    zones = text(browser, "#zones")
    assert "0 Movable 768M 768M 768M 768M" in zones
    assert "0 Movable 768M 768M 756M 756M" in zones


@pytest.mark.slow
def test_a_terabyte_is_small_and_quick(browser, tmp_path):
    large = played("add 1T", "online all movable", "offline 3000-4000", "alloc 200G", ram="4G")
    address = write(tmp_path / "large.html", large=large)
    assert (tmp_path / "large.html").stat().st_size < 3_000_000
    browser.get(address)
    assert browser.execute_script("return document.querySelector('canvas').cells.length") == 8192 + 32
    took = browser.execute_script(
        "const t = performance.now(); for (let n = 0; n < 10; n++) look({step: n % 5}); return (performance.now() - t) / 10"
    )
    assert took < 250, "ms for a step, where eight others use the machine too"


# --- what the page is made of ---


def rebuilt(track, n):
    """Return what the page makes of the rows up to step n: pfn ranges -> the kind's colour, as it does in script."""
    from memshell.mm.ranges import RangeMap

    found = RangeMap()
    for step in track["steps"][: n + 1]:
        for start, length, value, *row in step["pages"]:
            count, stride = row or (1, 0)
            for at in range(count):
                first = start + at * stride
                if value < 0:
                    found.delete(first, first + length)
                else:
                    found.set(first, first + length, track["kinds"][value]["colour"])
    return list(found.items())


@pytest.mark.parametrize(
    ("arch", "options", "commands"),
    [
        ("x86_64", {}, [*COMMANDS, "remove 0x100000000 1G", "probe 0x400000000 2064M mode=devdax", "hugepages 2M=64"]),
        (
            "powerpc",
            {"page": "64K", "policy": "memmap_on_memory_force"},
            ["add 1G", "online last movable", "online all"],
        ),
        ("s390", {"standby": "4G"}, ["online 16-20 movable", "offline 18", "alloc 100M"]),
        ("x86_64", {"profile": "rfc-2018", "policy": "memmap_from_range"}, ["add 1G", "online all", "offline 33"]),
    ],
)
def test_the_rows_of_all_steps_make_each_state(arch, options, commands):
    from memshell.pictures.film import Scene, track

    made = Machine.boot(arch, plugins=shared_plugins(), **{"ram": "2G", "policy": "memmap_on_memory", **options})
    for command in commands:
        with contextlib.suppress(KernelError):
            made.run(command)
    film = track("one", [Scene(step.n, step.command, "ok", "", step.mm) for step in made.steps])
    for n, step in enumerate(made.steps):
        end = 1 << 26
        wanted = [run for run in runs(step.mm, 0, end) if run[2] != "hole"]
        assert rebuilt(film, n) == wanted, step.command
        assert len(film["steps"][n]["zones"]) == sum(zone.spanned > 0 for zone in step.mm.zones.values())


def test_a_step_that_was_not_traced_is_played_again_for_its_reasons(machine, tmp_path):
    assert all(step.trace is None for step in machine.steps)
    before = len(machine.steps)
    write(tmp_path / "a.html", one=machine)
    [film] = json.loads(re.search(r'type="application/json">(.*?)</script>', (tmp_path / "a.html").read_text())[1])
    lines = film["steps"][1]["lines"]
    assert any("a block's memmap: 32768 pages x 64 bytes = 512 pages" in line for line in lines)
    assert film["steps"][5]["outcome"] == "ok"
    assert film["steps"][6]["command"] == "offline 32"
    assert len(machine.steps) == before
    assert all(step.trace is None for step in machine.steps)


def test_a_step_on_a_terabyte_looks_at_what_it_changed_only():
    from memshell.pictures.film import _changed

    large = played("add 1T 1T", "online 9000 movable", "online 9001 movable", "offline 9000", ram="4G")
    pages = large.mm.block_pages
    ranges = [_changed(before.mm, after.mm) for before, after in pairwise(large.steps[1:])]
    added = [(first, end) for found in ranges for first, end in found if first >= 8192 * pages]
    assert added == [(number * pages, (number + 1) * pages) for number in (9000, 9001, 9000)]
