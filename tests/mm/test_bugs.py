"""The bugs of released kernels: every switch is documented and has a scenario that depends on it."""

import re
from pathlib import Path

import pytest

from memshell.mm.features import Features
from memshell.mm.profile import RELEASES
from memshell.profiles import PROFILES
from memshell.scenario.suite import play_case

BUGS = {name: known for name, known in Features.declared().items() if name.startswith("bug.")}
ROOT = Path(__file__).parent.parent.parent
REGRESS = ROOT / "scenarios" / "regress"
ROW = re.compile(r"^\| ([BL][\d, BL]*) \| `(bug\.\w+)` \| ([^|]*) \| ([^|]*) \|$", re.MULTILINE)


def spans(on):
    """Return the releases that have it, in words: "all", "v5.15, v6.6", "v6.16 to v7.0", "from v6.12 on"."""
    if all(on):
        return "all"
    parts, first = [], None
    for at, here in enumerate([*on, False]):
        if here and first is None:
            first = at
        if not here and first is not None:
            last = at - 1
            two = f"{RELEASES[first]} to {RELEASES[last]}" if last > first else RELEASES[first]
            parts.append(f"from {RELEASES[first]} on" if last == len(RELEASES) - 1 else two)
            first = None
    return ", ".join(parts) or "none"


def test_the_table_in_the_document_is_the_table_in_the_code():
    rows = ROW.findall((ROOT / "docs" / "bugs.md").read_text(encoding="utf-8"))
    assert [row[:2] for row in rows] == [(bug.number, name) for name, bug in BUGS.items()]
    for _, name, where, scenario in rows:
        assert where == spans([PROFILES[release].features[name] for release in RELEASES])
        assert scenario == f"`{name[4:]}.mem`"


def test_every_bug_has_a_scenario_that_says_why_and_every_scenario_is_one_of_a_bug():
    assert {path.stem for path in REGRESS.glob("*.mem")} == {name[4:] for name in BUGS}
    for path in REGRESS.glob("*.mem"):
        assert path.read_text(encoding="utf-8").startswith("# why: ")


def flipped(text, name):
    """Return a scenario with its switch turned round, and without what it expects of the switch itself."""
    other = {"on": "off", "off": "on"}
    text = re.sub(rf"\n *expect feature\.{re.escape(name)} == \w+", "", text)
    return re.sub(rf"({re.escape(name)}[ =])(on|off)\b", lambda match: match[1] + other[match[2]], text)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(BUGS))
def test_a_scenario_shows_the_bug_on_and_off_and_fails_with_the_switch_the_wrong_way(name, tmp_path):
    path = REGRESS / f"{name[4:]}.mem"
    assert play_case(str(path)).ok
    text = path.read_text(encoding="utf-8")
    wrong = tmp_path / path.name
    wrong.write_text(flipped(text, name), encoding="utf-8")
    assert wrong.read_text(encoding="utf-8") != text
    assert not play_case(str(wrong)).ok
