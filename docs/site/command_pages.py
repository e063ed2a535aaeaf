"""Pages of the reference that are drawn from the command line and from the settings: Markdown, without mkdocs."""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args, get_origin

from lso.cli.commands import COMMANDS, GROUPS
from lso.vae.utils.settings import Setting, field_settings

# "module:class" of every dataclass of settings, with the heading under which the page of settings shows it.
SETTINGS: Mapping[str, str] = {
    "lso.vae.config.protocol:DataConfig": "Data: `[data]`",
    "lso.vae.config.architectures:Architecture": "Networks: `[architecture]`",
    "lso.vae.config.protocol:Protocol": "Training: `[protocol]`",
    "lso.tasks.search.options:SearchConfig": "Search by gradient",
    "lso.tasks.search.options:GradientSession": "Search by gradient, beside its settings",
    "lso.tasks.search.options:BlackBoxConfig": "Black-box search",
    "lso.tasks.search.options:BlackBoxSession": "Black-box search, beside its settings",
    "lso.tasks.retraining.options:RetrainingConfig": "Weighted retraining",
    "lso.tasks.retraining.options:RetrainingSession": "Weighted retraining: how the score is called",
}


def command(name: str) -> Any:
    """The parser's command of this name, such as ``train`` or ``config show``."""
    import typer.main

    from lso.cli.main import app

    found: Any = typer.main.get_command(app)
    for word in name.split():
        found = found.load(word)
    return found


def parameters(name: str) -> list[Any]:
    """Arguments and options of a command that its help lists: those under former names are left out."""
    return [one for one in command(name).params if not getattr(one, "hidden", False)]


def slug(name: str) -> str:
    """Of a command's page and of its flags' anchors: ``config show`` is ``config-show``."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def undocumented() -> list[str]:
    """Commands without a summary, flags without help and settings without description; there should be none."""
    found = [f"lso {name}" for name in COMMANDS if not command(name).help]
    for name in COMMANDS:
        found += [f"lso {name} {one.opts[0]}" for one in parameters(name) if not getattr(one, "help", None)]
    for path in SETTINGS:
        known = field_settings(_resolve(path))
        found += [
            f"{path}.{key}" for key in (field.name for field in dataclasses.fields(_resolve(path))) if key not in known
        ]
    return found


def command_page(name: str) -> str:
    """Page of one command: what it does, its usage, examples, and a table of options under each heading of its help."""
    row, parsed = COMMANDS[name], command(name)
    shown = parameters(name)
    arguments = [one for one in shown if not one.opts[0].startswith("-")]
    usage = " ".join(["lso", name, *(_argument(one) for one in arguments), "[OPTIONS]"])
    lines = [f"# lso {name}", "", *_paragraphs(parsed.help.partition("Examples:")[0]), "", f"    {usage}", ""]
    lines += ["## Examples", "", *(f"    {example}" for example in row.examples), ""]
    panels: dict[str, list[Any]] = {}
    for one in shown:
        panel = "Arguments" if one in arguments else getattr(one, "rich_help_panel", None) or "Options"
        panels.setdefault(panel, []).append(one)
    for panel, members in panels.items():
        lines += [
            f"## {panel}",
            "",
            f"| {'argument' if panel == 'Arguments' else 'flag'} | default | what it sets |",
            "| --- | --- | --- |",
        ]
        lines += [_row(name, one) for one in members]
        lines += [""]
    return "\n".join(lines)


def command_list() -> str:
    """Table of all commands by the headings of ``lso --help``, with links to their pages."""
    lines = []
    for panel in dict.fromkeys(_panel(name) for name in COMMANDS):
        lines += [f"### {panel}", "", "| command | what it does |", "| --- | --- |"]
        lines += [
            f"| [`lso {name}`]({slug(name)}.md) | {cell(row.summary)} |"
            for name, row in COMMANDS.items()
            if _panel(name) == panel
        ]
        lines += [""]
    return "\n".join(lines)


def settings_tables() -> str:
    """A table of the fields of every dataclass of settings: name, type, default, limits, flag, what it sets."""
    lines = []
    for path, heading in SETTINGS.items():
        owner = _resolve(path)
        lines += [f"## {heading}", "", f"`{path.replace(':', '.')}`", ""]
        lines += ["| setting | default | what it sets | flag |", "| --- | --- | --- | --- |"]
        for field in dataclasses.fields(owner):
            if known := field.metadata.get("setting"):
                lines.append(_setting_row(field, known))
        lines += [""]
    return "\n".join(lines)


def method_parameters() -> str:
    """A table of what the components of each method set, and of the KL ramp, which all methods with latents take."""
    from lso.vae.config.methods import METHODS, KlRamp

    owners = [(name, part, spec.defaults) for name, spec in METHODS.items() for part in spec.parts.values()]
    lines = ["| method | parameter | what it sets | default |", "| --- | --- | --- | --- |"]
    for name, owner, defaults in [*owners, ("all", KlRamp, {"anneal": "the method's"})]:
        for field in _flat_fields(owner):
            if known := field.metadata.get("setting"):
                default = defaults.get(field.name, field.default)
                shown = "needed" if default is dataclasses.MISSING else f"`{default}`"
                limits = f" Limits: `{known.expectation(field.name)}`." if _has_limits(known) else ""
                lines.append(f"| `{name}` | `{field.name}` | {cell(known.description)}{limits} | {shown} |")
    return "\n".join(lines)


def _flat_fields(owner: Any) -> Iterator[Any]:
    """Fields of a dataclass, and in their place those of a field that is a dataclass itself."""
    for field in dataclasses.fields(owner):
        yield from _flat_fields(field.type) if dataclasses.is_dataclass(field.type) else [field]


def _resolve(path: str) -> Any:
    from lso.vae.utils.lazy import resolve

    return resolve(path)


def _panel(name: str) -> str:
    row = COMMANDS[name]
    return row.panel or GROUPS[name.split()[0]].panel


def _paragraphs(text: str) -> Iterator[str]:
    """The text of a help, whose line breaks are those of a terminal."""
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        yield from (escaped(" ".join(paragraph.split())), "")


def _argument(one: Any) -> str:
    name = one.metavar or one.name.upper()
    name += " ..." if one.nargs != 1 else ""
    return name if one.required else f"[{name}]"


def _row(name: str, one: Any) -> str:
    names = [*one.opts, *one.secondary_opts]
    takes = (
        ""
        if getattr(one, "is_flag", False) or not names[0].startswith("-")
        else f" {one.metavar or one.type.name.upper()}"
    )
    many = " ..." if one.multiple or one.nargs != 1 else ""
    if not names[0].startswith("-"):
        names = [one.metavar or one.name.upper()]
    anchor = slug(names[0]) if names[0].startswith("-") else slug(f"argument {names[0]}")
    label = ", ".join(f"`{each}`" for each in names) + (f" `{takes.strip()}`" if takes else "") + many
    limits = _limits(one)
    text = cell(one.help or "") + (f" Limits: {limits}." if limits else "")
    return f'| <span id="{anchor}">{label}</span> | {_default(one)} | {text} |'


def _default(one: Any) -> str:
    if one.required:
        return "required"
    value = one.default
    if value is None or callable(value) or getattr(one, "show_default", True) is False:
        return ""
    if isinstance(value, bool):
        return "off" if not value else "on"
    return f"`{value}`"


def _limits(one: Any) -> str:
    """Of the parser's type, else of the setting that the flag is made from."""
    low, high = getattr(one.type, "min", None), getattr(one.type, "max", None)
    known = _settings_by_help().get(one.help or "")
    if known is not None and _has_limits(known):
        return f"`{known.expectation(known_name(one))}`"
    if low is not None and high is not None:
        return f"{low} to {high}"
    return f"at least {low}" if low is not None else f"at most {high}" if high is not None else ""


def known_name(one: Any) -> str:
    """What a flag's value is called in its limits: its metavar."""
    return one.metavar or "value"


def _has_limits(known: Setting) -> bool:
    return any(limit is not None for limit in (known.least, known.above, known.most, known.below))


def _settings_by_help() -> dict[str, Setting]:
    return {known.help: known for path in SETTINGS for known in field_settings(_resolve(path)).values()}


def _setting_row(field: Any, known: Setting) -> str:
    if field.default is not dataclasses.MISSING:
        default = field.default
    elif field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    else:
        default = None
    shown = f"`{default!r}`" if default is not dataclasses.MISSING else "required"
    text = cell(known.description)
    if get_origin(field.type) is not None and (words := [w for w in _words(field.type) if isinstance(w, str)]):
        text += f" One of {', '.join(f'`{word}`' for word in words)}."
    if _has_limits(known):
        text += f" Limits: `{known.expectation(field.name)}`."
    flag = (known.flag or f"--{field.name.replace('_', '-')}") if known.heading else ""
    return f"| `{field.name}` | {cell(shown)} | {text} | {f'`{flag}`' if flag else ''} |"


def _words(kind: Any) -> Iterable[Any]:
    from typing import Literal

    if get_origin(kind) is Literal:
        return get_args(kind)
    return [word for part in get_args(kind) if get_origin(part) is Literal for word in get_args(part)]


def escaped(text: str) -> str:
    """Text of a help as Markdown: no angle bracket is HTML, no asterisk or underscore emphasis."""
    parts = text.split("`")
    for at in range(0, len(parts), 2):  # outside backticks
        parts[at] = re.sub(r"(?<!\w)(--[a-z][\w-]*)", r"`\1`", parts[at].replace("<", "&lt;"))
        parts[at] = "`".join(
            piece if inside % 2 else piece.replace("*", r"\*").replace("_", r"\_")
            for inside, piece in enumerate(parts[at].split("`"))
        )
    return "`".join(parts)


def cell(text: str) -> str:
    """Text in a cell of a table."""
    return escaped(" ".join(text.split())).replace("|", r"\|")
