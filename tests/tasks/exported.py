"""Exports a small model, prints what was found: ``python -m tests.tasks.exported ARCH METHOD LIKELIHOOD FORMATS OUT``.

A process of its own, as networks cannot be traced while the annotations of their functions are checked.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import lso
from lso.vae.config.architectures import ARCHITECTURES, architecture
from lso.vae.config.methods import parse_method
from lso.vae.models.vae import VAE, build
from tests.vae.own_modules import Pictures

SHAPES = {"image": (1, 8, 8), "sequence": (9, 14)}
# Small enough to be traced in seconds; other sizes are other numbers in the same graph.
WIDTH = 16
OWN = "own"  # in place of an architecture: a module of the user's own, whose `view(len(z), ...)` is no constant batch


def small(arch: str = "mlp", method: str = "vae", likelihood: str | None = None) -> VAE:
    """An untrained model."""
    if arch == OWN:
        return build(architecture("tests.vae.own_modules:Pictures", 3), False, (1, 8, 8), module=Pictures()).eval()
    chosen, kind = parse_method(method), ARCHITECTURES[arch].kind
    sizes = architecture(arch, 4 if chosen.latents else 0, likelihood, WIDTH)
    return build(sizes, chosen.skip, SHAPES[kind], 0, chosen.inference).eval()


def other_batch(path: Path, model: VAE) -> dict[str, Any]:
    """The names of the axes of an ONNX file's inputs, and the shape of its first output for five data."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    given: dict[str, Any] = {"z": np.zeros((5, model.latent_dim), np.float32)} if model.latent_dim else {}
    if model.autoregressive:
        given["x"] = np.ones((5, 6), np.int64) if model.kind == "sequence" else np.zeros((5, *model.shape), np.float32)
    return {
        "axes": {value.name: value.shape for value in session.get_inputs()},
        "first": session.run(None, given)[0].shape,
    }


def main() -> None:
    """Export to each format, and print JSON, by format."""
    arch, method, likelihood, formats, out = sys.argv[1:]
    model = small(arch, method, likelihood or None)
    found = {}
    for to in formats.split(","):
        done = lso.export(model, to, out=Path(out, to))  # type: ignore[arg-type]
        found[to] = {
            "differences": [asdict(one) for one in done.differences],
            "has_encoder": model.has_encoder,
            "kind": model.kind,
            "shape": model.shape,
            **(other_batch(done.folder / "decoder.onnx", model) if to == "onnx" else {}),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
