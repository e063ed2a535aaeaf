import json
import sys
from pathlib import Path

import torch

folder = Path(sys.argv[1])  # runs/digits/export/pt2
card = json.loads((folder / "model.json").read_text())
encoder, decoder = (torch.export.load(folder / card[part]["file"]).module() for part in ("encoder", "decoder"))
z = torch.randn(16, card["latent_dim"], generator=torch.Generator().manual_seed(0))  # draws from the prior
logits, images = decoder(z)
mean, log_var = encoder(images)
print(tuple(images.shape), "pixels from", images.min().item(), "to", images.max().item(), "and back to", mean.shape)
