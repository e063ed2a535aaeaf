"""Which dimensions count: do encoder (variance of means >= 0.01) and decoder (the rule of
`lso.analysis.latent_dimensions`) agree?

    python benchmarks/active_rule.py runs/digits-methods/vae-seed0 ...          (seconds a run)

For each run: active dimensions by either side, how many dimensions both call the same, and for those that the encoder
leaves idle the range of their Jacobian norm as a share of the largest.
"""

import argparse

import lso
from lso.analysis.latent_dimensions import WEAK_BELOW
from lso.decoders.probing import jacobian_norms
from lso.vae.metrics.active_units import is_active, mean_variance
from lso.vae.utils.random import generator


def row(path: str) -> str:
    """One line of the table."""
    run = lso.Run(path)
    codes = run.codes()
    assert codes is not None
    decoder = lso.Decoder(lso.load(run))
    space = lso.LatentSpace(decoder.latent_dim)
    squared = (jacobian_norms(decoder, space.sample(64, generator=generator(0, "active-rule"))) ** 2).mean(0).cpu()
    share, encoder = squared / squared.max(), is_active(mean_variance(codes.mean))
    idle = share[~encoder].sqrt()
    span = f"{idle.min():.1%} to {idle.max():.1%}" if len(idle) else "none idle"
    same = int((encoder == (share >= WEAK_BELOW)).sum())
    counts = f"{int(encoder.sum())} | {int((share >= WEAK_BELOW).sum())} | {same} of {len(share)}"
    return f"| {run.path.name} | {counts} | {span} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="folders of trainings")
    options = parser.parse_args()
    print("| run | active, encoder | active, decoder | same | norm of idle dimensions |")
    print("| --- | --- | --- | --- | --- |")
    for path in options.runs:
        print(row(path))
