"""Splits, limits, binarization and the embedded and downloadable sets."""

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lso.tasks.datasets import mnist, omniglot
from lso.tasks.datasets.download import RemoteFile, file_hash
from lso.tasks.datasets.image_dataset import RawImages, load_dataset, split_images
from lso.tasks.datasets.loading import load_dataset as load_any
from lso.tasks.datasets.splits import UNSPLIT
from lso.vae.config.protocol import Binarize, DataConfig
from lso.vae.data.dataset import SPLITS, Dataset, to_unit
from lso.vae.errors import DataError, UsageError

Find = Callable[[str], Path]


def numbered(n: int) -> torch.Tensor:
    return torch.arange(n, dtype=torch.float32).reshape(n, 1, 1, 1).expand(n, 1, 8, 8) / n


def sizes(dataset: Dataset) -> list[int]:
    return [len(dataset.split(name)) for name in SPLITS]


def test_splits_are_disjoint_complete_and_always_the_same() -> None:
    x = numbered(103)
    first, second = (split_images(RawImages(splits={UNSPLIT: x})).splits for _ in range(2))
    assert [len(first[name]) for name in SPLITS] == [83, 10, 10]
    assert all(torch.equal(first[name], second[name]) for name in SPLITS)
    together = torch.cat([first[name] for name in SPLITS])[:, 0, 0, 0]
    assert torch.equal(together.sort().values, x[:, 0, 0, 0])
    assert not torch.equal(first["train"], x[:83])


def test_a_missing_split_is_cut_from_train_and_given_ones_stay() -> None:
    raw = split_images(
        RawImages(splits={"train": numbered(50), "test": numbered(7)}, labels={"train": torch.arange(50)})
    )
    assert [len(raw.splits[name]) for name in SPLITS] == [45, 5, 7]
    assert torch.equal(raw.splits["test"], numbered(7))
    assert set(raw.labels) == {"train", "validation"}
    torch.testing.assert_close(raw.labels["validation"] / 50, raw.splits["validation"][:, 0, 0, 0])
    assert raw.provenance["split"]["how"] == "validation cut from train, shuffled with seed 0"


def test_a_limit_keeps_part_of_each_split_in_proportion() -> None:
    full, part = (
        split_images(RawImages(splits={UNSPLIT: numbered(200)})),
        split_images(RawImages(splits={UNSPLIT: numbered(200)}), 40),
    )
    assert [len(part.splits[name]) for name in SPLITS] == [40, 5, 5]
    for name in SPLITS:
        assert set(part.splits[name].flatten().tolist()) <= set(full.splits[name].flatten().tolist())
    assert part.provenance["split"]["limit"] == 40


def classed(n: int = 300, classes: int = 5) -> RawImages:
    """Images that tell their number, of classes with unequal shares in mixed order."""
    labels = torch.arange(n).square() % classes
    return RawImages(splits={UNSPLIT: numbered(n)}, labels={UNSPLIT: labels})


def test_so_many_training_images_of_each_class_stay_in_their_order_and_the_rest_untouched() -> None:
    full, part = split_images(classed()), split_images(classed(), per_class=4)
    assert part.labels["train"].bincount().tolist() == [min(4, n) for n in full.labels["train"].bincount().tolist()]
    for name in ("validation", "test"):
        assert torch.equal(part.splits[name], full.splits[name]) and torch.equal(part.labels[name], full.labels[name])
    places = [int((full.splits["train"][:, 0, 0, 0] == x).nonzero()) for x in part.splits["train"][:, 0, 0, 0]]
    assert places == sorted(places) and torch.equal(full.labels["train"][places], part.labels["train"])
    assert part.provenance["split"]["per_class"] == 4
    assert part.provenance["split"]["counts"]["train"] == len(places)


def test_fewer_of_each_class_are_among_more_and_always_the_same() -> None:
    some, more, again = (
        set(split_images(classed(), per_class=k).splits["train"][:, 0, 0, 0].tolist()) for k in (3, 7, 3)
    )
    assert some == again and some < more


def test_short_classes_are_counted_and_a_limit_comes_first() -> None:
    raw = classed(classes=7)  # squares mod 7: four classes, 0 half as often as the others
    counts = split_images(raw).labels["train"].bincount()
    most = int(counts[counts > 0].min()) + 1
    assert split_images(raw, per_class=most).provenance["notes"] == [
        f"4 classes with at most {most} training images each, fewer in 1 of them."
    ]
    both = split_images(raw, limit=60, per_class=2)
    limited = split_images(raw, limit=60)
    assert [len(both.splits[name]) for name in SPLITS] == [8, len(limited.splits["validation"]), 8]
    assert set(both.splits["train"].flatten().tolist()) <= set(limited.splits["train"].flatten().tolist())


def test_classes_that_are_not_known_cannot_be_asked_for() -> None:
    having = r"have none\nTasks with labels: digits, mnist, omniglot, digits-preference\."
    with pytest.raises(DataError, match=having):
        split_images(RawImages(splits={UNSPLIT: numbered(50)}), per_class=3)


def test_so_many_of_each_digit_reach_the_dataset() -> None:
    dataset = load_dataset(DataConfig(per_class=20), "none", 0)
    assert dataset.labels["train"].bincount().tolist() == [20] * 10 and sizes(dataset) == [200, 179, 179]
    assert "10 classes with at most 20 training images each." in dataset.provenance["notes"]


def test_too_few_images_are_refused() -> None:
    with pytest.raises(DataError, match=r"only 9 images to split.*at least 10"):
        split_images(RawImages(splits={UNSPLIT: numbered(9)}))


def test_digits_are_embedded() -> None:
    dataset = load_dataset(DataConfig(), "none", 0)
    assert sizes(dataset) == [1439, 179, 179]
    assert dataset.shape == (1, 8, 8)
    every = torch.cat([dataset.pixels(name) for name in SPLITS])
    assert sorted(set(every.flatten().tolist())) == [k / 16 for k in range(17)]
    assert dataset.provenance["mean"] == pytest.approx(0.305, abs=0.001)
    counts = torch.cat([dataset.labels[name] for name in SPLITS]).bincount().tolist()
    assert counts == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # sklearn.datasets.load_digits().target


def test_images_named_in_python_are_fitted_and_binarized_as_the_task_has_it(tmp_path: Path) -> None:
    assert load_any(DataConfig()).hash() == load_dataset(DataConfig(), "dynamic", 0).hash()
    wide = np.random.default_rng(0).integers(0, 256, (60, 20, 28), dtype=np.uint8)
    np.savez(tmp_path / "mnist.npz", train_x=wide, test_x=wide)
    mnist = DataConfig(task="mnist", path=str(tmp_path / "mnist.npz"), size=28)
    named, padded, cropped = map(load_any, (mnist, replace(mnist, fit="pad"), replace(mnist, fit="crop")))
    assert named.hash() == padded.hash() != cropped.hash()


def test_binarization_is_by_the_seed_and_leaves_dynamic_training_data_alone() -> None:
    cases: list[tuple[Binarize, int]] = [("none", 0), ("dynamic", 0), ("fixed", 0), ("fixed", 0), ("fixed", 1)]
    none, dynamic, fixed, again, other = (load_dataset(DataConfig(), mode, seed) for mode, seed in cases)
    assert torch.equal(dynamic.pixels("train"), none.pixels("train"))
    assert torch.equal(dynamic.pixels("test"), fixed.pixels("test"))
    assert fixed.hash() == again.hash() != other.hash()
    assert set(fixed.pixels("train").flatten().tolist()) == {0.0, 1.0}
    # 1439 x 64 independent Bernoulli pixels: standard error below 0.5 / sqrt(92,096) = 0.0017; four of them
    assert fixed.pixels("train").mean().item() == pytest.approx(none.pixels("train").mean().item(), abs=0.0066)
    assert dynamic.provenance["binarize"] == {"mode": "dynamic", "seed": 0}


def test_polarity_and_size_are_switchable_and_stated() -> None:
    plain = load_dataset(DataConfig(), "none", 0)
    turned = load_dataset(DataConfig(size=16, channels=3, invert=True), "none", 0)
    assert turned.shape == (3, 16, 16)
    assert turned.pixels("train").mean().item() == pytest.approx(1 - plain.pixels("train").mean().item(), abs=0.01)
    assert turned.provenance["inverted"] is True
    notes = " ".join(turned.provenance["notes"])
    assert "resized from 8x8 to 16x16" in notes
    assert "inverted" in notes
    assert "as in the source" in " ".join(plain.provenance["notes"])


def test_wrong_tasks_and_paths_are_told() -> None:
    with pytest.raises(UsageError, match=r"needs a path to your images\nGive it with --data"):
        load_dataset(DataConfig(task="images"), "none", 0)
    with pytest.raises(UsageError, match="embedded and reads no path"):
        load_dataset(DataConfig(path="x"), "none", 0)
    with pytest.raises(DataError, match="no file or folder /nowhere"):
        load_dataset(DataConfig(task="mnist", path="/nowhere"), "none", 0)


def test_mnist_holds_out_the_last_ten_thousand_and_knows_the_original(data_path: Find) -> None:
    dataset = load_dataset(DataConfig(task="mnist", path=str(data_path("mnist.npz"))), "none", 0)
    assert sizes(dataset) == [50_000, 10_000, 10_000]
    assert dataset.pixels("train").dtype == torch.uint8
    # label counts and mean intensity as in the note beside the data
    assert dataset.labels["test"].bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert to_unit(dataset.pixels("test")).mean().item() == pytest.approx(0.1325, abs=1e-4)
    assert dataset.provenance["exact"] is True


def write_idx(path: Path, x: np.ndarray) -> None:
    header = np.array([0x0800 + x.ndim, *x.shape], dtype=">i4").tobytes()
    content = header + x.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.mark.parametrize("suffix", [".gz", ""])
def test_mnist_reads_idx_files(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    arrays = {key: rng.integers(0, 256, (60, 28, 28)) for key in ("train_x", "test_x")}
    arrays |= {key: rng.integers(0, 10, 60) for key in ("train_y", "test_y")}
    for key, x in arrays.items():
        write_idx(tmp_path / f"{mnist.STEMS[key]}{suffix}", x)
    for path in (tmp_path, tmp_path / f"{mnist.STEMS['train_x']}{suffix}"):
        dataset = load_dataset(DataConfig(task="mnist", path=str(path)), "none", 0)
        assert sizes(dataset) == [50, 10, 60]
        assert np.array_equal(dataset.pixels("train")[:, 0].numpy(), arrays["train_x"][:50])
        assert np.array_equal(dataset.labels["test"].numpy(), arrays["test_y"])
        assert dataset.provenance["exact"] is False
        assert "NOT byte for byte" in dataset.provenance["notes"][0]


def test_mnist_is_downloaded_with_its_checksums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in mnist.STEMS:
        write_idx(tmp_path / f"{mnist.STEMS[key]}.gz", np.zeros((60, 28, 28) if key.endswith("x") else (60,)))
    asked = []

    def fetch(remote: RemoteFile, progress: object = None) -> Path:
        asked.append(remote)
        return tmp_path / Path(remote.name).name

    monkeypatch.setattr(mnist, "fetch", fetch)
    dataset = load_dataset(DataConfig(task="mnist"), "none", 0)
    assert sizes(dataset) == [50, 10, 60]
    assert [remote.checksums for remote in asked] == [(f"md5:{md5}",) for md5 in mnist.GZ_MD5.values()]
    assert asked[0].urls == tuple(f"{mirror}train-images-idx3-ubyte.gz" for mirror in mnist.MIRRORS)


def test_mnist_s_bad_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no MNIST in"):
        load_dataset(DataConfig(task="mnist", path=str(tmp_path)), "none", 0)
    path = tmp_path / f"{mnist.STEMS['train_x']}.gz"
    path.write_bytes(b"\x1f\x8bnonsense")
    with pytest.raises(DataError, match="is not an idx file of bytes"):
        load_dataset(DataConfig(task="mnist", path=str(tmp_path)), "none", 0)
    write_idx(path, np.zeros((9, 28, 28)))
    with pytest.raises(DataError, match="no MNIST test_x"):
        load_dataset(DataConfig(task="mnist", path=str(tmp_path)), "none", 0)


IMAGES, LABELS = np.zeros((60, 28, 28), dtype=np.uint8), np.arange(60) % 10


@pytest.mark.parametrize(
    ("key", "x", "words"),
    [
        ("train_y", LABELS[:59], r"MNIST train_y: expected one label for each of 60 images, got shape \(59,\)"),
        ("test_y", LABELS[:59], r"MNIST test_y: expected one label for each of 60 images, got shape \(59,\)"),
        ("test_x", IMAGES[:59], r"MNIST test_y: expected one label for each of 59 images, got shape \(60,\)"),
        ("train_y", IMAGES, r"MNIST train_y: expected one label .*, got shape \(60, 28, 28\)"),
        ("train_x", LABELS, r"MNIST train_x: expected images of shape .*, got \(60,\)"),
        ("train_y", LABELS + 1, r"MNIST train_y: expected labels 0 to 9, got 1 to 10"),
        ("test_y", np.full(60, 255), r"MNIST test_y: expected labels 0 to 9, got 255 to 255"),
        ("train_x", IMAGES[:5], r"MNIST has only 5 training images, expected at least 6"),
        ("train_x", IMAGES[:0], r"MNIST train_x: expected images of shape"),
    ],
)
def test_mnist_s_images_and_labels_belong_together(tmp_path: Path, key: str, x: np.ndarray, words: str) -> None:
    """As idx files and as an npz alike; each error has its second line."""
    arrays = {name: IMAGES if name.endswith("x") else LABELS for name in mnist.STEMS} | {key: x}
    if key == "train_x" and x.ndim == 3 and len(x):
        arrays["train_y"] = LABELS[: len(x)]
    for name, found in arrays.items():
        write_idx(tmp_path / mnist.STEMS[name], found)
    np.savez(tmp_path / "mnist.npz", **arrays)
    for path in (tmp_path, tmp_path / "mnist.npz"):
        with pytest.raises(DataError, match=words) as caught:
            load_dataset(DataConfig(task="mnist", path=str(path), per_class=2), "none", 0)
        assert caught.value.hint


def test_idx_files_cut_anywhere_are_told(tmp_path: Path) -> None:
    for key in mnist.STEMS:
        write_idx(tmp_path / mnist.STEMS[key], IMAGES if key.endswith("x") else LABELS)
    for stem in mnist.STEMS.values():
        whole = (tmp_path / stem).read_bytes()
        for size in (0, 3, 4, 7, 8, len(whole) - 1):
            (tmp_path / stem).write_bytes(whole[:size])
            with pytest.raises(DataError, match=rf"{stem} is not an idx file of bytes: .*\nLeave --data out"):
                load_dataset(DataConfig(task="mnist", path=str(tmp_path)), "none", 0)
        (tmp_path / stem).write_bytes(whole[:2] + b"\x0d" + whole[3:])  # of floats
        with pytest.raises(DataError, match=f"{stem} is not an idx file of bytes"):
            load_dataset(DataConfig(task="mnist", path=str(tmp_path)), "none", 0)
        (tmp_path / stem).write_bytes(whole)
    assert sizes(load_dataset(DataConfig(task="mnist", path=str(tmp_path)), "none", 0)) == [50, 10, 60]


def test_omniglot_s_images_and_characters_belong_together(tmp_path: Path) -> None:
    from scipy.io import savemat

    many: Any = np.arange(60)
    for wrong in (many[:59], many - 1, many + 0.5):
        for keys in (("train_y", "test_y"), ("test_y", "train_y")):
            labels: Any = {keys[0]: wrong, keys[1]: many}
            np.savez(tmp_path / "omniglot.npz", train_x=IMAGES, test_x=IMAGES, **labels)
            with pytest.raises(DataError, match=rf"omniglot.npz:{keys[0]}: expected") as caught:
                load_dataset(DataConfig(task="omniglot", path=str(tmp_path / "omniglot.npz")), "none", 0)
            assert caught.value.hint
    flat = {"data": np.zeros((784, 60)), "testdata": np.zeros((784, 60))}
    savemat(tmp_path / "chardata.mat", flat | {"targetchar": many[None], "testtargetchar": many[None, :59]})
    with pytest.raises(DataError, match=r"OMNIGLOT testtargetchar: expected one label for each of 60 images"):
        load_dataset(DataConfig(task="omniglot", path=str(tmp_path)), "none", 0)


def test_the_omniglot_substitute_says_that_it_is_one(data_path: Find) -> None:
    dataset = load_dataset(DataConfig(task="omniglot", path=str(data_path("omniglot28_lake.npz"))), "dynamic", 0)
    assert sizes(dataset) == [22_345, 2_000, 8_115]
    assert dataset.provenance["substitute"] is True
    assert "SUBSTITUTE" in dataset.provenance["notes"][0]
    assert to_unit(dataset.pixels("train")).mean().item() == pytest.approx(0.081, abs=1e-3)
    assert len(dataset.labels["train"]) == 22_345
    assert len(set(dataset.labels["train"].tolist())) == 1_623  # characters, not alphabets


def write_chardata(path: Path, train: np.ndarray, test: np.ndarray) -> None:
    """The true file's layout: pixels x images, each image transposed."""
    from scipy.io import savemat

    columns = {key: x.transpose(0, 2, 1).reshape(len(x), -1).T for key, x in {"data": train, "testdata": test}.items()}
    savemat(path, columns | {"targetchar": np.arange(len(train))[None], "testtargetchar": np.arange(len(test))[None]})


def test_chardata_s_images_are_transposed_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    train, test = rng.random((30, 28, 28)), rng.random((7, 28, 28))
    path = tmp_path / "chardata.mat"
    write_chardata(path, train, test)
    dataset = load_dataset(DataConfig(task="omniglot", path=str(tmp_path)), "none", 0)
    assert sizes(dataset) == [25, 5, 7]
    np.testing.assert_allclose(dataset.pixels("test")[:, 0].numpy(), test, rtol=1e-6)
    np.testing.assert_allclose(dataset.pixels("train")[:, 0].numpy(), train[dataset.labels["train"].numpy()], rtol=1e-6)
    assert dataset.provenance["substitute"] is True
    assert "its MD5 differs" in dataset.provenance["notes"][0]
    sums = (f"md5:{file_hash(path, 'md5')}",)
    monkeypatch.setattr(omniglot, "CHARDATA", RemoteFile(name="x", urls=(), checksums=sums))
    true = load_dataset(DataConfig(task="omniglot", path=str(path)), "none", 0)
    assert (true.provenance["substitute"], true.provenance["exact"]) == (False, True)


def test_chardata_s_characters_are_told_apart_across_alphabets(tmp_path: Path) -> None:
    """The file counts characters within an alphabet, which stands in another array."""
    from scipy.io import savemat

    alphabet, character = np.arange(60) % 3, np.arange(60) // 3 % 2 + 1  # six characters, two in each alphabet
    target = np.eye(3)[alphabet].T
    named = {"target": target, "targetchar": character[None], "testtarget": target, "testtargetchar": character[None]}
    savemat(tmp_path / "chardata.mat", {"data": np.zeros((784, 60)), "testdata": np.zeros((784, 60))} | named)
    labels = load_dataset(DataConfig(task="omniglot", path=str(tmp_path)), "none", 0).labels["test"]
    pairs = set(zip(alphabet.tolist(), character.tolist(), labels.tolist(), strict=True))
    assert len(pairs) == len(set(labels.tolist())) == 6


@pytest.mark.parametrize("sizes", [(60_000, 10_000), (40, 20)])
def test_mnist_is_not_taken_for_omniglot(tmp_path: Path, sizes: tuple[int, int]) -> None:
    train, test = (np.zeros((n, 1, 1), dtype=np.uint8) for n in sizes)
    labels: Any = (
        {"train_y": np.arange(len(train)) % 10, "test_y": np.arange(len(test)) % 10} if sizes == (40, 20) else {}
    )
    np.savez(tmp_path / "mnist.npz", train_x=train, test_x=test, **labels)
    with pytest.raises(DataError, match=r"mnist\.npz is not OMNIGLOT: .* images.*, as MNIST"):
        omniglot.load(DataConfig(task="omniglot", path=str(tmp_path / "mnist.npz")))


def test_omniglot_s_bad_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no OMNIGLOT in"):
        load_dataset(DataConfig(task="omniglot", path=str(tmp_path)), "none", 0)
    (tmp_path / "chardata.mat").write_text("hello")
    with pytest.raises(DataError, match=r"is not OMNIGLOT's chardata.mat"):
        load_dataset(DataConfig(task="omniglot", path=str(tmp_path)), "none", 0)
    np.savez(tmp_path / "omniglot.npz", x=np.zeros(3))
    with pytest.raises(DataError, match="has no train_x and test_x"):
        load_dataset(DataConfig(task="omniglot", path=str(tmp_path / "omniglot.npz")), "none", 0)
