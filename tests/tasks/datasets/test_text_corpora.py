"""The papers' corpora: counts of the true files, substitutes that are said to be, downloads with their checksums."""

import dataclasses
import gzip
import io
import shutil
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lso.tasks.datasets import text_corpora as corpora
from lso.tasks.datasets.download import RemoteFile, bytes_hash
from lso.tasks.datasets.line_reader import read_text_lines
from lso.tasks.datasets.loading import load_dataset
from lso.tasks.datasets.packing import encode_lines
from lso.tasks.datasets.text_corpora import CORPORA, PublishedCorpus
from lso.tasks.datasets.tokenizers import tokenizer
from lso.vae.config.protocol import DataConfig
from lso.vae.data.dataset import SPLITS, Dataset
from lso.vae.errors import DataError

Find = Callable[[str], Path]
PTB = (42_068, 3_370, 3_761)


def loaded(task: str, path: Path, **fields: object) -> Dataset:
    return load_dataset(DataConfig(task=task, path=str(path), **fields), "none", 0)  # type: ignore[arg-type]


def sizes(dataset: Dataset) -> list[int]:
    return [len(dataset.split(name)) for name in SPLITS]


def test_ptb_is_whole(data_path: Find) -> None:
    """Counts of Mikolov's files: sentences, tokens; 9,999 words, of which <unk> is a special."""
    dataset = loaded("ptb", data_path("ptb"))
    assert sizes(dataset) == list(PTB)
    assert dataset.provenance["tokens"] == {"train": 887_521, "validation": 70_390, "test": 78_669}
    assert dataset.vocabulary is not None and len(dataset.vocabulary) == 9_998 + 4
    assert dataset.provenance["exact"] is True
    assert dataset.provenance["longest"]["train"] == 82 and dataset.shape[0] == 84
    lines = list(read_text_lines(data_path("ptb/ptb.valid.txt.gz")).texts)
    corpus, unknown = encode_lines(lines, dataset.vocabulary, tokenizer("words"))
    assert corpus.hash() == dataset.corpus("validation").hash()
    assert int(unknown.sum()) == dataset.provenance["unknown"]["validation"] == 3_485  # no new words: all are <unk>


def test_short_yelp_says_which_training_part_it_has_and_loads_in_seconds(data_path: Find) -> None:
    folder, start = data_path("yelp_short"), time.process_time()
    dataset = loaded("short-yelp", folder)
    assert time.process_time() - start < 3  # 0.8 when written
    assert sizes(dataset) == [100_000, 10_000, 10_000]
    assert dataset.provenance["tokens"] == {"train": 951_457, "validation": 89_330, "test": 89_998}
    assert dataset.vocabulary is not None and len(dataset.vocabulary) == 8_411  # the published file has the specials
    assert dataset.provenance["labels"] == ["0", "1"]
    assert dataset.provenance["exact"] is False
    assert "local_train100k.txt.gz is OURS, not the published training part" in dataset.provenance["notes"][0]
    subset = loaded("short-yelp", folder / "short_yelp.train10k.txt.gz", limit=2_000)
    assert sizes(subset) == [2_000, 2_000, 2_000] and subset.provenance["exact"] is False
    assert "is the published subset of 10,000 lines" in subset.provenance["notes"][0]


@pytest.mark.parametrize(("name", "words", "tokens"), [("yahoo", 20_001, 1_579_353), ("snli", None, 194_376)])
def test_without_the_training_part_there_is_an_own_split_that_is_said(
    data_path: Find, name: str, words: int | None, tokens: int
) -> None:
    dataset = loaded(name, data_path(name))
    assert sizes(dataset) == [16_000, 2_000, 2_000]
    assert sum(dataset.provenance["tokens"].values()) == tokens  # of the published validation and test parts
    assert dataset.provenance["exact"] is False
    assert dataset.provenance["split"]["how"].startswith("OUR OWN SPLIT 80/10/10 of the 20,000 sequences of")
    assert any("OUR OWN SPLIT" in note for note in dataset.provenance["notes"])
    assert dataset.vocabulary is not None and words in (None, len(dataset.vocabulary))


def test_a_folder_without_the_corpus_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "yelp.test.txt").write_text("5\tgood\n")
    for path in (tmp_path, tmp_path / "yelp.test.txt"):
        with pytest.raises(DataError, match=r"(?s)(no training text in|not a training file)"):
            loaded("yelp", path)
    with pytest.raises(DataError, match=r"expected yelp.train.txt, yelp.valid.txt, yelp.test.txt.*\nLeave --data out"):
        loaded("yelp", tmp_path)


def test_other_files_under_a_corpus_s_name_are_told(tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        (tmp_path / f"ptb.{name}.txt").write_text("a b\nc\n")
    dataset = loaded("ptb", tmp_path)
    assert sizes(dataset) == [2, 2, 2] and dataset.provenance["exact"] is False
    assert dataset.provenance["notes"][0] == "ptb: ptb.train.txt is NOT the published file: its checksum differs."
    shutil.move(tmp_path / "ptb.train.txt", tmp_path / "mine.txt")
    assert loaded("ptb", tmp_path / "mine.txt").provenance["files"]["train"]["name"] == "mine.txt"


def small(kind: str) -> tuple[dict[str, bytes], dict[str, str]]:
    """Contents of three parts and a vocabulary, and their checksums."""
    parts = {"train": b"a b\nc\n", "valid": b"a\n", "test": b"b\n", "vocab": b"a\nb\nc\n"}
    return parts, {name: f"{kind}:{bytes_hash(raw, kind)}" for name, raw in parts.items()}


def published(kind: str) -> PublishedCorpus:
    _, sums = small(kind)
    own = {"train": sums["train"], "validation": sums["valid"], "test": sums["test"]}
    return dataclasses.replace(CORPORA["yelp"], checksums=own, vocabulary=sums["vocab"], url="https://example.org/x")


def test_a_corpus_is_downloaded_with_its_checksums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, sums = small("blob")
    asked: list[RemoteFile] = []

    def fetch(remote: RemoteFile, progress: object = None) -> Path:
        asked.append(remote)
        path = tmp_path / Path(remote.name).name
        path.write_bytes(gzip.compress(parts[path.name.removeprefix("yelp.").partition(".")[0]]))
        return path

    monkeypatch.setattr(corpora, "fetch", fetch)
    monkeypatch.setattr(corpora, "CORPORA", {"yelp": published("blob")})
    dataset = load_dataset(DataConfig(task="yelp"), "none", 0)
    assert sizes(dataset) == [2, 1, 1] and dataset.provenance["exact"] is True
    assert [remote.urls for remote in asked] == [
        (f"https://example.org/x/{name}",)
        for name in ("yelp.train.txt", "yelp.valid.txt", "yelp.test.txt", "vocab.txt")
    ]
    assert [remote.checksums for remote in asked] == [(value,) for value in sums.values()]
    assert asked[0].name == "yelp/yelp.train.txt"


@pytest.mark.parametrize("left_out", ["", "test"])
def test_an_archive_s_members_are_found_in_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left_out: str
) -> None:
    parts, _ = small("md5")
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        for name, raw in parts.items():
            member = tarfile.TarInfo(f"some/folder/{'vocab' if name == 'vocab' else f'yahoo.{name}'}.txt")
            member.size = len(raw)
            if name != left_out:
                archive.addfile(member, io.BytesIO(raw))
    known = dataclasses.replace(published("md5"), archive=CORPORA["yahoo"].archive)
    monkeypatch.setattr(corpora, "fetch", lambda remote, progress=None: tmp_path / "x.tar.gz")
    monkeypatch.setattr(corpora, "CORPORA", {"yahoo": known})
    if left_out:
        with pytest.raises(DataError, match=r"x.tar.gz lacks yahoo"):
            load_dataset(DataConfig(task="yahoo"), "none", 0)
    else:
        dataset = load_dataset(DataConfig(task="yahoo"), "none", 0)
        assert sizes(dataset) == [2, 1, 1] and dataset.provenance["exact"] is True
