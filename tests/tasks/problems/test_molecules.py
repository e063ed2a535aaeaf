"""Molecules as data and as a task: what is read, kept, carried, learnt from and searched for."""

import csv
import gzip
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rdkit", reason="extra lso[molecules]")
pytest.importorskip("selfies", reason="extra lso[molecules]")

from lso.decoders.decoder import Decoder
from lso.decoders.generation import Generation
from lso.objectives.latent_objective import LatentObjective
from lso.space import LatentSpace
from lso.tasks.datasets.loading import load_dataset
from lso.tasks.datasets.splits import plan_splits
from lso.tasks.datasets.tokenizers import tokenizer
from lso.tasks.goals import Goal
from lso.tasks.problems import molecule_files, molecules
from lso.tasks.problems.chemistry import canonical_smiles
from lso.tasks.problems.molecule_scores import SCORES
from lso.tasks.problems.molecules import GOALS, TEST_MOLECULES, VALIDATION_MOLECULES, ZINC_MOLECULES
from lso.tasks.task import task
from lso.tasks.training.experiment import train
from lso.tasks.training.plan import plan
from lso.vae.config.protocol import DataConfig
from lso.vae.config.training import to_toml
from lso.vae.data.dataset import SPLITS, Dataset
from lso.vae.errors import DataError
from lso.vae.runs import Run
from lso.vae.utils.random import generator

encode = molecule_files._encode_molecule
ROWS = [("CCO", "train"), ("c1ccccc1F", "train"), ("C[C@@H](N)C(=O)O\n", "train"), ("C1CC", "train")]
ROWS += [("CC(=O)C", "valid"), ("OCc1ccccc1", "test")]  # of symbols that occur in training


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """As the original file: quoted, with line ends in the molecules; and one that is none."""
    path = tmp_path / "some.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("smiles", "logP", "split"), *((smiles, 1.0, part) for smiles, part in ROWS)])
    return path


def loaded(path: Path, **fields: object) -> Dataset:
    return load_dataset(DataConfig(task="molecules", path=str(path), **fields), "none", 0)  # type: ignore[arg-type]


def texts(dataset: Dataset) -> dict[str, list[str]]:
    assert dataset.vocabulary is not None
    return {name: [dataset.vocabulary.text(row) for row in dataset.corpus(name).padded().tolist()] for name in SPLITS}


def test_a_table_becomes_the_same_molecules_in_its_own_parts(table: Path) -> None:
    dataset = loaded(table)
    read = {name: [canonical_smiles(text) for text in found] for name, found in texts(dataset).items()}
    assert read == {
        "train": [canonical_smiles(smiles.strip()) for smiles, _ in ROWS[:3]],
        "validation": [canonical_smiles("CC(=O)C")],
        "test": [canonical_smiles("OCc1ccccc1")],
    }
    assert dataset.provenance["dropped"] == {"unreadable": 1, "not encodable": 0, "changed": 0}
    assert "column split" in dataset.provenance["split"]["how"]
    assert any("6 molecules as SELFIES; left out: 1 that RDKit" in note for note in dataset.provenance["notes"])


def test_molecules_named_in_python_are_tokenized_as_molecules(table: Path) -> None:
    named = load_dataset(DataConfig(task="molecules", path=str(table)))
    assert named.hash() == loaded(table, tokenizer="selfies").hash() != loaded(table, tokenizer="words").hash()
    assert named.vocabulary is not None and "[C]" in named.vocabulary.tokens


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A hundred molecules, every tenth of them none."""
    path = tmp_path / "many.smi"
    path.write_text("\n".join("C1CC" if n % 10 == 9 else f"{'C' * (n % 7 + 1)}O{'N' * (n // 7)}F" for n in range(100)))
    return path


def test_a_limit_has_no_other_molecules_encoded(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows are those that the limit leaves of the file's, in the order that `plan_splits` gives them."""
    asked: list[str] = []

    def counted(text: str) -> tuple[str, str]:
        asked.append(text)
        return encode(text)

    monkeypatch.setattr(molecule_files, "_encode_molecule", counted)
    limited = loaded(many, limit=16)
    lines = many.read_text().split("\n")
    cut = plan_splits({"all": 100}, {}, limit=16)
    rows = {part: [lines[row] for row in index.tolist()] for part, index in cut.rows.items()}
    assert sorted(asked) == sorted(text for part in rows.values() for text in part) and len(asked) == 20
    written = {part: [canonical_smiles(text) for text in found] for part, found in texts(limited).items()}
    assert written["train"] == [found for text in rows["train"] if (found := canonical_smiles(text))]
    assert limited.provenance["dropped"]["unreadable"] == sum(canonical_smiles(text) is None for text in asked) > 0
    assert "reduced to 0.2" in limited.provenance["split"]["how"] and limited.provenance["split"]["limit"] == 16
    asked.clear()
    assert loaded(many, limit=16).hash() == limited.hash() and not asked  # kept, beside those of other limits
    assert len(loaded(many, limit=8).corpus("train")) <= 8 and len(asked) == 10


def test_a_limit_of_a_folder_from_before_is_taken_of_what_could_be_encoded(many: Path, tmp_path: Path) -> None:
    """Its config.toml does not say when; all molecules are encoded for it, and its data are the same as ever."""
    (tmp_path / "run.json").write_text("{}")
    text = to_toml(plan({"data": {"task": "molecules", "path": str(many), "limit": 16}}))
    assert 'limited = "read"' in text
    (tmp_path / "config.toml").write_text(text.replace('limited = "read"\n', ""))
    whole = loaded(many)  # 90 molecules: 72, 9 and 9
    index = plan_splits({"train": 72, "validation": 9, "test": 9}, {}, limit=16).rows["train"].tolist()
    config = Run(tmp_path).config.data
    assert config.limited == "encoded"
    before = load_dataset(config)
    assert texts(before)["train"] == [texts(whole)["train"][row] for row in index]
    assert before.provenance["dropped"]["unreadable"] == 10


def test_what_was_encoded_once_is_kept(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = loaded(table)
    monkeypatch.setattr(molecules, "encode_selfies", None)  # a second encoding would fail
    assert loaded(table).hash() == first.hash()
    packed = table.with_name("some.csv.gz")
    packed.write_bytes(gzip.compress(table.read_bytes()))
    assert loaded(packed).hash() == first.hash()  # the same content


def test_a_damaged_cache_is_made_again(table: Path, tmp_path: Path) -> None:
    first = loaded(table)
    (kept,) = (tmp_path / "cache").rglob("selfies-*.npz")
    kept.write_bytes(kept.read_bytes()[:100])
    assert loaded(table).hash() == first.hash()


def test_a_carried_file_gives_the_same_data_without_the_extra(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = loaded(table)
    molecules.write(table, carried := table.with_name("carried.npz"))
    for module in ("rdkit", "rdkit.Chem", "selfies"):
        monkeypatch.setitem(sys.modules, module, None)
    again = loaded(carried)
    assert (again.hash(), again.provenance["dropped"]) == (first.hash(), first.provenance["dropped"])
    with np.load(carried) as arrays:
        assert arrays["tokens"].dtype == np.int16 and arrays["tokens"].ndim == 1


def test_a_damaged_file_is_refused(tmp_path: Path, table: Path) -> None:
    path = tmp_path / "carried.npz"
    molecules.write(table, path)
    with np.load(path) as arrays:
        kept = dict(arrays)
    for change in ({"lengths": kept["lengths"] + 1}, {"record": np.array("{")}, {"record": np.array("[" * 100_000)}):
        np.savez(path, **{**kept, **change})
        with pytest.raises(DataError, match=r"contradicts itself.*\nGive a .csv with a column smiles"):
            loaded(path)
    np.savez(path, x=np.zeros(3))
    with pytest.raises(DataError, match="lacks tokens, lengths"):
        loaded(path)


def test_lines_may_be_selfies_or_smiles(tmp_path: Path) -> None:
    path = tmp_path / "mine.smi"
    path.write_text("\n".join(f"{'C' * n}O\tname{n}" for n in range(1, 21)))
    written = sorted(text for part in texts(loaded(path)).values() for text in part)
    assert written == sorted("[C]" * n + "[O]" for n in range(1, 21))
    path.write_text("\n".join(written))
    assert sorted(text for part in texts(loaded(path)).values() for text in part) == written


def test_a_table_without_molecules_says_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "wrong.csv"
    path.write_text("name,weight\na,1\n")
    with pytest.raises(DataError, match="has the columns name, weight, expected smiles"):
        loaded(path)
    path.write_text("smiles,split\nCCO,middle\n")
    with pytest.raises(DataError, match="names the split 'middle'"):
        loaded(path)
    path.write_text("smiles\nC1CC\n")
    with pytest.raises(DataError, match="none of 1 lines is a molecule"):
        loaded(path)


def test_all_of_zinc_without_parts_takes_the_sizes_of_jt_vae() -> None:
    whole = molecule_files.Molecules(parts={"all": [str(i) for i in range(ZINC_MOLECULES)]})
    parts = molecules._assign_zinc_splits(whole).parts
    assert [len(parts[name]) for name in SPLITS] == [220_010, VALIDATION_MOLECULES, TEST_MOLECULES]
    assert list(parts["test"]) == [str(i) for i in range(TEST_MOLECULES)]
    assert len({text for part in parts.values() for text in part}) == ZINC_MOLECULES


def test_the_tokenizer_loses_nothing() -> None:
    split = tokenizer("selfies").split
    assert split("[C][=C][Ring1].[O]") == ["[C]", "[=C]", "[Ring1]", ".", "[O]"]
    assert "".join(split("a[b]c]\n[d")) == "a[b]c]\n[d"


def test_every_goal_is_there_by_name() -> None:
    assert GOALS.keys() == SCORES.keys() and task("molecules").goal == GOALS["qed"]
    for where in GOALS.values():
        module, _, function = where.partition(":")
        assert callable(getattr(import_module(module), function))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A small model, hardly trained."""
    folder = tmp_path_factory.mktemp("molecules")
    smiles = [f"{'C' * n}{group}" for n in range(1, 11) for group in ("O", "F", "C(=O)O", "c1ccccc1", "N", "C1CC1")]
    (folder / "few.smi").write_text("\n".join(smiles))
    sizes = {"architecture": {"width": 16, "layers": 1}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LSO_CACHE", str(folder / "cache"))
        return train(task="molecules", data=folder / "few.smi", settings=sizes, epochs=1, out=folder / "run")


def test_what_is_decoded_is_a_molecule_or_no_atoms(run: Run) -> None:
    """SELFIES have a meaning whatever their symbols, of branches and rings alone that of no atoms; the unknown symbol
    has none, of which a model that is hardly trained makes some."""
    from selfies import decoder as read

    decoder = Decoder(run.model(), generation=Generation(how="sample", common=False))
    decoded = decoder(LatentSpace(decoder.latent_dim).sample(50, generator=generator(0, "test")))
    known = [text for text in decoded if "<unk>" not in text]
    assert len(set(known)) > 10
    assert [canonical_smiles(text) is not None for text in known] == [read(text) != "" for text in known]


def test_a_goal_scores_what_is_decoded_and_knows_training_molecules(run: Run) -> None:
    found: Goal = molecules.qed(run)
    decoder = Decoder(run.model(), generation=Generation(how="sample", common=False))
    objective = LatentObjective(decoder, found.score, on=found.on)
    values = objective(LatentSpace(decoder.latent_dim).sample(20, generator=generator(0, "test")))
    assert objective.maximize and found.maximize and objective.name == "qed"
    assert all(0 < value < 1 for value in values.tolist() if value == value)
    assert found.known is not None
    texts, known = found.known(20, 0)
    assert known == found.score(texts) and len(texts) == len(set(texts)) == 20
    assert min(known[:4]) >= max(known[4:])  # of few molecules all are scored, so that the first fifth is the best
    assert found.known(20, 1)[0] != texts
