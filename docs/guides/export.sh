# --8<-- [start:export]
lso train --method ne-vae-se --task digits --latent-dim 8 --epochs 20 --out runs/digits
lso export runs/digits --to onnx
lso export runs/digits --to pt2
# --8<-- [end:export]
