from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from lso.decoders.decoder import Decoder
from lso.gradient.elementwise import resolve_torch_optimizer
from lso.gradient.search import minimize
from lso.objectives.latent_objective import LatentObjective
from lso.optimizers import COUPLING_OPTIMIZERS, GRADIENT_OPTIMIZERS
from lso.vae.errors import LsoError, ShapeError, UsageError
from tests.lso.example_decoders import SHIPPED, Planted, draws, planted, reconstruction, shipped

ELEMENTWISE = ["adam", "sgd", "adamw", "adamax", "nadam", "radam", "rmsprop", "rprop", "adagrad", "adadelta", "asgd"]
ALL = [*ELEMENTWISE, "lbfgs"]


class Teller:
    """A callback that remembers what it heard and stops the search at a given poll."""

    def __init__(self, stop_at: int | None = None, interrupt: bool = False) -> None:
        self.heard: list[tuple[int, int, float]] = []
        self.stop_at, self.interrupt = stop_at, interrupt

    def step(self, done: int, total: int, best: float) -> None:
        self.heard.append((done, total, best))

    def stop(self) -> str | None:
        if self.stop_at is None or len(self.heard) <= self.stop_at:
            return None
        if self.interrupt:
            raise KeyboardInterrupt
        return "time is up"


# --- it searches ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", list(GRADIENT_OPTIMIZERS))
def test_targets_that_the_decoder_can_make_are_found(optimizer: str) -> None:
    objective = reconstruction(3)
    lr = 0.1 if optimizer == "sgd" else None
    result = minimize(objective, 0.3 * draws(3, 4, 4), optimizer, lr=lr, tol=1e-8, max_steps=3000)
    assert result.status == "converged" and float(result.best_value.max()) < 1e-6
    torch.testing.assert_close(result.best_z, draws(3, 4, seed=7), rtol=0, atol=1e-3)


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("optimizer", ALL)
def test_the_sense_of_the_objective_is_followed(optimizer: str, maximize: bool) -> None:
    def score(x: Tensor) -> Tensor:
        return torch.tanh(x).flatten(1).sum(1)

    objective = LatentObjective(planted(), score, maximize=maximize)
    result = minimize(objective, draws(6, 4), optimizer, max_steps=40)
    gain = (result.value - result.value0) * (1 if maximize else -1)
    assert result.z.shape == (1, 6, 4) and bool((gain > 0).all())
    torch.testing.assert_close(result.value[0], objective(result.z[0]), rtol=1e-12, atol=0)  # of batches of other sizes
    best = int(result.best[0])
    assert float(result.best_value) == float((result.value.max if maximize else result.value.min)()) and best >= 0


@pytest.mark.parametrize("optimizer", ALL)
def test_an_elements_answer_does_not_depend_on_the_others(optimizer: str) -> None:
    objective, z0 = reconstruction(3), 0.5 * draws(3, 4, 4)
    # Not longer: past 150 steps Adadelta's path is chaotic here, 1e-15 in the start becomes 1e-3, in a batch or alone.
    options: dict[str, Any] = {"tol": 1e-2, "max_steps": 120}
    batch = minimize(objective, z0, optimizer, **options)
    for t, s in [(0, 0), (1, 3), (2, 1)]:
        alone = minimize(objective.take([(t, s)]), z0[t, s], optimizer, **options)
        torch.testing.assert_close(alone.z[0, 0], batch.z[t, s], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(alone.value[0, 0], batch.value[t, s], rtol=1e-10, atol=1e-10)
        assert alone.stopped[0][0] == batch.stopped[t][s]
        # L-BFGS is at the last bit of the loss after some 15 iterations; rounding decides whether there is one more.
        assert optimizer == "lbfgs" or int(alone.steps) == int(batch.steps[t, s])


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize(("name", "skip", "likelihood"), SHIPPED)
def test_weights_and_buffers_are_unchanged_after_a_search(
    name: str, skip: bool, likelihood: str, optimizer: str
) -> None:
    decoder = Decoder(shipped(name, skip, likelihood))
    before = decoder.weights_hash()
    objective = LatentObjective.reconstruct(decoder, torch.ones(2, 1, 8, 8))
    result = minimize(objective, draws(2, 2, 3), optimizer, max_steps=5)
    assert decoder.weights_hash() == before == result.weights_hash


def test_a_decoder_that_changes_under_the_search_is_told() -> None:
    module = Planted([1.0] * 3)

    def drift(z: Tensor) -> Tensor:
        module.scales += 1e-9
        return module.decode(z)

    objective = LatentObjective(Decoder(module, decode=drift), lambda x: x.flatten(1).sum(1))
    with pytest.raises(LsoError, match="changed after it was frozen"):
        minimize(objective, draws(2, 3), max_steps=2)


# --- it stops ---------------------------------------------------------------------------------------------------------


def plain_adam(objective: LatentObjective, z0: Tensor, tol: float, window: int, max_steps: int) -> tuple[Tensor, int]:
    """One element, written out: the rule of the docstring of `minimize`."""
    z = z0.clone().requires_grad_()
    optimizer = torch.optim.Adam([z], lr=0.05)
    losses: list[float] = []
    for step in range(max_steps + 1):
        loss = objective(z)
        losses.append(float(loss.detach()))
        changes = [abs(b - a) for a, b in pairwise(losses)][-window:]
        if (len(changes) == window and sum(changes) / window <= tol) or step == max_steps:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return z.detach(), step


@pytest.mark.parametrize(("tol", "window", "max_steps"), [(1e-3, 20, 1000), (1e-2, 7, 1000), (1e-9, 20, 33)])
def test_elements_are_frozen_exactly_where_the_rule_stops_them(tol: float, window: int, max_steps: int) -> None:
    objective, z0 = reconstruction(2), draws(2, 5, 4)
    result = minimize(objective, z0, tol=tol, window=window, max_steps=max_steps)
    for t in range(2):
        for s in range(5):
            z, step = plain_adam(objective.take([t]), z0[t, s], tol, window, max_steps)
            assert int(result.steps[t, s]) == step
            torch.testing.assert_close(result.z[t, s], z, rtol=1e-10, atol=1e-10)


def test_tolerance_zero_means_exactly_unchanged() -> None:
    def flat_far_out(x: Tensor) -> Tensor:
        return x.flatten(1).square().sum(1).clamp_max(1.0)

    objective = LatentObjective(planted(), flat_far_out)
    z0 = torch.stack([torch.full((4,), 9.0), torch.full((4,), 0.1)]).double()
    result = minimize(objective, z0, "sgd", tol=0, window=20, max_steps=50)
    assert result.steps.tolist() == [[20, 50]] and result.stopped == [["tolerance", "max_steps"]]
    assert torch.equal(result.z[0, 0], z0[0]) and result.status == "mixed"


def test_lbfgs_stops_by_the_same_rule_on_its_iterations() -> None:
    result = minimize(reconstruction(2), draws(2, 3, 4), "lbfgs", tol=1e3, window=4)
    assert result.steps.tolist() == [[4] * 3] * 2 and result.status == "converged"
    limited = minimize(reconstruction(2), draws(2, 3, 4), "lbfgs", tol=0, max_steps=3)
    assert limited.steps.tolist() == [[3] * 3] * 2 and limited.status == "max_steps"


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "lbfgs"])
def test_an_element_that_meets_a_hole_stops_there_and_the_others_go_on(optimizer: str) -> None:
    def holed(x: Tensor) -> Tensor:
        total = x.flatten(1).sum(1)
        return torch.where(total < 0.5, torch.log(total - 1e3), total.square())

    decoder = Decoder(lambda z: z * torch.tensor([1.0, 0.0], dtype=z.dtype), latent_dim=2)
    objective = LatentObjective(decoder, holed)
    z0 = torch.tensor([[0.0, 0.0], [1.5, 0.0], [3.0, 0.0]], dtype=torch.float64)
    result = minimize(objective, z0, optimizer, max_steps=400)
    assert result.stopped[0][0] == "not_finite" and bool(result.value[0, 0].isnan())
    assert torch.equal(result.z[0, 0], z0[0]) and int(result.steps[0, 0]) == 0
    ends = result.z[0, 1:, 0]
    assert bool((ends >= 0.5).all()) and bool((ends < z0[1:, 0]).all()) and bool(result.value[0, 1:].isfinite().all())
    torch.testing.assert_close(objective(result.z[0, 1:]), result.value[0, 1:])
    assert result.counters["failed"] >= 1 and result.counters["invalid"] == 1
    assert [record.valid for record in result.evaluations()] == [False, True, True]


def test_a_search_that_is_all_holes_has_failed() -> None:
    objective = LatentObjective(planted(), lambda x: torch.log(-(x.flatten(1).square().sum(1)) - 1))
    result = minimize(objective, draws(3, 4))
    assert result.status == "failed" and result.best.tolist() == [-1] and result.best_typical.tolist() == [-1]


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.parametrize("interrupt", [False, True])
def test_a_stopped_search_returns_what_it_has(optimizer: str, interrupt: bool) -> None:
    callback = Teller(stop_at=1, interrupt=interrupt)
    objective = reconstruction(2)
    result = minimize(objective, draws(2, 3, 4), optimizer, tol=0, max_steps=500, callback=callback)
    assert result.status == "stopped" and ("interrupted" if interrupt else "time is up") in result.sentence
    assert "stopped" in result.stopped[0] and 0 < int(result.steps.max()) < 100
    torch.testing.assert_close(objective(result.z), result.value)
    assert bool((result.value <= result.value0).all()) and len(result.evaluations()) == 6


def test_a_watch_hears_steps_and_the_best_value_of_the_users() -> None:
    callback = Teller()
    objective = LatentObjective(planted(), lambda x: -x.flatten(1).square().sum(1), maximize=True)
    result = minimize(objective, draws(3, 4), max_steps=50, tol=0, callback=callback)
    assert all(0 < record.seconds <= result.seconds for record in result.evaluations())
    assert [(done, total) for done, total, _ in callback.heard] == [(0, 50), (20, 50), (40, 50), (50, 50)]
    assert callback.heard[-1][2] == pytest.approx(float(result.best_value))


# --- the trace and the records ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_the_trace_starts_at_the_start_and_holds_finished_elements(optimizer: str) -> None:
    result = minimize(reconstruction(2), draws(2, 5, 4), optimizer, trace_every=7, tol=1e-3)
    steps, value = result.trace.steps, result.trace.value
    assert value.shape == (len(steps), 2, 5) and steps[:3].tolist() == [0, 7, 14]
    assert int(steps[-1]) >= int(result.steps.max())
    assert torch.equal(value[0], result.value0) and torch.equal(value[-1], result.value)
    for row, step in zip(value, steps, strict=True):
        done = result.steps <= step
        assert torch.equal(row[done], result.value[done])


def test_every_element_leaves_one_evaluation() -> None:
    decoder = Decoder(shipped("mlp", False, "bernoulli"))
    objective = LatentObjective.reconstruct(decoder, torch.ones(2, 1, 8, 8))
    z0 = torch.cat([draws(2, 2, 3), draws(2, 2, 3)[:, :1]], 1)  # the third start repeats the first
    records = minimize(objective, z0, max_steps=30).evaluations()
    assert [(r.target, r.start) for r in records] == [(t, s) for t in range(2) for s in range(3)]
    assert [r.duplicate_of for r in records if r.start == 2] == [0, 3]
    for record in records:
        z = torch.tensor([record.z], dtype=torch.float64)
        means = decoder.code_means(decoder(z))
        assert means is not None
        assert record.reencoding_error == pytest.approx(float((z - means).square().mean()), rel=1e-4)
        assert record.norm_percentile == pytest.approx(float(objective.space.norm_percentile(z)))


def test_counters_add_up() -> None:
    result = minimize(reconstruction(2), draws(2, 3, 4), tol=0, max_steps=30)
    assert result.counters["calls"] == 6 * 31 and result.counters["timed_out"] == 0
    assert result.counters["unique"] + result.counters["duplicate"] == 6


def test_best_typical_leaves_the_atypical_out() -> None:
    objective = LatentObjective(planted(), lambda x: x.flatten(1).square().sum(1), maximize=True)
    result = minimize(objective, torch.stack([draws(4), 50 * draws(4)]), max_steps=1, tol=0)
    assert result.best.tolist() == [1] and result.best_typical.tolist() == [0]


# --- bounds, options, shapes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_codes_stay_in_the_box_that_was_asked_for(optimizer: str) -> None:
    objective, box = reconstruction(3), torch.tensor([[-0.2] * 4, [0.2] * 4], dtype=torch.float64)
    result = minimize(objective, draws(3, 3, 4), optimizer, bounds=box)
    assert bool((result.z.abs() <= 0.2 + 1e-12).all()) and bool((result.z.abs() == 0.2).any())


def test_a_strict_objective_is_searched_inside_its_bounds() -> None:
    score: Callable[[Tensor], Tensor] = lambda x: x.flatten(1).sum(1)  # noqa: E731
    for optimizer in ("adam", "lbfgs"):
        result = minimize(LatentObjective(planted(), score, strict=True), draws(3, 4), optimizer, lr=None)
        assert float(result.z.abs().max()) <= 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_results_keep_the_starts_dtype(dtype: torch.dtype, optimizer: str) -> None:
    result = minimize(reconstruction(2), draws(2, 3, 4, dtype=dtype), optimizer, max_steps=5)
    assert result.z.dtype == result.value.dtype == result.trace.value.dtype == dtype


def test_learning_rates_and_options_reach_the_optimizer() -> None:
    assert minimize(reconstruction(1), draws(4), max_steps=1).settings["lr"] == 0.05
    assert minimize(reconstruction(1), draws(4), "sgd", max_steps=1).settings["momentum"] == 0.9
    settings = minimize(
        reconstruction(1), draws(4), torch.optim.RMSprop, lr=0.2, options={"alpha": 0.5}, max_steps=1
    ).settings
    assert settings["lr"] == 0.2 and settings["alpha"] == 0.5


def test_chunks_give_the_result_of_the_whole() -> None:
    targets = planted()(draws(3, 4, seed=7))
    small, whole = (
        minimize(LatentObjective.reconstruct(planted(batch_size=size), targets), draws(3, 3, 4)) for size in (2, None)
    )
    torch.testing.assert_close(small.z, whole.z, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [(2, 4), (3, 2, 5), (2, 0, 4)])
def test_starts_that_do_not_fit_are_told(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"expected starts \(3, starts, 4\)"):
        minimize(reconstruction(3), torch.zeros(*shape))


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_what_is_not_differentiable_is_refused_by_name() -> None:
    on_objects = LatentObjective(planted(), lambda objects: [0.0] * len(objects), on="objects")
    rounded = LatentObjective(Decoder(lambda z: z.round(), latent_dim=4, differentiable=False), lambda x: x.sum(1))
    cut = LatentObjective(planted(), lambda x: x.detach().flatten(1).sum(1))
    for optimizer in GRADIENT_OPTIMIZERS:
        with pytest.raises(
            UsageError, match=rf"{optimizer} cannot optimize objective 'lambda \(tests.*\)': its score works on objects"
        ):
            minimize(on_objects, draws(2, 4), optimizer)
        with pytest.raises(UsageError, match="declared not differentiable\nUse a black-box optimizer"):
            minimize(rounded, draws(2, 4), optimizer)
        with pytest.raises(UsageError, match="no gradient back to z"):
            minimize(cut, draws(2, 4), optimizer)


@pytest.mark.parametrize("name", ["LBFGS", "Muon", "Adafactor", "SparseAdam"])
def test_coupling_optimizers_are_refused_by_name(name: str) -> None:
    with pytest.raises(
        UsageError, match=f"{name} cannot run a batch of independent searches: {COUPLING_OPTIMIZERS[name.lower()]}"
    ):
        minimize(reconstruction(1), draws(2, 4), getattr(torch.optim, name))


class Clipped(torch.optim.SGD):
    """SGD on gradients scaled to a common norm: harmless to look at, coupled in fact."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        torch.nn.utils.clip_grad_norm_(self.param_groups[0]["params"], 1.0)
        super().step(closure)


class Rowwise(torch.optim.SGD):
    """SGD on gradients scaled row by row: couples the coordinates of an element, not the elements."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for z in self.param_groups[0]["params"]:
            z.grad /= z.grad.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        super().step(closure)


class Remembering(torch.optim.SGD):
    """Keeps state outside `state`, so that rows cannot be dropped from it."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        (z,) = self.param_groups[0]["params"]
        z.grad = self.old = z.grad + 0.5 * getattr(self, "old", torch.zeros_like(z))[: len(z)]
        super().step(closure)


class Jittering(torch.optim.SGD):
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step(closure)
        for z in self.param_groups[0]["params"]:
            z.data += 1e-3 * torch.randn_like(z)


@pytest.mark.parametrize("kind", [Clipped, Jittering])
def test_an_unknown_class_that_couples_elements_is_found_out(kind: type[torch.optim.Optimizer]) -> None:
    with pytest.raises(
        UsageError, match=f"{kind.__name__} cannot run a batch .* changed with the gradients of the others"
    ):
        resolve_torch_optimizer(kind, 0.1, {})


def test_an_unknown_class_that_treats_rows_apart_is_taken() -> None:
    assert resolve_torch_optimizer(Rowwise, 0.1, {})[0] == "Rowwise"
    result = minimize(reconstruction(2), draws(2, 3, 4), Rowwise, lr=0.02, max_steps=100)
    assert bool((result.value < result.value0).all())


@pytest.mark.parametrize(
    ("optimizer", "options", "text"),
    [
        ("adm", {}, "unknown optimizer 'adm'\nDid you mean 'adam'"),
        ("adam", {"lr": -1.0}, "Adam cannot be run on codes: Invalid learning rate"),
        ("adam", {"options": {"maximize": True}}, "maximize=True to the objective"),
        ("adam", {"options": {"speed": 3}}, "unexpected keyword argument 'speed'"),
        ("lbfgs", {"lr": 0.1}, "lbfgs has no learning rate"),
        ("lbfgs", {"options": {"speed": 3}}, "lbfgs has no option speed"),
        ("adam", {"tol": -1.0}, "expected tol >= 0"),
        ("adam", {"max_steps": 0}, "max_steps >= 1"),
        ("adam", {"trace_every": 0}, "trace_every >= 1"),
        ("adam", {"start_names": ["a"]}, "expected 2 start names, got 1"),
    ],
)
def test_wrong_settings_are_told(optimizer: str, options: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        minimize(reconstruction(1), draws(2, 4), optimizer, **options)


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", ["adam", "sgd", "lbfgs"])
def test_a_search_on_the_gpu_ends_where_that_on_the_cpu_does(optimizer: str) -> None:
    z0, found = 0.3 * draws(3, 4, 4), []
    for device in ("cpu", "cuda"):
        decoder = Decoder(Planted([1.0] * 4).to(device))
        objective = LatentObjective.reconstruct(decoder, decoder(draws(3, 4, seed=7)))
        found.append(minimize(objective, z0, optimizer, tol=1e-6))
    assert found[1].z.device.type == "cpu" and found[0].status == found[1].status
    torch.testing.assert_close(found[1].z, found[0].z, rtol=0, atol=1e-3)


# --- planted dimensions (acceptance 6) --------------------------------------------------------------------------------

PLANTED = (1.0, 1.0, 0.8, 0.9, 1e-3, 1e-3, 0.0, 0.0)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs", "sgd"])
def test_starts_that_found_one_solution_agree_on_active_dimensions_only(optimizer: str) -> None:
    objective = reconstruction(4, *PLANTED)
    z0 = torch.stack([0.4 * draws(4, 8, seed=1), 0.4 * draws(4, 8, seed=2)], 1)
    z0[:, :, 4:] *= 2.5  # prior draws in the planted dimensions
    lr = 0.1 if optimizer == "sgd" else None
    result = minimize(objective, z0, optimizer, lr=lr, tol=1e-7, max_steps=4000)
    assert float(result.value.max()) < 1e-4  # both found it
    square = (result.z[:, 0] - result.z[:, 1]).square()
    assert float(square[:, :4].sum(1).max()) < 1e-3
    if optimizer != "lbfgs":  # whose curvature estimate reaches even a slope 1e-6 of the others
        assert float(square[:, 4:6].sum(1).min()) > 1e-3
    assert float(square[:, 6:].sum(1).min()) > 1e-3
    assert torch.equal(result.z[..., 6:], z0[..., 6:])  # no gradient, no step
