"""Tables of what models of sequences say, for the reports of trainings."""

from collections.abc import Mapping
from typing import Any

from lso.tables import Table


def reconstruction_table(infos: Mapping[str, Mapping[str, Any]]) -> Table | None:
    """Validation sequences beside what their posterior means decode to, from each run's examples.

    Args:
        infos: run name -> run.json.
    Returns:
        One row a sequence and run; None without sequences.
    """
    pairs = {name: info.get("examples", {}).get("reconstructions", ()) for name, info in infos.items()}
    rows = [[name, given, said] for name, both in pairs.items() for given, said in both]
    note = "The likeliest tokens, one after the other, from the posterior mean of each sequence alone."
    columns = ["name", "validation sequence", "greedy reconstruction"]
    return Table(columns=columns, rows=rows, title="Reconstructions", note=note) if rows else None


def sample_table(infos: Mapping[str, Mapping[str, Any]]) -> Table | None:
    """What draws from the prior decode to, from each run's examples.

    Args:
        infos: run name -> run.json.
    Returns:
        One row a sample; None without sequences.
    """
    rows = [[name, text] for name, info in infos.items() for text in info.get("examples", {}).get("samples", ())]
    note = "Codes from the prior, tokens drawn one after the other."
    return Table(columns=["name", "prior sample"], rows=rows, title="Prior samples", note=note) if rows else None
