"""Training steps: the straightforward way against `lso.vae.training.step`, on images (he2019) and text (he2019-text).

The straightforward way: masked convolutions of full kernels, channels outermost, activations into new memory, all
gradients whether a half steps or not, torch's Adam as it comes, and the loss read each step; of a semi-amortized step
second derivatives by two backward passes.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Literal
from unittest import mock

import torch
from speed.pairs import Row, Skipped, pairs, row, sync_of
from speed.plain import full_kernels
from torch import Tensor
from torch.nn import functional as F

from lso.vae.config.architectures import architecture
from lso.vae.config.methods import Method, parse_method
from lso.vae.config.protocol import Precision, Protocol
from lso.vae.inference import refinement
from lso.vae.inference.posterior import infer
from lso.vae.models.dropout import use_dropout_noise
from lso.vae.models.pixelcnn import PixelCnnBlock, append_maps
from lso.vae.models.vae import VAE, build
from lso.vae.objectives.reencoding import penalize, select_reconstruction
from lso.vae.precision import explain_slowdown, explain_unsupported
from lso.vae.training.cuda_graphs import WARM, Replayed, cuda_graphs
from lso.vae.training.step import BOTH, CompiledLosses, Group, StepInputs, StepNoise, draw_noise, fresh_state

CLIP, RATE, CHECKED = 5.0, 1e-3, WARM + 2  # so that recorded steps are among those compared
TARGETS: dict[tuple[str, Precision], dict[str, float]] = {
    ("vae", "float32"): {"cpu": 1.6, "cuda": 6.0},
    ("vae", "bfloat16"): {"cpu": 3.0, "cuda": 10.0},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of step.

    Args:
        arch: of the networks.
        shape: of a datum.
        batch: data.
        method: as on the command line.
        groups: which halves step; where it is not both, the clip is by their own norm.
        precision: of our layers.
    """

    arch: str
    shape: tuple[int, ...]
    batch: int
    method: str = "vae"
    groups: tuple[Group, ...] = BOTH
    precision: Precision = "float32"

    def title(self) -> str:
        """Its line's first cell."""
        kind = "training step" if self.groups == BOTH else "inner step (encoder only)"
        precision = "" if self.precision == "float32" else ", bf16"
        return f"{kind}, {self.arch}, `{self.method}`, batch {self.batch}{precision}"


IMAGE, TEXT = (1, 28, 28), (80, 20_000)
HE2019 = Case(arch="he2019", shape=IMAGE, batch=50)
CASES = (
    HE2019,
    replace(HE2019, precision="bfloat16"),
    replace(HE2019, groups=("encoder",)),
    replace(HE2019, method="ne-vae-se"),
    Case(arch="he2019-text", shape=TEXT, batch=32),
    Case(arch="he2019-text", shape=TEXT, batch=32, precision="bfloat16"),
    Case(arch="mlp", shape=(1, 8, 8), batch=64),
)
QUICK = (replace(HE2019, arch="he2019-small"), replace(HE2019, arch="he2019-small", precision="bfloat16"))


def rows(device: torch.device, quick: bool) -> Iterator[Row | Skipped]:
    """The table's lines."""
    for case in QUICK if quick else CASES:
        method = parse_method(case.method)
        model = build(architecture(case.arch, 32), method.skip, case.shape).to(device)
        if why := explain_unsupported(case.precision, model, device) or explain_slowdown(case.precision, model, device):
            yield Skipped(work=case.title(), why=why)
            continue
        plain, ours, same, replayed = made(case, model, method, device)
        target = TARGETS.get((case.method, case.precision), {}).get(device.type)
        yield row(
            case.title(),
            "full kernels, eager, a host read each step",
            "lso.vae.training.step" + (", CUDA graph" if device.type == "cuda" else ""),
            pairs(plain, ours, 3 if quick else 5, sync_of(device)),
            equal=same,
            target=target if case.groups == BOTH and case.arch == "he2019" else None,
            note=replayed.sentence,
        )


Step = Callable[[], object]
Way = Literal["eager", "captured", "compiled", "compiled and captured"]  # of ours; captured is for a GPU alone


def made(case: Case, model: VAE, method: Method, device: torch.device) -> tuple[Step, Step, str, Replayed]:
    """The two ways to take a step, how they were found equal, and what says whether ours is replayed."""
    ours, replayed = taken(case, model, method, device, "captured" if device.type == "cuda" else "eager")
    plain = straightforward(case, model, method, device)
    return plain, ours, equal(plain, ours, case, device), replayed


def taken(
    case: Case, model: VAE, method: Method, device: torch.device, way: Way
) -> tuple[Callable[[], Tensor], Replayed]:
    """Ours, from a model's weights on: what takes a step and gives its loss, and what says whether it is replayed."""
    clip: Literal["joint", "stepped"] = "joint" if case.groups == BOTH else "stepped"
    protocol = Protocol(learning_rate=RATE, clip=CLIP, clip_scope=clip, precision=case.precision)
    state = fresh_state(copy.deepcopy(model), method, protocol)
    state.losses = CompiledLosses() if way.startswith("compiled") else None
    replayed = Replayed(state, cuda_graphs if way.endswith("captured") else None)
    knobs = StepInputs(torch.tensor(1.0, device=device), torch.tensor(RATE, device=device))
    x = data(case, device)
    noises = noise_of(x, model, method)
    return lambda: replayed(x, next(noises), knobs, case.groups).loss, replayed


def straightforward(case: Case, model: VAE, method: Method, device: torch.device) -> Callable[[], float]:
    """The plain way, from the same weights on with the same noise, always in float32."""
    plain, x = Plain(model, method, case.groups), data(case, device)
    noises = noise_of(x, model, method)
    return lambda: plain(x, next(noises))


def noise_of(x: Tensor, model: VAE, method: Method) -> Iterator[StepNoise]:
    """That of step 0, 1, ..."""
    shape, pixels = tuple(x.shape), model.kind == "image"
    return (draw_noise(method, model, shape, binarize=pixels, seed=0, step=at, device=x.device) for at in count())


def data(case: Case, device: torch.device) -> Tensor:
    """Random pixels, or tokens beyond the special ones."""
    draws = torch.Generator().manual_seed(0)
    if len(case.shape) == 3:
        return torch.rand(case.batch, *case.shape, generator=draws).to(device)
    return torch.randint(4, case.shape[1], (case.batch, case.shape[0]), generator=draws).to(device)


def equal(theirs: Callable[[], float], ours: Callable[[], Tensor], case: Case, device: torch.device) -> str:
    """Losses of the first steps, each way from its own weights, so that gradients and updates are compared as well."""
    worst, bound = difference(theirs, ours), allowed(case, device)
    assert worst < bound, (worst, bound)
    return f"losses of the first {CHECKED} steps, largest relative difference {worst:.1g}"


def difference(theirs: Callable[[], float], ours: Callable[[], Tensor]) -> float:
    """The largest relative difference of the losses of the first steps; NaN where one is."""
    found = [(theirs(), ours().item()) for _ in range(CHECKED)]
    return max((abs(a - b) / abs(a) for a, b in found), key=lambda gap: (gap != gap, gap))


def allowed(case: Case, device: torch.device) -> float:
    """What losses may differ by: kernels of other shapes sum in other orders."""
    return 1e-2 if case.precision == "bfloat16" else 1e-4 if device.type == "cpu" else 1e-3


class Plain:
    """The straightforward step.

    Args:
        model: whose weights it starts from.
        method: `vae`, `ne-vae-se` or `sa-vae`.
        groups: which halves step, clipped by their own norm.
    """

    def __init__(self, model: VAE, method: Method, groups: tuple[Group, ...]) -> None:
        self.model, self.method = full_kernels(model).to(memory_format=torch.contiguous_format), method  # type: ignore[call-overload]
        for block in self.model.modules():
            if isinstance(block, PixelCnnBlock):
                block.forward = _block.__get__(block)  # type: ignore[method-assign]
        self.stepping = [p for name in groups for p in getattr(self.model, name).parameters()]
        self.optimizer = torch.optim.Adam(self.stepping, lr=RATE)

    def __call__(self, x: Tensor, noise: StepNoise) -> float:
        """One step; its loss is read."""
        twice = mock.patch.object(refinement, "_exact_product", refinement._double_backward_product)
        with use_dropout_noise(self.model, noise.dropout), twice:
            loss = self.loss(x, noise)
            self.model.zero_grad()
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.stepping, CLIP)
        self.optimizer.step()
        return loss.item()

    def loss(self, x: Tensor, noise: StepNoise) -> Tensor:
        """Batch mean of the negative ELBO and the penalty."""
        x = x if noise.binarize is None else (noise.binarize < x).to(x.dtype)
        q = infer(self.method.inference, self.model, x, noise.drawn.get("inference"), 1.0)
        z = q.sample(noise.drawn["posterior"][0])
        likelihood: Any = self.model.decode(z, x)
        loss = q.kl().sum(-1) - likelihood.log_prob(x)
        if self.method.penalty is not None:
            drawn = {stream: values[0] for stream, values in noise.drawn.items()}
            again = self.model.encode(select_reconstruction(self.method.penalty, likelihood, drawn.get("pixels")))
            loss = loss + penalize(self.method.penalty, z, again, drawn.get("reencode"))
        return loss.mean()


def _block(self: PixelCnnBlock, x: Tensor, maps: list[Tensor]) -> Tensor:
    """A residual block as published, each activation in memory of its own."""
    h = F.elu(self.norms[0](self.down(append_maps(x, maps))))
    h = F.elu(self.norms[1](self.masked(h)))
    return F.elu(self.norms[2](self.up(h)) + x)
