"""How tests ended, for people, for KTAP readers (the kernel's own format) and for JUnit readers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memshell.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from xml.etree.ElementTree import Element

    from memshell.scenario.suite import Case


def plain_line(case: Case) -> str:
    """Return one line per scenario, with the failures under it."""
    word = _word(case)
    count = f", {len(case.subtests)} subtests" if case.subtests else ""
    lines = [f"{word:<6} {case.name} ({case.seconds:.2f} s{count})", *case.all_failures()]
    return printable("".join(line + "\n" for line in lines))


def _word(case: Case) -> str:
    if case.ok:
        return "ok"
    return "ERROR" if case.errors and not case.failures else "FAILED"


def summary(cases: Sequence[Case]) -> str:
    """Return the last line: how many, how many failed, how long it took."""
    failed = sum(not case.ok for case in cases)
    seconds = sum(case.seconds for case in cases)
    verdict = f"{failed} of {len(cases)} failed" if failed else f"{len(cases)} passed"
    return f"{verdict} in {seconds:.2f} s\n"


def ktap(cases: Sequence[Case]) -> str:
    """Return the results in KTAP version 1 (Documentation/dev-tools/ktap.rst)."""
    return printable("".join(line + "\n" for line in _ktap(cases, "")))


def _ktap(cases: Sequence[Case], indent: str) -> Iterator[str]:
    yield f"{indent}KTAP version 1"
    yield f"{indent}1..{len(cases)}"
    for number, case in enumerate(cases, start=1):
        inner = indent + "  "
        if case.subtests:
            first, *rest = _ktap(case.subtests, inner)
            yield first
            yield f"{inner}# Subtest: {_ktap_name(case.name)}"
            yield from rest
        for text in (*case.failures, *case.errors):
            yield from (f"{indent}# {line}" for line in text.splitlines())
        yield f"{indent}{'ok' if case.ok else 'not ok'} {number} {_ktap_name(case.name)}"


def _ktap_name(name: str) -> str:
    # A hash begins a directive such as SKIP.
    return name.replace("#", "_")


def junit(cases: Sequence[Case]) -> str:
    """Return the results as JUnit XML: a suite per scenario, a case per subtest."""
    from xml.etree.ElementTree import Element, indent, tostring

    root = Element("testsuites", _counts(cases))
    for case in cases:
        suite = Element("testsuite", {"name": case.name, **_counts([case])})
        for member in _flat(case):
            suite.append(_testcase(member, case))
        root.append(suite)
    indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _flat(case: Case) -> list[Case]:
    return [case, *(inner for member in case.subtests for inner in _flat(member))]


def _counts(cases: Sequence[Case]) -> dict[str, str]:
    flat = [member for case in cases for member in _flat(case)]
    failed = sum(bool(member.failures) for member in flat)
    errors = sum(bool(member.errors) and not member.failures for member in flat)
    seconds = sum(case.seconds for case in cases)
    return {"tests": str(len(flat)), "failures": str(failed), "errors": str(errors), "time": f"{seconds:.3f}"}


def _testcase(member: Case, suite: Case) -> Element:
    from xml.etree.ElementTree import Element, SubElement

    made = Element("testcase", {"name": member.name, "classname": suite.name, "time": f"{member.seconds:.3f}"})
    for kind, texts in (("failure", member.failures), ("error", member.errors)):
        for text in texts:
            SubElement(made, kind, {"message": text.splitlines()[0]}).text = text
    return made
