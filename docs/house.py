"""Draw the rooms of the house from the imports between them: prints docs/house.md.

python docs/house.py > docs/house.md
"""

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"vae": "lso.vae", "lso": "lso", "tasks": "lso.tasks", "cli": "lso.cli"}


def room(name: str) -> tuple[str, str]:
    """Folder and room of a module's full name; the room is empty for what stands in the folder itself."""
    folder = next((f for f, package in FOLDERS.items() if f != "lso" and f"{name}.".startswith(f"{package}.")), "lso")
    first = name.removeprefix(FOLDERS[folder]).removeprefix(".").split(".")[0]
    return folder, first if (ROOT / folder / first).is_dir() and first else ""


def main() -> None:
    """Count imports between rooms, and print a picture a folder."""
    counted: Counter[tuple[tuple[str, str], tuple[str, str]]] = Counter()
    sizes: Counter[tuple[str, str]] = Counter()
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            if any((ROOT / folder / Path(*parts[: i + 1])).is_symlink() for i in range(len(parts))):
                continue  # an editor's link
            here = room(".".join([package, *parts]))
            sizes[here] += path.stem != "__init__"
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "lso":
                    for alias in node.names:
                        there = room(f"{node.module}.{alias.name}")
                        counted[here, there] += there != here
    print(
        "# The house\n\nDrawn from the imports by `python docs/house.py > docs/house.md`; a test compares. An arrow "
        "goes to what is imported,"
    )
    print("with the number of imports; what stands in a folder itself is left out.\n")
    for folder in FOLDERS:
        print(f"## {folder}/\n\n```mermaid\nflowchart BT")
        for (f, name), size in sorted(sizes.items()):
            if f == folder and name:
                print(f'  {name}["{name} ({size})"]')
        for ((f, here), (g, there)), n in sorted(counted.items()):
            if f == g == folder and here and there and n:
                print(f"  {here} -- {n} --> {there}")
        print("```\n")


if __name__ == "__main__":
    main()
