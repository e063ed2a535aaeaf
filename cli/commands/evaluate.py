"""``lso evaluate``: all metrics of a trained model on one split."""

import dataclasses
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lso.cli.console import Console, shown
from lso.cli.options import AcceptChanges, Device, Json, Quiet, RunPath, Seed, Trust
from lso.cli.output_paths import training_run
from lso.reports.tables import pluralize
from lso.vae.errors import UsageError
from lso.vae.metrics.collapse import MIN_DIMENSION_NATS, caution

if TYPE_CHECKING:
    from lso.tasks.training.repeated_evaluation import Spread
    from lso.vae.metrics.evaluation import Metrics
    from lso.vae.metrics.inference_gap import Gaps


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
    repeats: Annotated[
        int,
        typer.Option(help="Evaluate under so many seeds and print the spread of the estimates.", metavar="N", min=1),
    ] = 1,
    gaps: Annotated[
        bool,
        typer.Option(
            "--gaps",
            help="Also the approximation and the amortization gap: slow, see --limit. Few --iw-samples understate the "
            "first; 50 at least.",
        ),
    ] = False,
    gap_steps: Annotated[
        int, typer.Option(help="Gradient steps to the best posterior of each datum.", metavar="N", min=1)
    ] = 200,
    device: Device = "auto",
    seed: Seed = 0,
    trust: Trust = False,
    accept_changes: AcceptChanges = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a trained model: -ELBO, importance-weighted NLL, KL, mutual information, active units, re-encoding."""
    console = Console(json=json, quiet=quiet)
    if gaps and iw_samples < FEWEST:
        raise UsageError(
            f"--gaps with {pluralize(iw_samples, 'importance sample')}: so few understate the approximation gap",
            f"Give --iw-samples {FEWEST} or more; 500 is the default.",
        )
    found = training_run(run, console, trust=trust, accept_changes=accept_changes)
    console.loading()
    from lso.cli.progress.bars import Counting
    from lso.tasks.training import experiment
    from lso.tasks.training import repeated_evaluation as accounts

    model = experiment.load(found, device)
    dataset = experiment.dataset_of(found)
    data = dataset.split(split.value)
    n = min(len(data), limit or len(data))
    each = f", {pluralize(iw_samples, 'sample')} each" if iw_samples and model.latent_dim else ""
    whole = pluralize(len(data), f"{split} {model.kind}")
    console.note(f"Evaluating {shown(found.path)} on {n:,} of {whole}{each}")
    if gaps and not model.latent_dim:
        raise UsageError(
            "a model without latents has no gaps: its likelihood is exact", "Leave --gaps out, or give another run."
        )
    options: dict[str, Any] = {"split": split.value, "iw_samples": iw_samples, "limit": limit, "seed": seed}
    counting = Counting(console, f"{model.kind}s", "evaluating")
    try:
        every = accounts.repeats(model, dataset, repeats, callback=counting, **options)
        found_gaps = None
        if gaps:
            counting = Counting(console, f"{model.kind}s", "refining posteriors")
            found_gaps = accounts.gaps(model, dataset, steps=gap_steps, callback=counting, **options)
    finally:
        counting.close()
    metrics, spreads = every[0], accounts.spread_of(every) if repeats > 1 else {}
    spreads = {name: one for name, one in spreads.items() if name not in _not_measured(metrics)}
    cut = f"--limit: {n:,} of {whole}" if n < len(data) else ""
    values = dataclasses.asdict(metrics) | dict.fromkeys(_not_measured(metrics))
    told = {"run": found.path, "cut": cut, "verdict": found.verdict, **values}
    if spreads:
        told["repeats"] = {name: dataclasses.asdict(value) for name, value in spreads.items()}
    if found_gaps is not None:
        told["gaps"] = dataclasses.asdict(found_gaps)
    console.emit(told)
    console.table(("metric", "value", "what it is"), _rows(metrics, values))
    if metrics.activity and metrics.n > 1:
        console.result()
        console.table(("dimension", "variance", "KL", "decoder use", "re-encoding"), _dimensions(metrics))
    if spreads:
        console.result()
        console.table((f"over {repeats} seeds", "mean", "deviation", "variance", "least", "most"), _spread(spreads))
    if found_gaps is not None:
        console.result()
        console.table(("gap", "nats", "what it is"), _gaps(found_gaps))
    if cut:
        console.result(f"cut by {cut}")
    if doubt := found.verdict or caution(found.info):
        console.result(doubt)


def _spread(spreads: "dict[str, Spread]") -> list[list[Any]]:
    names = {"iw_nll": "IW-NLL", "neg_elbo": "-ELBO", "kl": "KL", "mi": "MI", "active_units": "active units"}
    return [
        [names[name], one.mean, one.deviation, one.deviation**2, one.least, one.most] for name, one in spreads.items()
    ]


def _gaps(g: "Gaps") -> list[list[Any]]:
    steps = f"{pluralize(g.steps, 'step')}, {pluralize(g.samples, 'code')} each"
    steps += f"; the last tenth changed it by {-g.moved:+.2g}"
    least = f"; at least so much: {g.iw_samples} samples understate it"
    rows: list[list[Any]] = [
        ["approximation", g.approximation, f"log p(x) - best Gaussian's ELBO, +- {g.approximation_error:.2g}{least}"],
        ["amortization", g.amortization, f"best Gaussian's ELBO - the model's own, +- {g.amortization_error:.2g}"],
        ["inference", g.inference, "their sum"],
        ["NLL", g.nll, f"-log p(x), {g.iw_samples} importance samples from the best Gaussian"],
        ["NLL, own", g.own.iw_nll, "the same from the model's own posterior"],
        ["-ELBO, best", g.refined.neg_elbo, f"of the best Gaussian: {steps}"],
        ["-ELBO, own", g.own.neg_elbo, f"of the model's own posterior, {g.iw_samples} codes"],
    ]
    if g.encoder is not None:
        rows += [
            ["NLL, encoder", g.encoder.iw_nll, "from what the encoder says before it is refined"],
            ["-ELBO, encoder", g.encoder.neg_elbo, "of what the encoder says"],
        ]
    return rows


def _not_measured(m: "Metrics") -> list[str]:
    """Metrics that say nothing: all of latents where there are none, and of one datum what compares data."""
    if not m.activity:
        return [*OF_ONE, *OF_LATENTS]
    return [*OF_ONE, "activity"] if m.n < 2 else []


def _rows(m: "Metrics", values: Mapping[str, Any]) -> list[list[Any]]:
    latent = len(m.activity)
    known = "-ELBO" if m.iw_nll is None else "IW-NLL" if latent else "NLL"
    sequences: list[list[Any]] = [
        ["perplexity", m.perplexity, f"exp(summed {known} / summed tokens)"],
        ["tokens", m.tokens, "a sequence, the end symbol counted"],
        ["exact match", m.exact_match, "share of (at most 1,000) sequences that the greedy decode of the mean equals"],
    ]
    spoken = [row for row in sequences if row[1] is not None]
    how = f"{pluralize(m.iw_samples, 'importance sample')}" if latent else "exact, as there are no latents"
    nll = [["IW-NLL" if latent else "NLL", m.iw_nll, f"-log p(x), nats, {how}"]] if m.iw_nll is not None else []
    if not latent:
        none = [[name, None, "of models with latents"] for name in ("KL", "MI", "active units", "re-encoding")]
        return [["-ELBO", m.neg_elbo, "nats a datum; here -log p(x)"], *nll, *spoken, *none]
    one = "; not of one datum" if m.n < 2 else ""
    alike = f"{m.mi_batch}" if m.mi_mixed is None else f"at most {m.mi_batch} of one length"
    what = f"nats, within batches of {m.mi_batch} of any lengths, which count as known{one}"
    mixed = [] if m.mi_mixed is None else [["MI, mixed lengths", values["mi_mixed"], what]]
    used = sum(min(both) >= MIN_DIMENSION_NATS for both in zip(m.decoder_use, m.kl_per_dimension, strict=True))
    return [
        ["-ELBO", m.neg_elbo, "nats a datum, KL weight 1"],
        *nll,
        *spoken,
        ["reconstruction", m.reconstruction, "nats"],
        ["KL", m.kl, "nats, posterior to prior"],
        ["MI", values["mi"], f"nats, within batches of {alike}{one}"],
        *mixed,
        ["MI, split", values["mi_split"], f"nats, over all {m.n:,}{one}"],
        ["aggregate KL", values["aggregate_kl"], f"nats, q(z) to prior{one}"],
        ["active units", values["active_units"], f"of {latent}: variance of the posterior mean at least 0.01{one}"],
        ["used units", used, f"of {latent}: the KL, and what redrawing costs, at least {MIN_DIMENSION_NATS} nats"],
        ["re-encoding", m.reencoding_error, "squared, sampled to sampled, mean over dimensions; 2 is full collapse"],
        ["re-encoding, mean", m.reencoding_error_mean, "squared, mean to mean"],
    ]


OF_ONE = ("mi", "mi_mixed", "mi_split", "aggregate_kl", "active_units")
OF_LATENTS = ("kl", "reencoding_error", "reencoding_error_mean")
FEWEST = 50  # importance samples for the gaps
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
