"""What a reader has to know of the data of trainings before any number: substitutes, differences, notes. Torch-free."""

import json
from collections.abc import Mapping
from typing import Any


def banners(infos: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Warnings that runs differ in their data, or that those are a substitute for others.

    Args:
        infos: run name -> run.json.
    Returns:
        Sentences; which runs are on a substitute is named where not all are on one.
    """
    data: dict[str, list[str]] = {}
    same: dict[str, str] = {}  # hash -> identity, as what is recorded has changed over time
    for name, info in infos.items():
        if found := info.get("dataset", {}).get("hash"):
            data.setdefault(same.setdefault(found, _identity(info)), []).append(name)
    groups = "; ".join(", ".join(names) for names in data.values())
    sentences = [f"Trained on different data: levels do not compare ({groups})."] if len(data) > 1 else []
    of = {name: info["dataset"]["name"] for name, info in infos.items() if provenance(info).get("substitute")}
    for original in dict.fromkeys(of.values()):
        runs = [name for name in of if of[name] == original]
        which = "" if len(runs) == len(infos) else f" of {', '.join(runs)}"
        verb = f"The data{which} are a substitute for {original}"
        sentences.append(f"{verb}: numbers do not compare with published ones.")
    return sentences


def data_notes(infos: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What was noted when the data were read and prepared."""
    return list(dict.fromkeys(str(note) for info in infos.values() for note in provenance(info).get("notes", ())))


def _identity(info: Mapping[str, Any]) -> str:
    """What tells data apart: where they came from and what was done to them, but not the seed of their binarization."""
    found = {key: value for key, value in provenance(info).items() if key not in ("notes", "path", "overlap")}
    found["binarize"] = found.get("binarize", {}).get("mode")
    dataset = info["dataset"]
    return json.dumps([dataset["name"], found], sort_keys=True) if "source" in found else str(dataset["hash"])


def provenance(info: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where the data of a run came from."""
    found: Mapping[str, Any] = info.get("dataset", {}).get("provenance", {})
    return found
