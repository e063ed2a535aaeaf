"""Events of mkdocs: pages drawn from the code or kept elsewhere, the navigation of folders, and fences.

Run as ``python -m mkdocs``, which finds ``docs`` in the folder that it runs in.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

from docs.site import command_pages, fences, tables
from lso.cli.commands import COMMANDS

REPOSITORY = Path(__file__).resolve().parents[2]
MARKS = {
    **tables.MARKS,
    "commands": command_pages.command_list,
    "settings": command_pages.settings_tables,
    "method parameters": command_pages.method_parameters,
}
MARK = re.compile(r"\{\{ (" + "|".join(MARKS) + r")(?: ([^}]+?))? \}\}")
OPTIONAL = ("models.md", "guides/")  # left out of the navigation where they are not there
INCLUDED = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}  # pages that lie beside docs/


def on_config(config: Any) -> Any:
    """Add our fences, and write out the folders of the navigation."""
    config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = [
        {"name": "math", "class": "formula", "format": fences.formula},
        {"name": "mermaid", "class": "imports", "format": fences.dependencies},
    ]
    docs = Path(config.docs_dir)
    config.nav = _written_out(config.nav, docs)
    return config


def _written_out(nav: list[Any], docs: Path) -> list[Any]:
    """The navigation with the pages of each ``folder/``, and without optional pages that are not there."""
    found: list[Any] = []
    for entry in nav:
        title, target = next(iter(entry.items())) if isinstance(entry, dict) else (None, entry)
        if isinstance(target, list):
            found.append({title: _written_out(target, docs)})
        elif isinstance(target, str) and target.endswith("/"):
            pages = _pages(target, docs)
            if pages or target not in OPTIONAL:
                found.append({title: pages})
        elif target not in OPTIONAL or (docs / target).is_file():
            found.append(entry)
    return found


def _pages(folder: str, docs: Path) -> list[Any]:
    """Pages of a folder: its index first, then in the order in which the index links to them, then by name."""
    names = sorted(path.name for path in (docs / folder).glob("*.md"))
    index = (docs / folder / "index.md").read_text(encoding="utf-8") if "index.md" in names else ""
    linked = ["index.md", *re.findall(r"\]\(([\w-]+\.md)\)", index)]
    names.sort(key=lambda name: linked.index(name) if name in linked else len(linked))
    pages: list[Any] = [f"{folder}{name}" for name in names]
    if folder == "reference/commands/":
        pages += [{name: f"{folder}{command_pages.slug(name)}.md"} for name in COMMANDS]
    return pages


def on_files(files: Any, config: Any) -> Any:
    """Add the pages of the commands."""
    if missing := command_pages.undocumented():
        raise SystemExit(f"without documentation: {', '.join(missing)}; give each its help, as cli/ and settings do")
    for name in COMMANDS:
        path = f"reference/commands/{command_pages.slug(name)}.md"
        files.append(File.generated(config, path, content=command_pages.command_page(name)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Fill in what is drawn or kept elsewhere in the repository."""
    markdown = MARK.sub(lambda mark: MARKS[mark[1]](*filter(None, [mark[2]])), markdown)
    source = INCLUDED.get(page.file.src_uri)
    if source:  # its links lead from the repository's root
        markdown = (REPOSITORY / source).read_text(encoding="utf-8").replace("](docs/", "](")
    return markdown
