"""The numbers of a search report, against planted answers and closed forms."""

import dataclasses
import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lso.analysis.convergence import finite_median, measure_convergence, start_kinds, steps_to, still_moving
from lso.analysis.latent_dimensions import Dimensions, measure_dimensions
from lso.analysis.plausibility import decoded_scale, distance_from_codes
from lso.analysis.start_sensitivity import count_basins, link_starts, pairwise
from lso.analysis.summary import search_summary, to_json_value
from lso.analysis.verdict import MODEL, describe_inactive
from lso.decoders.decoder import Decoder
from lso.gradient.search import minimize
from lso.objectives.latent_objective import LatentObjective
from lso.results.result import Result
from lso.vae.checkpoint import Codes
from lso.vae.metrics.latent_use import latent_use
from lso.vae.metrics.verdict import Check, conclude, judge
from tests.lso.example_decoders import draws
from tests.lso.searched import ACTIVE, DEAD, SCALES, WEAK, codes, evidence, planted_search, summary


def changed(result: Result, **values: Any) -> Result:
    return dataclasses.replace(result, **values)


def test_planted_dead_and_weak_dimensions_are_named() -> None:
    dims = summary().dimensions
    assert dims.dead == [DEAD] and dims.weak == [WEAK]
    assert dims.active.nonzero().flatten().tolist() == ACTIVE
    sentence = describe_inactive(dims)
    assert f"z{DEAD}" in sentence and f"z{WEAK}" in sentence


def test_starts_in_one_basin_agree_over_active_dimensions_and_not_over_the_others() -> None:
    found = {pairs.name: pairs for pairs in summary().sensitivity.pairs}["same basin"]
    assert found.pairs > 0
    assert found.active < 1e-3
    assert found.other > 1
    assert summary().sensitivity.baseline_other == 4


def test_sensitivity_of_a_dimension_is_the_mean_squared_jacobian_column() -> None:
    result = planted_search(1, 2)
    dims = measure_dimensions(result)
    z = torch.cat([result.z0.flatten(0, 1), result.z.flatten(0, 1)])
    jacobian = torch.func.vmap(torch.func.jacrev(lambda u: result.objective.decoder(u[None])[0].flatten()))(z)
    torch.testing.assert_close(dims.sensitivity, jacobian.square().sum(1).mean(0), rtol=1e-9, atol=0)


def test_a_decoder_of_objects_is_measured_by_redraws() -> None:
    decoder = Decoder(lambda z: [f"{float(row[0]):.1f}" for row in z], latent_dim=2, differentiable=False)
    found = dimensions_of(decoder)
    assert found.dead == [1] and not found.weak


def dimensions_of(decoder: Decoder) -> Dimensions:
    from lso.analysis.latent_dimensions import decoder_sensitivity

    sensitivity, how = decoder_sensitivity(decoder, draws(40, decoder.latent_dim), decoder.differentiable)
    return Dimensions(sensitivity=sensitivity, how=how, moved=torch.zeros(decoder.latent_dim))


def test_steps_to_thresholds_of_an_exponential() -> None:
    steps = torch.arange(0, 101, 10)
    trace = torch.exp(-0.1 * steps.double())[:, None, None]  # from 1 towards 0
    found = steps_to(steps, trace, torch.tensor([[100]]), best=trace[-1, :, 0], drop=1 - trace[-1, :, 0])
    exact = [-10 * math.log(1 - share) for share in (0.5, 0.9, 0.99)]
    assert found[:3].flatten().tolist() == [10 * math.ceil(step / 10 - 1e-9) for step in exact]


def test_thresholds_that_are_never_reached_are_not_numbers() -> None:
    found = measure_convergence(planted_search(1, 2))
    worse = changed(planted_search(1, 2))
    worse.trace.value[:, 0, 1], worse.value[0, 1] = 10.0, 10.0
    assert torch.isfinite(found.steps_to[:2]).all()
    assert torch.isnan(measure_convergence(worse).steps_to[:, 0, 1]).all()


def test_an_element_that_still_gains_is_told_from_one_at_rest() -> None:
    steps = torch.arange(0, 101, 10)
    falling, resting = 100.0 - steps.double(), torch.exp(-steps.double())
    trace = torch.stack([falling, resting], 1)[:, None]  # (k, 1, 2)
    moving = still_moving(steps, trace, torch.tensor([[100, 100]]), trace[0] - trace[-1], torch.tensor([[True, True]]))
    assert moving.tolist() == [[True, False]]


def test_an_element_that_began_near_its_end_is_at_rest() -> None:
    """From the encoder's mean there is little to gain: one in a hundred of that is nothing beside the other starts."""
    found = changed(planted_search(1, 3))
    steps, last = found.trace.steps, int(found.trace.steps[-1])
    found.steps[:] = last
    falling = 10 * torch.exp(-steps / 10.0)
    creeping = 0.02 * (1 - steps / last)  # gains a tenth of next to nothing in its last tenth
    found.trace.value[:, 0] = torch.stack([creeping, falling, falling], 1)
    found.value0[:], found.value[:] = found.trace.value[0], found.trace.value[-1]
    assert not bool(measure_convergence(found).moving.any())
    found.trace.value[:, 0] = torch.stack([creeping, creeping, creeping], 1)  # all of them creep: none has arrived
    found.value0[:], found.value[:] = found.trace.value[0], found.trace.value[-1]
    assert bool(measure_convergence(found).moving.all())


def level_of_model(dims: Dimensions, **known: Any) -> str:
    return judge([MODEL], evidence(dimensions=dims, **known)).level


@pytest.mark.parametrize("dead", [0, 60])
def test_dead_dimensions_are_no_collapse_where_what_is_decoded_varies(dead: int) -> None:
    dims = Dimensions(
        sensitivity=torch.cat([torch.ones(4), torch.zeros(dead)]).double(),
        how="planted",
        moved=torch.zeros(4 + dead).double(),
    )
    assert level_of_model(dims, reaction=0.6) == "fine"
    assert level_of_model(dims, reaction=0.05) == "doubt"
    assert level_of_model(dims) == ("care" if dead else "fine"), "nothing else to judge by"
    assert level_of_model(dims, reaction=0.6, training="Posterior collapse.") == "doubt"


def test_a_decoder_that_ignores_its_codes_is_doubted() -> None:
    dims = Dimensions(sensitivity=torch.zeros(4).double(), how="planted", moved=torch.zeros(4).double())
    assert level_of_model(dims) == "doubt"


@pytest.mark.parametrize("rested", [True, False])
def test_a_search_shorter_than_the_trace_can_tell_is_judged_by_why_it_stopped(rested: bool) -> None:
    trace = torch.tensor([10.0, 1.0, 1.0])[:, None, None]
    moving = still_moving(
        torch.tensor([0, 10, 20]), trace, torch.tensor([[8]]), torch.tensor([[9.0]]), torch.tensor([[rested]])
    )
    assert bool(moving) != rested


def test_starts_are_grouped_by_kind() -> None:
    assert start_kinds(["mean", "prior 1", "prior 2", "zero"]) == {"mean": [0], "prior": [1, 2], "zero": [3]}


def test_single_linkage_joins_a_chain_and_leaves_out_a_stranger() -> None:
    x = torch.tensor([[[0.0], [1.0], [2.0], [9.0]], [[0.0], [0.0], [0.0], [0.0]]], dtype=torch.float64)
    joined = link_starts(pairwise(x), 1.0)
    assert count_basins(joined).tolist() == [2, 1]
    assert joined[0, 0].tolist() == [True, True, True, False]


def test_a_maximized_search_says_the_same_with_the_sign_turned() -> None:
    low, high = measure_convergence(planted_search()), measure_convergence(planted_search(maximize=True))
    torch.testing.assert_close(high.best, -low.best)
    torch.testing.assert_close(high.worst, -low.worst)
    torch.testing.assert_close(high.gap, low.gap)
    assert (high.worst <= high.best).all() and (low.worst >= low.best).all()


def test_best_and_gain_are_those_of_the_result() -> None:
    result = planted_search()
    found = measure_convergence(result)
    assert torch.equal(found.best_start, result.best)
    torch.testing.assert_close(found.drop, finite_median(result.value0, 1) - result.value.min(1).values)


def test_ends_that_are_not_finite_leave_every_number_finite_or_null() -> None:
    result = planted_search()
    result.z[0, 0], result.value[0, 0], result.value[1], result.stopped[0][0] = (
        torch.nan,
        torch.nan,
        torch.nan,
        "not_finite",
    )
    found = search_summary(result, codes=codes())
    text = json.dumps(found.to_json(), allow_nan=False)
    assert found.convergence.failed.sum() == 4
    assert "NaN" not in text and json.loads(text)["convergence"]["best"][1] is None


def test_strict_json_has_six_digits_and_null() -> None:
    assert to_json_value({"a": torch.tensor([1 / 3, math.nan, math.inf]), 2: (True, None, "x")}) == {
        "a": [0.333333, None, None],
        "2": [True, None, "x"],
    }


def test_a_decoder_that_ignores_its_code_is_not_believed() -> None:
    class Deaf(nn.Module):
        latent_dim = 4

        def forward(self, z: Tensor) -> Tensor:
            return 0.5 + 1e-6 * z[:, :1] * torch.ones(1, 9, dtype=z.dtype)

    objective = LatentObjective.reconstruct(Decoder(Deaf()), draws(2, 9))
    found = search_summary(minimize(objective, draws(2, 2, 4), max_steps=5))
    assert found.verdict.level == "doubt" and "do not believe" in found.verdict.sentence.lower()
    json.dumps(found.to_json(), allow_nan=False)


def test_a_decoder_that_is_no_fixed_function_is_not_believed() -> None:
    """Gradients of a noisy or batch-dependent decoder belong to another function than the one reported on."""
    decoder = Decoder(lambda z: z - 0.5 * z.mean(0), latent_dim=4)
    objective = LatentObjective.reconstruct(decoder, draws(2, 4))
    found = search_summary(minimize(objective, draws(2, 2, 4), max_steps=5)).verdict
    assert found.level == "doubt" and "differently alone than in a batch" in found.sentence


def test_one_start_leaves_agreement_unknown() -> None:
    found = search_summary(planted_search(2, 1))
    assert found.verdict.level == "care" and "one start" in found.verdict.sentence
    json.dumps(found.to_json(), allow_nan=False)


def test_a_good_search_is_believed_unless_the_training_collapsed() -> None:
    found = search_summary(planted_search(), codes=codes()).verdict
    assert found.level == "fine", found.sentence
    told = search_summary(planted_search(), codes=codes(), training_verdict="Collapsed, said the training.").verdict
    assert told.training == "Collapsed, said the training."
    assert told.level == "doubt" and "almost nothing (posterior collapse)" in told.sentence


def test_a_search_in_codes_that_carry_little_is_believed_with_care() -> None:
    """100 codes at five places in two dimensions carry log 5 = 1.6 nats, and are no collapse."""
    place = torch.arange(100.0) % 5 - 2
    mean, log_var = torch.zeros(100, len(SCALES)), torch.zeros(100, len(SCALES))
    mean[:, :2], log_var[:, :2] = place[:, None], -8.0
    little = Codes(mean, log_var, torch.ones(len(SCALES)))
    assert not latent_use(little).collapsed and latent_use(little).mutual_information == pytest.approx(1.61, abs=0.02)
    found = search_summary(planted_search(), codes=little).verdict
    model = next(check for check in found.checks if check.name == "model")
    assert model.level == "care" and "carry 1.61 nats" in model.found and found.level != "fine"


@pytest.mark.parametrize(("levels", "expected"), [("", "fine"), ("fine care", "care"), ("care doubt fine", "doubt")])
def test_the_verdict_is_the_worst_check(levels: str, expected: str) -> None:
    checks = [Check(name=level, level=level, found=f"found {level}", rule="") for level in levels.split()]  # type: ignore[arg-type]
    found = conclude(checks)
    assert found.level == expected and found.sentence.endswith(".")
    assert expected == "fine" or f"found {expected}" in found.sentence


def test_codes_far_from_the_prior_are_atypical_and_the_best_typical_is_another_end() -> None:
    result = planted_search()
    won = int(result.best[0])
    result.z[0, won, 0] = 30.0
    found = search_summary(result, codes=codes())
    assert bool(found.best.atypical[0]) and not bool(found.best_typical.atypical[0])
    assert int(found.best_typical_index[1][0]) != won


def test_dead_dimensions_do_not_make_a_code_atypical() -> None:
    result = planted_search()
    result.z[..., DEAD] += 50.0
    found = search_summary(result, codes=codes())
    assert float(found.best.percentile.min()) > 0.999 and not bool(found.best.atypical.any())


def test_distance_from_codes_is_the_norm_for_codes_that_fill_the_prior() -> None:
    mean = draws(20_000, 3)
    z = draws(10, 3, seed=2)
    found = distance_from_codes(z, mean, torch.zeros_like(mean))
    torch.testing.assert_close(found, z.norm(dim=-1), rtol=0.05, atol=0.05)  # 1/sqrt(20,000) = 0.007, times a few


def test_scale_of_decoded_draws_is_the_distance_of_two() -> None:
    x = draws(4000, 5)
    assert decoded_scale(x) == pytest.approx(math.sqrt(2), rel=0.05)
    assert decoded_scale(torch.ones(3, 5)) == 0.0
