"""Computes all numbers of a report on a gradient search; page, JSON and terminal table are made from them."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lso.analysis.convergence import Convergence, cost_of, finite_median, measure_convergence
from lso.analysis.decoder_stability import recheck_values
from lso.analysis.latent_dimensions import Dimensions, decode_on_cpu, measure_dimensions
from lso.analysis.plausibility import Plausibility, Reference, measure_plausibility
from lso.analysis.reconstruction import TextComparison, compare_texts, metric_for
from lso.analysis.reproduction import Reproduction, measure_reproduction
from lso.analysis.start_sensitivity import Sensitivity, sensitivity
from lso.analysis.verdict import SEARCH_RULES, ModelEvidence, SearchEvidence
from lso.decoders import probing
from lso.decoders.decoder import Decoder
from lso.decoders.probing import Probe
from lso.results.result import Result
from lso.vae.checkpoint import Codes
from lso.vae.errors import LsoError
from lso.vae.metrics.latent_use import latent_use
from lso.vae.metrics.verdict import Verdict, judge
from lso.vae.utils.random import generator

PRIOR_DRAWS = 256  # prior draws that results are compared with
PROBE_DRAWS = 64  # prior draws of the probe; each is decoded once for every dimension
PROBE_BATCH_LIMITS = (
    8,
    64,
)  # least and most draws that a decoder is checked on; between, as many as the search decoded together


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SearchSummary:
    """All numbers of a report on a gradient search. T targets, S starts, d latent dimensions.

    Args:
        result: the search itself.
        target_names: one for each target.
        verdict: whether the result can be believed.
        evidence: what the verdict's rules on decoder, model and targets judge.
        convergence: values along the way, and whether each search had levelled off.
        sensitivity: how far apart the ends of a target's starts lie.
        control: the same of the same search by another optimizer, where that was run.
        dimensions: how strongly the decoder reacts to each latent dimension.
        ends: how typical of the prior all ends are, ``(T, S)``.
        starts: the same of the starts.
        best: the same of the best end of each target.
        best_typical: the same of the best typical end of each target.
        reference: the same of prior draws.
        texts: targets and best ends as texts, where they are sequences.
        decoded0: ``(T, S, *event)`` what the starts decode to.
        decoded: ``(T, S, *event)`` what the ends decode to.
        counters: numbers of decoder calls.
    """

    result: Result
    target_names: list[str]
    verdict: Verdict
    evidence: ModelEvidence
    convergence: Convergence
    sensitivity: Sensitivity
    control: Sensitivity | None
    dimensions: Dimensions
    ends: Plausibility
    starts: Plausibility
    best: Plausibility
    best_typical: Plausibility
    reference: Reference
    texts: TextComparison | None
    decoded0: Tensor
    decoded: Tensor
    counters: Mapping[str, Any]

    @property
    def reproduction(self) -> Reproduction | None:
        """How well the best end reproduces each target; None without targets."""
        return self.evidence.reproduction

    @property
    def mutual_information(self) -> float | None:
        """Of data and codes over the validation split, nats; None without codes."""
        return None if self.evidence.use is None else self.evidence.use.mutual_information

    @property
    def explained(self) -> Tensor | None:
        """``(T,)`` share of each target that the best end reproduces; None without targets."""
        return None if self.reproduction is None else self.reproduction.share

    @property
    def best_index(self) -> tuple[Tensor, Tensor]:
        """Indices (targets, starts) of the best ends into tensors ``(T, S, ...)``."""
        return torch.arange(len(self.convergence.best_start)), self.convergence.best_start

    @property
    def best_typical_index(self) -> tuple[Tensor, Tensor]:
        """The same of the best typical ends; of the least atypical end where a target has no typical one."""
        return torch.arange(len(self.convergence.best_start)), best_typical(self.result, self.ends)

    def to_json(self) -> dict[str, Any]:
        """The numbers as strict JSON: null for what is not finite, floats with six digits."""
        result, found = self.result, to_json_value
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
            | ({} if self.texts is None else found(self.texts))
            | ({} if self.reproduction is None else reproduction_json(self.reproduction, self.target_names)),
            "counters": found(dict(self.counters)),
        }


def reproduction_json(found: Reproduction, names: Sequence[str]) -> dict[str, Any]:
    """The entries of report.json on how well each target is reproduced, beside the share (see `Reproduction`)."""
    return {
        "reproduced": to_json_value(~found.missed),
        "not_reproduced": found.named(names),
        "turned": to_json_value(found.inverted),  # users read this key
        "shape": to_json_value(found.shape),
        "nats": to_json_value(found.nats),
        "nats_bound": to_json_value(found.bound),
    }


def to_json_value(value: Any) -> Any:
    """Strict JSON: tensors become lists, dataclasses objects, floats six digits, and null what is not finite."""
    if isinstance(value, Tensor):
        return to_json_value(value.detach().cpu().tolist())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json_value(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [to_json_value(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def is_frozen(decoder: Decoder) -> bool:
    """Whether weights, buffers and eval mode of a decoder are as they were when it was frozen."""
    try:
        decoder.verify()
    except LsoError:
        return False
    return True


def probe_batch_size(result: Result) -> int:
    """Number of draws on which to check a decoder: some faults show in large batches only."""
    return min(max(result.value.numel(), PROBE_BATCH_LIMITS[0]), PROBE_BATCH_LIMITS[1])


def search_summary(
    result: Result,
    *,
    codes: Codes | None = None,
    probe: Probe | None = None,
    control: Result | None = None,
    training_verdict: str = "",
    target_names: Sequence[str] | None = None,
) -> SearchSummary:
    """Compute all numbers of a report on a gradient search.

    Args:
        result: of the search.
        codes: posterior codes of the training's validation split.
        probe: how the decoder reacts to redrawn dimensions; without codes it is measured here unless it is given.
        control: the same search by another optimizer.
        training_verdict: the verdict of the training run on its latents.
        target_names: one for each target; default "target 0", ...
    """
    objective, decoder = result.objective, result.objective.decoder
    if codes is None and probe is None and not decoder.makes_objects:
        probe = probing.probe(decoder, PROBE_DRAWS, generator(0, "report/probe"))
    dims, steps = measure_dimensions(result, codes, probe), measure_convergence(result)
    measured_with: dict[str, Any] = {"dimensions": dims, "space": objective.space, "codes": codes}
    decoded0, decoded = decode_on_cpu(objective, result.z0), decode_on_cpu(objective, result.z)
    ends = measure_plausibility(decoder, result.z, decoded, **measured_with)
    rows = torch.arange(len(result.z))
    typical = best_typical(result, ends)
    prior = torch.randn(PRIOR_DRAWS, result.z.shape[-1], generator=generator(0, "report/prior"), dtype=torch.float64)
    prior_decoded = decode_on_cpu(decoder, prior)
    measure = metric_for(decoder)
    scale = measure.scale(prior_decoded.flatten(1))
    reference = Reference(
        z=prior, scale=scale, plausibility=measure_plausibility(decoder, prior, prior_decoded, **measured_with)
    )
    both = [
        compare_starts(r, dims, steps.drop, reference.scale, r is result and decoded)
        for r in (result, control)
        if r is not None
    ]
    best = ends[rows, steps.best_start]
    chosen = rows, steps.best_start
    fitted = measure_reproduction(objective, result.z[chosen], decoded[chosen], prior, prior_decoded)
    names = list(target_names) if target_names is not None else [f"target {i}" for i in rows.tolist()]
    evidence = ModelEvidence(
        unchanged=is_frozen(decoder),
        findings=[*decoder.check(probe_batch_size(result)), *recheck_values(result)],
        dimensions=dims,
        reaction=measure.reaction(objective.targets, prior_decoded, scale),
        training=training_verdict,
        use=None if codes is None else latent_use(codes),
        reproduction=fitted,
        target_names=names,
        metric=measure,
    )
    judged = SearchEvidence(
        model=evidence, convergence=steps, sensitivity=both[0], best=best, prior=reference.plausibility
    )
    return SearchSummary(
        result=result,
        target_names=names,
        verdict=judge(SEARCH_RULES, judged, training_verdict),
        evidence=evidence,
        convergence=steps,
        sensitivity=both[0],
        control=both[1] if control is not None else None,
        dimensions=dims,
        ends=ends,
        starts=measure_plausibility(decoder, result.z0, decoded0, **measured_with),
        best=best,
        best_typical=ends[rows, typical],
        reference=reference,
        texts=compare_texts(decoder, objective.targets, decoded[rows, steps.best_start]),
        decoded0=decoded0,
        decoded=decoded,
        counters=dict(result.counters),
    )


def compare_starts(
    result: Result, dims: Dimensions, drop: Tensor, scale: float, decoded: Tensor | bool = False
) -> Sensitivity:
    """How far apart the ends of a result's starts lie, by the dimensions and gains of the search that it belongs to."""
    x = decoded if isinstance(decoded, Tensor) else decode_on_cpu(result.objective, result.z)
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
    """Index ``(T,)`` of the start of each target whose end has the best value among the typical ends.

    Where all ends of a target are atypical, it is the one with the least norm percentile over active dimensions.
    """
    cost = cost_of(result, result.value)
    typical = torch.where(ends.atypical, torch.inf, cost)
    least = ends.percentile_active.nan_to_num(nan=torch.inf).argmin(1)
    return torch.where(torch.isfinite(typical).any(1), typical.argmin(1), least)


def median_row(value: Plausibility, chosen: Tensor | None = None) -> dict[str, float | None]:
    """One row of the typicality table: medians, but means for ``atypical`` and ``at_bound``; None where not known."""
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
