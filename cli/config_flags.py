"""The flags that set a training's configuration, declared once for `train`, `sweep` and `config`."""

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
    """A flag that sets one value of the configuration."""

    section: str  # of the configuration; empty for the top level
    key: str  # in that section
    type: type
    help: str
    panel: str  # heading in --help
    metavar: str = "N"
    name: str = ""  # of the flag; empty: made from the key
    former: str = ""  # an earlier name of the flag, which still works and is not listed
    complete: Callable[[], list[tuple[str, str]]] | None = None  # shell completion of the value

    @property
    def variable(self) -> str:
        """The flag's name as a Python identifier, by which typer passes its value."""
        return self.name.strip("-").replace("-", "_") or self.key

    def parameter(self, former: bool = False) -> inspect.Parameter:
        """The flag, or its former name, as a keyword parameter of a typer command; None when it is not given."""
        flag = self.former if former else self.name or f"--{self.key.replace('_', '-')}"
        declared = f"{flag}/--no-{flag[2:]}" if self.type is bool else flag
        option = typer.Option(
            declared,
            help=self.help,
            rich_help_panel=self.panel,
            metavar=None if self.type is bool else self.metavar,
            show_default=False,  # typer would show None; the real default depends on the task, so `help` states it
            autocompletion=self.complete,
            hidden=former,
        )
        annotation = Annotated[self.type | None, option]  # type: ignore[name-defined]
        variable = self.former.strip("-").replace("-", "_") if former else self.variable
        return inspect.Parameter(variable, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


MODEL, DATA, TRAINING = "Method and networks", "Data", "Training"
FLAGS: tuple[Flag, ...] = (
    Flag(
        section="",
        key="method",
        type=str,
        metavar="NAME[:KEY=VALUE,...]",
        panel=MODEL,
        complete=complete_methods,
        help="Training method, e.g. ne-vae-se:weight=5. `lso list methods` shows all.",
    ),
    Flag(
        section="architecture",
        key="name",
        name="--arch",
        type=str,
        metavar="NAME",
        panel=MODEL,
        complete=complete_architectures,
        help="Encoder and decoder networks, e.g. mlp, conv or he2019. `lso list architectures` shows all. Default: "
        "the task's.",
    ),
    Flag(
        section="architecture",
        key="latent_dim",
        type=int,
        panel=MODEL,
        help="Number of latent dimensions; 0: an autoregressive decoder without latents. Default: the task's, mostly "
        "32.",
    ),
    Flag(
        section="architecture",
        key="width",
        type=int,
        panel=MODEL,
        help="Hidden units (mlp and networks for sequences) or channels. Default: the architecture's.",
    ),
    Flag(
        section="architecture",
        key="embedding",
        type=int,
        panel=MODEL,
        help="Size of a token's embedding (LSTMs). Default: the architecture's.",
    ),
    Flag(
        section="architecture",
        key="layers",
        type=int,
        panel=MODEL,
        help="Layers of the encoder and of the decoder (networks for sequences). Default: the architecture's.",
    ),
    Flag(
        section="architecture",
        key="dropout",
        type=float,
        metavar="P",
        panel=MODEL,
        help="Dropout probability in the decoder (networks for sequences). Default: the architecture's.",
    ),
    Flag(
        section="architecture",
        key="word_drop",
        type=float,
        metavar="P",
        panel=MODEL,
        help="Word dropout: share of its input tokens that the decoder sees as unknown. Default: 0.",
    ),
    Flag(
        section="architecture",
        key="likelihood",
        type=str,
        metavar="NAME",
        panel=MODEL,
        help="Likelihood of pixels: bernoulli, gaussian or logistic (discretized). Default: the task's.",
    ),
    Flag(section="", key="seed", type=int, panel=MODEL, help="Random seed. Default: 0."),
    Flag(
        section="data",
        key="task",
        type=str,
        metavar="NAME",
        panel=DATA,
        complete=complete_tasks,
        help="Dataset, e.g. digits, ptb or text. `lso list tasks` shows all. Default: digits, or what fits --data.",
    ),
    Flag(
        section="data",
        key="path",
        name="--data",
        type=str,
        metavar="PATH",
        panel=DATA,
        help="File or folder of your own data, or of the task's where it is not downloaded.",
    ),
    Flag(
        section="data",
        key="size",
        type=int,
        panel=DATA,
        help="Height and width to which images are scaled, 8 to 64 pixels. Default (0): the task's; of your own files "
        "their common size, else 32.",
    ),
    Flag(
        section="data",
        key="channels",
        type=int,
        panel=DATA,
        help="1 (grey) or 3 (colour). Default: what the files are.",
    ),
    Flag(
        section="data",
        key="invert",
        type=bool,
        panel=DATA,
        help="Swap black and white (x becomes 1 - x). Default: do not.",
    ),
    Flag(
        section="data",
        key="fit",
        type=str,
        metavar="HOW",
        panel=DATA,
        help="How an image becomes square: crop, pad or stretch. Default: the task's.",
    ),
    Flag(
        section="data",
        key="bad_files",
        type=str,
        metavar="HOW",
        panel=DATA,
        help="What an unreadable file does: refuse the whole folder (default), or skip it and count it.",
    ),
    Flag(
        section="data",
        key="limit",
        type=int,
        panel=DATA,
        help="Use at most N training data, and the same share of validation and test data. Default: all.",
    ),
    Flag(
        section="data",
        key="per_class",
        type=int,
        panel=DATA,
        help="Use at most N training data of each class, counted after --limit. Default: all.",
    ),
    Flag(
        section="data",
        key="tokenizer",
        type=str,
        metavar="NAME",
        panel=DATA,
        complete=complete_tokenizers,
        help="How text is split into tokens: words, characters, selfies, or your own module:function. Default: the "
        "task's.",
    ),
    Flag(
        section="data",
        key="vocabulary",
        type=str,
        metavar="FILE",
        panel=DATA,
        help="File of the tokens that the model knows, one a line. Default: the tokens of the training data.",
    ),
    Flag(
        section="data",
        key="vocabulary_size",
        type=int,
        panel=DATA,
        help="Keep only the N commonest training tokens; the others are unknown. Default: keep all.",
    ),
    Flag(
        section="data",
        key="min_count",
        type=int,
        panel=DATA,
        help="Keep only tokens that occur at least N times in training. Default: 1.",
    ),
    Flag(
        section="data",
        key="longest",
        type=int,
        panel=DATA,
        help="Leave out sequences of more than N tokens. Default: leave out none.",
    ),
    Flag(
        section="protocol",
        key="binarize",
        type=str,
        metavar="HOW",
        panel=DATA,
        help="Draw pixels as 0 or 1: dynamic (anew for every batch), fixed (once) or none. Default: the task's.",
    ),
    Flag(
        section="protocol",
        key="epochs",
        type=int,
        panel=TRAINING,
        help="Number of epochs at most. Default: the task's.",
    ),
    Flag(
        section="protocol",
        key="batch_size",
        type=int,
        panel=TRAINING,
        help="Images or sequences in a training step. Default: the task's.",
    ),
    Flag(
        section="protocol",
        key="lengths",
        type=str,
        metavar="HOW",
        panel=TRAINING,
        help="Sequences of a batch: equal (all of one length), or near (similar lengths, padded), which needs fewer "
        "batches. Default: the task's, mostly equal.",
    ),
    Flag(
        section="protocol",
        key="optimizer",
        type=str,
        metavar="NAME",
        panel=TRAINING,
        help="adam, or sgd (without momentum). Default: the task's.",
    ),
    Flag(
        section="protocol",
        key="learning_rate",
        type=float,
        metavar="X",
        panel=TRAINING,
        help="Learning rate. Default: the task's; 0.001 for adam.",
    ),
    Flag(
        section="protocol",
        key="encoder_learning_rate",
        type=float,
        metavar="X",
        panel=TRAINING,
        help="Learning rate of the encoder, if it is to differ from the decoder's.",
    ),
    Flag(
        section="protocol",
        key="clip_scope",
        type=str,
        metavar="NAME",
        panel=TRAINING,
        help="Gradients are clipped by the norm over encoder and decoder together (joint, default), or over those of "
        "the two that the step updates (stepped).",
    ),
    Flag(
        section="protocol",
        key="monitor",
        type=str,
        former="--judge",
        metavar="RULE",
        panel=TRAINING,
        help="Validation number whose least value decides which epoch's weights are kept: loss (the method's own, "
        "default), elbo (the -ELBO) or objective (reconstruction + weighted KL); last keeps the last epoch.",
    ),
    Flag(
        section="protocol",
        key="precision",
        type=str,
        metavar="NAME",
        panel=TRAINING,
        help="Number format of the layers in a training step: float32 (default), or bfloat16, which is faster where "
        "the processor supports it.",
    ),
    Flag(
        section="protocol",
        key="compiled",
        type=bool,
        panel=TRAINING,
        help="Fuse the layers of a step by torch.compile: takes minutes at first, then is faster on a GPU.",
    ),
)


def configurable(command: Callable[..., None], flags: Sequence[Flag] = FLAGS) -> Callable[..., None]:
    """Give a command the flags of `FLAGS`; its first argument is a nested mapping of the values that were given.

    So a new key of the configuration needs one row of `FLAGS` and no change in any command.
    """

    @functools.wraps(command)
    def run(**values: Any) -> None:
        settings: dict[str, Any] = {}
        for flag in flags:
            value = values.pop(flag.variable)
            if flag.former and (old := values.pop(flag.parameter(former=True).name)) is not None:
                message = f"{flag.former} is called {flag_name(flag.section, flag.key)} now"
                warnings.warn(message, category=RenamedWarning, stacklevel=2)
                value = old if value is None else value
            if value is not None:
                (settings.setdefault(flag.section, {}) if flag.section else settings)[flag.key] = value
        command(settings, **values)

    own = list(inspect.signature(command).parameters.values())[1:]  # without `settings`, which typer must not see
    added = [flag.parameter() for flag in flags] + [flag.parameter(former=True) for flag in flags if flag.former]
    parameters = [*added, *(p.replace(kind=p.KEYWORD_ONLY) for p in own)]
    # typer reads parameters from these two attributes, so the wrapper can offer flags that are in no source text.
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def flag_name(section: str, key: str) -> str:
    """The name of the flag that sets a value of the configuration, such as ``--latent-dim``."""
    flag = next(flag for flag in FLAGS if (flag.section, flag.key) == (section, key))
    return flag.name or f"--{flag.key.replace('_', '-')}"


def given_flags(settings: dict[str, Any]) -> list[str]:
    """The names of the flags that set these values."""
    names = []
    for section, value in settings.items():
        names += [flag_name(section, key) for key in value] if isinstance(value, dict) else [flag_name("", section)]
    return names
