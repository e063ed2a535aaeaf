# --8<-- [start:score]
cat > lab.py <<'END'
def edges(images):
    """Ink in the first and the last column of each image, of which digits have little."""
    return [float(image[..., 0].sum() + image[..., -1].sum()) for image in images]
END
# --8<-- [end:score]

# --8<-- [start:train]
lso train --method ne-vae-se --task digits --latent-dim 8 --epochs 15 --out runs/model
# --8<-- [end:train]

# --8<-- [start:retrain]
lso optimize --model runs/model --objective lab:edges --maximize --optimizer turbo --budget 60 \
  --retrain-every 20 --retrain-data 500 --retrain-epochs 2 --out runs/retrained
# --8<-- [end:retrain]

# --8<-- [start:control]
lso optimize --model runs/model --objective lab:edges --maximize --optimizer turbo --budget 60 --out runs/plain
lso report runs/retrained runs/plain --out runs/comparison
# --8<-- [end:control]
