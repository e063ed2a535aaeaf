"""Files of weights and codes: safetensors for the model, plain tensors for resuming, npz for codes; none runs code."""

import dataclasses
import io
import json
import pickle
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import tree_map_only

from lso.vae.config.architectures import Architecture
from lso.vae.config.components import DiagonalPosterior, StandardPrior, component_card, read_component
from lso.vae.errors import LsoError, RunError
from lso.vae.models.vae import VAE
from lso.vae.utils.files import replace_file
from lso.vae.vocabulary import Vocabulary

# What zipfile, and torch or numpy by way of it, may raise of a file that is damaged.
DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)
WRONG = (TypeError, ValueError, LookupError, AttributeError, RecursionError, OverflowError)  # values of another kind


@dataclass(frozen=True, slots=True, eq=False)
class Codes:
    """Posteriors over the validation split, so that a search needs no dataset.

    Args:
        mean: ``(n, latent)`` posterior means.
        log_var: ``(n, latent)`` posterior log-variances.
        decoder_use: ``(latent,)`` nats, or None while the run is not finished.
    """

    mean: Float[Tensor, "n latent"]
    log_var: Float[Tensor, "n latent"]
    decoder_use: Float[Tensor, " latent"] | None = None


def save_model(model: VAE, weights: dict[str, Tensor], path: Path) -> None:
    """Write weights with what is needed to rebuild the model."""
    replace_file(path, pack_model(model, weights))


def pack_model(model: VAE, weights: dict[str, Tensor]) -> bytes:
    """The content of a model's file, see `save_model`."""
    from safetensors.torch import save

    card = {"architecture": dataclasses.asdict(model.architecture), "skip": model.skip, "shape": list(model.shape)}
    card["inference"] = component_card(model.inference)
    card |= {"posterior": component_card(model.posterior), "prior": component_card(model.prior_family)}
    if model.vocabulary is not None:
        card["vocabulary"] = {"tokens": model.vocabulary.tokens, "joiner": model.vocabulary.joiner}
    flat = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    content: bytes = save(flat, metadata={"lso": json.dumps(card)})
    return content


def read_model(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a model's file holds, nothing of it built yet.

    Args:
        path: the safetensors file.
    Returns:
        What is needed to rebuild the model, see `save_model`, and its weights, on the CPU.
    Raises:
        RunError: if the file is missing, truncated, of another program, or not safetensors; it is never unpickled.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise RunError(
            f"{path} does not exist", "The run was cut before its first evaluation; continue it: lso train --resume"
        )
    try:
        with safe_open(path, framework="pt") as file:
            card = json.loads((file.metadata() or {})["lso"])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
        if not isinstance(card, dict):
            raise ValueError(f"expected named values, got a {type(card).__name__}")
    except (SafetensorError, OSError, *WRONG, RuntimeError) as error:
        raise _no_model(path, error) from None
    return card, weights


def load_model(path: Path, device: str = "cpu") -> VAE:
    """Read a model, in eval mode."""
    card, weights = read_model(path)
    try:
        inference = read_component(card["inference"])
        # Models written before there was a choice have the plain ones.
        posterior = read_component(card["posterior"]) if "posterior" in card else DiagonalPosterior()
        prior = read_component(card["prior"]) if "prior" in card else StandardPrior()
        known = card.get("vocabulary")
        vocabulary = Vocabulary(tuple(known["tokens"]), known["joiner"]) if known else None
        architecture = Architecture(**card["architecture"])
        model = VAE(
            architecture,
            bool(card["skip"]),
            tuple(card["shape"]),
            inference,
            vocabulary,
            posterior=posterior,
            prior=prior,
        )
        model.load_state_dict(weights)
        if spoiled := [name for name, value in weights.items() if not bool(value.isfinite().all())]:
            raise ValueError(f"{spoiled[0]} has values that are not finite")
    except (*WRONG, RuntimeError, LsoError) as error:
        raise _no_model(path, error) from None
    return model.to(device).eval()


def _no_model(path: Path, error: Exception) -> RunError:
    what = f"{path} is not a model that lso wrote ({first_line(error)})"
    return RunError(what, "It is truncated or of another kind; train again or give another run.")


def first_line(error: Exception) -> str:
    """What an error of another library says, on one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:100]


def save_last(values: dict[str, Any], path: Path) -> None:
    """Write the state for resuming."""
    buffer = io.BytesIO()
    torch.save(tree_map_only(Tensor, _own, values), buffer)
    replace_file(path, buffer.getvalue())


def _own(value: Tensor) -> Tensor:
    """A tensor that holds its own numbers only: of a view all that it is a view of would be written."""
    return value.clone() if value.untyped_storage().nbytes() > value.nbytes else value


def load_last(
    path: Path, device: torch.device | str, what: str = "a checkpoint", remedy: str = "train again"
) -> dict[str, Any]:
    """Read the state for resuming, or other named tensors that `torch.save` wrote."""
    try:
        content = path.read_bytes()
        if not content.startswith(b"PK"):  # a bare pickle, of which torch would warn before it refuses it
            raise ValueError("not a file that torch.save wrote")
        with zipfile.ZipFile(io.BytesIO(content)) as parts:  # torch compares no checksums
            if broken := parts.testzip():
                raise ValueError(f"bad checksum of {broken}")
        values = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
        if not isinstance(values, dict):
            raise ValueError(f"expected named values, got a {type(values).__name__}")
    except (pickle.UnpicklingError, EOFError, OSError, *WRONG, *DAMAGED_ZIP) as error:
        why = first_line(error)
        raise RunError(
            f"{path} cannot be read as {what} ({why})",
            f"It is damaged or not ours, and was not executed; {remedy}.",
        ) from None
    return values


def pack_codes(codes: Codes) -> bytes:
    """The content of a file of codes."""
    arrays = {"mean": codes.mean, "log_var": codes.log_var}
    if codes.decoder_use is not None:
        arrays["decoder_use"] = codes.decoder_use
    buffer = io.BytesIO()
    np.savez(buffer, **{name: value.detach().cpu().numpy() for name, value in arrays.items()})  # type: ignore[arg-type]
    return buffer.getvalue()


def load_codes(path: Path) -> Codes:
    """Read codes."""
    try:
        # From memory, as numpy leaves a file open that it cannot read.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            found = {name: torch.from_numpy(file[name]) for name in ("mean", "log_var", "decoder_use") if name in file}
        codes = Codes(**found)
        _require_codes(codes)
    except (EOFError, OSError, *WRONG, *DAMAGED_ZIP) as error:
        raise RunError(f"cannot read {path}: {first_line(error)}", "The file is damaged; train again.") from None
    return codes


def _require_codes(codes: Codes) -> None:
    parts = [codes.mean, codes.log_var, *([] if codes.decoder_use is None else [codes.decoder_use])]
    shape = codes.mean.shape
    if len(shape) != 2 or codes.log_var.shape != shape or (len(parts) > 2 and parts[2].shape != shape[1:]):
        raise ValueError("expected means and log-variances of one shape (n, latent)")
    if not all(part.is_floating_point() and bool(part.isfinite().all()) for part in parts):
        raise ValueError("not all of its numbers are finite")
