"""Search a decoder that lso did not train: a torch module, and a function."""

import torch
from sklearn.datasets import load_digits
from torch import nn

import lso

torch.manual_seed(0)

# --8<-- [start:model]
images = torch.tensor(load_digits().images / 16, dtype=torch.float32).unsqueeze(1)  # (1797, 1, 8, 8) in [0, 1]


class Autoencoder(nn.Module):
    """Any model of yours; this one is a small VAE that knows nothing of lso."""

    def __init__(self, latents=8):
        super().__init__()
        self.enc = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 2 * latents))
        self.dec = nn.Sequential(nn.Linear(latents, 128), nn.ReLU(), nn.Linear(128, 64), nn.Sigmoid())

    def to_latent(self, x):
        return self.enc(x).chunk(2, dim=1)  # mean and log variance

    def to_image(self, z):
        return self.dec(z).reshape(-1, 1, 8, 8)


model = Autoencoder()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for _ in range(20):  # your own training, however it looks
    for x in images[:1500][torch.randperm(1500)].split(50):
        mean, log_var = model.to_latent(x)
        z = mean + torch.randn_like(mean) * (0.5 * log_var).exp()
        kl = 0.5 * (mean**2 + log_var.exp() - log_var - 1).sum()
        loss = (50 * ((model.to_image(z) - x) ** 2).sum() + kl) / len(x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
# --8<-- [end:model]

# --8<-- [start:decoder]
decoder = lso.Decoder(model, latent_dim=8, decode="to_image", encode="to_latent")
print(decoder, decoder.hash[:8])
for finding in decoder.check():
    print("finding:", finding.message, finding.hint)
print("the decoder reacts to", int(lso.probe(decoder).active.sum()), "of", decoder.latent_dim, "dimensions")
# --8<-- [end:decoder]

# --8<-- [start:search]
objective = lso.LatentObjective.reconstruct(decoder, images[1500:1504], "sse")  # 4 images that it was not trained on
starts = lso.LatentSpace(8).sample(4 * 4, generator=torch.Generator().manual_seed(0)).view(4, 4, 8)  # 4 starts each
result = lso.minimize(objective, starts, optimizer="adam")
print(result)
with torch.no_grad():
    posterior = lso.DiagonalGaussian(*model.to_latent(images[:1500]))
print("report:", result.report("runs/mine.html", codes=posterior))
# --8<-- [end:search]


# --8<-- [start:function]
def ring(z):
    """A picture of a ring, of radius and width given by z: ``(n, 2)`` to ``(n, 1, 16, 16)``."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 16), torch.linspace(-1, 1, 16), indexing="ij")
    radius, width = torch.sigmoid(z[:, 0]), 0.1 + 0.2 * torch.sigmoid(z[:, 1])
    distance = (x**2 + y**2).sqrt().to(z)
    return torch.exp(-(((distance - radius[:, None, None]) / width[:, None, None]) ** 2)).unsqueeze(1)


decoder = lso.Decoder(ring, latent_dim=2)
wanted = ring(torch.tensor([[0.8, -0.5]]))
objective = lso.LatentObjective.reconstruct(decoder, wanted, "sse")
result = lso.minimize(objective, torch.randn(1, 6, 2), optimizer="lbfgs")
print(result.best_z, result.best_value)
# --8<-- [end:function]
