"""Draw the cards of the models that are installed with lso: ``python docs/models.py > docs/models.md``."""

import textwrap

from lso.vae.metrics.collapse import MIN_DIMENSION_NATS
from lso.vae.runs import MODEL, Run
from lso.vae.zoo import FOLDER, PREFIX, read_card, read_test_metrics, zoo_names

TOP = """\
# Models that ship

Five small trained models are installed with `lso`, so that a search can be tried before anything is trained.
`lso list models` lists them. Each is a run like those that `lso train` makes, and is named `zoo:NAME` wherever a run
is asked for:

    lso sample zoo:digits-alive
    lso optimize --model zoo:digits-alive --target test:20 --optimizer adam
    lso optimize --model zoo:expressions-alive --task expressions --budget 100

or in Python:

    import lso
    model = lso.load("zoo:digits-alive")       # the VAE
    run = lso.Run("zoo:digits-alive")          # its configuration, metrics and codes

They are read only: pictures go to `runs/zoo-NAME/pictures/`, searches to folders of their own. Two pairs show
posterior collapse: the same data and networks, once with a code that the decoder ignores and once with one it uses.

Metrics are those of test data that no training saw, as `lso evaluate zoo:NAME --limit 1000 --iw-samples 100` prints
them. "The decoder uses" a dimension that is worth at least {nats} nats. `make zoo` trains all of them again.
"""
METRICS = (
    ("-ELBO, nats", "neg_elbo", ".2f"),
    ("NLL, nats", "iw_nll", ".2f"),
    ("KL, nats", "kl", ".3f"),
    ("mutual information, nats", "mi", ".3f"),
    ("active units of the encoder", "active_units", "d"),
    ("re-encoding error", "reencoding_error", ".2f"),
    ("reproduced exactly", "exact_match", ".1%"),
)


def card(name: str) -> str:
    """The card of one model as Markdown."""
    run, facts = Run(f"{PREFIX}{name}"), read_card(name)
    values = read_test_metrics(name)
    config, size = run.config, (FOLDER / name / MODEL).stat().st_size
    rows = [
        (label, format(values[key], how).replace("%", " %"))
        for label, key, how in METRICS
        if values.get(key) is not None
    ]
    rows.insert(
        5, ("dimensions that the decoder uses", f"{values['used_dimensions']} of {config.architecture.latent_dim}")
    )
    networks = f"{config.architecture.name}, {config.architecture.latent_dim} latent dimensions"
    table = "\n".join(f"| {label} | {value} |" for label, value in rows)
    verdict = f"\n{run.verdict}\n" if run.verdict else ""
    return f"""
## {name}

{facts["summary"][0].upper() + facts["summary"][1:]}.
{verdict}
    {facts["recipe"]}

| on {values["n"]:,} test {config.kind}s | |
| --- | --- |
{table}

- data: {facts["data"]}
- licence of the data: {facts["licence"]}; sha256 of the data: `{run.info["dataset"]["hash"]}`
- method {config.method.name}, architecture {networks}; weights {size / 1e6:.2f} MB
"""


if __name__ == "__main__":
    print(textwrap.dedent(TOP).format(nats=MIN_DIMENSION_NATS) + "".join(card(name) for name in zoo_names()), end="")
