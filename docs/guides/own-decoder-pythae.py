"""Search the decoder of a pythae model (`pip install pythae`)."""

import torch
from pythae.models import VAE, VAEConfig
from sklearn.datasets import load_digits

import lso

torch.manual_seed(0)
images = torch.tensor(load_digits().images / 16, dtype=torch.float32).unsqueeze(1)

model = VAE(VAEConfig(input_dim=(1, 8, 8), latent_dim=4))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for _ in range(10):  # or pythae's own trainer, or a model that was saved: AutoModel.load_from_folder
    for x in images[:1500][torch.randperm(1500)].split(50):
        loss = model({"data": x}).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

decoder = lso.Decoder(model)  # finds latent_dim, encoder, decoder, and the tensors in their outputs
assert not decoder.check()
objective = lso.LatentObjective.reconstruct(decoder, images[1500:1504], "sse")
starts = lso.LatentSpace(4).sample(16, generator=torch.Generator().manual_seed(0)).view(4, 4, 4)
result = lso.minimize(objective, starts)
print(result)
print("report:", result.report("runs/pythae.html"))
