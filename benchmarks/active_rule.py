"""Which dimensions count: do encoder (variance of means >= 0.01) and decoder (the rule of `lso.dimensions`) agree?

    python benchmarks/active_rule.py runs/digits-methods/vae-seed0 ...          (seconds a run)

For each run: active dimensions by either side, how many dimensions both call the same, and for those that the encoder
leaves idle the range of their Jacobian norm as a share of the largest.
"""

import sys

import lso
from lso.dimensions import WEAK
from lso.probing import jacobian_norms
from lso.vae.activity import active, activity
from lso.vae.seeds import generator


def row(path: str) -> str:
    """One line of the table."""
    run = lso.Run(path)
    codes = run.codes()
    assert codes is not None
    decoder = lso.Decoder(lso.load(run))
    space = lso.LatentSpace(decoder.latent_dim)
    squared = (jacobian_norms(decoder, space.sample(64, generator=generator(0, "active-rule"))) ** 2).mean(0).cpu()
    share, encoder = squared / squared.max(), active(activity(codes.mean))
    idle = share[~encoder].sqrt()
    span = f"{idle.min():.1%} to {idle.max():.1%}" if len(idle) else "none idle"
    same = int((encoder == (share >= WEAK)).sum())
    counts = f"{int(encoder.sum())} | {int((share >= WEAK).sum())} | {same} of {len(share)}"
    return f"| {run.path.name} | {counts} | {span} |"


if __name__ == "__main__":
    print("| run | active, encoder | active, decoder | same | norm of idle dimensions |")
    print("| --- | --- | --- | --- | --- |")
    for path in sys.argv[1:]:
        print(row(path))
