"""Features: one declaration each, read by attribute in the model, by name in what users type."""

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest

from memshell.errors import UsageError
from memshell.mm.feature import Named
from memshell.mm.features import Features
from memshell.mm.profile import RELEASES, version
from memshell.profiles import PROFILES, choose_profile
from memshell.series import NAMES
from memshell.series.features import SeriesFeatures

ROOT = Path(__file__).parent.parent.parent
ALL = SeriesFeatures.declared()


def code():
    for folder in ("memshell", "plugins", "examples"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not {"build", ".venv", "tests"} & set(path.relative_to(ROOT).parts):
                yield path


def test_the_model_asks_by_attribute():
    by_name = re.compile(r"""\.feature\(|features\[["']""")
    found = {str(path.relative_to(ROOT)) for path in code() if by_name.search(path.read_text(encoding="utf-8"))}
    assert not found


@pytest.mark.parametrize("name", ALL)
def test_a_name_is_a_path_of_attributes(name):
    kernel = PROFILES["rfc-2018"]
    target = kernel.features
    for part in ALL[name].path:
        target = getattr(target, part)
    assert kernel.features[name] == target
    assert name == ".".join(ALL[name].path) or ALL[name].path[-1] == name.partition(".")[2].lstrip("_")
    assert ALL[name].text


@pytest.mark.parametrize("kernel", PROFILES.values(), ids=lambda kernel: kernel.name)
def test_every_value_is_one_that_the_feature_may_have(kernel):
    for name, value in kernel.features.items():
        kernel.features.declared()[name].accept(value)


def test_every_change_is_at_a_version_that_comes_after_the_one_before():
    def since(kind):
        for item in kind.__dataclass_fields__.values():
            here = item.metadata.get("feature")
            yield from since(item.type) if here is None else [here]

    for here in since(SeriesFeatures):
        keys = list(here.since)
        order = [NAMES.index(key) if key in NAMES else version(key) for key in keys]
        assert order == sorted(order), here.text
        values = [here.first, *here.since.values()]
        assert all(a != b for a, b in pairwise(values)), here.text


def test_one_feature_changes_and_the_others_stay():
    kernel = PROFILES["v6.12"]
    other = kernel.with_feature("memmap_on_memory.predicate", "pmd")
    assert {name for name in kernel.features if kernel.features[name] != other.features[name]} == {
        "memmap_on_memory.predicate"
    }
    assert kernel.with_feature("node_notifier", value=True).features.node_notifier
    assert other.with_feature("memmap_on_memory.predicate", "pageblock") == kernel


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("node_notifer", True, "unknown feature 'node_notifer'; did you mean 'node_notifier'?"),
        ("node_notifier", "on", "node_notifier is on or off, not 'on'"),
        ("pageblock.flag_bits", True, "pageblock.flag_bits is a whole number, not True"),
        ("s390.standby", "addd", "s390.standby=addd cannot be; did you mean 'added'?"),
        ("check.free_pagetable", False, "unknown feature 'check.free_pagetable'"),
    ],
)
def test_what_cannot_be_is_refused(name, value, message):
    with pytest.raises(UsageError) as refused:
        PROFILES["v6.12"].with_feature(name, value)
    assert str(refused.value).startswith(message)


def test_features_read_like_a_mapping():
    features = PROFILES[RELEASES[0]].features
    assert isinstance(features, Named)
    assert len(features) == len(list(features)) == len(Features.declared())
    assert features.get("no.such") is None
    assert "bug.force_asks_arch" in features


def chains(tree):
    """Yield the attributes behind one another: ``mm.features.bug.x`` is ("features", "bug", "x")."""
    for node in ast.walk(tree):
        parts = []
        while isinstance(node, ast.Attribute):
            parts.insert(0, node.attr)
            node = node.value  # noqa: PLW2901 - the chain is walked to its root
        if parts:
            yield tuple(parts)


@pytest.mark.slow
def test_every_feature_has_a_reader():
    asked = {chain for path in code() for chain in chains(ast.parse(path.read_text(encoding="utf-8")))}
    ends = {chain[-length:] for chain in asked for length in (1, 2)}
    for name, known in ALL.items():
        path = known.path if len(known.path) > 1 else ("features", *known.path)
        assert path in ends, f"nothing asks for {name}"


@pytest.mark.parametrize(
    "asked, name, said",
    [
        ("v6.12", "v6.12", False),
        ("6.12", "v6.12", False),
        ("6.12.107+deb13", "v6.12", False),
        ("6.8", "v6.6", True),
        ("v6.14-rc3", "v6.12", True),
        ("9.1", RELEASES[-1], True),
        ("rfc-2018", "rfc-2018", False),
    ],
)
def test_a_version_is_played_by_the_newest_profile_that_is_not_newer(asked, name, said):
    choice = choose_profile(asked)
    assert choice.profile is PROFILES[name]
    assert choice.note == (f"{name} is the newest profile that is not newer than {asked}" if said else "")
