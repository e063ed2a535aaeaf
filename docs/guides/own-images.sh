# --8<-- [start:photos]
python - <<'END'
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

rng = np.random.default_rng(0)
for folder, count in (("photos", 800), ("wanted", 6)):
    Path(folder).mkdir(exist_ok=True)
    for number in range(count):
        photo = load_sample_images().images[number % 2]  # a palace and a flower, 427x640 pixels
        y, x = rng.integers(100, 427 - 96), rng.integers(0, 640 - 96)
        Image.fromarray(photo[y : y + 96, x : x + 96]).save(f"{folder}/{number:03}.jpg", quality=95)
END
# --8<-- [end:photos]

# --8<-- [start:train]
lso train --method ne-vae-se --data photos --size 16 --latent-dim 16 --epochs 50 --out runs/photos
# --8<-- [end:train]

# --8<-- [start:search]
lso optimize --model runs/photos --target wanted --optimizer adam --starts 4 --out runs/wanted
# --8<-- [end:search]
