"""Searches for given data by gradient, of which it is known whether their result deserves belief.

**The truth of a target.** Its energy at the code that the search found, -log p(x|z) - log p(z) under the model that was
searched, beside two others: the energies that test data of the model have at their best codes, and the least energy of
this target that is known (the code that it was made from, or a long search by another optimizer from other starts).
*Good*: no more than 19 in 20 test data have, and within `NEAR` of the least known, as a share of what prior draws lose
to that. *Bad*: more than any test datum has, or farther than `FAR` from the least known. Of targets decoded from prior
draws the energy at the very code is the model's own as well, and neither is more than that. Why that is right: energies
are what the model itself says of data and code together. A code whose energy is that of the model's own data is an
answer that the model would give; one whose energy no datum of the model has is none, whether because the target is
nothing that the model knows, or the search did not find it, or it went where the prior has no mass. The verdict rests
on none of these numbers: it looks at squared errors, at steps, at starts and at norms.

**The truth of a search.** Believe: at most one target in 20 is bad. Do not: over half are, or the codes of the model
are empty (see `verdict_models`), or the decoder is no function of the code alone, by construction. Between the two
neither: such a search counts as wrong where it is believed without reserve, and its targets count one by one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from verdict_models import (
    NOTHING,
    SOMETHING,
    Facts,
    data_of,
    drawn,
    energies,
    energy_of,
    facts,
    rows,
    trained,
)

import lso
from lso.analysis.summary import SearchSummary, search_summary
from lso.gradient import initial_points as starts
from lso.vae.utils.random import generator

NEAR, FAR = 0.1, 0.25  # shares of what prior draws lose to the best code known: found, not found
SHARE_BAD = (0.05, 0.5)  # of targets: believe, do not believe
LEARNT = (0.5, 0.8)  # of the nats that a trained model gains by its codes: trained too little, trained
COUNT, STARTS = 8, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What is right to say of a case.

    Args:
        says: believe, doubt, or neither.
        why: in words, with the numbers.
        each: of each target good (True), bad (False) or unclear (None).
        numbers: measured for it.
    """

    says: str
    why: str
    each: list[bool | None] = field(default_factory=list)
    numbers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hunt:
    """A search for targets.

    Args:
        model: row of `verdict_models.MODELS`.
        targets: row of `TARGETS`.
        optimizer: of the search.
        loss: of the search.
        prior_weight: of the search.
        lr: learning rate; None is the default.
        steps: at most.
        start: kind of start; the first may be the encoder's mean.
        wrapped: row of `WRAPPERS`; empty for the decoder as it is.
        seed: of targets and starts.
    """

    model: str
    targets: str
    optimizer: str = "adam"
    loss: str = "nll"
    prior_weight: float = 1.0
    lr: float | None = None
    steps: int = 400
    start: str = "mean"
    wrapped: str = ""
    seed: int = 0


# --- targets ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Targets.

    Args:
        x: ``(T, ...)``.
        planted: ``(T, d)`` codes that they were made from, where they were.
        drawn: whether these are draws from the prior.
    """

    x: Tensor
    planted: Tensor | None = None
    drawn: bool = False


def _prior(decoder: lso.Decoder, seed: int, stretch: float = 1.0) -> Tensor:
    z = torch.randn(COUNT, decoder.latent_dim, dtype=torch.float64, generator=generator(seed, "study/planted"))
    return stretch * z


def _means(decoder: lso.Decoder, test: Tensor, seed: int) -> Asked:
    z = _prior(decoder, seed)
    x = decoder.decode(z)
    assert isinstance(x, Tensor)
    return Asked(x=x.detach(), planted=z, drawn=True)


def _draws(decoder: lso.Decoder, test: Tensor, seed: int) -> Asked:
    z = _prior(decoder, seed)
    return Asked(x=drawn(decoder, z, seed), planted=z, drawn=True)


def _far(decoder: lso.Decoder, test: Tensor, seed: int) -> Asked:
    z = _prior(decoder, seed, 5.0)
    return Asked(x=drawn(decoder, z, seed), planted=z)


def _held_out(decoder: lso.Decoder, test: Tensor, seed: int) -> Asked:
    return Asked(x=test[-COUNT * (seed + 1) :][:COUNT])


def _noise(decoder: lso.Decoder, test: Tensor, seed: int) -> Asked:
    stream = generator(seed, "study/noise")
    x = test[:COUNT]
    if not x.is_floating_point():
        words = torch.randint(4, int(test.max()) + 1, x.shape, generator=stream)
        return Asked(x=torch.where(x > 3, words.to(x), x))
    return Asked(x=(torch.rand(x.shape, generator=stream) < x.mean()).float())


def _inverted(decoder: lso.Decoder, test: Tensor, seed: int) -> Asked:
    x = _held_out(decoder, test, seed).x
    if x.is_floating_point():
        return Asked(x=1 - x)
    turned = x.clone()
    for row, length in enumerate((x > 3).sum(1).tolist()):  # the words from last to first
        turned[row, 1 : 1 + length] = x[row, 1 : 1 + length].flip(0)
    return Asked(x=turned)


def _letters(decoder: lso.Decoder, test: Tensor, seed: int) -> Asked:
    from PIL import Image, ImageDraw, ImageFont

    pictures = []
    for letter in "KWMXHARE"[:COUNT]:
        page = Image.new("L", (32, 32))
        ImageDraw.Draw(page).text((16, 16), letter, 255, ImageFont.load_default(30), anchor="mm")
        pictures.append(torch.frombuffer(bytearray(page.resize((8, 8)).tobytes()), dtype=torch.uint8).reshape(1, 8, 8))
    return Asked(x=torch.stack(pictures) / 255)


def _photographs(decoder: lso.Decoder, test: Tensor, seed: int) -> Asked:
    import sklearn
    from PIL import Image

    folder = Path(sklearn.__file__).parent / "datasets" / "images"
    parts = []
    for name in ("china.jpg", "flower.jpg"):
        whole = Image.open(folder / name).convert("L")
        for left in range(0, 400, 100):
            part = whole.crop((left, 60, left + 200, 260)).resize((8, 8))
            parts.append(torch.frombuffer(bytearray(part.tobytes()), dtype=torch.uint8).reshape(1, 8, 8))
    return Asked(x=torch.stack(parts[:COUNT]) / 255)


def _patterns(decoder: lso.Decoder, test: Tensor, seed: int) -> Asked:
    row, column = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    flat = torch.full((8, 8), 0.5)
    made = [
        (row + column) % 2,
        row % 2,
        column % 2,
        flat,
        (row // 2 + column // 2) % 2,
        (row < 4).float(),
        torch.ones(8, 8),
        (column < 4).float(),
    ]
    return Asked(x=torch.stack([part.float() for part in made])[:COUNT, None])


def _among(stranger: str, share: int) -> Callable[[lso.Decoder, Tensor, int], Asked]:
    def make(decoder: lso.Decoder, test: Tensor, seed: int) -> Asked:
        x = _held_out(decoder, test, seed).x.clone()
        x[:share] = TARGETS[stranger](decoder, test, seed).x[:share].to(x)
        return Asked(x=x)

    return make


TARGETS: dict[str, Callable[[lso.Decoder, Tensor, int], Asked]] = {
    "prior-means": _means,
    "prior-draws": _draws,
    "held-out": _held_out,
    "far-codes": _far,
    "noise": _noise,
    "inverted": _inverted,
    "letters": _letters,
    "photographs": _photographs,
    "patterns": _patterns,
    "one-photograph": _among("photographs", 1),
    "two-noisy": _among("noise", 2),
    "half-inverted": _among("inverted", 4),
    "one-pattern": _among("patterns", 1),
}

# --- decoders that are no function of the code, or not of all of it ---------------------------------------------------


class Wrapped(nn.Module):
    """A decoder with something planted in it; gives probabilities.

    Args:
        inner: the model.
        change: of ``(probabilities, codes, calls so far)``.
    """

    def __init__(self, inner: nn.Module, change: "Change") -> None:
        super().__init__()
        self.inner, self.change, self.calls = inner, change, 0
        self.latent_dim = int(inner.latent_dim)  # type: ignore[arg-type]

    def forward(self, z: Tensor) -> Tensor:
        """Decode."""
        self.calls += 1
        return self.change(self.inner.decode(z).mean, z, self.calls).clamp(1e-4, 1 - 1e-4)  # type: ignore[operator]


class Padded(nn.Module):
    """A decoder with planted dead dimensions: it sees the first of its codes' coordinates alone.

    Args:
        inner: the model.
        total: dimensions.
    """

    def __init__(self, inner: nn.Module, total: int) -> None:
        super().__init__()
        self.inner, self.latent_dim = inner, total

    def decode(self, z: Tensor) -> Any:
        """Decode what is not dead."""
        return self.inner.decode(z[:, : self.inner.latent_dim])  # type: ignore[operator, misc]


Change = Callable[[Tensor, Tensor, int], Tensor]


def _noisy(amount: float) -> Change:
    stream = generator(0, "study/noisy")
    return lambda x, z, calls: x + amount * torch.randn(x.shape, generator=stream)


def _dropping(share: float) -> Change:
    return lambda x, z, calls: F.dropout(x, share, training=True) * (1 - share)


def _drifting(amount: float, every: int = 1) -> Change:
    return lambda x, z, calls: x * (1 - min(0.9, amount * (calls // every)))


def _centred(amount: float, least: int = 2) -> Change:
    return lambda x, z, calls: x - amount * (x.mean(0) - 0.3) if len(x) >= least else x


WRAPPERS: dict[str, Callable[[], Change]] = {
    "noise-1%": lambda: _noisy(0.01),
    "noise-10%": lambda: _noisy(0.1),
    "noise-40%": lambda: _noisy(0.4),
    "dropout-10%": lambda: _dropping(0.1),
    "dropout-50%": lambda: _dropping(0.5),
    "drift": lambda: _drifting(0.001),
    "drift-slow": lambda: _drifting(0.1, 100),  # two calls in a row agree: only what was found earlier does not
    "drift-late": lambda: lambda x, z, calls: x if calls < 150 else 0.5 * x,
    "centred": lambda: _centred(0.5),
    "centred-weakly": lambda: _centred(0.05),
    "centred-large-batches": lambda: _centred(0.5, 16),  # as batch statistics that a small batch goes without
    "sorted": lambda: lambda x, z, calls: x[z[:, 0].argsort()],
}


def decoder_of(hunt: Hunt, out: Path) -> lso.Decoder:
    """The decoder that is searched.

    Args:
        hunt: names it.
        out: of the study.
    Returns:
        Frozen.
    """
    model = trained(hunt.model, out).model("cpu")
    if hunt.wrapped.startswith("dead-"):
        return lso.Decoder(Padded(model, int(hunt.wrapped.removeprefix("dead-"))))
    return lso.Decoder(Wrapped(model, WRAPPERS[hunt.wrapped]())) if hunt.wrapped else lso.Decoder(model)


# --- search, truth ----------------------------------------------------------------------------------------------------


def hunted(hunt: Hunt, out: Path) -> tuple[SearchSummary, Truth]:
    """Search, and say what is true of it.

    Args:
        hunt: the case.
        out: of the study.
    Returns:
        All numbers of its report, with the verdict; and the truth.
    """
    run, known = trained(hunt.model, out), facts(hunt.model, out)
    plain, decoder = lso.Decoder(run.model("cpu")), decoder_of(hunt, out)
    asked = TARGETS[hunt.targets](plain, rows(data_of(run.path).test, 150), hunt.seed)
    loss = "bce" if hunt.loss == "nll" and isinstance(decoder.model, Wrapped) else hunt.loss
    objective = lso.LatentObjective.reconstruct(decoder, asked.x, loss, prior_weight=hunt.prior_weight)
    first = [hunt.start] if hunt.start != "mean" or decoder.has_encoder else []
    kinds = (first + ["prior"] * STARTS)[:STARTS]
    z0 = starts.make_starts(
        kinds, objective.space, decoder, objective.targets, STARTS, generator(hunt.seed, "study/starts")
    )
    result = lso.minimize(
        objective,
        z0,
        hunt.optimizer,
        lr=hunt.lr,
        max_steps=hunt.steps,
        start_names=starts.name_starts(kinds, STARTS),
    )
    ours = not hunt.wrapped
    summary = search_summary(result, codes=run.codes() if ours else None, training_verdict=run.verdict if ours else "")
    if isinstance(decoder.model, Wrapped):
        return summary, Truth(says="doubt", why=f"by construction: the decode is not the code's alone ({hunt.wrapped})")
    found = result.z[torch.arange(len(result.z)), summary.convergence.best_start].double()
    return summary, truth_of(plain, asked, found[:, : plain.latent_dim], known, hunt, out)


def truth_of(decoder: lso.Decoder, asked: Asked, found: Tensor, known: Facts, hunt: Hunt, out: Path) -> Truth:
    """What is true of a search.

    Args:
        decoder: of the model itself; what was planted in it changes no decode.
        asked: the targets.
        found: ``(T, d)`` best codes.
        known: of the model.
        hunt: the case.
        out: of the study.
    Returns:
        The truth.
    """
    least, _ = energies(decoder, asked.x, asked.planted)
    energy = energy_of(decoder, asked.x, found[:, None])[:, 0]
    draws = torch.randn(len(found), 64, decoder.latent_dim, dtype=torch.float64, generator=generator(0, "study/blind"))
    blind = energy_of(decoder, asked.x, draws).median(1).values
    least = torch.minimum(least, energy)
    usual, greatest = torch.tensor(known.usual), torch.tensor(known.greatest)
    if asked.drawn and asked.planted is not None:  # what the model draws is its own, whatever test data have
        own = energy_of(decoder, asked.x, asked.planted[:, None])[:, 0]
        usual, greatest = torch.maximum(own, usual), torch.maximum(own, greatest)
    away = (energy - least) / (blind - least).clamp_min(1e-9)
    good = (energy <= usual) & (away <= NEAR)
    bad = (energy > greatest) | (away > FAR) | ~torch.isfinite(energy)
    each = [True if fine else False if wrong else None for fine, wrong in zip(good, bad, strict=True)]
    numbers = {
        "bad": float(bad.double().mean()),
        "energy": float(energy.median()),
        "least": float(least.median()),
        "away": float(away.median()),
        "greatest": known.greatest,
        "apart": known.apart,
    }
    says = "believe" if numbers["bad"] <= SHARE_BAD[0] else "doubt" if numbers["bad"] > SHARE_BAD[1] else "neither"
    why = f"{int(bad.sum())} of {len(bad)} targets are bad: median energy {numbers['energy']:.1f} nats, least known "
    why += f"{numbers['least']:.1f}, test data up to {known.greatest:.1f}"
    truth = Truth(says=says, why=why, each=each, numbers=numbers)
    return with_model(truth, known, hunt, out)


def with_model(truth: Truth, known: Facts, hunt: Hunt, out: Path) -> Truth:
    """The truth of a search in view of its model: no search is to be believed where codes are empty, or hardly learnt.

    Args:
        truth: of the targets.
        known: of the model.
        hunt: the case.
        out: of the study.
    Returns:
        The truth of both.
    """
    reference = facts(f"{hunt.model.split('-')[0]}-good", out)
    learnt = known.gained / reference.gained
    numbers = truth.numbers | {"learnt": learnt}
    if known.apart < NOTHING:
        why = f"codes are empty: they tell data apart by {known.apart:.2f} nats"
        return replace(truth, says="doubt", why=why, numbers=numbers, each=[])
    if learnt < LEARNT[0] and hunt.targets == "held-out":
        why = f"codes gain {100 * learnt:.0f} % of the nats that the trained network's do"
        return replace(truth, says="doubt", why=why, numbers=numbers, each=[])
    unsure = known.apart < SOMETHING or (learnt < LEARNT[1] and hunt.targets == "held-out")
    return replace(truth, says="neither" if unsure and truth.says == "believe" else truth.says, numbers=numbers)


# --- cases ------------------------------------------------------------------------------------------------------------


def _name_hunt(hunt: Hunt) -> str:
    parts = [hunt.model, hunt.wrapped, hunt.targets, hunt.optimizer, hunt.loss if hunt.loss != "nll" else ""]
    parts += [f"prior-{hunt.prior_weight:g}" if hunt.prior_weight != 1 else ""]
    parts += [f"lr-{hunt.lr:g}" if hunt.lr is not None else "", f"steps-{hunt.steps}" if hunt.steps != 400 else ""]
    parts += [hunt.start if hunt.start != "mean" else "", f"seed-{hunt.seed}" if hunt.seed else ""]
    return "targets/" + "/".join(filter(None, parts))


def _hunts_over_models() -> Iterator[Hunt]:
    for model in ("mlp-good", "mlp-se", "conv-good"):
        for targets in TARGETS:
            yield Hunt(model=model, targets=targets)
    for model in ("mlp-narrow", "mlp-weighted", "mlp-skip"):
        for targets in ("prior-draws", "prior-means", "held-out", "noise", "inverted", "photographs"):
            yield Hunt(model=model, targets=targets)
    for targets in ("prior-draws", "held-out", "noise", "inverted"):
        yield Hunt(model="text-good", targets=targets)
        yield Hunt(model="pixel-good", targets=targets, steps=150)
    for model in ("text-skip", "text-light"):
        for targets in ("prior-draws", "held-out", "noise", "inverted", "two-noisy", "half-inverted"):
            yield Hunt(model=model, targets=targets)
        yield Hunt(model=model, targets="prior-draws", steps=2, start="prior")
        yield Hunt(model=model, targets="prior-draws", lr=50.0, steps=150, start="prior")
    for model in ("mlp-collapsed", "mlp-collapsed-wide", "conv-collapsed", "text-collapsed"):
        for targets in ("prior-draws", "held-out"):
            yield Hunt(model=model, targets=targets)
    for model in ("mlp-brief", "conv-brief", "text-brief", "mlp-brief-2", "mlp-brief-4"):
        yield Hunt(model=model, targets="held-out")
    for model in ("pixel-collapsed", "pixel-brief"):
        yield Hunt(model=model, targets="held-out", steps=100)


def _hunts_over_settings() -> Iterator[Hunt]:
    for optimizer in ("lbfgs", "sgd"):
        for targets in ("prior-draws", "prior-means", "held-out", "noise", "photographs"):
            yield Hunt(model="mlp-good", targets=targets, optimizer=optimizer, seed=1)
    for model in ("mlp-good", "mlp-se", "conv-good"):
        for steps in (2, 5, 15):
            yield Hunt(model=model, targets="prior-draws", steps=steps, start="prior")
        for lr in (1.0, 5.0, 50.0):
            yield Hunt(model=model, targets="prior-draws", lr=lr, steps=150, start="prior")
        yield Hunt(model=model, targets="prior-draws", lr=1e-4, steps=150, start="prior")
        yield Hunt(model=model, targets="prior-draws", optimizer="sgd", lr=2.0, steps=150, start="prior")
        yield Hunt(model=model, targets="prior-draws", loss="sse", prior_weight=0.0)
        yield Hunt(model=model, targets="noise", loss="sse", prior_weight=0.0)
    for dead in (12, 32, 64, 160):
        for targets in ("prior-draws", "noise"):
            yield Hunt(model="mlp-good", wrapped=f"dead-{dead}", targets=targets)
    for wrapped in WRAPPERS:
        yield Hunt(model="mlp-good", wrapped=wrapped, targets="prior-draws", steps=200)
    for wrapped in ("noise-10%", "drift-slow", "drift-late", "centred", "centred-large-batches"):
        yield Hunt(model="conv-good", wrapped=wrapped, targets="held-out", steps=200)


HUNTS = {_name_hunt(hunt): hunt for hunt in (*_hunts_over_models(), *_hunts_over_settings())}
