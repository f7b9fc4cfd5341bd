"""Random sequences, and how one that differs gets shorter."""

import pytest

from memshell.lab.fuzz import Found, Fuzz, Generator, save
from memshell.lab.play import Ran
from memshell.lab.report import Compared
from memshell.scenario.suite import play_text_case, shared_plugins
from memshell.verify import Quantity


@pytest.mark.parametrize("seed", range(5))
def test_a_sequence_is_a_scenario_that_the_model_plays(seed):
    text = Generator(seed, shared_plugins).scenario(12)
    assert text == Generator(seed, shared_plugins).scenario(12)
    assert len(text.splitlines()) == 14
    assert play_text_case("fuzz.mem", text).all_failures() == []


class Trying(Fuzz):
    """Says that the engines differ wherever two DIMMs are there and something is offline."""

    def try_out(self, text):
        differs = text.count("add ") >= 2 and "offline" in text
        found = [Quantity(1, "step", "zone.0.Movable.present", 1, 2, "differs" if differs else "equal")]
        return Found(text, [Compared(Ran(None, {"name": "x"}, 0.0), found, [])])


def test_a_sequence_that_differs_is_made_shorter(tmp_path):
    fuzz = Trying(None, shared_plugins)
    lines = ["# seed", "use x86_64 ram=2G", "add 128M", "online 32", "set online_policy=auto-movable"]
    text = "\n".join([*lines, "add 256M", "online 40 movable", "offline 32"]) + "\n"
    found = fuzz.shrink(fuzz.try_out(text))
    assert found.text.splitlines()[1:] in (
        ["add 128M", "add 256M", "! offline 32"],
        ["add 128M", "add 256M", "offline 32"],
        ["use x86_64 ram=2G", "add 128M", "add 256M", "! offline 32"],
    )
    assert found.where == {"zone..Movable.present"}
    path = save(found, tmp_path / "out", 7)
    assert path.read_text() == found.text
    assert (tmp_path / "out/fuzz-7.json.xz").exists()
