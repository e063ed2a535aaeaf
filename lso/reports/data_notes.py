"""What a reader has to know about the data of trainings before any number: substitutes, differences, notes."""

import json
from collections.abc import Mapping
from typing import Any


def data_banners(infos: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Warnings that runs have different data, or that data are a substitute for others.

    ``infos`` maps run names to run.json. The runs on a substitute are named where not all are on one.
    """
    data: dict[str, list[str]] = {}
    same: dict[str, str] = {}  # hash -> identity; runs of several versions record different facts about the same data
    for name, info in infos.items():
        if found := info.get("dataset", {}).get("hash"):
            data.setdefault(same.setdefault(found, _identity(info)), []).append(name)
    groups = "; ".join(", ".join(names) for names in data.values())
    sentences = [f"Trained on different data, so that values cannot be compared ({groups})."] if len(data) > 1 else []
    of = {name: info["dataset"]["name"] for name, info in infos.items() if describe_provenance(info).get("substitute")}
    for original in dict.fromkeys(of.values()):
        runs = [name for name in of if of[name] == original]
        which = "" if len(runs) == len(infos) else f" of {', '.join(runs)}"
        verb = f"The data{which} are a substitute for {original}"
        sentences.append(f"{verb}: numbers cannot be compared with published ones.")
    return sentences


def data_notes(infos: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Notes that were made when the data were read and prepared."""
    return list(
        dict.fromkeys(str(note) for info in infos.values() for note in describe_provenance(info).get("notes", ()))
    )


def _identity(info: Mapping[str, Any]) -> str:
    """What identifies data: their source and what was done to them, but not the seed of their binarization."""
    found = {key: value for key, value in describe_provenance(info).items() if key not in ("notes", "path", "overlap")}
    found["binarize"] = found.get("binarize", {}).get("mode")
    dataset = info["dataset"]
    return json.dumps([dataset["name"], found], sort_keys=True) if "source" in found else str(dataset["hash"])


def describe_provenance(info: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where the data of a run came from."""
    found: Mapping[str, Any] = info.get("dataset", {}).get("provenance", {})
    return found
