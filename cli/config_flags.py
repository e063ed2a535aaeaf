"""The flags of a training's configuration, declared once for all commands that take them."""

import functools
import inspect
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from lso.cli.options import complete_architectures, complete_methods, complete_tasks, complete_tokenizers
from lso.vae.utils.deprecation import RenamedWarning


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """A value of the configuration that the command line can set.

    Args:
        section: of the configuration; empty for its top level.
        key: in that section.
        type: of the value.
        help: one line.
        panel: heading in ``--help``.
        metavar: what stands for the value.
        name: of the flag, where it is not the key's.
        former: what the flag was called; it still works, unlisted.
        complete: for the shell.
    """

    section: str
    key: str
    type: type
    help: str
    panel: str
    metavar: str = "N"
    name: str = ""
    former: str = ""
    complete: Callable[[], list[tuple[str, str]]] | None = None

    @property
    def variable(self) -> str:
        """Name of the parameter."""
        return self.name.strip("-").replace("-", "_") or self.key

    def parameter(self, former: bool = False) -> inspect.Parameter:
        """As a keyword of a typer command; not given is None."""
        flag = self.former if former else self.name or f"--{self.key.replace('_', '-')}"
        declared = f"{flag}/--no-{flag[2:]}" if self.type is bool else flag
        option = typer.Option(
            declared,
            help=self.help,
            rich_help_panel=self.panel,
            metavar=None if self.type is bool else self.metavar,
            show_default=False,
            autocompletion=self.complete,
            hidden=former,
        )
        annotation = Annotated[self.type | None, option]  # type: ignore[name-defined]
        variable = self.former.strip("-").replace("-", "_") if former else self.variable
        return inspect.Parameter(variable, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


WHAT, DATA, HOW = "What is trained", "Data", "How it is trained"
FLAGS: tuple[Flag, ...] = (
    Flag(
        section="",
        key="method",
        type=str,
        metavar="NAME[:KEY=VALUE,...]",
        panel=WHAT,
        complete=complete_methods,
        help="How to train, e.g. ne-vae-se:weight=5; `lso list methods` shows all.",
    ),
    Flag(
        section="architecture",
        key="name",
        name="--arch",
        type=str,
        metavar="NAME",
        panel=WHAT,
        complete=complete_architectures,
        help="Networks, e.g. mlp, conv or he2019; `lso list architectures`. Default: the task's.",
    ),
    Flag(section="architecture", key="latent_dim", type=int, panel=WHAT, help="Size of z; 0 for none. Default: 32."),
    Flag(
        section="architecture",
        key="width",
        type=int,
        panel=WHAT,
        help="Hidden units (mlp, sequences) or channels. Default: the networks' own.",
    ),
    Flag(
        section="architecture",
        key="embedding",
        type=int,
        panel=WHAT,
        help="Size of a token's embedding (lstm families).",
    ),
    Flag(section="architecture", key="layers", type=int, panel=WHAT, help="Of encoder and decoder each, of sequences."),
    Flag(
        section="architecture",
        key="dropout",
        type=float,
        metavar="X",
        panel=WHAT,
        help="Share dropped in the decoder of sequences. Default: the networks' own.",
    ),
    Flag(
        section="architecture",
        key="word_drop",
        type=float,
        metavar="X",
        panel=WHAT,
        help="Share of tokens that the decoder reads as unknown. Default: 0.",
    ),
    Flag(
        section="architecture",
        key="likelihood",
        type=str,
        metavar="NAME",
        panel=WHAT,
        help="Of pixels: bernoulli, gaussian or logistic.",
    ),
    Flag(section="", key="seed", type=int, panel=WHAT, help="Of everything random. Default: 0."),
    Flag(
        section="data",
        key="task",
        type=str,
        metavar="NAME",
        panel=DATA,
        complete=complete_tasks,
        help="Dataset, e.g. digits, ptb or text; `lso list tasks` shows all. Default: digits, or what --data is.",
    ),
    Flag(
        section="data", key="path", name="--data", type=str, metavar="PATH", panel=DATA, help="Your own file or folder."
    ),
    Flag(
        section="data", key="size", type=int, panel=DATA, help="Side in pixels, 8 to 64. Default, 0: the files' or 32."
    ),
    Flag(
        section="data",
        key="channels",
        type=int,
        panel=DATA,
        help="1 (grey) or 3 (colour). Default: what the files are.",
    ),
    Flag(section="data", key="invert", type=bool, panel=DATA, help="Turn black and white round."),
    Flag(
        section="data",
        key="fit",
        type=str,
        metavar="HOW",
        panel=DATA,
        help="How an image becomes square: crop, pad or stretch.",
    ),
    Flag(
        section="data",
        key="bad_files",
        type=str,
        metavar="HOW",
        panel=DATA,
        help="refuse a folder with an unreadable file (default), or skip and count them.",
    ),
    Flag(
        section="data",
        key="limit",
        type=int,
        panel=DATA,
        help="Use at most so many training data, of the other parts a like share.",
    ),
    Flag(
        section="data",
        key="per_class",
        type=int,
        panel=DATA,
        help="Use at most so many training data of each class, of those that --limit leaves.",
    ),
    Flag(
        section="data",
        key="tokenizer",
        type=str,
        metavar="NAME",
        panel=DATA,
        complete=complete_tokenizers,
        help="Of text: words (default), characters, selfies, or your own module:function.",
    ),
    Flag(
        section="data",
        key="vocabulary",
        type=str,
        metavar="FILE",
        panel=DATA,
        help="Tokens that the model knows, one a line. Default: those of the data.",
    ),
    Flag(
        section="data", key="vocabulary_size", type=int, panel=DATA, help="Know only the N commonest training tokens."
    ),
    Flag(
        section="data", key="min_count", type=int, panel=DATA, help="Know only tokens that occur N times in training."
    ),
    Flag(section="data", key="longest", type=int, panel=DATA, help="Leave out sequences of more than N tokens."),
    Flag(
        section="protocol",
        key="binarize",
        type=str,
        metavar="HOW",
        panel=DATA,
        help="Pixels to 0 or 1: dynamic (drawn for every batch), fixed or none.",
    ),
    Flag(section="protocol", key="epochs", type=int, panel=HOW, help="At most. Default: the task's."),
    Flag(section="protocol", key="batch_size", type=int, panel=HOW, help="Images or sequences in a step."),
    Flag(
        section="protocol",
        key="lengths",
        type=str,
        metavar="HOW",
        panel=HOW,
        help="Sequences of a batch: of equal length (default), or near ones, padded, in fewer batches.",
    ),
    Flag(
        section="protocol",
        key="optimizer",
        type=str,
        metavar="NAME",
        panel=HOW,
        help="adam, or sgd without momentum. Default: the task's.",
    ),
    Flag(
        section="protocol",
        key="learning_rate",
        type=float,
        metavar="X",
        panel=HOW,
        help="Of the optimizer. Default: the task's, 0.001 for adam.",
    ),
    Flag(
        section="protocol",
        key="encoder_learning_rate",
        type=float,
        metavar="X",
        panel=HOW,
        help="Of the encoder, where it differs.",
    ),
    Flag(
        section="protocol",
        key="clip_scope",
        type=str,
        metavar="NAME",
        panel=HOW,
        help="Gradient norm: joint (of both halves) or stepped (of those that step).",
    ),
    Flag(
        section="protocol",
        key="monitor",
        type=str,
        former="--judge",
        metavar="RULE",
        panel=HOW,
        help="Keep the epoch of the least validation loss (default: the method's own), elbo or objective, or the last.",
    ),
    Flag(
        section="protocol",
        key="precision",
        type=str,
        metavar="NAME",
        panel=HOW,
        help="Of the layers in a training step: float32, or bfloat16, faster where the processor has it.",
    ),
    Flag(
        section="protocol",
        key="compiled",
        type=bool,
        panel=HOW,
        help="Fuse the layers of a step by torch.compile: minutes at first, then faster on a GPU.",
    ),
)


def configurable(command: Callable[..., None], flags: Sequence[Flag] = FLAGS) -> Callable[..., None]:
    """Give a command the flags of `FLAGS`; it receives those that were given as one nested mapping, ``settings``."""

    @functools.wraps(command)
    def run(**values: Any) -> None:
        settings: dict[str, Any] = {}
        for flag in flags:
            value = values.pop(flag.variable)
            if flag.former and (old := values.pop(flag.parameter(former=True).name)) is not None:
                told = f"{flag.former} is called {flag_name(flag.section, flag.key)} now"
                warnings.warn(told, category=RenamedWarning, stacklevel=2)
                value = old if value is None else value
            if value is not None:
                (settings.setdefault(flag.section, {}) if flag.section else settings)[flag.key] = value
        command(settings, **values)

    own = list(inspect.signature(command).parameters.values())[1:]
    named = [flag.parameter() for flag in flags] + [flag.parameter(former=True) for flag in flags if flag.former]
    parameters = [*named, *(p.replace(kind=p.KEYWORD_ONLY) for p in own)]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def flag_name(section: str, key: str) -> str:
    """The flag that sets a value of the configuration."""
    flag = next(flag for flag in FLAGS if (flag.section, flag.key) == (section, key))
    return flag.name or f"--{flag.key.replace('_', '-')}"


def given_flags(settings: dict[str, Any]) -> list[str]:
    """The flags that were given."""
    found = []
    for section, value in settings.items():
        found += [flag_name(section, key) for key in value] if isinstance(value, dict) else [flag_name("", section)]
    return found
