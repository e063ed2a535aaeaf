# --8<-- [start:train]
lso train --method ne-vae-se --task digits --latent-dim 16 --epochs 60 --out runs/digits
# --8<-- [end:train]

# --8<-- [start:search]
lso optimize --model runs/digits --target test:8 --optimizer adam --starts 4 --out runs/search
# --8<-- [end:search]
