"""How a model is trained, and on which data: the settings of a training beside its method and its networks.

Torch-free; the flags of the command line are made from these fields.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lso.vae.config.architectures import MODEL
from lso.vae.utils.deprecation import renamed_fields
from lso.vae.utils.files import printable
from lso.vae.utils.settings import Setting, check_fields, documented, setting
from lso.vae.utils.validation import require

DATA, TRAINING = "Data", "Training"  # headings in the help of the command line
Binarize = Literal["dynamic", "fixed", "none"]
Precision = Literal["float32", "bfloat16"]
Monitor = Literal["loss", "elbo", "objective", "last"]
RENAMED_PROTOCOL = {"judge": "monitor", "judge_from": "monitor_from"}  # old name -> current one

# What stands above the sections of a configuration.
METHOD = Setting(
    help="Training method, e.g. ne-vae-se:weight=5. `lso list methods` shows all. Default: ne-vae-se for images, "
    "beta-vae:beta=0.05 for sequences.",
    heading=MODEL,
    metavar="NAME[:KEY=VALUE,...]",
    table="lso.vae.config.methods:METHODS",
)
SEED = Setting(help="Random seed. Default: 0.", heading=MODEL)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptimizerSpec:
    """A row of `TRAINING_OPTIMIZERS`."""

    torch_name: str  # class in `torch.optim` that takes ``fused``
    learning_rate: float  # default
    capturable: bool = False  # whether the class must be told that CUDA graphs record its steps


TrainingOptimizer = Literal["adam", "sgd"]  # the rows of the table, for types
TRAINING_OPTIMIZERS: Mapping[str, TrainingOptimizerSpec] = {
    "adam": TrainingOptimizerSpec(torch_name="Adam", learning_rate=1e-3, capturable=True),
    "sgd": TrainingOptimizerSpec(torch_name="SGD", learning_rate=1.0),
}


@renamed_fields(**RENAMED_PROTOCOL)
@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How a model is trained and which epoch's weights are kept; each task has defaults of its own.

    The weights are kept of the epoch at which the quantity named by ``monitor`` is smallest on validation data. When
    there is no new best for ``patience`` epochs, the learning rate is multiplied by ``decay``, the best weights are
    reloaded and the optimizers start afresh; after ``max_decays`` decays training ends (He et al. 2019,
    arXiv:1901.05534, sec. 4 and authors' code). The best is that of the whole run, as in the authors' code for images;
    theirs for text compares with the loss at the last decay.

    The quantity under each ``monitor``:

    - ``loss``: what the method minimizes, at its last KL weight and with its penalty, free bits or importance weights.
      No epoch that ends within the KL ramp can be the best; until one can, the latest weights are kept.
    - ``elbo``: -ELBO at KL weight 1, in the ramp too, as He et al. (2019), Kim et al. (2018) and Dieng et al. (2019).
    - ``objective``: reconstruction + last KL weight * KL, in the ramp too; the default of some tasks before ``loss``.
    - ``last``: none; the last epoch is kept, as for a fixed schedule, or where training goes on with data of another
      distribution.

    Raises:
        UsageError: if a value is out of range.
    """

    optimizer: TrainingOptimizer = setting(
        "adam", "adam, or sgd (without momentum). Default: the task's.", heading=TRAINING, metavar="NAME"
    )
    learning_rate: float = setting(
        1e-3,
        "Learning rate. Default: the task's; 0.001 for adam.",
        heading=TRAINING,
        metavar="X",
        above=0,
        below=math.inf,
    )
    encoder_learning_rate: float = setting(
        0.0,
        "Learning rate of the encoder, if it is to differ from the decoder's.",
        heading=TRAINING,
        metavar="X",
        least=0,
        below=math.inf,
        remedy="0 takes the learning_rate.",
    )
    batch_size: int = setting(
        64,
        "Images or sequences in a training step. Default: the task's.",
        heading=TRAINING,
        least=1,
    )
    epochs: int = setting(
        100,
        "Number of epochs at most. Default: the task's.",
        heading=TRAINING,
        least=0,
        remedy="0 writes an untrained model.",
    )
    clip: float = setting(
        5.0,
        "Largest norm of the gradient, to which longer ones are scaled down; 0: none.",
        least=0,
        remedy="0 switches clipping off.",
    )
    # Joint is the authors' code, whichever of the two is updated; stepped makes the inner steps of aggressive training
    # cheaper and longer.
    clip_scope: Literal["joint", "stepped"] = setting(
        "joint",
        "Gradients are clipped by the norm over encoder and decoder together (joint, default), or over those of the "
        "two that the step updates (stepped).",
        heading=TRAINING,
        metavar="NAME",
    )
    patience: int = setting(
        20,
        "Epochs without a new best before a decay, counted from the first that can be the best; 0: never.",
        least=0,
        remedy="0 switches the decay off.",
    )
    decay: float = setting(0.5, "Factor on the learning rate.", above=0, most=1)
    max_decays: int = setting(5, "Number of the decay at which training ends.", least=1)
    decay_from: int = setting(
        0,
        "A decay comes only after more epochs than this (15 for text in both papers).",
        least=0,
        remedy="0 allows a decay at any epoch.",
    )
    steady: bool = setting(
        False,
        "Whether, after the first decay, every epoch decays, and weights are not reloaded (Kim et al. 2018).",
    )
    binarize: Binarize = setting(
        "dynamic",
        "Draw pixels as 0 or 1: dynamic (anew for every batch), fixed (once) or none. Default: the task's.",
        heading=DATA,
        metavar="HOW",
    )
    lengths: Literal["equal", "near"] = setting(
        "equal",
        "Sequences of a batch: equal (all of one length), or near (similar lengths, padded), which needs fewer "
        "batches. Default: the task's, mostly equal.",
        heading=TRAINING,
        metavar="HOW",
    )
    mi_lengths: Literal["equal", "any"] = setting(
        "equal",
        "Batches on which the mutual information is measured that ends an aggressive phase: sequences of equal length, "
        "as in the authors' code, or of any.",
    )
    # Weights, losses, validation and all metrics stay in float32. Processors without instructions for bfloat16 are
    # slower or cannot, which is tried before training begins (see `lso.vae.precision`).
    precision: Precision = setting(
        "float32",
        "Number format of the layers in a training step: float32 (default), or bfloat16, which is faster where the "
        "processor supports it.",
        heading=TRAINING,
        metavar="NAME",
    )
    compiled: bool = setting(
        False,
        "Fuse the layers of a step by torch.compile: takes minutes at first, then is faster on a GPU.",
        heading=TRAINING,
    )
    monitor: Monitor = setting(
        "loss",
        "Validation number whose least value decides which epoch's weights are kept: loss (the method's own, default), "
        "elbo (the -ELBO) or objective (reconstruction + weighted KL); last keeps the last epoch.",
        heading=TRAINING,
        former="--judge",
        metavar="RULE",
    )
    monitor_from: int = setting(
        1,
        "First epoch that can be the best; 0 admits the untrained model.",
        least=0,
        remedy="1 leaves out the untrained model.",
    )

    def __post_init__(self) -> None:
        check_fields(self)


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """Which data, and how files become pixels or tokens; targets of a search are prepared in the same way.

    Raises:
        UsageError: if a value is out of range.
    """

    task: str = setting(
        "digits",
        "Dataset, e.g. digits, ptb or text. `lso list tasks` shows all. Default: digits, or what fits --data.",
        heading=DATA,
        metavar="NAME",
        table="lso.tasks.task:TASKS",
    )
    path: str = setting(
        "",
        "File or folder of your own data, or of the task's where it is not downloaded.",
        heading=DATA,
        flag="--data",
        metavar="PATH",
    )
    size: int = setting(
        0,
        "Height and width to which images are scaled, 8 to 64 pixels. Default (0): the task's; of your own files their "
        "common size, else 32.",
        unit="pixels",
        heading=DATA,
    )
    channels: int = setting(0, "1 (grey) or 3 (colour). Default: what the files are.", heading=DATA)
    invert: bool = setting(False, "Swap black and white (x becomes 1 - x). Default: do not.", heading=DATA)
    fit: Literal["task", "crop", "pad", "stretch"] = setting(
        "task", "How an image becomes square: crop, pad or stretch. Default: the task's.", heading=DATA, metavar="HOW"
    )
    bad_files: Literal["refuse", "skip"] = setting(
        "refuse",
        "What an unreadable file does: refuse the whole folder (default), or skip it and count it.",
        heading=DATA,
        metavar="HOW",
    )
    limit: int = setting(
        0,
        "Use at most N training data, and the same share of validation and test data. Default: all.",
        heading=DATA,
        least=0,
        remedy="0 takes all data.",
    )
    limited: Literal["task", "read", "encoded"] = setting(
        "task",
        "When the limit of molecules applies: before they are written as SELFIES (read), so that no others need be, or "
        "to those that could be written so (encoded), for which all are; task: the task's default.",
    )
    per_class: int = setting(
        0,
        "Use at most N training data of each class, counted after --limit. Default: all.",
        heading=DATA,
        least=0,
        remedy="0 takes all data.",
    )
    tokenizer: str = setting(
        "task",
        "How text is split into tokens: words, characters, selfies, or your own module:function. Default: the task's.",
        heading=DATA,
        metavar="NAME",
        table="lso.tasks.datasets.tokenizers:TOKENIZERS",
    )
    vocabulary: str = setting(
        "",
        "File of the tokens that the model knows, one a line. Default: the tokens of the training data.",
        heading=DATA,
        metavar="FILE",
    )
    vocabulary_size: int = setting(
        0,
        "Keep only the N commonest training tokens; the others are unknown. Default: keep all.",
        heading=DATA,
        least=0,
        remedy="0 keeps all tokens.",
    )
    min_count: int = setting(
        1,
        "Keep only tokens that occur at least N times in training. Default: 1.",
        heading=DATA,
        least=1,
        remedy="1 keeps all tokens.",
    )
    longest: int = setting(
        0,
        "Leave out sequences of more than N tokens. Default: leave out none.",
        heading=DATA,
        least=0,
        remedy="0 leaves out none.",
    )

    def __post_init__(self) -> None:
        require(
            self.size == 0 or 8 <= self.size <= 64,
            "a size of 8 to 64 pixels",
            self.size,
            "0, the default, keeps the images' own size where all have the same from 8 to 64 pixels, else takes 32.",
        )
        require(self.channels in (0, 1, 3), "1 or 3 channels", self.channels, "0 takes the channels of the files.")
        check_fields(self)
        counted = self.vocabulary_size > 0 or self.min_count > 1
        remedy = "Leave out the file, or vocabulary_size and min_count."
        require(not (self.vocabulary and counted), "a vocabulary from a file or by counting", self.vocabulary, remedy)
        for text in (self.path, self.vocabulary, self.tokenizer):  # config.toml cannot hold a name that is not UTF-8
            escaped = printable(text)
            require(text == escaped, "a name in UTF-8", escaped, "Rename it, or make a link to it: ln -s OLD NEW")
