"""The house rules that no linter knows: one direction of imports, terminals in one folder, few clones, lazy faces."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = {"vae": "lso.vae", "lso": "lso", "tasks": "lso.tasks", "cli": "lso.cli"}  # lowest first
# The rooms of each floor, in the order in which they may import: each what stands on a line above its own. A name is a
# sub-package or a module; those of one line do not know of each other.
ROOMS: Mapping[str, Sequence[str]] = {
    "lso.vae": (
        "errors",
        "utils vocabulary launch callbacks zoo",
        "config distributed progress",
        "precision protocols",
        "distributions",
        "models data",
        "objectives inference checkpoint",
        "checkpoint_selection",
        "metrics runs",
        "training tensorboard",
    ),
    "lso": (
        "_botorch optimizers space decoders",
        "objectives",
        "results",
        "gradient black_box",
        "analysis",
        "reports",
    ),
    "lso.tasks": (
        "task",
        "goals",
        "datasets",
        "exploration traversals",
        "training",
        "search problems export",
        "retraining papers",
        "doctor",
    ),
    "lso.cli": (
        "console signals options",
        "output_paths flags run_argument",
        "progress",
        "commands",
        "main",
    ),
}
# Methods of public classes that hand over to a room above when they are called: `Result.report()` and its like.
HANDS_OVER = {
    ("lso.black_box.result", "lso.reports.black_box_report"),
    ("lso.results.result", "lso.reports.search_report"),
    ("lso.tasks.retraining.records", "lso.tasks.retraining.report"),
}
EXEMPT = ("lso", "lso.__main__")  # the face and the entry point name everything
FACES = (*FLOORS.values(),)
WINDOW, CLONED = 8, 0.03


@cache
def modules() -> dict[str, ast.Module]:
    """Module name -> syntax tree, over the four folders and their sub-packages."""
    found = {}
    for folder, package in FLOORS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not _outside(path):
                parts = path.relative_to(ROOT / folder).with_suffix("").parts
                found[".".join([package, *(part for part in parts if part != "__init__")])] = ast.parse(
                    path.read_text(encoding="utf-8"), str(path)
                )
    return found


def _outside(path: Path) -> bool:
    """Whether a file is reached through a link (an editor's), built, or of an environment."""
    parts = path.relative_to(ROOT).parts
    linked = any((ROOT / Path(*parts[: i + 1])).is_symlink() for i in range(len(parts)))
    return linked or parts[0] in ("tests", "build", "dist") or parts[0].startswith(".") or "site-packages" in parts


def imports(tree: ast.Module, *, late: bool = True) -> set[str]:
    """Full names of what a module imports: all, or without what stands in functions or serves type checking alone."""
    found = set()
    for node in ast.walk(tree) if late else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import, line {node.lineno}"
            children = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (children & modules().keys()) or {str(node.module)}
    return found


def floor(module: str) -> str:
    """The package that a module is part of: ``lso.vae`` of ``lso.vae.models.conv``."""
    package = ".".join(module.split(".")[:2])
    return package if package in ROOMS else "lso"


def room(module: str) -> str:
    """The part of its floor that a module is part of: ``models`` of ``lso.vae.models.conv``; empty for a face."""
    rest = module.removeprefix(floor(module)).removeprefix(".")
    return rest.split(".")[0]


def edges(*, late: bool = True) -> Iterator[tuple[str, str]]:
    """Pairs of a module of ours and one that it imports."""
    for module, tree in modules().items():
        if module not in EXEMPT:
            yield from ((module, name) for name in sorted(imports(tree, late=late) & modules().keys()))


def test_imports_run_one_way_between_the_four_folders() -> None:
    """cli -> tasks -> lso -> vae."""
    order = list(ROOMS)
    up = [(m, name) for m, name in edges() if name != "lso" and order.index(floor(name)) > order.index(floor(m))]
    assert not up, up


def test_imports_run_one_way_between_the_rooms_of_a_folder() -> None:
    rank = {(package, name): i for package, rows in ROOMS.items() for i, row in enumerate(rows) for name in row.split()}
    wrong = []
    for module, name in edges():
        package, here, there = floor(module), room(module), room(name)
        if package == floor(name) and here and there and here != there and (module, name) not in HANDS_OVER:
            wrong += [f"{module} imports {name}"] if rank[package, there] >= rank[package, here] else []
    assert not wrong, "\n".join(wrong)


def test_every_room_is_in_the_order() -> None:
    named = {f"{package}.{name}" for package, rows in ROOMS.items() for row in rows for name in row.split()}
    there = {f"{floor(module)}.{room(module)}" for module in modules() if room(module) and module not in EXEMPT}
    assert named == there


def test_our_folders_are_only_imported_as_lso() -> None:
    for module, tree in modules().items():
        bare = {name.split(".")[0] for name in imports(tree)} & {"vae", "tasks", "cli", "tests"}
        assert not bare, f"{module} imports {bare}; write lso.{bare}"


def test_modules_can_be_put_in_an_order() -> None:
    """No circle of imports, late ones counted, but for `HANDS_OVER`."""
    waiting: dict[str, set[str]] = {module: set() for module in modules() if module not in EXEMPT}
    for module, name in edges():
        if name not in EXEMPT and (module, name) not in HANDS_OVER:
            waiting[module].add(name)
    while waiting:
        ready = {module for module, needed in waiting.items() if not needed & waiting.keys()}
        assert ready, f"circles among {sorted(waiting)}"
        waiting = {module: needed for module, needed in waiting.items() if module not in ready}


# Names that several modules give to a function, each with the reason. A command's function, named as its module in
# `cli/commands`, is one more; every other public function and class has a name of its own.
HOOKS = {
    "load": "of a dataset, which its row of TASKS names; and the public lso.load, which loads a run's model",
    "load_dataset": "of images and of sequences, as `LOADERS` beside the public lso.load_dataset names them",
    "goal": "of a problem, which its row of TASKS names",
    "known": "of a problem: the data whose scores are known before a search, which its goal takes",
    "score": "of a problem: the function that its goal optimizes, by whose name a search in a run folder goes on",
}


def test_public_names_are_unique_but_for_the_hooks() -> None:
    found: dict[str, list[str]] = {}
    for module, tree in modules().items():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not (
                node.name.startswith("_") or module == f"lso.cli.commands.{node.name}"
            ):
                found.setdefault(node.name, []).append(module)
    several = {name: places for name, places in found.items() if len(places) > 1}
    unlisted = {name: places for name, places in several.items() if name not in HOOKS}
    assert not unlisted, f"{unlisted}: one name, one meaning; qualify them"
    assert several.keys() == HOOKS.keys(), f"no longer in several modules: {HOOKS.keys() - several.keys()}"


@pytest.mark.parametrize("terminal", ["typer", "rich", "click"])
def test_terminals_live_in_cli_alone(terminal: str) -> None:
    """But for the progress of `progress=True` in Python, which rich draws."""
    users = [name for name, tree in modules().items() if any(i.split(".")[0] == terminal for i in imports(tree))]
    assert all(name.startswith("lso.cli") or (name, terminal) == ("lso.vae.progress", "rich") for name in users), users


def test_packages_are_the_folders_that_hold_python() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert {name: folder for folder, name in FLOORS.items()} == settings["package-dir"]
    found = {path.parent for folder in FLOORS for path in (ROOT / folder).rglob("*.py") if not _outside(path)}
    parts = [path.relative_to(ROOT).parts for path in found]
    names = {".".join([FLOORS[first], *rest]) for first, *rest in parts}
    assert settings["packages"] == sorted(names)
    assert all((path / "__init__.py").exists() for path in found)


def test_no_number_is_rounded_to_minus_zero() -> None:
    """Of a value that is rounded for a reader the format says ``z``: -0.004 is 0.00, not -0.00."""
    rounded = re.compile(r"[^.]*\.\d+[fF%]")
    for module, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FormattedValue) and isinstance(node.format_spec, ast.JoinedStr):
                spec = "".join(str(part.value) for part in node.format_spec.values if isinstance(part, ast.Constant))
                constant = all(name.id.isupper() for name in ast.walk(node.value) if isinstance(name, ast.Name))
                told = f"{module}: {{{ast.unparse(node.value)}:{spec}}}"
                assert constant or "z" in spec or not rounded.fullmatch(spec), told


def test_cloned_windows_stay_under_three_percent() -> None:
    """Share of windows of 8 statement lines that occur more than once; imports, docstrings and layout left out."""
    windows = [window for tree in modules().values() for window in _windows(tree)]
    count = Counter(windows)
    share = sum(n for n in count.values() if n > 1) / len(windows)
    worst = [window for window, n in count.most_common(3) if n > 1]
    assert share < CLONED, f"{share:.1%} cloned, for example:\n" + "\n--\n".join("\n".join(window) for window in worst)


def _windows(tree: ast.Module) -> list[tuple[str, ...]]:
    lines = [line.strip() for line in ast.unparse(_bare(tree)).splitlines()]
    lines = [line for line in lines if line and not line.startswith(("import ", "from "))]
    return [tuple(lines[i : i + WINDOW]) for i in range(len(lines) - WINDOW + 1)]


def _bare(tree: ast.Module) -> ast.Module:
    """A copy without docstrings."""
    copy = ast.parse(ast.unparse(tree))
    for node in ast.walk(copy):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return copy


@pytest.mark.parametrize("package", FACES)
def test_every_public_name_resolves_and_is_listed(package: str) -> None:
    module = importlib.import_module(package)
    for name in getattr(module, "__all__", []):
        assert getattr(module, name) is not None and name in dir(module)
    assert not hasattr(module, "no_such_name")


@pytest.mark.parametrize("package", FACES)
def test_no_public_name_is_that_of_a_module(package: str) -> None:
    """Importing ``package.name`` sets the module as the attribute ``name``, and would hide the object of that name."""
    assert not [
        name for name in getattr(importlib.import_module(package), "__all__", []) if f"{package}.{name}" in modules()
    ]


def test_face_tells_type_checkers_the_names_that_it_resolves() -> None:
    import lso

    block = next(
        node for node in modules()["lso"].body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    )
    told = {
        alias.asname: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert sorted(map(str, told)) == sorted(lso.__all__)
    for name, module in told.items():
        assert getattr(importlib.import_module(str(module)), str(name)) is not None


@pytest.mark.parametrize(
    "statement", ["import lso", "import lso.vae, lso.tasks, lso.cli", "import lso; dir(lso); lso.METHODS"]
)
def test_faces_import_no_heavy_package(statement: str) -> None:
    heavy = ("torch", "numpy", "matplotlib", "sklearn", "scipy", "PIL", "botorch", "typer", "rich")
    code = f"{statement}\nimport sys; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


TORCH_FREE = (
    "config.methods",
    "config.architectures",
    "config.protocol",
    "config.training",
    "errors",
    "runs",
    "metrics.collapse",
)


def test_torch_free_tables_import_no_torch() -> None:
    """What the command line lists: methods, architectures, configuration, errors, runs."""
    names = ", ".join(f"lso.vae.{name}" for name in TORCH_FREE)
    code = f"import sys, {names}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# What opens files for writing on its own: names of temporary files by the system, a lock, files that stay open.
WRITES_ITSELF = (
    "lso.vae.utils.files",
    "lso.tasks.datasets.download",
    "lso.vae.training.state",
    "lso.black_box.journal",
)


def test_all_files_are_written_in_one_place() -> None:
    """Else a full disk is an error of another kind, and leaves half of a file."""
    for module, tree in modules().items():
        if module in WRITES_ITSELF:
            continue
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            modes = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            writes = name in ("write_text", "write_bytes", "mkdir", "savefig")
            writes |= name == "open" and any(set(mode) & set("wax+") and len(mode) < 4 for mode in modes)
            assert not writes, f"{module}, line {call.lineno} writes by {name}; use lso.vae.utils.files"


def test_the_picture_of_the_house_is_true() -> None:
    """`docs/house.md` is what `docs/house.py` draws from the imports."""
    done = subprocess.run([sys.executable, ROOT / "docs" / "house.py"], capture_output=True, text=True, check=True)
    drawn = (ROOT / "docs" / "house.md").read_text(encoding="utf-8")
    assert done.stdout == drawn, "python docs/house.py > docs/house.md"
