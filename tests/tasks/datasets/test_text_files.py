"""Datasets of the user's own text: parts, vocabulary, limits, what is left out, what cannot be used."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from lso.tasks.datasets.loading import load_dataset, model_inputs
from lso.tasks.datasets.text_files import text_dataset
from lso.tasks.datasets.tokenizers import tokenizer
from lso.tasks.task import infer_task
from lso.tasks.training import experiment
from lso.tasks.training.plan import plan
from lso.vae.config.protocol import Binarize, DataConfig
from lso.vae.data.dataset import SPLITS, Dataset, Split
from lso.vae.errors import DataError, UsageError

WORDS = [f"w{i}" for i in range(20)]


def sentences(n: int, first: int = 0) -> list[str]:
    """Distinct ones of one to seven words, common words first."""
    return [" ".join(WORDS[i * j % 20 % (j + 1)] for j in range(i % 7)) + f" n{first + i}" for i in range(n)]


def write(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def loaded(path: Path, binarize: Binarize = "none", **fields: Any) -> Dataset:
    return load_dataset(DataConfig(task="text", path=str(path), **fields), binarize, 0)


def lines_of(dataset: Dataset, split: Split) -> list[str]:
    assert dataset.vocabulary is not None
    return [dataset.vocabulary.text(row) for row in dataset.corpus(split).padded().tolist()]


def sizes(dataset: Dataset) -> list[int]:
    return [len(dataset.split(name)) for name in SPLITS]


def test_a_file_is_split_and_nothing_is_lost(tmp_path: Path) -> None:
    lines = sentences(103)
    dataset = loaded(write(tmp_path / "x.txt", lines), tokenizer="characters")
    assert dataset.kind == "sequence" and sizes(dataset) == [83, 10, 10]
    known = set("".join(lines_of(dataset, "train")))
    together = [line for name in SPLITS for line in lines_of(dataset, name)]
    assert known >= set("".join(lines)) and Counter(together) == Counter(lines)
    assert dataset.provenance["tokens"]["train"] == sum(map(len, lines_of(dataset, "train")))
    assert model_inputs(dataset, "train") is dataset.train


def test_loading_is_a_function_of_the_file_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "x.txt", sentences(50))
    first, second = (load_dataset(DataConfig(task="text", path=str(path)), "none", seed) for seed in (0, 1))
    assert first.hash() == second.hash() != loaded(path, tokenizer="characters").hash()


def test_a_folder_s_parts_are_kept_and_missing_ones_are_cut(tmp_path: Path) -> None:
    write(tmp_path / "my.train.txt", sentences(40))
    write(tmp_path / "my.val.txt", sentences(6, 40))
    (tmp_path / "README.txt").write_text("not data")
    assert infer_task(tmp_path) == "text"
    dataset = loaded(tmp_path)
    assert sizes(dataset) == [36, 6, 4]
    assert dataset.provenance["split"]["how"] == "test cut from train, shuffled with seed 0"
    assert dataset.provenance["files"]["validation"]["name"] == "my.val.txt"
    write(tmp_path / "other.train.txt", ["a"])
    with pytest.raises(DataError, match=r"two files for train: my.train.txt and other.train.txt"):
        loaded(tmp_path)


def test_the_vocabulary_is_of_the_training_part_that_is_used(tmp_path: Path) -> None:
    write(tmp_path / "train.txt", ["a b"] * 9 + ["c"])
    write(tmp_path / "valid.txt", ["a d d"])
    write(tmp_path / "test.txt", ["b <unk>"])
    dataset = loaded(tmp_path)
    assert dataset.vocabulary is not None and dataset.vocabulary.tokens[4:] == ("a", "b", "c")
    assert dataset.provenance["unknown"] == {"train": 0, "validation": 2, "test": 1}
    assert lines_of(dataset, "validation") == ["a <unk> <unk>"]
    assert (
        "Unknown tokens, or tokens written <unk>: train 0 (0.00%), validation 2 (66.67%), test 1 (50.00%)."
        in (dataset.provenance["notes"])
    )
    assert dataset.shape == (5, 7)
    limited = loaded(tmp_path, limit=3)
    assert sizes(limited) == [3, 1, 1] and limited.vocabulary is not None
    assert set(limited.vocabulary.tokens[4:]) == set(" ".join(lines_of(limited, "train")).split())


def test_a_vocabulary_is_limited_by_size_by_count_or_given(tmp_path: Path) -> None:
    path = write(tmp_path / "x.txt", ["a a a b b c", *["a b"] * 10])
    given = write(tmp_path / "words.txt", ["<unk>", "b", "z"])
    cases: list[tuple[dict[str, Any], set[str]]] = [
        ({"vocabulary_size": 1}, {"a"}),
        ({"min_count": 2}, {"a", "b"}),
        ({"vocabulary": str(given)}, {"b", "z"}),
    ]
    for fields, expected in cases:
        found = loaded(path, **fields).vocabulary
        assert found is not None and set(found.tokens[4:]) == expected
    with pytest.raises(UsageError, match="a vocabulary from a file or by counting"):
        DataConfig(task="text", vocabulary=str(given), min_count=2)


def test_labels_are_numbered_alike_in_all_parts_and_classes_can_be_limited(tmp_path: Path) -> None:
    write(tmp_path / "train.txt", [f"{i % 3 + 8}\tline {i}" for i in range(30)])
    write(tmp_path / "valid.txt", ["10\tline 1"])
    write(tmp_path / "test.txt", ["line 1"])
    dataset = loaded(tmp_path, per_class=4)
    assert dataset.provenance["labels"] == ["8", "9", "10"]
    assert dataset.labels["train"].bincount().tolist() == [4, 4, 4]
    assert dataset.labels["validation"].tolist() == [2] and "test" not in dataset.labels
    notes = dataset.provenance["notes"]
    assert "Labels: 3 kinds, in train, validation; they are not part of the text." in notes
    assert "3 classes with at most 4 training sequences each." in notes
    for line, label in zip(lines_of(dataset, "train"), dataset.labels["train"].tolist(), strict=True):
        assert int(line.split()[1]) % 3 == label


def test_long_sequences_are_left_out_with_their_labels_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "x.txt", [f"{i % 2}\t{'word ' * (i + 1)}" for i in range(20)])
    dataset = loaded(path, longest=12)
    assert sum(sizes(dataset)) == 12 and int(dataset.shape[0]) <= 14
    assert (
        "x.txt: 8 of 20 sequences have more than 12 tokens and are left out (the longest has 20)."
        in (dataset.provenance["notes"])
    )
    for name in SPLITS:
        words = dataset.corpus(name).lengths - 2
        assert torch.equal((words - 1) % 2, dataset.labels[name])


def test_one_huge_line_is_an_error_unless_long_ones_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "x.txt", [*sentences(20), "word " * 20_000])
    with pytest.raises(DataError, match=r"x.txt: sequence 21 has 20,000 tokens.*\n.*--longest 200"):
        loaded(path)
    assert sum(sizes(loaded(path, longest=200))) == 20
    with pytest.raises(DataError, match=r"sequence 1 has 20,000 tokens"):
        loaded(write(path, ["word " * 20_000]))
    with pytest.raises(DataError, match=r"no sequences of x.txt are left. x.txt: 1 of 1 sequences have more than 5"):
        loaded(path, longest=5)
    with pytest.raises(DataError, match=r"only 9 sequences to split.*at least 10"):
        loaded(write(path, sentences(9)))


def test_all_tokens_unknown_is_an_error_in_training_and_counted_elsewhere(tmp_path: Path) -> None:
    path, given = write(tmp_path / "x.txt", sentences(20)), write(tmp_path / "words.txt", ["z"])
    with pytest.raises(DataError, match=r"all \d+ tokens of the training data are unknown .*words.txt.*\nCheck"):
        loaded(path, vocabulary=str(given))
    found = text_dataset({"train": ["a b"], "validation": ["c d"], "test": ["e"]})
    assert found.provenance["unknown"] == {"train": 0, "validation": 2, "test": 1}


def test_specials_in_text_cannot_end_a_sequence(tmp_path: Path) -> None:
    dataset = text_dataset({"train": ["a </s> b", "<pad>", "<s> a"], "validation": ["a"], "test": ["b"]})
    assert lines_of(dataset, "train") == ["a <unk> b", "<unk>", "<unk> a"]
    assert dataset.provenance["unknown"]["train"] == 3


def halves(text: str) -> list[str]:
    return [part for part in (text[: len(text) // 2], text[len(text) // 2 :]) if part]


def test_lines_at_hand_with_a_function_of_one_s_own() -> None:
    dataset = text_dataset(
        ["abcd", "", "abef"] + ["cdcd"] * 20,
        DataConfig(task="text", min_count=2),
        split=halves,
        labels={"all": [1] * 23},
    )
    assert sizes(dataset) == [18, 2, 2] and dataset.labels["train"].tolist() == [0] * 18
    assert dataset.provenance["tokenizer"] == {"name": f"{__name__}:halves", "joiner": ""}
    assert "cdcd" in lines_of(dataset, "train")
    for wrong in ("abc", {"train": ["a"], "validation": "b", "test": ["c"]}):
        with pytest.raises(UsageError, match="expected a list of lines"):
            text_dataset(wrong)
    with pytest.raises(UsageError, match="one label for each line"):
        text_dataset(["a"] * 20, labels={"all": [1]})


def test_a_plan_of_text_has_the_task_s_defaults_and_absolute_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "x.txt", ["a"])
    write(tmp_path / "words", ["a"])
    monkeypatch.chdir(tmp_path)
    full = plan({"data": {"path": "x.txt", "vocabulary": "words", "tokenizer": "characters"}})
    assert (full.data.task, full.data.tokenizer) == ("text", "characters")
    assert Path(full.data.path).is_absolute() and full.data.vocabulary == str((tmp_path / "words").resolve())
    assert (full.architecture.name, full.architecture.likelihood) == ("lstm", "categorical")
    assert (full.protocol.optimizer, full.protocol.learning_rate, full.protocol.decay_from) == ("sgd", 1.0, 15)
    with pytest.raises(UsageError, match="binarize is for images"):
        plan({"data": {"path": "x.txt"}, "protocol": {"binarize": "fixed"}})
    with pytest.raises(UsageError, match="lengths is for sequences, and task digits has images"):
        plan({"protocol": {"lengths": "near"}})
    with pytest.raises(UsageError, match=r"lstm is for sequences, .* likelihood bernoulli is not\nArchitectures .*mlp"):
        plan({"data": {"path": "x.txt"}, "architecture": {"likelihood": "bernoulli"}})
    with pytest.raises(DataError, match="no file or folder none"):
        plan({"data": {"path": "x.txt", "vocabulary": "none"}})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"task": "digits", "tokenizer": "words", "longest": 3},
            "longest is for sequences, and task digits has images",
        ),
        ({"task": "ptb", "fit": "pad", "invert": True}, "invert and fit are for images, and task ptb has sequences"),
    ],
)
def test_settings_of_other_data_are_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan({"data": data})
    with pytest.raises(UsageError, match=message):
        load_dataset(DataConfig(**data), "none", 0)


def test_networks_bring_the_optimizer_that_suits_them() -> None:
    transformer = {"data": {"task": "ptb"}, "architecture": {"name": "transformer"}}
    assert (plan(transformer).protocol.optimizer, plan(transformer).protocol.learning_rate) == ("adam", 1e-3)
    assert plan(transformer).protocol.patience == plan({"data": {"task": "ptb"}}).protocol.patience
    assert plan({**transformer, "protocol": {"optimizer": "sgd"}}).protocol.learning_rate == 1.0


def test_a_path_tells_that_it_is_text(tmp_path: Path) -> None:
    for name, expected in [("x.txt", "text"), ("X.TXT.GZ", "text")]:
        (tmp_path / name).touch()
        assert infer_task(tmp_path / name) == expected
    assert infer_task(tmp_path) == "text"
    (tmp_path / "short_yelp.train.txt.gz").touch()
    assert infer_task(tmp_path) == "short-yelp"
    (tmp_path / "a.png").touch()
    assert infer_task(tmp_path) == "images"
    with pytest.raises(UsageError, match="task text needs a path to your text"):
        load_dataset(DataConfig(task="text"), "none", 0)
    with pytest.raises(UsageError, match="binarize is for images, and task text has sequences"):
        loaded(tmp_path / "x.txt", binarize="dynamic")


def test_the_tokenizer_is_recovered_from_a_run_whose_lines_were_given_in_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "_write_report", lambda run, _: run)
    dataset = text_dataset([f"ab{i % 7}cd" for i in range(30)], split=halves)
    sizes = {"architecture": {"width": 4, "embedding": 4, "latent_dim": 2}}
    run = experiment.train("vae", dataset=dataset, out=tmp_path / "run", epochs=0, settings=sizes)
    assert run.config.architecture.name == "lstm" and run.config.protocol.optimizer == "sgd"
    assert tokenizer(run.config.data.tokenizer).split is halves
