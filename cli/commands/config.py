"""``lso config``: print the configuration that a training would have, or write it to a file to edit."""

from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from lso.cli.console import Console, display_path
from lso.cli.flags import configurable
from lso.cli.options import ConfigFile, Force, Json
from lso.vae.errors import UsageError
from lso.vae.utils.files import remove_leftovers, replace_file, utf8


@configurable
def show(values: dict[str, Any], config: ConfigFile = None, json: Json = False) -> None:
    """Print the complete configuration that `lso train` would use with these flags."""
    from lso.tasks.training.plan import explain_method, plan
    from lso.vae.config.training import to_dict, to_toml

    full = plan(values, config, trust=True)  # nothing that it names is imported
    console = Console(json=json)
    if taken := explain_method(values, config, full):
        console.note(taken)
    console.emit(to_dict(full))
    console.result(to_toml(full).rstrip())


@configurable
def init(
    values: dict[str, Any],
    config: ConfigFile = None,
    out: Annotated[Path, typer.Option(help="File to write.", metavar="FILE")] = Path("lso.toml"),
    force: Force = False,
    json: Json = False,
) -> None:
    """Write the complete configuration to a file to edit, for `lso train --config FILE`."""
    from lso.tasks.training.plan import explain_method, plan
    from lso.vae.config.training import to_toml

    full = plan(values, config, trust=True)  # nothing that it names is imported
    if out.exists() and not force:
        raise UsageError(f"{out} exists", "Choose another --out, or overwrite it with --force.")
    remove_leftovers(out)
    replace_file(out, utf8(to_toml(full, explained=True)))
    console = Console(json=json)
    if taken := explain_method(values, config, full):
        console.note(taken)
    console.emit({"file": out})
    console.result(f"wrote {display_path(out)}; edit it, then: lso train --config {quote(display_path(out))}")
