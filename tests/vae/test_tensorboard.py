"""Curves of trainings and searches, read back by TensorBoard's own reader."""

from pathlib import Path
from typing import Any

import pytest
import torch

import lso
from lso import Callback, Event, TensorBoard
from lso.vae.errors import LsoError, UsageError
from lso.vae.training.callbacks import Limits
from lso.vae.training.loop import resume_training, train_model
from tests.lso.example_decoders import draws, reconstruction
from tests.lso.searches import objects, run
from tests.vae.small import config, digits, sentences

pytest.importorskip("tensorboard")


def read(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "histograms": 0, "tensors": 0})
    reader.Reload()
    return reader


def curve(reader: Any, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in reader.Scalars(tag)]


def test_all_numbers_of_the_rows_are_curves_and_the_weights_have_the_same_bits(tmp_path: Path) -> None:
    plain = train_model(config(), digits(), tmp_path / "plain")
    before = torch.get_rng_state()
    logged = train_model(config(), digits(), tmp_path / "logged", callback=TensorBoard(images=4, images_every=1))
    assert torch.equal(before, torch.get_rng_state())
    assert (logged.path / "model.safetensors").read_bytes() == (plain.path / "model.safetensors").read_bytes()
    reader, rows = read(logged.path / "tensorboard"), logged.metrics()
    for tag, key in (
        ("validation/neg_elbo", "neg_elbo"),
        ("validation/active_units", "active_units"),
        ("schedule/learning_rate", "learning_rate"),
        ("train/loss", "train_loss"),
    ):
        wanted = [(row["epoch"], row[key]) for row in rows if row[key] is not None]
        assert [step for step, _ in curve(reader, tag)] == [epoch for epoch, _ in wanted]
        assert [value for _, value in curve(reader, tag)] == pytest.approx([value for _, value in wanted])
    of_dimensions = [curve(reader, f"kl_per_dimension/{number:02d}") for number in range(4)]
    for row, *values in zip(rows, *of_dimensions, strict=True):
        assert sum(value for _, value in values) == pytest.approx(row["kl"], rel=1e-4)
    assert [event.step for event in reader.Histograms("kl_of_dimensions")] == [0, 1, 2]
    images = reader.Images("draws_from_the_prior")
    assert [event.step for event in images] == [0, 1, 2]
    assert images[0].encoded_image_string.startswith(b"\x89PNG") and (images[0].height, images[0].width) != (8, 8)


def test_a_resumed_training_continues_the_curves_without_duplicates(tmp_path: Path) -> None:
    class Killed(Callback):
        """Ends the session after an epoch that was logged and is not in the checkpoint."""

        def on_epoch(self, event: Event) -> None:
            if event.done == 2:
                raise KeyboardInterrupt

    from lso.vae.callbacks import CallbackList

    begun = config(epochs=3)
    with pytest.raises(KeyboardInterrupt):
        train_model(begun, digits(), tmp_path / "r", callback=CallbackList(TensorBoard(), Killed()))
    assert [step for step, _ in curve(read(tmp_path / "r" / "tensorboard"), "validation/kl")] == [0, 1, 2]
    again = resume_training(lso.Run(tmp_path / "r"), digits(), callback=TensorBoard())
    reader = read(tmp_path / "r" / "tensorboard")
    for tag in ("validation/kl", "kl_per_dimension/03"):
        assert [step for step, _ in curve(reader, tag)] == [0, 1, 2, 3]
    assert [value for _, value in curve(reader, "validation/kl")] == pytest.approx([r["kl"] for r in again.metrics()])


def test_a_training_whose_beginning_was_not_logged_has_all_epochs(tmp_path: Path) -> None:
    begun = train_model(config(), digits(), tmp_path / "r", limits=Limits(steps=5))
    resume_training(begun, digits(), callback=TensorBoard(images=0))
    reader = read(tmp_path / "r" / "tensorboard")
    assert [step for step, _ in curve(reader, "validation/kl")] == [0, 1, 2]
    assert [step for step, _ in curve(reader, "kl_per_dimension/00")] == [2]  # no file keeps those of earlier epochs


def test_texts_are_drawn_for_sequences(tmp_path: Path) -> None:
    train_model(config(arch="lstm", epochs=1), sentences(), tmp_path / "r", callback=TensorBoard(images=3))
    reader = read(tmp_path / "r" / "tensorboard")
    text = reader.Tensors("draws_from_the_prior/text_summary")[-1].tensor_proto.string_val[0].decode()
    assert len(text.splitlines()) == 3 and set(text) <= set("abcdefgh \n") | set("<unk>")


def test_searches_have_a_curve_of_values(tmp_path: Path) -> None:
    found = run(objects(), 8, callback=TensorBoard(tmp_path / "log"))
    reader = read(tmp_path / "log")
    assert curve(reader, "search/best")[-1][1] == pytest.approx(found.best_value)
    assert [step for step, _ in curve(reader, "search/value")] == list(range(1, len(found.records) + 1))
    assert curve(reader, "search/best_typical")[-1][1] == pytest.approx(found.best_typical.value)  # type: ignore[union-attr]
    result = lso.minimize(reconstruction(2), draws(2, 3, 4), max_steps=40, callback=TensorBoard(tmp_path / "gradient"))
    assert curve(read(tmp_path / "gradient"), "search/best")[-1][1] == pytest.approx(float(result.value.min()), rel=0.1)


def test_a_search_without_a_folder_is_refused() -> None:
    with pytest.raises(UsageError, match=r"log of a black-box search, got none\n.*lso.TensorBoard\('runs/log'\)"):
        run(objects(), 3, callback=TensorBoard())


def test_without_the_package_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lso.vae.tensorboard.find_spec", lambda name: None)
    with pytest.raises(LsoError, match=r"not installed\nInstall it: pip install 'lso\[tensorboard\]'"):
        TensorBoard()


def test_the_command_line_names_the_folder_that_is_written() -> None:
    """It states the name itself, as this module imports torch."""
    from lso.cli.commands.train import LOG_FOLDER
    from lso.vae.tensorboard import FOLDER

    assert LOG_FOLDER == FOLDER
