"""TuRBO-1 as its paper has it, on the unit cube and bare of our spaces, records and guards: to calibrate bounds by.

Matern-5/2 process with a length scale for each input within [0.005, 4] on all data since the last restart, Sobol
design of 2 d points, Thompson sampling over min(100 d, 2000) candidates, success by 1e-3 |best|.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lso._botorch import importing_botorch
from lso.black_box.bayesopt.surrogates import isolated_botorch, standardize
from lso.vae.utils.random import mix_seed


def bare_turbo(value: Callable[[Tensor], Tensor], dim: int, calls: int, batch: int, seed: int) -> float:
    """Least value found.

    Args:
        value: of codes in [-3, 3]^d, to be minimized.
        dim: d.
        calls: budget.
        batch: points an iteration.
        seed: of everything random.
    """
    patience, best = math.ceil(max(4.0, dim) / batch), math.inf
    used, round_ = 0, 0
    with isolated_botorch(mix_seed(seed, "bare turbo")):
        while used < calls:
            x = torch.quasirandom.SobolEngine(dim, scramble=True, seed=1000 * seed + round_).draw(2 * dim).double()
            y = -value(x * 6 - 3)
            used, round_, length, won, lost = used + len(x), round_ + 1, 0.8, 0, 0
            while used < calls and length >= 0.5**7:
                new = _batch(x, y, length, batch)
                gain = -value(new * 6 - 3)
                better = bool(gain.max() > y.max() + 1e-3 * y.max().abs())
                won, lost = (won + 1, 0) if better else (0, lost + 1)
                if won == 3:
                    length, won = min(2 * length, 1.6), 0
                elif lost == patience:
                    length, lost = length / 2, 0
                x, y, used = torch.cat([x, new]), torch.cat([y, gain]), used + batch
            best = min(best, float(-y.max()))
    return best


def _batch(x: Tensor, y: Tensor, length: float, batch: int) -> Tensor:
    with importing_botorch():
        from botorch.fit import fit_gpytorch_mll
        from botorch.generation import MaxPosteriorSampling
        from botorch.models import SingleTaskGP
        from gpytorch.constraints import Interval
        from gpytorch.kernels import MaternKernel, ScaleKernel
        from gpytorch.mlls import ExactMarginalLogLikelihood

    d = x.shape[1]
    kernel = ScaleKernel(MaternKernel(nu=2.5, ard_num_dims=d, lengthscale_constraint=Interval(0.005, 4.0)))
    model = SingleTaskGP(x, standardize(y)[0].unsqueeze(-1), covar_module=kernel, outcome_transform=None)
    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model), optimizer_kwargs={"options": {"maxiter": 50}})
    weights = kernel.base_kernel.lengthscale.detach().squeeze(0)
    weights = weights / weights.log().mean().exp()
    center = x[y.argmax()]
    lower, upper = ((center + sign * weights * length / 2).clamp(0, 1) for sign in (-1, 1))
    m = min(100 * d, 2000)
    candidates = lower + (upper - lower) * torch.rand(m, d, dtype=torch.float64)
    moved = torch.rand(m, d) <= min(20 / d, 1.0)
    moved[torch.arange(m), torch.randint(d, (m,))] |= ~moved.any(1)
    candidates = torch.where(moved, candidates, center)
    with torch.no_grad():
        picked: Tensor = MaxPosteriorSampling(model, replacement=False)(candidates, num_samples=batch)
    return picked
