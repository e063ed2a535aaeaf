"""Exported models: what other programs read is what the model computes, for every architecture."""

import importlib.util
import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import torch

import lso
from lso.tasks import export as exporting
from lso.tasks.export import export
from lso.vae.config.architectures import ARCHITECTURES
from lso.vae.errors import LsoError, UsageError
from lso.vae.utils.integrity import digest
from tests.tasks.exported import OWN, small

ROOT = Path(__file__).resolve().parents[2]


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


def test_without_an_encoder_there_is_the_decoder_and_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_installed(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(exporting, "version", not_installed)  # pt2 files need none of ONNX's packages
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


CASES = [
    (OWN, "vae", ""),
    *((arch, "vae", "") for arch in ARCHITECTURES),
    *((arch, "skip-vae", "") for arch in ("mlp", "conv", "he2019-small", "dieng2019", "kim2018-masked", "lstm")),
    ("transformer", "skip-vae", ""),
    ("conv", "sa-vae", "gaussian"),
    ("he2019-small", "aggressive", "logistic"),
    ("he2019-small", "pixelcnn", ""),
    ("kim2018-masked", "pixelcnn", ""),
    ("lstm", "lstm-lm", ""),
    ("transformer", "lstm-lm", ""),
]


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "method", "likelihood"), CASES)
def test_every_architecture_is_exported(arch: str, method: str, likelihood: str, tmp_path: Path) -> None:
    formats = ["pt2", *(["onnx"] if importlib.util.find_spec("onnxruntime") else [])]
    command = [sys.executable, "-m", "tests.tasks.exported", arch, method, likelihood, ",".join(formats), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for to, found in json.loads(done.stdout).items():
        assert max(one["relative"] for one in found["differences"]) <= (1e-5 if to == "onnx" else 0)
        parts = [one["part"] for one in found["differences"]]
        assert ("encoder" in parts) == found["has_encoder"] and "decoder" in parts
        if to == "onnx":
            for name, shape in found["axes"].items():
                assert shape[0] == "batch" and (name == "z" or found["kind"] == "image" or shape[1] == "length")
            words = found["shape"][-1]
            assert found["first"] == ([5, 5, words] if found["kind"] == "sequence" else [5, *found["shape"]])
