"""All the numbers of a search report in one value, from which the page, the JSON and the terminal table are made."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lso.analysis import verdict as belief
from lso.analysis.convergence import Convergence, convergence, cost_of, finite_median
from lso.analysis.decoder_stability import values_again
from lso.analysis.latent_dimensions import Dimensions, decode, dimensions
from lso.analysis.plausibility import Plausibility, Reference, plausibility
from lso.analysis.reconstruction import Said, metric_for, said
from lso.analysis.reproduction import Reproduction, reproduction
from lso.analysis.start_sensitivity import Sensitivity, sensitivity
from lso.analysis.verdict import Verdict
from lso.decoders import probing
from lso.decoders.decoder import Decoder
from lso.decoders.probing import Probe
from lso.results.result import Result
from lso.vae.checkpoint import Codes
from lso.vae.errors import LsoError
from lso.vae.metrics.latent_use import latent_use
from lso.vae.utils.random import generator

PRIOR_DRAWS = 256
PROBE_DRAWS = 64  # each decoded once for every dimension
TOGETHER = (8, 64)  # draws that the decoder is tried on: as many as the search decoded together, within these


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SearchSummary:
    """Everything a search report says. T targets, S starts, d latent dimensions.

    Args:
        result: the search itself.
        target_names: one for each target.
        verdict: whether to believe it.
        convergence: section 1.
        sensitivity: section 2.
        control: section 2 for the same search by another optimizer, where it was run.
        dimensions: section 3.
        mutual_information: of data and codes over the whole split, nats; None without codes.
        ends: section 4, of all ends, ``(T, S)``.
        starts: section 4, of the starts.
        best: section 4, of the best end of each target.
        best_typical: section 4, of the best typical end of each target.
        reference: section 4, of prior draws.
        reproduction: how well the best end reproduces each target; None without targets.
        said: texts of targets and best ends, where they are sequences.
        decoded0: ``(T, S, *event)`` what the starts decode to.
        decoded: ``(T, S, *event)`` what the ends decode to.
        counters: section 5.
    """

    result: Result
    target_names: list[str]
    verdict: Verdict
    convergence: Convergence
    sensitivity: Sensitivity
    control: Sensitivity | None
    dimensions: Dimensions
    mutual_information: float | None
    ends: Plausibility
    starts: Plausibility
    best: Plausibility
    best_typical: Plausibility
    reference: Reference
    reproduction: Reproduction | None
    said: Said | None
    decoded0: Tensor
    decoded: Tensor
    counters: Mapping[str, Any]

    @property
    def explained(self) -> Tensor | None:
        """``(T,)`` how much of each target the best end reproduces; None without targets."""
        return None if self.reproduction is None else self.reproduction.share

    @property
    def best_index(self) -> tuple[Tensor, Tensor]:
        """(targets, starts) of the best ends, for indexing ``(T, S, ...)``."""
        return torch.arange(len(self.convergence.best_start)), self.convergence.best_start

    @property
    def best_typical_index(self) -> tuple[Tensor, Tensor]:
        """(targets, starts) of the best typical ends; the least atypical one where a target has no typical end."""
        return torch.arange(len(self.convergence.best_start)), best_typical(self.result, self.ends)

    def to_json(self) -> dict[str, Any]:
        """The numbers as strict JSON values: what is not finite becomes null, floats keep six digits."""
        result, found = self.result, plain
        targets, starts, latent = result.z.shape
        dims = self.dimensions
        return {
            "verdict": found(self.verdict),
            "search": {
                "targets": targets,
                "starts": starts,
                "latent_dim": latent,
                "target_names": self.target_names,
                "start_names": list(result.start_names),
                "sense": "maximize" if result.objective.maximize else "minimize",
                "optimizer": result.optimizer,
                "settings": found(result.settings),
                "status": result.status,
                "sentence": result.sentence,
                "seconds": found(result.seconds),
                "weights_hash": result.weights_hash,
            },
            "convergence": found(self.convergence) | {"stopped_each": result.stopped},
            "sensitivity": found(self.sensitivity),
            "control": found(self.control),
            "dimensions": found(dims)
            | {
                "jacobian_norm": found(dims.jacobian_norm),
                "relative": found(dims.relative),
                "status": [dims.status(i) for i in range(latent)],
                "dead": dims.dead,
                "weak": dims.weak,
                "active": int(dims.active.sum()),
                "active_units": dims.active_units,
                "mutual_information": found(self.mutual_information),
            },
            "typicality": {
                "ends": found(self.ends),
                "starts": found(self.starts),
                "best": found(self.best),
                "best_typical": found(self.best_typical),
                "best_start": found(self.best_index[1]),
                "best_typical_start": found(self.best_typical_index[1]),
                "prior_draws": found(self.reference.plausibility),
                "scale": found(self.reference.scale),
            },
            "fit": {"explained": found(self.explained)}
            | ({} if self.said is None else found(self.said))
            | ({} if self.reproduction is None else fit_json(self.reproduction, self.target_names)),
            "counters": found(dict(self.counters)),
        }


def fit_json(found: Reproduction, names: Sequence[str]) -> dict[str, Any]:
    """What report.json says of each target's reproduction beside its share.

    Args:
        found: of a search.
        names: of the targets.
    Returns:
        ``reproduced`` and ``turned`` for each, the names of the ``not_reproduced``, ``shape``, ``nats`` and
        ``nats_bound`` (see `Reproduction`).
    """
    return {
        "reproduced": plain(~found.missed),
        "not_reproduced": found.named(names),
        "turned": plain(found.turned),
        "shape": plain(found.shape),
        "nats": plain(found.nats),
        "nats_bound": plain(found.bound),
    }


def plain(value: Any) -> Any:
    """A value as strict JSON: tensors as lists, dataclasses as objects, floats to six digits, None where not finite."""
    if isinstance(value, Tensor):
        return plain(value.detach().cpu().tolist())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def frozen(decoder: Decoder) -> bool:
    """Whether weights, buffers and eval mode are as they were frozen."""
    try:
        decoder.verify()
    except LsoError:
        return False
    return True


def together(result: Result) -> int:
    """Draws to try a decoder on: what depends on the batch may show in large ones alone."""
    return min(max(result.value.numel(), TOGETHER[0]), TOGETHER[1])


def search_summary(
    result: Result,
    *,
    codes: Codes | None = None,
    probe: Probe | None = None,
    control: Result | None = None,
    training_verdict: str = "",
    target_names: Sequence[str] | None = None,
) -> SearchSummary:
    """Compute everything that a search report says.

    Args:
        result: of the search.
        codes: posterior codes of the training's validation split.
        probe: data-free activity; without codes it is measured here where it is not given.
        control: the same search by another optimizer.
        training_verdict: the training run's own verdict.
        target_names: one for each target; default "target 0", ...
    Returns:
        `SearchSummary`.
    """
    objective, decoder = result.objective, result.objective.decoder
    if codes is None and probe is None and not decoder.makes_objects:
        probe = probing.probe(decoder, PROBE_DRAWS, generator(0, "report/probe"))
    dims, steps = dimensions(result, codes, probe), convergence(result)
    looks: dict[str, Any] = {"dimensions": dims, "space": objective.space, "codes": codes}
    decoded0, decoded = decode(objective, result.z0), decode(objective, result.z)
    ends = plausibility(decoder, result.z, decoded, **looks)
    rows = torch.arange(len(result.z))
    typical = best_typical(result, ends)
    prior = torch.randn(PRIOR_DRAWS, result.z.shape[-1], generator=generator(0, "report/prior"), dtype=torch.float64)
    prior_decoded = decode(decoder, prior)
    measure = metric_for(decoder)
    scale = measure.scale(prior_decoded.flatten(1))
    reference = Reference(z=prior, scale=scale, plausibility=plausibility(decoder, prior, prior_decoded, **looks))
    both = [
        compare(r, dims, steps.drop, reference.scale, r is result and decoded)
        for r in (result, control)
        if r is not None
    ]
    best = ends[rows, steps.best_start]
    chosen = rows, steps.best_start
    fitted = reproduction(objective, result.z[chosen], decoded[chosen], prior, prior_decoded)
    names = list(target_names) if target_names is not None else [f"target {i}" for i in rows.tolist()]
    asked = measure.reaction(objective.targets, prior_decoded, scale)
    carried = None if codes is None else latent_use(codes)
    checks = [
        belief.check_decoder(frozen(decoder), [*decoder.check(together(result)), *values_again(result)]),
        belief.check_model(dims, asked, training_verdict, carried),
        belief.check_convergence(steps),
        belief.check_starts(both[0]),
        belief.check_plausibility(best, reference.plausibility),
        *([] if fitted is None else [belief.check_fit(fitted, names, measure.fitted, measure.rule)]),
    ]
    return SearchSummary(
        result=result,
        target_names=names,
        verdict=belief.conclude(checks, training_verdict),
        convergence=steps,
        sensitivity=both[0],
        control=both[1] if control is not None else None,
        dimensions=dims,
        mutual_information=None if carried is None else carried.mutual_information,
        ends=ends,
        starts=plausibility(decoder, result.z0, decoded0, **looks),
        best=best,
        best_typical=ends[rows, typical],
        reference=reference,
        reproduction=fitted,
        said=said(decoder, objective.targets, decoded[rows, steps.best_start]),
        decoded0=decoded0,
        decoded=decoded,
        counters=dict(result.counters),
    )


def compare(
    result: Result, dims: Dimensions, drop: Tensor, scale: float, decoded: Tensor | bool = False
) -> Sensitivity:
    """Section 2 for one result, by the dimensions and the drop of the search it belongs to."""
    x = decoded if isinstance(decoded, Tensor) else decode(result.objective, result.z)
    measure = metric_for(result.objective.decoder)
    return sensitivity(
        result.optimizer,
        result.z,
        x.flatten(2),
        cost_of(result, result.value),
        dimensions=dims,
        drop=drop,
        scale=scale,
        maximize=result.objective.maximize,
        apart=measure.pairwise,
        unit=measure.unit,
    )


def best_typical(result: Result, ends: Plausibility) -> Tensor:
    """The start of each target whose end has the best value among those that are not atypical.

    Args:
        result: the search.
        ends: typicality of its ends.
    Returns:
        ``(T,)``; where all ends of a target are atypical, the one with the least norm percentile over active ones.
    """
    cost = cost_of(result, result.value)
    typical = torch.where(ends.atypical, torch.inf, cost)
    least = ends.percentile_active.nan_to_num(nan=torch.inf).argmin(1)
    return torch.where(torch.isfinite(typical).any(1), typical.argmin(1), least)


def rows_of(value: Plausibility, chosen: Tensor | None = None) -> dict[str, float | None]:
    """Medians of one row of the typicality table.

    Args:
        value: measured.
        chosen: mask of the elements to take, or all.
    Returns:
        Column -> median (``atypical`` and ``at_bound``: means); None where not known.
    """
    row: dict[str, float | None] = {}
    for field in dataclasses.fields(value):
        x: Tensor | None = getattr(value, field.name)
        x = x if x is None or chosen is None else x[chosen]
        if x is None or x.numel() == 0:
            row[field.name] = None
        else:
            row[field.name] = (
                float(x.double().mean()) if field.name in ("atypical", "at_bound") else float(finite_median(x))
            )
    return row
