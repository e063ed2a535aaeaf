"""A loop of your own: ask and tell, and BoTorch's own functions on an objective."""

import torch
from botorch.acquisition import LogExpectedImprovement
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.transforms import Normalize, Standardize
from botorch.optim import optimize_acqf
from gpytorch.mlls import ExactMarginalLogLikelihood

import lso

torch.manual_seed(0)  # for BoTorch's own draws

# --8<-- [start:objective]
run = lso.train("ne-vae-se", task="digits", epochs=15, latent_dim=4, out="runs/digits")
decoder = lso.Decoder(lso.load(run).double())  # BoTorch computes in double
space = lso.LatentSpace(decoder.latent_dim, codes=run.codes())


def upper_ink(images):
    """Ink in the upper half minus ink in the lower half, ``(n, 1, 8, 8)`` to ``(n,)``."""
    return images[:, 0, :4].sum(dim=(1, 2)) - images[:, 0, 4:].sum(dim=(1, 2))


problem = lso.LatentObjective(decoder, upper_ink, space=space, maximize=True)
print(problem, problem.dim, tuple(problem.bounds.shape))
# --8<-- [end:objective]

# --8<-- [start:ask_tell]
optimizer = lso.make_optimizer("gp", space, seed=0, maximize=True)
for _ in range(6):
    z = optimizer.ask(4)  # (4, d), double
    optimizer.tell(z, problem(z))
code, value = optimizer.best(typical=True)
print(f"ask and tell: best {value:.3f} after {len(optimizer.history().gain)} values")
# --8<-- [end:ask_tell]

# --8<-- [start:botorch]
X = space.sample(10, kind="sobol", generator=torch.Generator().manual_seed(0)).double()
Y = problem(X).unsqueeze(-1)
for _ in range(8):
    model = SingleTaskGP(X, Y, input_transform=Normalize(X.shape[-1]), outcome_transform=Standardize(1))
    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    acquisition = LogExpectedImprovement(model, best_f=Y.max())
    candidate, _ = optimize_acqf(acquisition, bounds=problem.bounds, q=1, num_restarts=4, raw_samples=32)
    X, Y = torch.cat([X, candidate]), torch.cat([Y, problem(candidate).unsqueeze(-1)])
typical = problem.is_feasible(X)
print(f"BoTorch: best {Y.max():.3f}, best typical {Y[typical].max():.3f}; {int(typical.sum())} of {len(X)} typical")
# --8<-- [end:botorch]

# --8<-- [start:direct]
candidate, value = optimize_acqf(problem.acquisition(), bounds=problem.bounds, q=1, num_restarts=4, raw_samples=32)
print(f"optimize_acqf on the objective itself: {float(value):.3f}")
# --8<-- [end:direct]
