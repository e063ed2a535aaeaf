# --8<-- [start:train]
lso train --method ne-vae-se --task digits --latent-dim 8 --epochs 12 --max-steps 150 --log tensorboard --out runs/logged
lso train --resume runs/logged --log tensorboard
# --8<-- [end:train]
# --8<-- [start:sweep]
lso sweep --method vae --method ne-vae-se --latent-dim 4 --epochs 5 --limit 300 --log tensorboard --out runs/sweep
# --8<-- [end:sweep]
