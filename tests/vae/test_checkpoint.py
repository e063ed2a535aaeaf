"""Files of weights and codes: round trips, truncation, and pickles that are never executed."""

import io
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from lso.vae import checkpoint
from lso.vae.checkpoint import Codes
from lso.vae.config.architectures import architecture
from lso.vae.errors import RunError
from lso.vae.models.vae import VAE, build

Load = Callable[[Path], Any]
LOADERS: dict[str, Load] = {
    "model.safetensors": checkpoint.load_model,
    "last.pt": lambda path: checkpoint.load_last(path, "cpu"),
    "codes.npz": checkpoint.load_codes,
}
loaders = pytest.mark.parametrize("name", LOADERS)


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def model() -> VAE:
    return build(architecture("mlp", latent_dim=3, width=8), True, (1, 8, 8))


def write(folder: Path) -> None:
    made = model()
    checkpoint.save_model(made, made.state_dict(), folder / "model.safetensors")
    checkpoint.save_last(
        {"model": made.state_dict(), "position": {"step": 3, "best": float("inf")}}, folder / "last.pt"
    )
    (folder / "codes.npz").write_bytes(checkpoint.pack_codes(Codes(torch.rand(5, 3), torch.rand(5, 3), torch.rand(3))))


def test_codes_survive_the_disk(tmp_path: Path) -> None:
    for use in (None, torch.rand(3).double()):
        codes = Codes(torch.rand(5, 3), torch.rand(5, 3), use)
        (tmp_path / "codes.npz").write_bytes(checkpoint.pack_codes(codes))
        again = checkpoint.load_codes(tmp_path / "codes.npz")
        assert torch.equal(again.mean, codes.mean) and torch.equal(again.log_var, codes.log_var)
        assert again.decoder_use is None if use is None else torch.equal(again.decoder_use, use)  # type: ignore[arg-type]


def test_resume_state_survives_the_disk(tmp_path: Path) -> None:
    write(tmp_path)
    values = checkpoint.load_last(tmp_path / "last.pt", "cpu")
    assert values["position"] == {"step": 3, "best": float("inf")}
    assert all(torch.equal(value, values["model"][key]) for key, value in model().state_dict().items())


def test_model_is_saved_with_the_weights_given(tmp_path: Path) -> None:
    made = model()
    zeros = {name: torch.zeros_like(value) for name, value in made.state_dict().items()}
    checkpoint.save_model(made, zeros, tmp_path / "m")
    assert all(not value.any() for value in checkpoint.load_model(tmp_path / "m").state_dict().values())
    assert os.listdir(tmp_path) == ["m"]


def test_a_model_of_an_earlier_version_keeps_its_networks(tmp_path: Path) -> None:
    """Its card names no edition, and its decoder has no map of z at the output."""
    made = build(architecture("dieng2019-masked", 2, width=4, edition=0), True, (1, 8, 8)).eval()
    with safe_open(_saved(made, tmp_path / "new"), framework="pt") as file:
        card = json.loads(file.metadata()["lso"])
    assert card["architecture"].pop("edition") == 0
    weights = {name: value.contiguous() for name, value in made.state_dict().items()}
    save_file(weights, tmp_path / "old", metadata={"lso": json.dumps(card)})
    again, z, x = checkpoint.load_model(tmp_path / "old"), torch.ones(1, 2), torch.zeros(1, 1, 8, 8)
    assert again.architecture == made.architecture
    assert torch.equal(again.decode(z, x).mean, made.decode(z, x).mean)


def _saved(made: VAE, path: Path) -> Path:
    checkpoint.save_model(made, made.state_dict(), path)
    return path


@loaders
@pytest.mark.parametrize("wrap", ["pickle", "torch", "numpy"])
def test_a_pickle_is_refused_and_never_executed(name: str, wrap: str, tmp_path: Path) -> None:
    trap, path, buffer = tmp_path / "executed", tmp_path / name, io.BytesIO()
    if wrap == "pickle":
        pickle.dump(Payload(trap), buffer)
    elif wrap == "torch":
        torch.save({"model": Payload(trap)}, buffer)
    else:
        np.savez(buffer, mean=np.array([Payload(trap)], dtype=object), log_var=np.zeros((1, 1)))
    path.write_bytes(buffer.getvalue())
    with pytest.raises(RunError) as caught:
        LOADERS[name](path)
    assert str(path) in caught.value.message and str(caught.value).count("\n") == 1
    assert not trap.exists()


@loaders
def test_a_truncated_file_is_refused_wherever_it_was_cut(name: str, tmp_path: Path) -> None:
    write(tmp_path)
    whole = (tmp_path / name).read_bytes()
    for size in [0, 1, 7, 8, 9, 100, *range(200, len(whole), len(whole) // 17), len(whole) - 1]:
        (tmp_path / name).write_bytes(whole[:size])
        with pytest.raises(RunError) as caught:
            LOADERS[name](tmp_path / name)
        assert str(tmp_path / name) in caught.value.message and str(caught.value).count("\n") == 1


@loaders
@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\n" * 40, b"hello\n", b"PK\x03\x04" + bytes(60)], ids=["png", "text", "zip"]
)
def test_a_file_of_another_kind_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RunError, match=name):
        LOADERS[name](tmp_path / name)


def test_weights_of_another_program_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save

    cards = [None, {}, {"lso": "no json"}, {"lso": "[]"}, {"lso": '{"architecture": {"name": "mlp", "depth": 3}}'}]
    cards.append({"lso": '{"architecture": {"name": "mlp"}, "skip": false, "shape": [1, 8, 8]}'})  # other weights
    for card in cards:
        (tmp_path / "m").write_bytes(save({"weight": torch.zeros(2)}, metadata=card))
        with pytest.raises(RunError, match="is not a model that lso wrote"):
            checkpoint.load_model(tmp_path / "m")


@loaders
def test_a_missing_file_is_one_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=name):
        LOADERS[name](tmp_path / name)


def test_codes_without_log_variances_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "codes.npz", mean=np.zeros((2, 2)))
    with pytest.raises(RunError, match=r"codes.npz"):
        checkpoint.load_codes(tmp_path / "codes.npz")
