"""``lso evaluate``: all metrics of a trained model on one split."""

import dataclasses
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lso.cli.console import Console, shown
from lso.cli.options import Device, Json, Quiet, RunPath, Seed
from lso.cli.places import training_run

if TYPE_CHECKING:
    from lso.vae.metrics import Metrics


class Split(StrEnum):
    """Parts of a dataset."""

    train = "train"
    validation = "validation"
    test = "test"


def evaluate(
    run: RunPath = None,
    split: Annotated[Split, typer.Option(help="Part of the run's own data.")] = Split.test,
    iw_samples: Annotated[
        int, typer.Option(help="Samples of the importance-weighted NLL; 0 leaves it out.", metavar="N")
    ] = 500,
    limit: Annotated[int | None, typer.Option(help="Use the first N data only.", metavar="N", min=1)] = None,
    device: Device = "auto",
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a trained model: -ELBO, importance-weighted NLL, KL, mutual information, active units, re-encoding."""
    console = Console(json=json, quiet=quiet)
    found = training_run(run)
    console.loading()
    from lso.cli.bars import Counting
    from lso.tasks import experiment

    model = experiment.load(found, device)
    dataset = experiment.dataset_of(found)
    data = dataset.split(split.value)
    n = min(len(data), limit or len(data))
    console.note(f"Evaluating {shown(found.path)} on {n:,} of {len(data):,} {split} images, {iw_samples} samples each")
    counting = Counting(console, "images", "evaluating")
    try:
        metrics = experiment.evaluate(
            model, dataset, split=split.value, iw_samples=iw_samples, limit=limit, seed=seed, watch=counting
        )
    finally:
        counting.close()
    cut = f"--limit: {n:,} of {len(data):,} {split} images" if n < len(data) else ""
    console.emit({"run": found.path, "cut": cut, "verdict": found.verdict, **dataclasses.asdict(metrics)})
    console.table(("metric", "value", "what it is"), _rows(metrics))
    console.result()
    console.table(("dimension", "variance", "KL", "decoder use", "re-encoding"), _dimensions(metrics))
    if cut:
        console.result(f"cut by {cut}")
    if found.verdict:
        console.result(found.verdict)


def _rows(m: "Metrics") -> list[list[Any]]:
    latent = len(m.activity)
    nll = [["IW-NLL", m.iw_nll, f"-log p(x), nats, {m.iw_samples} importance samples"]] if m.iw_nll is not None else []
    return [
        ["-ELBO", m.neg_elbo, "nats a datum, KL weight 1"],
        *nll,
        ["reconstruction", m.reconstruction, "nats"],
        ["KL", m.kl, "nats, posterior to prior"],
        ["MI", m.mi, f"nats, within batches of {m.mi_batch}"],
        ["MI, split", m.mi_split, f"nats, over all {m.n:,}"],
        ["aggregate KL", m.aggregate_kl, "nats, q(z) to prior"],
        ["active units", m.active_units, f"of {latent}: variance of the posterior mean at least 0.01"],
        ["used units", sum(use > USED for use in m.decoder_use), f"of {latent}: redrawing costs more than {USED} nats"],
        ["re-encoding", m.reencoding_error, "squared, sampled to sampled, mean over dimensions; 2 is full collapse"],
        ["re-encoding, mean", m.reencoding_error_mean, "squared, mean to mean"],
    ]


USED = 0.01  # nats
SHOWN = 10  # dimensions in the table


def _dimensions(m: "Metrics") -> list[list[Any]]:
    """The most active dimensions, and the rest in one row of sums and extremes."""
    order = sorted(range(len(m.activity)), key=lambda i: -m.activity[i])
    columns = (m.activity, m.kl_per_dimension, m.decoder_use, m.reencoding_error_per_dimension)
    rows: list[list[Any]] = [[f"z{i}", *(column[i] for column in columns)] for i in order[:SHOWN]]
    rest = order[SHOWN:]
    if rest:
        rows.append([f"{len(rest)} others, mean", *(sum(column[i] for i in rest) / len(rest) for column in columns)])
    return rows
