"""A policy with parameters, and what came with a release: chosen, completed, shown, saved, refused."""

from dataclasses import dataclass, replace

import pytest

from memshell import CommandError, MiB, Option, Placement, PluginError, UsageError, align_up, memparse
from memshell.api import Session
from memshell.commands.machine import POLICY_WORD
from memshell.plugins import load_plugins
from memshell.testing import policy_conformance


@dataclass(frozen=True)
class Quota:
    """Memmap from existing memory until a quota is used up."""

    name: str = "quota"
    summary: str = "up to a quota from existing memory, then on the memory"
    parameter: str = "quota"
    since: str = "v6.8"
    options: tuple[Option, ...] = (
        Option("quota", "64M", "bytes of memmap that existing memory gives"),
        Option("mode", "soft", "whether an add fails", ("soft", "hard")),
    )
    quota: int = 0

    def configure(self, options):
        return replace(self, quota=memparse(options["quota"]))

    def place_memmap(self, request):
        used = sum(pages for _, pages in request.memmap_on) * request.page_size
        if used + request.size // request.block_size * request.memmap_bytes <= self.quota:
            return Placement(refusal="within the quota")
        if not request.config or request.arch_refusal or not request.offered:
            return Placement(refusal="the kernel cannot")
        return Placement(reserve_pages=align_up(request.memmap_pages, request.pageblock_nr_pages))


@pytest.fixture
def session():
    plugins = load_plugins()
    plugins.policies()["quota"] = Quota()
    return Session(plugins)


def policy_of(session):
    return session.shell.need_machine().mm.policy


def test_the_defaults_hold_until_something_is_given(session):
    assert session.run("use x86_64 policy=quota").strip().endswith("policy quota quota=64M mode=soft")
    assert policy_of(session).own.quota == 64 * MiB
    assert "from existing memory" in session.run("add 1G")


def test_a_parameter_changes_what_the_next_add_does(session):
    session.run("use x86_64 policy=quota; policy quota=1M")
    assert "in the first 512 pages" in session.run("add 1G")
    session.run("undo 2; expect policy.quota == 64M; redo; expect policy.quota == 1M; expect policy == quota")
    assert "policy quota quota=64M mode=soft quota quota=1M mode=soft" in " ".join(session.run("diff 0 1").split())


def test_use_and_a_change_of_one_keep_the_others(session):
    session.run("use x86_64 policy=quota policy.quota=2M; policy mode=hard")
    assert dict(policy_of(session).values) == {"quota": "2M", "mode": "hard"}
    session.run("policy buddy; policy quota")
    assert dict(policy_of(session).values) == {"quota": "64M", "mode": "soft"}


def test_a_saved_session_has_them(session, tmp_path):
    session.run(f"use x86_64 policy=quota policy.quota=2M; policy mode=hard; save {tmp_path / 'a.mem'}")
    again = Session(session.shell.plugins)
    again.run((tmp_path / "a.mem").read_text())
    assert policy_of(again).values == policy_of(session).values


def test_they_are_listed_and_completed(session):
    session.run("use x86_64 policy=quota policy.quota=2M")
    row = next(line for line in session.run("policy").splitlines() if line.startswith("quota"))
    assert row.split()[:5] == ["quota", "yes", "quota=2M", "mode=soft", "v6.8"]
    words = dict(POLICY_WORD.complete(session.shell, ""))
    assert words["quota="] == "quota: bytes of memmap that existing memory gives"
    assert {"mode=soft", "mode=hard"} <= dict(POLICY_WORD.complete(session.shell, "mode=")).keys()


@pytest.mark.parametrize(
    "text, says",
    [
        ("policy quotas=1M", "the policy quota has no parameter 'quotas'; did you mean quota?"),
        ("policy buddy quota=1M", "the policy buddy has no parameter 'quota'; it takes none"),
        ("policy mode=hart", "mode=hart cannot be; mode is one of soft, hard"),
        ("policy quota=many", "'many' is not a size"),
        ("policy quota=1M quota=2M", "quota is given twice"),
        ("policy quota buddy", "names no single policy"),
        ("profile v6.1", "the policy quota is there since v6.8, the kernel is v6.1; such as profile=v6.12"),
        ("use x86_64 profile=v6.6 policy=quota", "the policy quota is there since v6.8, the kernel is v6.6"),
        ("use x86_64 policy.quota=1M", "the policy buddy has no parameter 'quota'"),
    ],
)
def test_what_cannot_be_is_one_line_and_changes_nothing(session, text, says):
    session.run("use x86_64 policy=quota")
    before = session.shell.need_machine().mm
    with pytest.raises((UsageError, CommandError)) as refused:
        session.run(text)
    assert says in str(refused.value)
    assert session.shell.need_machine().mm is before


def test_a_policy_that_is_too_young_is_not_offered(session):
    session.run("use x86_64 profile=v6.6")
    assert "quota" not in dict(POLICY_WORD.complete(session.shell, ""))
    session.run("profile v6.12")
    assert "quota" in dict(POLICY_WORD.complete(session.shell, ""))


def test_configure_has_to_return_the_policy(session, monkeypatch):
    monkeypatch.setattr(Quota, "configure", lambda self, options: None)
    with pytest.raises(PluginError, match=r"policy quota: configure returned None, not the policy with its parameters"):
        session.run("use x86_64 policy=quota")


def test_an_architecture_that_came_later_refuses_older_kernels(session):
    session.shell.plugins.arches()["late"] = replace(
        session.shell.plugins.arches()["x86_64"], name="late", since="v6.11"
    )
    with pytest.raises(UsageError, match=r"memory hotplug on late is there since v6.11, the kernel is v6.6"):
        session.run("use late profile=v6.6")
    session.run("use late profile=v6.12")
    with pytest.raises(UsageError, match=r"such as profile=v6.12"):
        session.run("profile rfc-2018")


@pytest.mark.slow
def test_the_kit_asks_it_on_kernels_that_have_it(session):
    arches = [session.shell.plugins.arches()["x86_64"]]
    report = policy_conformance(Quota(), arches=arches, examples=0)
    report.assert_ok()
    assert report.machines < policy_conformance(replace(Quota(), since=""), arches=arches, examples=0).machines
