"""Names that cannot be, columns that are there, rows that lack a value: refused in one line that says the rule."""

import textwrap

import pytest

from memshell import PluginError
from memshell.api import Session
from memshell.plugins import load_plugins

HEAD = "from memshell import *\nmemshell_api = 2\n"


def begin(tmp_path, text):
    warnings = []
    path = tmp_path / "mine.py"
    path.write_text(HEAD + textwrap.dedent(text))
    session = Session(load_plugins([str(path)], warn=warnings.append))
    session.shell.note = warnings.append
    _ = session.shell.plugins
    return session, warnings


POLICY = """
class Mine:
    name, summary, parameter = {name!r}, "mine", "mine"
    options = {options}
    def place_memmap(self, request):
        return Placement()

@hookimpl
def memshell_policies(ctx):
    return [Mine()]
"""


@pytest.mark.parametrize(
    "name, options, says",
    [
        ("a b", (), "policy a b cannot be: a name begins with a letter and has letters, digits, _, - and . only"),
        ("", (), "policy  cannot be: a name begins"),
        (3, (), "policy 3 cannot be: a name begins"),
        ("v6.1", (), "policy v6.1 cannot be: it is the name of a kernel, and `use` would not know which is meant"),
        ("rfc-2018", (), "policy rfc-2018 cannot be: it is the name of a kernel"),
        ("buddy", (), "policy buddy exists already, from plugin policies"),
        ("mine", (1,), "policy mine has options, and no method configure(options) that applies them"),
    ],
)
def test_a_policy_that_cannot_have_its_name(tmp_path, name, options, says):
    session, warnings = begin(tmp_path, POLICY.format(name=name, options=options))
    policies = session.shell.plugins.policies()
    assert len(warnings) == 1
    assert says in warnings[0]
    assert len(policies) == 4


COMMAND = """
@command({family!r}, name={name!r}, needs_machine=False)
def mine(shell, args):
    "Mine."
    return {returns}

@hookimpl
def memshell_commands(ctx):
    return [mine]
"""


@pytest.mark.parametrize(
    "family, name, says",
    [
        ("look", "expect", "command expect cannot be: that is a word of the language"),
        ("look", "let", "command let cannot be"),
        ("look", "Big One", "command 'Big One' cannot be: small letters and digits, with - or _ between words"),
        ("look", "add", "command add exists already, from memshell"),
        ("loook", "mine", "command mine: there is no family 'loook'; did you mean look?"),
        ("other", "mine", "there is no family 'other'; one of machine, hotplug, memory, look, what if, session"),
    ],
)
def test_a_command_that_cannot_be(tmp_path, family, name, says):
    _, warnings = begin(tmp_path, COMMAND.format(family=family, name=name, returns="''"))
    assert len(warnings) == 1
    assert says in warnings[0]
    assert warnings[0].startswith("memshell: plugin mine: ")


def test_a_row_without_a_value_names_row_and_column(tmp_path):
    rows = "Result(rows=[{'a': 1, 'b': 2}, {'a': 1}], columns=(Column('A'), Column('B')))"
    session, _ = begin(tmp_path, COMMAND.format(family="look", name="mine", returns=rows))
    with pytest.raises(PluginError, match="plugin mine: command mine: row 1 has no 'b', which the column B shows"):
        session.run("mine")


COLUMNS = """
@hookimpl
def memshell_columns(ctx):
    return [{column}]
"""


@pytest.mark.parametrize(
    "column, says",
    [
        ("Column('SIZE', compute=lambda row: 1)", "plugin mine: column SIZE is there already in buddyinfo"),
        ("Column('size', compute=lambda row: 1)", "column size is there already in buddyinfo"),
        ("Column('EXTRA')", "column EXTRA has no compute: a function of a row that returns the value"),
        ("Column('A B', compute=lambda row: 1)", "column A B cannot be: a name begins with a letter"),
    ],
)
def test_a_column_that_cannot_be_is_told_once_and_the_view_goes_on(tmp_path, column, says):
    session, warnings = begin(tmp_path, COLUMNS.format(column=column))
    shell = session.shell
    assert shell.columns("buddyinfo", ["SIZE"]) == []
    assert shell.columns("buddyinfo", ["SIZE"]) == []
    assert len(warnings) == 1
    assert says in warnings[0]


HALVES = """
@hookimpl
def memshell_columns(ctx):
    half = Column("HALF", compute=lambda row: int(row["block"]) // 8)
    return [half] if ctx.view == "lsmem" else [Column("COUNT", compute=len)]
"""


def test_a_column_of_lsmem_is_asked_about_each_block_before_lines_are_joined(tmp_path):
    session, warnings = begin(tmp_path, HALVES)
    session.run("use x86_64; add 256M")
    lines = session.run("lsmem -o RANGE,HALF").splitlines()
    assert [line.split()[1] for line in lines[1:4]] == ["0", "1", "4"]
    assert lines[1].split()[0] == "0x0000000000000000-0x000000003fffffff"
    assert '"half": 1' in session.run("lsmem -J -o RANGE,HALF")
    assert "HALF" not in session.run("lsmem -o +NODE")
    assert warnings == []


@pytest.mark.parametrize(
    "view", ["vmemmap", "meminfo", "vmstat", "zoneinfo", "iomem", "buddyinfo", "events", "history"]
)
def test_a_column_is_there_wherever_o_is(tmp_path, view):
    session, _ = begin(tmp_path, HALVES)
    session.run("use x86_64; add 256M")
    assert "COUNT" in session.run(f"{view} -o +COUNT").splitlines()[0]
    assert "COUNT" not in session.run(view).splitlines()[0]


def test_the_map_of_the_memmap_stays_readable_with_a_column_more(tmp_path):
    session, _ = begin(tmp_path, HALVES)
    session.run("use x86_64")
    row = session.run("vmemmap -o +COUNT").splitlines()[1].split()
    assert (row[0], row[-2]) == ("0xffffea0000000000", "boot")
