import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

folder = Path(sys.argv[1])  # runs/digits/export/onnx
card = json.loads((folder / "model.json").read_text())
encoder, decoder = (onnxruntime.InferenceSession(folder / card[part]["file"]) for part in ("encoder", "decoder"))
z = np.random.default_rng(0).standard_normal((16, card["latent_dim"]), dtype=np.float32)  # draws from the prior
logits, images = decoder.run(None, {"z": z})
mean, log_var = encoder.run(None, {"x": images})
print(images.shape, "pixels from", images.min(), "to", images.max(), "and back to codes", mean.shape)
