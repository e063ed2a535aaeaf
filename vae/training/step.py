"""The training step. Random numbers and settings are passed as tensors on the device, so no step waits for the host."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, compile
from torch._dynamo.exc import TorchDynamoException
from torch.optim import Optimizer

from lso.vae.checkpoint import first_line
from lso.vae.config.methods import Method
from lso.vae.config.protocol import TRAINING_OPTIMIZERS, Precision, Protocol
from lso.vae.data.dataset import to_unit
from lso.vae.distributed import sharded_batch, sum_flat
from lso.vae.inference.posterior import infer
from lso.vae.models.dropout import uniform_shapes, use_dropout_noise
from lso.vae.models.vae import VAE
from lso.vae.objectives.elbo import objective_terms
from lso.vae.objectives.reencoding import penalty_of
from lso.vae.precision import autocast
from lso.vae.utils.random import draw, generator, mix_seed, seed_globally

Group = Literal["encoder", "decoder"]
BOTH: tuple[Group, ...] = ("encoder", "decoder")


class StepNoise(NamedTuple):
    """All random numbers of a step, drawn outside of it for the global batch.

    Args:
        drawn: stream -> ``(count, batch, ...)``, what the method's parts declare (`Method.noise`).
        binarize: uniforms of the shape of the batch; None where pixels are used as they are.
        dropout: uniforms of the model's dropout, see `uniform_shapes`.
    """

    drawn: dict[str, Float[Tensor, "count batch ..."]]
    binarize: Float[Tensor, "batch ..."] | None = None
    dropout: tuple[Tensor, ...] = ()
    global_seed: int | None = None  # of torch's global generators, from which a user's own module may draw

    def of(self, rows: slice) -> "StepNoise":
        """Return the noise of some rows of the batch."""
        return StepNoise(
            {stream: values[:, rows] for stream, values in self.drawn.items()},
            None if self.binarize is None else self.binarize[rows],
            tuple(u[rows] for u in self.dropout),
            self.global_seed,
        )


class StepInputs(NamedTuple):
    """KL weight and learning rate of a step, as 0-d tensors on the device."""

    kl_weight: Float[Tensor, ""]
    learning_rate: Float[Tensor, ""]


class StepMetrics(NamedTuple):
    """Metrics of a step, 0-d tensors on the device: batch means in nats, and the gradient norm before clipping."""

    loss: Tensor
    reconstruction: Tensor
    kl: Tensor
    penalty: Tensor
    gradient_norm: Tensor


@dataclass(slots=True)
class State:
    """Weights and optimizers, which a step changes in place, with the settings of the step.

    Args:
        model: the VAE, in train mode.
        optimizers: group name -> optimizer.
        method: objective, inference, schedule and penalty.
        clip: largest gradient norm; 0 is no clipping.
        joint: whether that norm is over encoder and decoder even if only one of them steps.
        encoder_rate: learning rate of the encoder, as a multiple of that of the step.
        precision: dtype in which the layers compute.
        losses: a faster implementation of `losses`; None uses `losses` itself.
    """

    model: VAE
    optimizers: Mapping[Group, Optimizer]
    method: Method
    clip: float
    joint: bool = True
    encoder_rate: float = 1.0
    precision: Precision = "float32"
    losses: Callable[[VAE, Method, Tensor, "StepNoise", Tensor], "Losses"] | None = None


def fresh_state(model: VAE, method: Method, protocol: Protocol) -> State:
    """Return a training state with fresh optimizers."""
    rate = protocol.encoder_learning_rate / protocol.learning_rate if protocol.encoder_learning_rate else 1.0
    optimizers = fresh_optimizers(model, protocol)
    return State(model, optimizers, method, protocol.clip, protocol.clip_scope == "joint", rate, protocol.precision)


def fresh_optimizers(model: VAE, protocol: Protocol) -> dict[Group, Optimizer]:
    """Return one optimizer for the encoder and one for the decoder, without moments; none for a half without weights.

    The learning rate is a tensor, which each step sets.
    """
    device = next(model.parameters()).device
    rate = torch.tensor(protocol.learning_rate, device=device)
    return {name: _optimizer(protocol, half, rate.clone()) for name, half in model.halves.items() if half}


def _optimizer(protocol: Protocol, weights: list[torch.nn.Parameter], rate: Tensor) -> Optimizer:
    row = TRAINING_OPTIMIZERS[protocol.optimizer]
    graphs = {"capturable": rate.device.type == "cuda"} if row.capturable else {}  # `lso.vae.training.cuda_graphs`
    made: Optimizer = getattr(torch.optim, row.torch_name)(weights, lr=rate, fused=True, **graphs)
    return made


def draw_noise(
    method: Method,
    model: VAE,
    shape: tuple[int, ...],
    *,
    binarize: bool,
    seed: int,
    step: int,
    inner: int = 0,
    device: torch.device,
) -> StepNoise:
    """Draw the noise of one step, which depends on (seed, purpose, step, inner) alone.

    Args:
        method: declares the noise that it needs.
        model: gives the latent size and the shapes of dropout noise.
        shape: ``(batch, ...)`` of the data.
        binarize: whether pixels are drawn anew.
        seed: of the run.
        step: outer step.
        inner: step of the aggressive loop in it, from 1; 0 is the outer step itself.
        device: where to draw.
    """

    def stream(purpose: str) -> torch.Generator:
        return generator(seed, purpose, step, inner, device=device)

    specs = method.noise(model.latent_dim)
    return StepNoise(
        {spec.stream: draw(spec.kind, spec.size(shape), stream(spec.stream)) for spec in specs},
        torch.rand(shape, generator=stream("binarize"), device=device) if binarize else None,
        tuple(
            torch.rand(wanted, generator=stream(f"dropout/{i}"), device=device)
            for i, wanted in enumerate(uniform_shapes(model, shape))
        ),
        mix_seed(seed, "module", step, inner) if model.own else None,
    )


class Losses(NamedTuple):
    """Losses of a batch, 0-d tensors on the device: batch means in nats."""

    loss: Tensor
    reconstruction: Tensor
    kl: Tensor
    penalty: Tensor


def losses(model: VAE, method: Method, x: Shaped[Tensor, "batch ..."], noise: StepNoise, kl_weight: Tensor) -> Losses:
    """Compute the batch mean of objective plus penalty, as a pure function of weights, data, noise and KL weight.

    Args:
        model: the VAE, with its dropout noise set; in train mode its running statistics change.
        method: objective, inference and penalty.
        x: ``(batch, ...)`` pixels, bytes or in [0, 1], or tokens, on the device.
        noise: all randomness of the step.
        kl_weight: 0-d.
    Returns:
        The losses; the first one is differentiable.
    """
    data = to_unit(x)
    if noise.binarize is not None:
        data = (noise.binarize < data).to(data.dtype)
    q = infer(method.inference, model, data, noise.drawn.get("inference"), kl_weight)
    terms = objective_terms(method.objective, model, data, q, noise.drawn["posterior"], kl_weight)
    penalty = torch.zeros_like(terms.loss)
    if method.penalty is not None:
        penalty = penalty_of(method.penalty, model, terms.z, terms.likelihood, noise.drawn)
    loss = (terms.loss + penalty).mean()
    return Losses(loss, terms.reconstruction.mean().detach(), terms.kl.mean().detach(), penalty.mean().detach())


def step(
    state: State, x: Shaped[Tensor, "batch ..."], noise: StepNoise, knobs: StepInputs, groups: tuple[Group, ...] = BOTH
) -> StepMetrics:
    """Take one optimizer step on one batch, in place.

    The loss is that of `losses`. Gradients are clipped by the joint norm of encoder and decoder even if only one steps
    (He et al. 2019, authors' code), or by the norm of those that step. Several processes share the rows of a batch.

    Args:
        state: weights and optimizers.
        x: ``(batch, ...)`` pixels, bytes or in [0, 1], or tokens, on the device: the global batch, in every process.
        noise: all randomness of the step, for the global batch.
        knobs: KL weight and learning rate.
        groups: whether encoder, decoder or both step.
    """
    with sharded_batch(len(x)) as part:
        if part is not None:
            x, noise = x[part.rows], noise.of(part.rows)
        with (
            use_dropout_noise(state.model, noise.dropout),
            seed_globally(noise.global_seed, x.device),
        ):  # covers the backward pass: a refinement runs the decoder again
            with autocast(state.precision, x.device):
                terms = (state.losses or losses)(state.model, state.method, x, noise, knobs.kl_weight)
            if part is not None:
                terms = Losses(*(part.weight * value for value in terms))
            norm = _backward(state, terms, groups)
    update_weights(state, knobs.learning_rate, groups)
    return StepMetrics(*(value.detach() for value in (*terms, norm)))


def update_weights(state: State, rate: Float[Tensor, ""], groups: tuple[Group, ...] = BOTH) -> None:
    """Step the optimizers of the given groups, in place, with the gradients stored at the weights."""
    for name, optimizer in state.optimizers.items():
        if name in groups:
            for group in optimizer.param_groups:
                group["lr"].copy_(rate * (state.encoder_rate if name == "encoder" else 1.0))
            optimizer.step()


def _backward(state: State, terms: Losses, groups: tuple[Group, ...]) -> Tensor:
    """Compute the gradients, sum them and the losses over processes, clip; returns the norm before clipping."""
    counted = [p for name, half in state.model.halves.items() if state.joint or name in groups for p in half]
    state.model.zero_grad(set_to_none=True)
    torch.autograd.backward(terms.loss, inputs=counted)
    gradients = [p.grad for p in counted if p.grad is not None]
    sum_flat([*gradients, *(value.detach() for value in terms)])
    norm = torch.nn.utils.get_total_norm(gradients)
    if state.clip > 0:
        torch.nn.utils.clip_grads_with_norm_(counted, state.clip, norm)
    return norm


class CompiledLosses:
    """`losses` compiled for each batch shape; if compiling fails, plain `losses`, and ``sentence`` says why.

    For images only: sequences have more lengths than torch compiles for. Compiling takes minutes for deep networks. On
    a CPU it saves at most a tenth of a step of `he2019`, so it pays off after some thousand steps (`docs/log.md`).
    """

    def __init__(self) -> None:
        self.sentence = ""
        try:
            self._fused = compile(losses, dynamic=False)
        except RuntimeError as error:  # a Python that torch does not compile for
            self.sentence = f"steps are not compiled: {first_line(error)}"

    def __call__(
        self, model: VAE, method: Method, x: Shaped[Tensor, "batch ..."], noise: StepNoise, w: Tensor
    ) -> Losses:
        """See `losses`."""
        if not self.sentence:
            try:
                return self._fused(model, method, x, noise, w)
            except TorchDynamoException as error:  # no C++ compiler, no Triton, or an unsupported operation
                self.sentence = f"steps are not compiled: {first_line(error)}"
        return losses(model, method, x, noise, w)
