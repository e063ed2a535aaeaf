"""The monitored validation loss, by which the best epoch is selected."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lso.vae.config.components import Elbo, FreeBits, NoiseSpec
from lso.vae.config.methods import Method
from lso.vae.config.training import TrainConfig
from lso.vae.data.dataset import Data, split_passes
from lso.vae.distributions.families import take_rows
from lso.vae.metrics.passes import draw_code_noise, draw_declared, eval_mode, pass_size, to_model_input
from lso.vae.models.vae import VAE
from lso.vae.objectives.elbo import counted_kl, objective_terms
from lso.vae.objectives.reencoding import penalty_of
from lso.vae.protocols import Posterior

# Noise streams of a step -> the names under which metrics draw them: that of the re-encoding error, and one kept from
# earlier versions so that seeds give the same values.
PURPOSES = {"reencode": "reencoding", "pixels": "watched/shown"}


def monitored_value(
    config: TrainConfig, model: VAE, x: Data, q: Posterior, values: Mapping[str, float | int]
) -> float | None:
    """Return the validation loss that `Protocol.monitor` names, in nats per datum; None if the last epoch is kept.

    ``q`` and ``values`` are the posteriors and the row of `lso.vae.metrics.evaluation.validate`.
    """
    rule = config.protocol.monitor
    if rule == "last":
        return None
    if rule == "elbo":
        return float(values["neg_elbo"])
    if rule == "objective":
        return float(values["reconstruction"] + config.method.schedule.end * values["kl"])
    return full_loss(config.method, model, x, q, float(values["reconstruction"]), config.seed)


@torch.no_grad()
def full_loss(method: Method, model: VAE, x: Data, q: Posterior, reconstruction: float, seed: int) -> float:
    """Return the training loss of a method at its final KL weight, with its penalty, as a mean over a split.

    Without penalty and importance weights it is computed from the reconstruction loss and the posteriors. Else the
    split is decoded once more for each sample, and with a penalty encoded once more. Free bits treat it as one batch.

    Args:
        method: objective, KL schedule and penalty.
        model: the VAE; left in the mode it was found in.
        x: the split.
        q: ``(n, latent)`` its posteriors.
        reconstruction: of `lso.vae.metrics.evaluation.validate` at this seed, whose codes these are.
        seed: of all draws; the same seed at every epoch makes epochs comparable.
    Returns:
        Nats per datum, plus, with a re-encoding penalty, a squared re-encoding error that is dimensionless.
    """
    objective = method.objective
    follows = isinstance(objective, Elbo | FreeBits)
    parts = _sums(method, model, x, q, seed) / len(x) if method.penalty or not follows else torch.zeros(2)
    bound, penalty = parts.tolist()
    if isinstance(objective, Elbo | FreeBits):
        z = q.sample(draw_code_noise(model, x, seed, "posterior"))  # the codes of the row
        kl = q.kl(model.prior, z).double()
        bound = reconstruction + method.schedule.end * counted_kl(objective, kl).mean().item()
    return float(bound + penalty)


def _sums(method: Method, model: VAE, x: Data, q: Posterior, seed: int) -> Tensor:
    """Return objective and penalty, each summed over the data."""
    count, penalty = method.objective.samples, method.penalty
    names = ["posterior", *(f"watched/{i}" for i in range(1, count))]  # the first code is that of the row
    first = torch.stack([draw_code_noise(model, x, seed, name) for name in names])  # (K, n, width)
    specs = penalty.noise(model.posterior.code_noise(model.latent_dim)) if penalty else ()
    noise = {
        spec.stream: draw_declared(model, x, seed, PURPOSES.get(spec.stream, f"watched/{spec.stream}"), spec)
        for spec in specs
    }
    weight = q.mean.new_tensor(method.schedule.end)
    total = torch.zeros(2, dtype=torch.float64, device=q.mean.device)
    with eval_mode(model):
        for rows in split_passes(x, max(1, pass_size(model) // count)):
            data = to_model_input(model, x, rows)
            terms = objective_terms(method.objective, model, data, take_rows(q, rows), first[:, rows], weight)
            total[0] += terms.loss.double().sum()
            if penalty:
                drawn = {spec.stream: _for_pass(spec, noise[spec.stream][:, rows], data) for spec in specs}
                total[1] += penalty_of(penalty, model, terms.z, terms.likelihood, drawn).double().sum()
    return total


def _for_pass(spec: NoiseSpec, values: Tensor, data: Tensor) -> Tensor:
    """Cut noise of the data's shape to the length of the sequences in a pass, and move it to their device."""
    return (values[:, :, : data.shape[1]] if spec.width is None else values).to(data.device)
