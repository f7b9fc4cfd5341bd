"""The model predicts what real kernels did: every recording, every quantity, against the table that is printed."""

import pytest
from fidelity import ROOT, gather_probes, probes_of, tally
from recorded import RECORDINGS, recordings

from memshell.verify.calls import probed
from memshell.verify.fidelity import markdown, reasons, stored
from memshell.verify.quantity import VERDICTS

KNOWN = {where for entry in reasons() for where in entry["where"]}


@pytest.mark.parametrize("path", recordings())
def test_recording_is_predicted(path):
    found = tally(str(path))
    assert set(found.differs) == {line for line in KNOWN if line.split()[0] == found.recording}
    row = stored()["recordings"][found.recording]
    assert found.counts == {verdict: row[verdict] for verdict in found.counts}, "run make fidelity"


def test_shares_of_the_verdicts():
    total = {verdict: sum(row[verdict] for row in stored()["recordings"].values()) for verdict in VERDICTS}
    everything = sum(total.values())
    assert total["equal"] >= 0.9 * everything
    assert total["not-modelled"] < 0.05 * everything
    assert total["differs"] == len(KNOWN)


def test_every_recording_counts():
    assert set(stored()["recordings"]) == {path.name.split(".")[0] for path in RECORDINGS}


def test_the_probes_of_a_new_release_come_from_its_recordings(monkeypatch):
    path = str(ROOT / "tests" / "recordings" / "x86_64-k612-Y-1G-movable.json.xz")
    release, names = probes_of(path)
    assert release == "6.12"
    assert set() < names <= probed("6.12.117")
    monkeypatch.setattr("fidelity.probes", lambda: {"6.1": ["add_pages"]})
    assert gather_probes([path]) == {"6.1": ["add_pages"], "6.12": sorted(names)}


def test_page_is_current():
    assert (ROOT / "docs" / "fidelity.md").read_text() == markdown(stored()), "run make fidelity"


def test_the_readme_says_what_came_out():
    total = {verdict: sum(row[verdict] for row in stored()["recordings"].values()) for verdict in VERDICTS}
    everything = sum(total.values())
    share = {verdict: f"{100 * count / everything:.1f} %" for verdict, count in total.items()}
    claim = (
        f"{len(RECORDINGS)} recordings hold {everything:,} quantities: {share['equal']} are equal, {share['within']} within, "
        f"{total['given']} given, {total['differs']} differ, {total['not-modelled']} are not modelled."
    )
    assert claim in (ROOT / "README.md").read_text()
