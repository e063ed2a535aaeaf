"""Files of weights and codes: safetensors for models, torch's format for resuming, npz for codes.

Reading one never runs code: nothing is unpickled but plain tensors and values.
"""

import dataclasses
import io
import json
import pickle
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from lso.vae.config.architectures import Architecture
from lso.vae.config.components import DiagonalPosterior, StandardPrior, component_card, read_component
from lso.vae.distributions.gaussian import DiagonalGaussian
from lso.vae.errors import LsoError, RunError, UsageError
from lso.vae.models.user_module import ModuleDecoder, fingerprint, is_same_module, make_module
from lso.vae.models.vae import VAE
from lso.vae.utils.files import replace_file
from lso.vae.utils.trust import Trust
from lso.vae.utils.user_module import find_source, is_user_module
from lso.vae.vocabulary import Vocabulary

# What zipfile, and torch or numpy through it, may raise for a damaged file.
DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)
# What reading a file may raise that holds other values than expected.
INVALID_VALUES = (TypeError, ValueError, LookupError, AttributeError, RecursionError, OverflowError)


@dataclass(frozen=True, slots=True, eq=False)
class Codes:
    """The posteriors of the validation split, kept with a run so that a search needs no dataset."""

    mean: Float[Tensor, "n latent"]
    log_var: Float[Tensor, "n latent"]
    # Nats that the decoder takes from each dimension; None while the run is not finished.
    decoder_use: Float[Tensor, " latent"] | None = None


def as_codes(codes: object) -> Codes | None:
    """The posteriors of some data in the form that a run keeps, so that decoders of other origin can have them, too."""
    if codes is None or isinstance(codes, Codes):
        return codes
    if not isinstance(codes, DiagonalGaussian):
        raise UsageError(
            f"expected posteriors as codes, got {type(codes).__name__}",
            "Give run.codes(), or lso.DiagonalGaussian(mean, log_var) of your encoder.",
        )
    return Codes(mean=codes.mean.detach().cpu(), log_var=codes.log_var.detach().cpu())


def save_model(model: VAE, weights: dict[str, Tensor], path: Path) -> None:
    """Write weights together with what is needed to rebuild their model."""
    replace_file(path, pack_model(model, weights))


def pack_model(model: VAE, weights: dict[str, Tensor]) -> bytes:
    """The bytes of a model's file, see `save_model`."""
    from safetensors.torch import save

    card = {"architecture": dataclasses.asdict(model.architecture), "skip": model.skip, "shape": list(model.shape)}
    card["inference"] = component_card(model.inference)
    card |= {"posterior": component_card(model.posterior), "prior": component_card(model.prior_family)}
    if model.vocabulary is not None:
        card["vocabulary"] = {"tokens": model.vocabulary.tokens, "joiner": model.vocabulary.joiner}
    if isinstance(model.decoder, ModuleDecoder):
        card["fingerprint"] = fingerprint(model.decoder, weights)
    flat = _without_sharing({name: value.detach().cpu().contiguous() for name, value in weights.items()})
    content: bytes = save(flat, metadata={"lso": json.dumps(card)})
    return content


def _without_sharing(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights, with copies of those that share their numbers with others (tied weights), as safetensors asks."""
    seen: set[int] = set()
    for name, value in weights.items():
        weights[name] = value.clone() if value.data_ptr() in seen else value
        seen.add(value.data_ptr())
    return weights


def read_model(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The metadata and the weights (on the CPU) in a model's safetensors file, without building the model.

    A file that is missing, truncated or not written by lso raises a `RunError`.
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
    except (SafetensorError, OSError, *INVALID_VALUES, RuntimeError) as error:
        raise _model_error(path, error) from None
    return card, weights


def load_model(path: Path, device: str = "cpu", *, trust: Trust = False) -> VAE:
    """Read a model from its file, in eval mode.

    Where its networks are a module of the user's own, the module is the one that this process was given for its name
    (`lso.vae.utils.user_module.remember`), else its code is imported, if that is trusted.
    """
    card, weights = read_model(path)
    try:
        architecture = Architecture(**card["architecture"])
        module = _make_user_module(path, architecture, tuple(card["shape"]), trust)
        inference = read_component(card["inference"])
        # A model written before posterior and prior could be chosen has the standard ones.
        posterior = read_component(card["posterior"]) if "posterior" in card else DiagonalPosterior()
        prior = read_component(card["prior"]) if "prior" in card else StandardPrior()
        known = card.get("vocabulary")
        vocabulary = Vocabulary(tuple(known["tokens"]), known["joiner"]) if known else None
        model = VAE(
            architecture,
            bool(card["skip"]),
            tuple(card["shape"]),
            inference,
            vocabulary,
            posterior=posterior,
            prior=prior,
            module=module,
        )
        if module is not None:
            _require_layout(model.state_dict(), weights, architecture.name, str(path))
        model.load_state_dict(weights)
        if non_finite := [name for name, value in weights.items() if not bool(value.isfinite().all())]:
            raise ValueError(f"{non_finite[0]} has values that are not finite")
        if isinstance(model.decoder, ModuleDecoder):
            _require_fingerprint(model.decoder, card["fingerprint"], weights, path)
    except _OtherModule as error:
        raise UsageError(*error.args) from error.__cause__
    except (*INVALID_VALUES, RuntimeError, LsoError) as error:
        raise _model_error(path, error) from None
    return model.to(device).eval()


class _OtherModule(Exception):
    """The user's module is at fault and not the file: message and hint."""


def _make_user_module(path: Path, architecture: Architecture, shape: tuple[int, ...], trust: Trust) -> nn.Module | None:
    """The module of the user's own that the architecture names; None where it is one of this library."""
    if not is_user_module(architecture.name):
        return None
    try:
        return make_module(find_source(architecture.name, trust), architecture, shape)
    except UsageError as error:
        raise _OtherModule(f"{path}: {error.message}", error.hint) from error


def _require_layout(own: Mapping[str, Tensor], weights: Mapping[str, Tensor], name: str, where: str) -> None:
    """Refuse a module of the user's own whose weights have other names or shapes than those that were stored."""
    lacking = [key for key in weights if key not in own]
    further = [key for key in own if key not in weights]
    other = [key for key in own if key in weights and own[key].shape != weights[key].shape]
    if not (lacking or further or other):
        return
    strip = "decoder.module."
    words = [
        *(f"{key.removeprefix(strip)} is missing" for key in lacking),
        *(f"{key.removeprefix(strip)} is new" for key in further),
        *(f"{key.removeprefix(strip)} is {tuple(own[key].shape)} and was {tuple(weights[key].shape)}" for key in other),
    ]
    more = f" and {len(words) - 1} more" if len(words) > 1 else ""
    raise _OtherModule(
        f"{name} has other weights than those of {where}: {words[0]}{more}",
        "Give the module as it was trained, with the same arguments: model=... in lso.load or lso.resume.",
    )


def _require_fingerprint(decoder: ModuleDecoder, before: Any, weights: Mapping[str, Tensor], path: Path) -> None:
    """Refuse a module with the stored weights that computes something else than the one that was trained."""
    now = fingerprint(decoder, weights)
    if not is_same_module([float(value) for value in before], now):
        raise _OtherModule(
            f"{type(decoder.module).__name__} with the weights of {path} computes something else than in training",
            "Its code or its arguments have changed; give the module as it was: model=... in lso.load or lso.resume.",
        )


def _model_error(path: Path, error: Exception) -> RunError:
    message = f"{path} is not a model that lso wrote ({first_line(error)})"
    return RunError(message, "It is truncated or of another kind; train again or give another run.")


def first_line(error: Exception) -> str:
    """The first line of another library's error message, shortened."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:100]


def save_last(values: dict[str, Any], path: Path) -> None:
    """Write the state from which a training is resumed."""
    buffer = io.BytesIO()
    torch.save(tree_map_only(Tensor, _without_storage_of_others, values), buffer)
    replace_file(path, buffer.getvalue())


def _without_storage_of_others(value: Tensor) -> Tensor:
    """The tensor, copied if it is a view: `torch.save` writes the whole storage behind a view."""
    return value.clone() if value.untyped_storage().nbytes() > value.nbytes else value


def load_last(
    path: Path, device: torch.device | str, what: str = "a checkpoint", remedy: str = "train again"
) -> dict[str, Any]:
    """Read named tensors that `torch.save` wrote, such as the state from which a training is resumed.

    ``what`` and ``remedy`` are words for the error: what the file should be, and what to do.
    """
    try:
        content = path.read_bytes()
        if not content.startswith(b"PK"):  # not a zip file: torch would warn of a bare pickle before refusing it
            raise ValueError("not a file that torch.save wrote")
        with zipfile.ZipFile(io.BytesIO(content)) as parts:  # torch itself compares no checksums
            if broken := parts.testzip():
                raise ValueError(f"bad checksum of {broken}")
        values = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
        if not isinstance(values, dict):
            raise ValueError(f"expected named values, got a {type(values).__name__}")
    except (pickle.UnpicklingError, EOFError, OSError, *INVALID_VALUES, *DAMAGED_ZIP) as error:
        why = first_line(error)
        raise RunError(
            f"{path} cannot be read as {what} ({why})",
            f"It is damaged or not written by lso, and nothing in it was executed; {remedy}.",
        ) from None
    return values


def pack_codes(codes: Codes) -> bytes:
    """The bytes of a file of codes, as `load_codes` reads them."""
    arrays = {"mean": codes.mean, "log_var": codes.log_var}
    if codes.decoder_use is not None:
        arrays["decoder_use"] = codes.decoder_use
    buffer = io.BytesIO()
    np.savez(buffer, **{name: value.detach().cpu().numpy() for name, value in arrays.items()})  # type: ignore[arg-type]
    return buffer.getvalue()


def load_codes(path: Path) -> Codes:
    """Read codes from an npz file."""
    try:
        # From memory, as numpy leaves a file open that it cannot read.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in ("mean", "log_var", "decoder_use") if name in file}
        codes = Codes(**arrays)
        _require_codes(codes)
    except (EOFError, OSError, *INVALID_VALUES, *DAMAGED_ZIP) as error:
        raise RunError(f"cannot read {path}: {first_line(error)}", "The file is damaged; train again.") from None
    return codes


def pack_examples(images: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of a file of example images, as `load_examples` reads them."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **images)  # type: ignore[arg-type]
    return buffer.getvalue()


def load_examples(path: Path) -> dict[str, np.ndarray]:
    """Read example images from an npz file: bytes ``(..., C, H, W)`` by name, and indices ``dims``."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            images = {name: file[name] for name in file}
        for name, found in images.items():
            if found.ndim != 1 if name == "dims" else found.dtype != np.uint8 or found.ndim not in (4, 5):
                raise ValueError(f"{name} is no stack of images of bytes")
    except (EOFError, OSError, *INVALID_VALUES, *DAMAGED_ZIP) as error:
        raise RunError(f"cannot read {path}: {first_line(error)}", "Delete it; a report is made without it.") from None
    return images


def _require_codes(codes: Codes) -> None:
    parts = [codes.mean, codes.log_var, *([] if codes.decoder_use is None else [codes.decoder_use])]
    shape = codes.mean.shape
    if len(shape) != 2 or codes.log_var.shape != shape or (len(parts) > 2 and parts[2].shape != shape[1:]):
        raise ValueError("expected means and log-variances of one shape (n, latent)")
    if not all(part.is_floating_point() and bool(part.isfinite().all()) for part in parts):
        raise ValueError("not all of its numbers are finite")
