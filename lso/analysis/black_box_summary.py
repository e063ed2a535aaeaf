"""Computes all numbers of a report on black-box searches; page, JSON and terminal table are made from them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lso.analysis.black_box_groups import BestObject, Group, group_json
from lso.analysis.black_box_traces import SearchTrace, band, trace_search
from lso.analysis.black_box_verdict import BLACK_BOX_RULES
from lso.analysis.convergence import finite_median
from lso.analysis.decoder_stability import recheck_objects
from lso.analysis.latent_dimensions import (
    MAX_POINTS,
    Dimensions,
    decode_on_cpu,
    decoder_sensitivity,
    evenly_spaced,
    finite_rows,
)
from lso.analysis.reconstruction import metric_for
from lso.analysis.reproduction import Reproduction, measure_reproduction
from lso.analysis.start_sensitivity import Sensitivity, sensitivity
from lso.analysis.summary import PRIOR_DRAWS, PROBE_DRAWS, is_frozen, to_json_value
from lso.analysis.surrogate_calibration import calibrate_evaluations
from lso.analysis.verdict import ModelEvidence
from lso.black_box.budget import call_category
from lso.black_box.result import SearchResult
from lso.decoders import probing
from lso.results.evaluation import decode_codes
from lso.results.result import Evaluation
from lso.vae.checkpoint import Codes
from lso.vae.distributions.gaussian import DiagonalGaussian
from lso.vae.errors import UsageError
from lso.vae.metrics import active_units as activity
from lso.vae.metrics.evaluation import kl_per_dimension
from lso.vae.metrics.latent_use import latent_use
from lso.vae.metrics.verdict import Verdict, judge
from lso.vae.utils.random import generator

TOP_OBJECTS = 10  # distinct objects that a report shows
FITTED_SEARCHES = 2  # searches of a group, the first ones, that a surrogate is fitted to: four fits each take seconds
AXES = ("calls", "unique", "seconds")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlackBoxSummary:
    """All numbers of a report on black-box searches.

    Args:
        groups: searches by optimizer, in the order in which they were given; the report is on the first, the others are
            compared with it.
        top: best distinct objects of all searches.
        best_possible: the best attainable value, None where not known.
        training: the verdict of the training run on its latents, empty where it found no fault.
    """

    groups: list[Group]
    top: list[BestObject]
    best_possible: float | None
    training: str

    @property
    def main(self) -> Group:
        """The group that the report is on."""
        return self.groups[0]

    @property
    def verdict(self) -> Verdict:
        """The verdict on the main group."""
        return self.main.verdict

    def to_json(self) -> dict[str, Any]:
        """The numbers as strict JSON."""
        objective = self.main.objective
        return {
            "kind": "black-box search",
            "verdict": to_json_value(self.verdict),
            "search": {
                "objective": objective.name,
                "sense": "maximize" if objective.maximize else "minimize",
                "latent_dim": objective.dim,
                "bounds": to_json_value(objective.space.bounds),
                "chart": objective.space.chart,
                "best_possible": to_json_value(self.best_possible),
            },
            "groups": [group_json(group) for group in self.groups],
            "top": to_json_value(self.top),
        }


def black_box_summary(
    results: Sequence[SearchResult],
    *,
    codes: Codes | None = None,
    verdict: str = "",
    best_possible: float | None = None,
    names: Sequence[str] | None = None,
    target: str = "",
) -> BlackBoxSummary:
    """Compute all numbers of a report on black-box searches.

    Args:
        results: searches for one objective; those with the same name form a group.
        codes: posterior codes of the training's validation split.
        verdict: the verdict of the training run on its latents.
        best_possible: the best attainable value, where known.
        names: of the group of each result; None takes the optimizers' names.
        target: name of the datum that is searched for, where there is one.
    Raises:
        UsageError: if there is no result, or they are of different objectives.
    """
    if not results:
        raise UsageError("no search to report on", "Give the results of lso.optimize.")
    about = {(r.objective.name, r.objective.maximize, r.objective.dim) for r in results}
    if len(about) > 1 or (names is not None and len(names) != len(results)):
        raise UsageError(
            f"the searches have {len(about)} objectives and {len(names or results)} names for {len(results)} results",
            "Report on searches for one objective, with one name each or none.",
        )
    grouped: dict[str, list[SearchResult]] = {}
    for name, result in zip(names or [r.optimizer for r in results], results, strict=True):
        grouped.setdefault(name, []).append(result)
    groups = [_group(name, found, codes, verdict, target, best_possible) for name, found in grouped.items()]
    return BlackBoxSummary(groups=groups, top=_best_objects(grouped), best_possible=best_possible, training=verdict)


def _group(
    name: str,
    results: Sequence[SearchResult],
    codes: Codes | None,
    training: str,
    target: str,
    best_possible: float | None,
) -> Group:
    objective, space = results[0].objective, results[0].objective.space
    traces = [trace_search(result, name) for result in results]
    dims = _dimensions(results, codes)
    fitted = [
        calibrate_evaluations(space, r.z, r.value, c.fresh)
        for r, c in zip(results[:FITTED_SEARCHES], traces, strict=False)
    ]
    known = [one for one in fitted if one is not None]
    prior, best = _reencoding(results)
    agreement = _agreement(name, results, traces, dims)
    bests = [result.best.decoded_hash for result in results if result.best is not None]
    findings = objective.decoder.check() + next(filter(None, map(recheck_objects, results)), [])
    evidence = ModelEvidence(
        unchanged=all(is_frozen(r.objective.decoder) for r in results),
        findings=findings,
        dimensions=dims,
        training=training,
        use=None if codes is None else latent_use(codes),
        reproduction=_reproduction(results),
        target_names=[target] if target else [],
        metric=metric_for(objective.decoder),
    )
    group = Group(
        name=name,
        objective=objective,
        traces=traces,
        bands={axis: band(traces, axis) for axis in AXES},
        calibrations=known,
        dimensions=dims,
        spread=_spread(results, traces),
        evidence=evidence,
        agreement=agreement,
        distinct_best=len(set(bests)),
        prior_reencoding=prior,
        best_reencoding=best,
        best_possible=best_possible,
    )
    return replace(group, verdict=judge(BLACK_BOX_RULES, group, training))


def _dimensions(results: Sequence[SearchResult], codes: Codes | None) -> Dimensions:
    """Measure how the decoder reacts to each dimension, and how far the best codes lie from the prior's mean."""
    objective, decoder = results[0].objective, results[0].objective.decoder
    every = finite_rows(torch.cat([result.z for result in results]))
    prior = torch.randn(MAX_POINTS // 2, objective.dim, generator=generator(0, "report/points"), dtype=torch.float64)
    points = torch.cat([evenly_spaced(every, MAX_POINTS - len(prior)), prior])
    sensitivity, how = decoder_sensitivity(decoder, points, decoder.differentiable)
    bests = finite_rows(torch.stack([result.best_z for result in results]))
    known: dict[str, Tensor | None] = {}
    if codes is not None:
        known["variance"] = activity.mean_variance(codes.mean).cpu()
        known["kl"] = kl_per_dimension(DiagonalGaussian(codes.mean, codes.log_var)).cpu()
        known["decoder_use"] = None if codes.decoder_use is None else codes.decoder_use.double().cpu()
    elif not decoder.makes_objects:
        probe = probing.probe(decoder, PROBE_DRAWS, generator(0, "report/probe"))
        known |= {"redraw": probe.redraw, "correlation": probe.correlation}
    moved = bests.abs().mean(0) if len(bests) else torch.full((objective.dim,), torch.nan, dtype=torch.float64)
    redrawn = "change redrawn" if how.startswith("squared change") else "Jacobian norm"
    measure = redrawn if decoder.vocabulary is None else "root of KL"
    how = how.replace("starts and end points", "proposals and prior draws")
    return Dimensions(sensitivity=sensitivity, how=how, moved=moved, measure=measure, **known)


def _reproduction(results: Sequence[SearchResult]) -> Reproduction | None:
    """Measure how well the best of all searches reproduces the target, where there is one."""
    objective, sign = results[0].objective, results[0].objective.sign
    good = [result for result in results if result.best is not None]
    if objective.targets is None or not good:
        return None
    z = min(good, key=lambda result: sign * result.best_value).best_z[None]
    prior = torch.randn(PRIOR_DRAWS, objective.dim, generator=generator(0, "report/prior"), dtype=torch.float64)
    return measure_reproduction(
        objective, z, decode_on_cpu(objective, z), prior, decode_on_cpu(objective.decoder, prior)
    )


def _spread(results: Sequence[SearchResult], traces: Sequence[SearchTrace]) -> Tensor:
    """Standard deviation of each coordinate over the proposals after the design, root mean square over searches."""
    after = [r.z[c.unique > c.design] for r, c in zip(results, traces, strict=True)]
    known = [z.var(0) for z in after if len(z) > 1]
    dim = results[0].objective.dim
    return torch.stack(known).mean(0).sqrt() if known else torch.full((dim,), torch.nan, dtype=torch.float64)


def _agreement(
    name: str, results: Sequence[SearchResult], traces: Sequence[SearchTrace], dims: Dimensions
) -> Sensitivity | None:
    """Compare the best codes of the searches and what they decode to."""
    objective = results[0].objective
    good = [i for i, result in enumerate(results) if result.best is not None]
    if len(good) < 2 or len({result.weights_hash for result in results}) > 1:
        return None
    z, sign = torch.stack([results[i].best_z for i in good])[None], objective.sign
    decoded, measure = decode_on_cpu(objective, z), metric_for(objective.decoder)
    prior = torch.randn(PRIOR_DRAWS, objective.dim, generator=generator(0, "report/prior"), dtype=torch.float64)
    cost = sign * torch.tensor([[results[i].best_value for i in good]], dtype=torch.float64)
    start = finite_median(sign * torch.tensor([traces[i].design_best for i in good], dtype=torch.float64))
    return sensitivity(
        name,
        z,
        decoded.flatten(2),
        cost,
        dimensions=dims,
        drop=(start - cost.min()).reshape(1),
        scale=measure.scale(decode_on_cpu(objective.decoder, prior).flatten(1)),
        maximize=objective.maximize,
        apart=measure.pairwise,
        unit=measure.unit,
    )


def _reencoding(results: Sequence[SearchResult]) -> tuple[float | None, float | None]:
    """Median re-encoding errors of prior draws and of the searches' best codes."""
    objective = results[0].objective
    bests = [r.best.reencoding_error for r in results if r.best is not None and r.best.reencoding_error is not None]
    if not bests:
        return None, None
    z = torch.randn(PRIOR_DRAWS, objective.dim, generator=generator(0, "report/prior"), dtype=torch.float64)
    prior = [end.reencoding_error or 0.0 for end in decode_codes(objective, z)]
    usual, best = (float(finite_median(torch.tensor(errors, dtype=torch.float64))) for errors in (prior, bests))
    return usual, best


def _best_objects(grouped: Mapping[str, Sequence[SearchResult]]) -> list[BestObject]:
    """The best distinct objects of all searches, each with the search that found it first."""
    first: dict[str, tuple[Evaluation, str, SearchResult]] = {}
    times: Counter[str] = Counter()
    for group, results in grouped.items():
        for result in results:
            for record in (one for one in result.records if call_category(one) == "unique"):
                first.setdefault(record.decoded_hash, (record, group, result))
                times[record.decoded_hash] += 1
    best = sorted(first.values(), key=lambda entry: entry[2].objective.sign * entry[0].value)[:TOP_OBJECTS]
    return [_best_object(rank, *entry, times[entry[0].decoded_hash]) for rank, entry in enumerate(best, 1)]


def _best_object(rank: int, record: Evaluation, group: str, result: SearchResult, times: int) -> BestObject:
    z, space = torch.tensor(record.z, dtype=torch.float64), result.objective.space
    return BestObject(
        rank=rank,
        group=group,
        seed=int(result.settings.get("seed", 0)),
        call=int(record.call or 0),
        value=record.value,
        typical=bool(space.typical(z)),
        percentile=float(space.norm_percentile(z, active=True)),
        reencoding=record.reencoding_error,
        z=record.z,
        text=record.decoded,
        times=times,
    )
