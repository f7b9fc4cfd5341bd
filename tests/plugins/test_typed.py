"""The installed package brings its types: a small program of a user is checked against the wheel."""

PROGRAM = """
from memshell import KernelError, Machine

machine = Machine.boot("x86_64", ram="2G", nodes=2)
text: str = machine.run("add 1G")
free: int = machine.mem_free
present: int = machine.zones[0, "Movable"].present
state: str = machine.blocks[0].state
try:
    machine.undo()
except KernelError as error:
    name: str | None = error.errno
"""


def check(venv, folder, text):
    path = folder / "user.py"
    path.write_text(text)
    return venv.run("-m", "mypy", "--strict", "--cache-dir=/dev/null", str(path))


def test_a_users_program_is_checked(venv, tmp_path):
    done = check(venv, tmp_path, PROGRAM)
    assert (done.returncode, done.stdout) == (0, "Success: no issues found in 1 source file\n")


def test_a_users_mistake_is_found(venv, tmp_path):
    done = check(venv, tmp_path, PROGRAM + "machine.mem_fre\nwrong: str = machine.mem_free\n")
    assert 'has no attribute "mem_fre"' in done.stdout
    assert "Incompatible types in assignment" in done.stdout
