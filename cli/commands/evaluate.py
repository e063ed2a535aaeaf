"""``lso evaluate``: all metrics of a trained model on one split of its data."""

import dataclasses
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lso.cli.console import Console, display_path
from lso.cli.options import AcceptChanges, Device, Json, Quiet, RunPath, Seed, Trust
from lso.cli.output_paths import open_training
from lso.cli.run_argument import takes_run
from lso.reports.tables import pluralize
from lso.vae.errors import UsageError
from lso.vae.metrics.collapse import MIN_DIMENSION_NATS, caution

if TYPE_CHECKING:
    from lso.tasks.training.repeated_evaluation import Spread
    from lso.vae.metrics.evaluation import Metrics
    from lso.vae.metrics.inference_gap import Gaps
    from lso.vae.runs import Run


MIN_GAP_SAMPLES = 50  # importance samples; with fewer the approximation gap is understated too much


class Split(StrEnum):
    """Parts of a dataset."""

    train = "train"
    validation = "validation"
    test = "test"


@takes_run
def evaluate(
    run: RunPath = None,
    split: Annotated[Split, typer.Option(help="Part of the run's data to evaluate on.")] = Split.test,
    iw_samples: Annotated[
        int, typer.Option(help="Importance samples for the NLL; 0 leaves it out.", metavar="N")
    ] = 500,
    limit: Annotated[int | None, typer.Option(help="Evaluate on the first N data only.", metavar="N", min=1)] = None,
    repeats: Annotated[
        int,
        typer.Option(help="Evaluate with N different seeds and print the spread of the estimates.", metavar="N", min=1),
    ] = 1,
    gaps: Annotated[
        bool,
        typer.Option(
            "--gaps",
            help="Also measure the approximation and the amortization gap. Slow: use --limit. Needs at least "
            f"{MIN_GAP_SAMPLES} --iw-samples, as few samples understate the approximation gap.",
        ),
    ] = False,
    gap_steps: Annotated[
        int,
        typer.Option(
            help="Gradient steps from the posterior of each datum to the best one, for --gaps.", metavar="N", min=1
        ),
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
    if gaps and iw_samples < MIN_GAP_SAMPLES:
        raise UsageError(
            f"--gaps with {pluralize(iw_samples, 'importance sample')}: so few understate the approximation gap",
            f"Give --iw-samples {MIN_GAP_SAMPLES} or more; the default is 500.",
        )
    training = open_training(run, console, trust=trust, accept_changes=accept_changes)
    console.loading()
    from lso.cli.progress import Counting
    from lso.tasks.training import experiment, repeated_evaluation

    model = experiment.load(training, device)
    dataset = experiment.reload_dataset(training)
    data = dataset.split(split.value)
    n = min(len(data), limit or len(data))
    samples = f", {pluralize(iw_samples, 'importance sample')} each" if iw_samples and model.latent_dim else ""
    whole = pluralize(len(data), f"{split} {model.kind}")
    console.note(f"Evaluating {display_path(training.path)} on {n:,} of {whole}{samples}")
    if gaps and not model.latent_dim:
        raise UsageError(
            "a model without latents has no inference gaps: its likelihood is exact",
            "Leave --gaps out, or give another run.",
        )
    options: dict[str, Any] = {"split": split.value, "iw_samples": iw_samples, "limit": limit, "seed": seed}
    counting = Counting(console, f"{model.kind}s", "evaluating")
    try:
        evaluations = repeated_evaluation.evaluate_repeatedly(model, dataset, repeats, callback=counting, **options)
        measured_gaps = None
        if gaps:
            counting = Counting(console, f"{model.kind}s", "refining posteriors")
            measured_gaps = repeated_evaluation.estimate_gaps(
                model, dataset, steps=gap_steps, callback=counting, **options
            )
    finally:
        counting.close()
    spreads = repeated_evaluation.summarize_repeats(evaluations) if repeats > 1 else {}
    _conclude(
        console, training, evaluations[0], spreads, measured_gaps, f"--limit: {n:,} of {whole}" if n < len(data) else ""
    )


def _conclude(
    console: Console,
    training: "Run",
    metrics: "Metrics",
    spreads: "Mapping[str, Spread]",
    measured_gaps: "Gaps | None",
    cut: str,
) -> None:
    """Print the metrics, their spread over seeds and the gaps; ``cut`` says if not all data were taken."""
    spreads = {name: spread for name, spread in spreads.items() if name not in _undefined_metrics(metrics)}
    values = dataclasses.asdict(metrics) | dict.fromkeys(_undefined_metrics(metrics))
    content = {"run": training.path, "cut": cut, "verdict": training.verdict, **values}
    if spreads:
        content["repeats"] = {name: dataclasses.asdict(value) for name, value in spreads.items()}
    if measured_gaps is not None:
        content["gaps"] = dataclasses.asdict(measured_gaps)
    console.emit(content)
    console.table(("metric", "value", "what it is"), _metric_rows(metrics, values))
    if metrics.activity and metrics.n > 1:
        console.result()
        console.table(("dimension", "variance", "KL", "decoder use", "re-encoding"), _dimension_rows(metrics))
    if spreads:
        console.result()
        seeds = len(next(iter(spreads.values())).values)
        columns = (f"over {seeds} seeds", "mean", "standard deviation", "variance", "least", "most")
        console.table(columns, _spread_rows(spreads))
    if measured_gaps is not None:
        console.result()
        console.table(("gap", "nats", "what it is"), _gap_rows(measured_gaps))
    if cut:
        console.result(f"cut by {cut}")
    if doubt := training.verdict or caution(training.info):
        console.result(doubt)


def _spread_rows(spreads: "dict[str, Spread]") -> list[list[Any]]:
    names = {"iw_nll": "IW-NLL", "neg_elbo": "-ELBO", "kl": "KL", "mi": "MI", "active_units": "active units"}
    return [[names[name], s.mean, s.deviation, s.deviation**2, s.least, s.most] for name, s in spreads.items()]


def _gap_rows(g: "Gaps") -> list[list[Any]]:
    steps = f"{pluralize(g.steps, 'step')}, {pluralize(g.samples, 'code')} each"
    steps += f"; changed by {-g.moved:+.2g} in the last tenth of them"
    bound = f"; a lower bound, as {g.iw_samples} samples understate it"
    rows: list[list[Any]] = [
        [
            "approximation",
            g.approximation,
            f"log p(x) - ELBO of the best Gaussian, +- {g.approximation_error:.2g}{bound}",
        ],
        [
            "amortization",
            g.amortization,
            f"ELBO of the best Gaussian - ELBO of the model's posterior, +- {g.amortization_error:.2g}",
        ],
        ["inference", g.inference, "the sum of the two"],
        ["NLL", g.nll, f"-log p(x) by {g.iw_samples} importance samples from the best Gaussian"],
        ["NLL, own", g.own.iw_nll, "the same by samples from the model's posterior"],
        ["-ELBO, best", g.refined.neg_elbo, f"of the best Gaussian for each datum: {steps}"],
        ["-ELBO, own", g.own.neg_elbo, f"of the model's posterior, {g.iw_samples} codes"],
    ]
    if g.encoder is not None:
        rows += [
            [
                "NLL, encoder",
                g.encoder.iw_nll,
                "the same by samples from the encoder's posterior, before it is refined",
            ],
            ["-ELBO, encoder", g.encoder.neg_elbo, "of the encoder's posterior"],
        ]
    return rows


def _undefined_metrics(m: "Metrics") -> list[str]:
    """Metrics without a meaning: those of latents where there are none, and those over several data where one is."""
    if not m.activity:
        return [*OVER_DATA, *OF_LATENTS]
    return [*OVER_DATA, "activity"] if m.n < 2 else []


def _metric_rows(m: "Metrics", values: Mapping[str, Any]) -> list[list[Any]]:
    latent = len(m.activity)
    bound = "-ELBO" if m.iw_nll is None else "IW-NLL" if latent else "NLL"
    sequences: list[list[Any]] = [
        ["perplexity", m.perplexity, f"exp({bound} summed over sequences / number of tokens)"],
        ["tokens", m.tokens, "a sequence, with the end symbol"],
        [
            "exact match",
            m.exact_match,
            "share of (at most 1,000) sequences that equal the greedy decode of their posterior mean",
        ],
    ]
    sequences = [row for row in sequences if row[1] is not None]  # none for images
    how = f"{pluralize(m.iw_samples, 'importance sample')}" if latent else "exact, as there are no latents"
    nll = [["IW-NLL" if latent else "NLL", m.iw_nll, f"-log p(x), nats, {how}"]] if m.iw_nll is not None else []
    if not latent:
        latents = [[name, None, "needs latents"] for name in ("KL", "MI", "active units", "re-encoding")]
        return [["-ELBO", m.neg_elbo, "nats a datum; here -log p(x)"], *nll, *sequences, *latents]
    one = "; needs more than one datum" if m.n < 2 else ""
    batches = f"{m.mi_batch}" if m.mi_mixed is None else f"at most {m.mi_batch} of one length"
    what = f"nats, within batches of {m.mi_batch} of any lengths: knowing the length counts{one}"
    mixed = [] if m.mi_mixed is None else [["MI, mixed lengths", values["mi_mixed"], what]]
    used = sum(min(both) >= MIN_DIMENSION_NATS for both in zip(m.decoder_use, m.kl_per_dimension, strict=True))
    return [
        ["-ELBO", m.neg_elbo, "nats a datum, KL weight 1"],
        *nll,
        *sequences,
        ["reconstruction", m.reconstruction, "-log p(x|z), nats"],
        ["KL", m.kl, "of the posterior to the prior, nats"],
        ["MI", values["mi"], f"mutual information of data and codes, nats, within batches of {batches}{one}"],
        *mixed,
        ["MI, split", values["mi_split"], f"mutual information over all {m.n:,} data, nats{one}"],
        ["aggregate KL", values["aggregate_kl"], f"of the aggregated posterior q(z) to the prior, nats{one}"],
        [
            "active units",
            values["active_units"],
            f"of {latent} dimensions: variance of the posterior mean at least 0.01{one}",
        ],
        [
            "used units",
            used,
            f"of {latent} dimensions: KL and decoder use (loss when redrawn) at least {MIN_DIMENSION_NATS} nats",
        ],
        [
            "re-encoding",
            m.reencoding_error,
            "mean squared distance of a sampled code and its re-encoded sample; 2 is full collapse",
        ],
        ["re-encoding, mean", m.reencoding_error_mean, "the same of posterior means"],
    ]


OVER_DATA = ("mi", "mi_mixed", "mi_split", "aggregate_kl", "active_units")
OF_LATENTS = ("kl", "reencoding_error", "reencoding_error_mean")
LISTED_DIMENSIONS = 10  # rows of the table of dimensions


def _dimension_rows(m: "Metrics") -> list[list[Any]]:
    """The most active dimensions, and the means of the others in one row."""
    order = sorted(range(len(m.activity)), key=lambda i: -m.activity[i])
    columns = (m.activity, m.kl_per_dimension, m.decoder_use, m.reencoding_error_per_dimension)
    rows: list[list[Any]] = [[f"z{i}", *(column[i] for column in columns)] for i in order[:LISTED_DIMENSIONS]]
    rest = order[LISTED_DIMENSIONS:]
    if rest:
        rows.append([f"{len(rest)} others, mean", *(sum(column[i] for i in rest) / len(rest) for column in columns)])
    return rows
