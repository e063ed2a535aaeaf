"""The commands, one module each, and the table that lists them; a module is imported when its command is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass

# Headings of `lso --help`.
WORK, LOOK, HELP = "Train, evaluate, search, compare", "Look at a latent space", "Help"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSpec:
    """A row of `COMMANDS`."""

    function: str  # "module:function" in this package
    summary: str  # the first line of the function's docstring, so that lists need not import it; a test compares
    panel: str = ""  # heading in the list of commands
    examples: tuple[str, ...]  # shown at the end of the command's help


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSpec:
    """A row of `GROUPS`."""

    summary: str
    panel: str


# Commands that have others below them, in `COMMANDS` after their name and a space.
GROUPS: Mapping[str, GroupSpec] = {
    "benchmark": GroupSpec(summary="Run an experiment of a paper: image-targets or lagging.", panel=WORK),
    "config": GroupSpec(
        summary="Show or write the configuration that a training would have; trains nothing.", panel=HELP
    ),
}
COMMANDS: Mapping[str, CommandSpec] = {
    "train": CommandSpec(
        function="train:train",
        summary="Train a VAE into a new run folder, or continue a training with --resume.",
        panel=WORK,
        examples=(
            "lso train --method ne-vae-se",
            "lso train --method beta-vae:beta=0.2 --data images/ --latent-dim 16",
        ),
    ),
    "evaluate": CommandSpec(
        function="evaluate:evaluate",
        summary="Measure a trained model: -ELBO, importance-weighted NLL, KL, mutual information, active units, "
        "re-encoding.",
        panel=WORK,
        examples=("lso evaluate", "lso evaluate runs/a --split validation --limit 100 --json"),
    ),
    "optimize": CommandSpec(
        function="optimize:optimize",
        summary="Search the latent space of a trained model, and report whether to believe the result.",
        panel=WORK,
        examples=(
            "lso optimize --target test:20 --optimizer adam",
            "lso optimize --model runs/a --target images/ --starts 4 --out search",
        ),
    ),
    "sweep": CommandSpec(
        function="sweep:sweep",
        summary="Train every method with every latent size and seed, and compare them on the test split.",
        panel=WORK,
        examples=(
            "lso sweep --method vae-anneal --method ne-vae-se --latent-dim 8,16,32 --seeds 3",
            "lso sweep --method vae --task omniglot --latent-dim 8,32 --seeds 5 --time-limit 9m --out runs/au",
        ),
    ),
    "reproduce": CommandSpec(
        function="reproduce:reproduce",
        summary="Train the models of a published table and compare their figures with the published ones.",
        panel=WORK,
        examples=(
            "lso reproduce nevae2021_table1 --time-limit 9m",
            "lso reproduce he2019_table2 --rows VAE,Ours --seeds 1 --limit 1000 --epochs 2 --arch he2019-small "
            "--out small",
            "lso reproduce he2019_table1_5_text_yelp --rows LSTM-LM,VAE,Ours --data yelp/ --seeds 1 --time-limit 9m",
        ),
    ),
    "report": CommandSpec(
        function="report:report",
        summary="Compare trainings, searches, or the trainings of a sweep: print a table and write report.html in a "
        "new folder.",
        panel=WORK,
        examples=("lso report runs/a runs/b", "lso report runs/a --out comparison --json"),
    ),
    "sample": CommandSpec(
        function="sample:sample",
        summary="Decode draws from the prior into one picture, or into lines of text.",
        panel=LOOK,
        examples=("lso sample -n 100", "lso sample runs/a -n 16 --seed 1 --out sample.png"),
    ),
    "encode": CommandSpec(
        function="encode:encode",
        summary="Encode data into an .npz file: posterior mean and log_var, names, and labels where known.",
        panel=LOOK,
        examples=("lso encode --data test", "lso encode runs/a --data images/ --out codes.npz"),
    ),
    "decode": CommandSpec(
        function="decode:decode",
        summary="Decode codes into one picture, into a folder of images, or into lines of text.",
        panel=LOOK,
        examples=("lso decode runs/a codes.npz", "lso decode runs/a codes.npz --out decoded/"),
    ),
    "export": CommandSpec(
        function="export:export",
        summary="Write encoder and decoder to files that run without lso, and check that they compute the same.",
        panel=LOOK,
        examples=("lso export runs/a", "lso export runs/a --to pt2 --out model/"),
    ),
    "interpolate": CommandSpec(
        function="interpolate:interpolate",
        summary="Decode codes on the straight line between the posterior means of two data, shown with the data at "
        "the ends.",
        panel=LOOK,
        examples=(
            "lso interpolate runs/a test:3 test:8",
            "lso interpolate runs/a one.png two.png --steps 16 --out path.png",
        ),
    ),
    "traverse": CommandSpec(
        function="traverse:traverse",
        summary="Decode along each latent dimension, the others at 0, then along random directions; the most active "
        "come first.",
        panel=LOOK,
        examples=("lso traverse", "lso traverse runs/a --dim 0,5 --range 5 --steps 21"),
    ),
    "list": CommandSpec(
        function="list:list_names",
        summary="List the methods, architectures, tasks, optimizers, published tables, installed models or runs.",
        panel=HELP,
        examples=("lso list methods", "lso list runs --json"),
    ),
    "doctor": CommandSpec(
        function="doctor:doctor",
        summary="Check the installation: versions, devices, folders, missing packages. With RUN, say what is wrong "
        "with a run.",
        panel=HELP,
        examples=("lso doctor", "lso doctor runs/a"),
    ),
    "benchmark image-targets": CommandSpec(
        function="benchmark:image_targets",
        summary="Search for the codes of the same images in several models; compare starts, distances and steps.",
        examples=(
            "lso benchmark image-targets --models runs/vae runs/ne-vae-se --targets 50",
            "lso benchmark image-targets runs/a runs/b --targets 10 --max-steps 300 --lr 0.01,0.03",
        ),
    ),
    "benchmark lagging": CommandSpec(
        function="benchmark:lagging",
        summary="Train a VAE that collapses and one that does not, and compare their true posterior means with the "
        "encoder's.",
        examples=(
            "lso benchmark lagging --quick",
            "lso benchmark lagging --seeds 3 --limit 4000 --stride 0.1 --time-limit 30m",
        ),
    ),
    "config show": CommandSpec(
        function="config:show",
        summary="Print the complete configuration that `lso train` would use with these flags.",
        examples=(
            "lso config show --method ne-vae-se",
            "lso config show --config runs/a/config.toml --epochs 200",
        ),
    ),
    "config init": CommandSpec(
        function="config:init",
        summary="Write the complete configuration to a file to edit, for `lso train --config FILE`.",
        examples=("lso config init --method ne-vae-se", "lso config init --task mnist --out mnist.toml"),
    ),
}
