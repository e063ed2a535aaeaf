"""Compares the latents of several trainings, for the page on a published table, as figures 1 to 5 of NE-VAE (2021).

They show how active each dimension is, the re-encoding error over training, and traversals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lso.reports import plots
from lso.reports.images import labelled_rows
from lso.reports.report import Chart, Section
from lso.reports.tables import MISSING, Table, number
from lso.tasks import exploration, traversals
from lso.tasks.training.run_set import Member
from lso.vae.checkpoint import Codes
from lso.vae.metrics.active_units import THRESHOLD, mean_variance
from lso.vae.models.vae import VAE
from lso.vae.runs import MODEL, Run

TRAVERSED = 2  # most active and least active dimensions, and directions, in a picture
TRAVERSAL_STEPS = 11  # images in a row
TRAVERSAL_REACH = 10.0  # prior standard deviations, as published
PRIOR_REACH = 2.0  # prior standard deviations, as far as most codes of the prior
MAX_PICTURED = 8  # trainings with traversals


def activity_section(runs: Mapping[str, Run]) -> Section | None:
    """Which dimensions each model uses (the paper's figure 1)."""
    if not (codes := _codes(runs)):
        return None
    chart = Chart(plots.dimensions_across(codes), "Activity of each dimension, sorted", ACTIVITY)
    return Section("Activity of each dimension", [chart, active_units_table(codes)])


def reencoding_section(runs: Mapping[str, Run]) -> Section | None:
    """Re-encoding error by epoch (the paper's figure 2)."""
    if not (codes := _codes(runs)):
        return None
    chart = Chart(plots.reencoding({name: runs[name].metrics() for name in codes}), "Re-encoding error", REENCODING)
    return Section("Re-encoding error over training", [chart])


def traversals_section(runs: Mapping[str, Run]) -> Section | None:
    """How images change along live and dead dimensions (the paper's figures 3 to 5)."""
    codes = {name: found for name, found in _codes(runs).items() if runs[name].config.kind == "image"}
    codes = dict(list(codes.items())[:MAX_PICTURED])
    if not codes:
        return None
    models = {name: runs[name].model() for name in codes}
    moved = {name: measure_image_changes(models[name], codes[name]) for name in codes}
    sheets = [
        Chart(_sheet(models[name], codes[name]), f"Traversals of {name}", f"{name}. {TRAVERSALS}") for name in codes
    ]
    return Section("Along live and dead dimensions", [image_change_table(moved), *sheets])


def _codes(runs: Mapping[str, Run]) -> dict[str, Codes]:
    """The posterior codes of runs that kept them."""
    return {name: found for name, run in runs.items() if (found := run.codes()) is not None}


ACTIVITY = "Validation split, one training a method. Left: variance of posterior means, active from 0.01 up. Right: "
ACTIVITY += "rise of the reconstruction when a dimension is redrawn from the prior."
REENCODING = "Validation split. A code, decoded and encoded again: squared distance per dimension; 2 is full collapse."
TRAVERSALS = (
    f"From {-TRAVERSAL_REACH:g} to {TRAVERSAL_REACH:g} along one dimension, the others 0: the {TRAVERSED} most active "
    f"ones and the {TRAVERSED} least active ones; then from the origin to norm {TRAVERSAL_REACH:g} along random "
    "directions, each also with the active dimensions held at 0 (where all are active, the most active quarter)."
)


def first_runs(members: Sequence[Member], labels: Mapping[str, str]) -> dict[str, Run]:
    """One run with latents of each method, by name.

    Args:
        members: of `lso.tasks.training.multi_run.train_all`.
        labels: what the paper calls a method; others go by their own name.
    Returns:
        The first that is finished, else the first that has weights, under a name that says how far it is.
    """
    chosen: dict[str, Member] = {}
    for member in members:
        if member.run and member.planned.config.architecture.latent_dim and (member.run.path / MODEL).is_file():
            known = chosen.setdefault(member.planned.label, member)
            if known.status != "finished" and member.status == "finished":
                chosen[member.planned.label] = member
    return {_name(labels.get(label, label), member): member.run for label, member in chosen.items() if member.run}


def _name(label: str, member: Member) -> str:
    if member.status == "finished" or member.run is None:
        return label
    return f"{label} (epoch {member.run.metrics()[-1]['epoch']} of {member.planned.config.protocol.epochs})"


def active_units_table(codes: dict[str, Codes]) -> Table:
    """How many dimensions are active in the encoder, and how many the decoder uses, at several thresholds."""
    lines = []
    for name, found in codes.items():
        variance, use = mean_variance(found.mean), found.decoder_use
        counts = [int((variance >= level).sum()) for level in (THRESHOLD, 0.1)]
        heard = MISSING if use is None else f"{int((use > 0.01).sum())}"
        total = None if use is None else float(use.clamp_min(0).sum())
        lines.append([name, str(len(variance)), *map(str, counts), number(float(variance.max()), 3), heard])
        lines[-1].append(number(total, 3))
    columns = ["method", "latents", "variance >= 0.01 (AU)", ">= 0.1", "largest variance", "decoder use > 0.01 nats"]
    note = "On the validation split, where the AU may differ by a few from that of the test split in the first table."
    return Table(columns=[*columns, "sum of decoder use (nats)"], rows=lines, title="Units in use", note=note)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageChanges:
    """How much images change along each dimension.

    Args:
        live: ``(latent,)`` which dimensions are active in the encoder.
        near: ``(latent,)`` mean absolute change of a pixel from the origin to +-`PRIOR_REACH` along the dimension.
        far: ``(latent,)`` the same to +-`TRAVERSAL_REACH`.
    """

    live: Tensor
    near: Float[Tensor, " latent"]
    far: Float[Tensor, " latent"]


def measure_image_changes(model: VAE, codes: Codes) -> ImageChanges:
    """Measure how much the image changes when one coordinate moves away from the origin.

        c_j(r) = 1/2 sum_{s=+-1} mean over pixels |x(s r e_j) - x(0)|

    Args:
        model: of images, in eval mode.
        codes: its posterior codes, which tell active dimensions from dead ones.
    Returns:
        c_j at r = 2 and, as published, at r = 10. Images of an autoregressive decoder are samples by the same uniform
        random numbers for all codes.
    """
    latent = model.latent_dim
    unit = torch.eye(latent)
    ends = [sign * reach * unit for reach in (PRIOR_REACH, TRAVERSAL_REACH) for sign in (1.0, -1.0)]
    images = exploration.decode_images(model, torch.cat([torch.zeros(1, latent), *ends]), _drawing(model))
    change = (images[1:] - images[0]).abs().flatten(1).double().mean(1).reshape(2, 2, latent).mean(1)
    return ImageChanges(live=mean_variance(codes.mean) >= THRESHOLD, near=change[0], far=change[1])


def image_change_table(moved: dict[str, ImageChanges]) -> Table:
    """The mean change of the image along active and along dead dimensions."""
    lines = []
    for name, found in moved.items():
        cells = [_mean(change, which) for which in (found.live, ~found.live) for change in (found.near, found.far)]
        lines.append([name, str(int(found.live.sum())), *cells[:2], str(int((~found.live).sum())), *cells[2:]])
    columns = ["method", "live", f"live, to ±{PRIOR_REACH:g}", f"live, to ±{TRAVERSAL_REACH:g}", "dead"]
    columns += [f"dead, to ±{PRIOR_REACH:g}", f"dead, to ±{TRAVERSAL_REACH:g}"]
    note = "Mean absolute change of a pixel against the image of the origin when one dimension moves; draws of an "
    note += "autoregressive decoder from uniforms common to all codes. Live: variance of posterior means >= 0.01."
    return Table(columns=columns, rows=lines, note=note)


def _mean(change: Tensor, which: Tensor) -> str:
    return number(float(change[which].mean()), 3) if bool(which.any()) else MISSING


def _drawing(model: VAE) -> exploration.Drawing:
    return exploration.Drawing(how=exploration.default_how(model))


def _sheet(model: VAE, codes: Codes) -> np.ndarray:
    """The picture of a model's traversals."""
    mean, latent = codes.mean, model.latent_dim
    order, variance = traversals.most_active(mean), mean_variance(mean)
    shown = list(dict.fromkeys([*order[:TRAVERSED], *order[-TRAVERSED:]]))
    live = [i for i in order if variance[i] >= THRESHOLD]
    held = live if len(live) < latent else order[: latent // 4]
    single = traversals.along_dimensions(mean, shown, TRAVERSAL_REACH)
    free = traversals.along_directions(mean, TRAVERSED, TRAVERSAL_REACH, seed=0)
    rest = traversals.along_directions(mean, TRAVERSED, TRAVERSAL_REACH, 0, held)
    kinds = ["live" if variance[i] >= THRESHOLD else "dead" for i in shown]
    rows = list(single.codes(TRAVERSAL_STEPS))
    labels = [f"{label}, {kind}" for label, kind in zip(single.labels, kinds, strict=True)]
    for name in sorted(free.names):  # each beside itself without the active dimensions
        rows += [path.codes(TRAVERSAL_STEPS)[path.names.index(name)] for path in (free, rest)]
        labels += [name, f"{name}, {len(held)} held"]
    images = exploration.decode_images(model, torch.stack(rows), _drawing(model))
    return labelled_rows(images, labels)
