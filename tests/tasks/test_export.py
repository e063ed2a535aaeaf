"""Exported models: what other programs read is what the model computes, for every architecture."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lso
from lso.tasks import export as exporting
from lso.tasks.export import ExportFormat, export
from lso.vae.config.architectures import ARCHITECTURES, architecture
from lso.vae.config.methods import parse_method
from lso.vae.errors import LsoError, UsageError
from lso.vae.models.vae import VAE, build
from lso.vae.utils.integrity import digest

ROOT = Path(__file__).resolve().parents[2]
SHAPES = {"image": (1, 8, 8), "sequence": (9, 14)}
# Small enough to be traced in seconds; other sizes are other numbers in the same graph.
WIDTH = 16


def small(arch: str = "mlp", method: str = "vae", likelihood: str | None = None, latent_dim: int = 4) -> VAE:
    chosen, kind = parse_method(method), ARCHITECTURES[arch].kind
    sizes = architecture(arch, latent_dim if chosen.latents else 0, likelihood, WIDTH)
    model = build(sizes, chosen.skip, SHAPES[kind], 0, chosen.inference)
    return model.eval()


def test_a_run_is_exported_with_what_its_files_are(trained: lso.Run, tmp_path: Path) -> None:
    done = lso.export(trained, "pt2", out=tmp_path / "out")
    card = json.loads((tmp_path / "out" / "model.json").read_text())
    assert card == done.card and [path.name for path in done.files] == ["encoder.pt2", "decoder.pt2", "model.json"]
    assert card["weights_sha256"] == digest((trained.path / "model.safetensors").read_bytes())
    assert card["decoder"]["sha256"] == digest((tmp_path / "out" / "decoder.pt2").read_bytes())
    assert (card["kind"], card["shape"], card["latent_dim"], card["likelihood"]) == ("image", [1, 8, 8], 4, "bernoulli")
    assert card["encoder"]["inputs"][0]["shape"] == ["batch", 1, 8, 8]
    assert [one["name"] for one in card["decoder"]["outputs"]] == ["logits", "mean"]
    assert max(one.relative for one in done.differences) <= 1e-6
    decode = torch.export.load(tmp_path / "out" / "decoder.pt2").module()
    z = torch.randn(7, 4)
    assert torch.allclose(decode(z)[1], trained.model().reconstruct(z), atol=1e-6)


def test_without_an_encoder_there_is_the_decoder_and_the_reason(tmp_path: Path) -> None:
    done = export(small(method="svi"), "pt2", out=tmp_path / "out")
    assert [path.name for path in done.files] == ["decoder.pt2", "model.json"]
    assert "computes posteriors by gradient steps" in done.card["encoder"]["missing"]


def test_what_differs_is_refused_and_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = exporting._open_pt2

    def off(path: Path) -> Any:
        compute = opened(path)
        return lambda inputs: [value + 1e-2 for value in compute(inputs)]

    monkeypatch.setattr(exporting, "_open_pt2", off)
    with pytest.raises(LsoError, match=r"encoder differs from the model: \w+ by 0.01, .* expected at most 0.0001\n"):
        export(small(), "pt2", out=tmp_path / "out")
    assert not any(tmp_path.iterdir())


def test_mistakes_are_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="not in a run folder"):
        export(small(), "pt2")
    monkeypatch.setattr(exporting, "find_spec", lambda name: None if name == "onnxruntime" else object())
    with pytest.raises(LsoError, match=r"not installed: onnxruntime\nInstall them: pip install 'lso\[export\]'"):
        export(small(), "onnx", out=tmp_path)


@pytest.mark.slow
def test_a_module_of_the_users_own_is_exported(tmp_path: Path) -> None:
    """Its `view(len(z), ...)` is no constant batch. In a process of its own, as torch cannot read the bytecode of functions
    whose annotations are checked.
    """
    code = (
        "import lso, sys, torch\n"
        "from lso.vae.config.architectures import architecture\n"
        "from lso.vae.models.vae import build\n"
        "from tests.vae.own_modules import Pictures\n"
        "sizes = architecture('tests.vae.own_modules:Pictures', 3)\n"
        "model = build(sizes, False, (1, 8, 8), module=Pictures()).eval()\n"
        "lso.export(model, 'pt2', out=sys.argv[1])\n"
        "z = torch.randn(7, 3)\n"
        "decode = torch.export.load(sys.argv[1] + '/decoder.pt2').module()\n"
        "print(torch.allclose(decode(z)[1], model.reconstruct(z), atol=1e-6))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True", done.stderr


CASES = [
    *((arch, "vae", None) for arch in ARCHITECTURES),
    *((arch, "skip-vae", None) for arch in ("mlp", "conv", "he2019-small", "dieng2019", "kim2018-masked", "lstm")),
    ("transformer", "skip-vae", None),
    ("conv", "sa-vae", "gaussian"),
    ("he2019-small", "aggressive", "logistic"),
    ("he2019-small", "pixelcnn", None),
    ("kim2018-masked", "pixelcnn", None),
    ("lstm", "lstm-lm", None),
    ("transformer", "lstm-lm", None),
]


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "pt2"])
@pytest.mark.parametrize(("arch", "method", "likelihood"), CASES)
def test_every_architecture_is_exported(
    arch: str, method: str, likelihood: str | None, to: ExportFormat, tmp_path: Path
) -> None:
    if to == "onnx":
        pytest.importorskip("onnxruntime")
    model = small(arch, method, likelihood)
    done = export(model, to, out=tmp_path / "out")
    assert max(one.relative for one in done.differences) <= 1e-5
    parts = [one.part for one in done.differences]
    assert ("encoder" in parts) == model.has_encoder and "decoder" in parts
    if to == "onnx":
        _check_axes(done.folder / "decoder.onnx", model)


def _check_axes(path: Path, model: VAE) -> None:
    """The dynamic axes have their names, and any batch and length will do."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for value in session.get_inputs():
        assert value.shape[0] == "batch" and (value.name == "z" or model.kind == "image" or value.shape[1] == "length")
    given = {"z": np.zeros((5, model.latent_dim), np.float32)} if model.latent_dim else {}
    if model.autoregressive:
        sequence = model.kind == "sequence"
        given["x"] = np.ones((5, 6), np.int64) if sequence else np.zeros((5, *model.shape), np.float32)
    first = session.run(None, given)[0]
    assert len(first) == 5 and (model.kind == "image" or first.shape == (5, 5, model.shape[1]))
