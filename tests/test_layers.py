"""Imports point one way, plugins use public names only, and functions stay short."""

import ast
import functools
import re
from pathlib import Path

import pytest

import memshell
import memshell.testing

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "memshell"

# Each part may import those of the lines before its own. Those of one line do not know each other, but for the model's.
LAYERS = [
    {"errors"},
    {
        "mm",
        "drivers",
        "kernel",
        "lib",
        "series",
        "profiles",
        "arch",
        "policy",
    },  # the model; its parts name each other's records
    {"vmlinux", "machine", "views"},
    {"capture", "experiment", "pictures"},
    {"result", "options", "paths", "hookspecs"},
    {"sweep"},
    {"shell"},
    {"plugins"},
    {"verify", "conformance"},
    {"commands"},
    {"scenario"},
    {"lab", "mount"},
    {"api", "modes"},
    {"testing", "repl"},
    {"__main__"},
]
MODEL = ("mm", "drivers", "kernel", "lib", "series")
PURE = {"prompt_toolkit", "pluggy", "rich", "lark", "random", "time", "datetime", "os", "sys", "subprocess", "logging"}


@functools.cache
def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def sources():
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py" or path.parent != PACKAGE)


def part(path):
    return family(path.relative_to(PACKAGE).parts[0].removesuffix(".py"))


def family(name):
    """Modules that a module was split into stand where it stands: conformance_arch is of conformance."""
    return name if name.startswith("_") else name.partition("_")[0]


def run_nodes(path):
    """Yield the nodes of a module's tree that are there when it runs, not those for annotations only."""
    tree = tree_of(path)
    guarded = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            guarded |= {id(inner) for inner in ast.walk(node)}
    yield from (node for node in ast.walk(tree) if id(node) not in guarded)


def imports(path, *, typing=False):
    """Yield the modules that *path* imports when it runs; with *typing*, those of annotations too."""
    for node in ast.walk(tree_of(path)) if typing else run_nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [alias.name for alias in node.names]
            yield from ([f"memshell.{name}" for name in names] if node.module == "memshell" else [node.module])


def imports_any(path, package):
    return any(name.startswith(package) for name in imports(path, typing=True))


def test_every_module_has_a_layer():
    known = set().union(*LAYERS)
    assert {part(path) for path in sources()} <= known


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    here = next(at for at, layer in enumerate(LAYERS) if part(path) in layer)
    same = LAYERS[here] if part(path) in LAYERS[1] else {part(path)}
    allowed = set().union(*LAYERS[:here], same, {"__version__"})
    found = {family(name.split(".")[1]) for name in imports(path) if name.startswith("memshell.")}
    assert found <= allowed, f"{path.name} is below what it imports"


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    first = {"plugins": "memshell_plugins"}.get(parts[0], parts[0])
    return ".".join([first, *parts[1:]]).removesuffix(".__init__")


def graph():
    """Return module -> the modules that it imports when it runs, be it late in a function."""
    files = {module_name(path): path for path in [*PACKAGE.rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]}
    edges = {}
    for name, path in files.items():
        nodes = [node for node in run_nodes(path) if isinstance(node, (ast.Import, ast.ImportFrom))]
        found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        for node in nodes:
            if isinstance(node, ast.ImportFrom):
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= (inner & files.keys()) | ({node.module} if inner - files.keys() else set())
        edges[name] = (found & files.keys()) - {name}
    return edges


def circles(edges):
    """Return the modules that can be reached from themselves."""
    left = {name: set(found) for name, found in edges.items()}
    while True:  # what imports nothing that is left is in no circle, nor is what nobody left imports
        wanted = set().union(*left.values()) if left else set()
        gone = {name for name, found in left.items() if not found or name not in wanted}
        if not gone:
            return left
        left = {name: found - gone for name, found in left.items() if name not in gone}


@pytest.mark.slow
def test_no_circle_of_modules():
    assert circles(graph()) == {}


def test_a_circle_would_be_found():
    assert set(circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}})) == {"b", "c"}


def test_no_import_is_hidden_from_these_tests():
    """Names of modules are computed for public names, for modes, and for the ledger of the model."""
    users = {
        path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py") if "import_module(" in path.read_text()
    }
    public = {"memshell/__init__.py", "memshell/vmlinux/__init__.py"}
    assert users == {*public, "memshell/modes/__init__.py", "memshell/verify/fidelity.py"}


def test_the_model_is_pure():
    for path in [path for part in MODEL for path in (PACKAGE / part).rglob("*.py")]:
        found = {name.split(".")[0] for name in imports(path)}
        assert not found & PURE, path.name
        assert "print(" not in path.read_text(encoding="utf-8"), path.name


def test_released_kernels_do_not_know_the_series():
    released = [path for part in ("mm", "drivers", "kernel", "lib") for path in (PACKAGE / part).rglob("*.py")]
    assert not [path.name for path in released if any(n.startswith("memshell.series") for n in imports(path))]


CALLERS = {"acpi_memory_device_add", "acpi_bus_scan", "add_memory", "add_memory_driver_managed", "remove_memory"}


@pytest.mark.slow
def test_memory_is_added_and_removed_through_the_registry_of_callers():
    """Outside of the drivers, the core and the series nobody calls what a `Caller` calls."""
    users = {}
    for path in sources():
        if part(path) not in MODEL:
            names = {n.name for node in run_nodes(path) if isinstance(node, ast.ImportFrom) for n in node.names}
            names |= {node.attr for node in run_nodes(path) if isinstance(node, ast.Attribute)}
            if names & CALLERS:
                users[path.name] = names & CALLERS
    assert users == {}


def test_only_the_prompt_imports_prompt_toolkit():
    users = {
        part(path) for path in sources() if any(n.startswith("prompt_toolkit") for n in imports(path, typing=True))
    }
    assert users == {"repl"}


PUBLIC = {"memshell": memshell.__all__, "memshell.testing": memshell.testing.__all__}


def plugin_files():
    return [
        *sorted((ROOT / "plugins").rglob("*.py")),
        *sorted((ROOT / "examples").glob("*/[!b]*/*.py")),
        *sorted((ROOT / "examples").glob("*/*.py")),
    ]


@pytest.mark.parametrize("path", plugin_files(), ids=lambda path: path.name)
def test_plugins_use_only_the_public_names(path):
    tree = tree_of(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "memshell":
            assert node.module in PUBLIC, f"{path.name} imports {node.module}"
            assert {alias.name for alias in node.names} <= {*PUBLIC[node.module]}
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("memshell") for alias in node.names)


def test_nothing_imports_the_plugins():
    assert not [path for path in sources() if any(n.startswith("memshell_plugins") for n in imports(path, typing=True))]


def test_the_public_names_exist():
    assert [name for name in memshell.__all__ if not hasattr(memshell, name)] == []


def functions(path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            doc = ast.get_docstring(node, clean=False)
            yield node.name, node.end_lineno - node.lineno + 1 - (len(doc.splitlines()) if doc else 0)


def test_functions_stay_short():
    everything = [*sources(), *plugin_files()]
    sizes = [(lines, f"{path.name}:{name}") for path in everything for name, lines in functions(path)]
    assert [entry for entry in sizes if entry[0] > 50] == []
    ordered = sorted(lines for lines, _name in sizes)
    assert ordered[len(ordered) // 2] <= 11
    assert ordered[len(ordered) * 9 // 10] < 35


def test_nothing_is_left_to_do():
    words = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|raise NotImplemented" + r"Error)\b")
    found = [
        f"{path.name}: {line.strip()}"
        for path in [*sources(), *plugin_files()]
        for line in path.read_text(encoding="utf-8").splitlines()
        if words.search(line)
    ]
    assert found == []
