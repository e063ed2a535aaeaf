"""What a table's page shows of the latents: how images change along each dimension, live and dead ones apart."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lso.reports.report import Chart
from lso.reports.tables import Table
from lso.tasks.datasets.loading import load_dataset
from lso.tasks.papers import latent_use as use_of_latents
from lso.tasks.papers.latent_use import (
    active_units_table,
    activity_section,
    first_runs,
    image_change_table,
    measure_image_changes,
    reencoding_section,
    traversals_section,
)
from lso.tasks.training import experiment
from lso.tasks.training.multi_run import train_all
from lso.tasks.training.run_set import Member, PlannedRun, read_members
from lso.vae.checkpoint import Codes
from lso.vae.config.architectures import architecture
from lso.vae.data.dataset import Dataset
from lso.vae.models.vae import VAE, build
from lso.vae.runs import Run
from lso.vae.training.loop import Limits
from tests.tasks.grids import small

LATENT = 3


def deaf_to(*dims: int) -> VAE:
    """An autoregressive model whose decoder does not hear some dimensions."""
    model = build(architecture("he2019-small", LATENT, width=4), False, (1, 8, 8)).eval()
    with torch.no_grad():
        weight = model.decoder.get_parameter("input.linear.weight")
        weight.normal_(generator=torch.Generator().manual_seed(0))
        weight[:, list(dims)] = 0
    return model


def codes(*variances: float) -> Codes:
    """Posterior means of given variances."""
    draw = torch.randn(50, len(variances), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    draw = (draw - draw.mean(0)) / draw.std(0)
    mean = draw * torch.tensor(variances, dtype=torch.float64).sqrt()
    use = torch.tensor([0.5, 0.0, -0.1])
    return Codes(mean=mean.float(), log_var=torch.zeros(50, len(variances)), decoder_use=use)


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[Member]:
    """Two methods on digits, one of them twice."""
    planned = small("vae", "ne-vae-se", seeds=2)
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "_write_report", lambda run, _: run)
        train_all(planned, root, device="cpu")
    return read_members(planned, root)


def test_a_dimension_that_the_decoder_does_not_hear_changes_no_pixel() -> None:
    model = deaf_to(1)
    found = measure_image_changes(model, codes(1.0, 0.5, 0.001))
    assert found.live.tolist() == [True, True, False]
    assert found.near[1] == 0 and found.far[1] == 0
    assert (found.near[[0, 2]] > 0).all() and (found.far[[0, 2]] > 0).all()


def test_the_change_is_against_the_image_of_the_origin_with_the_same_uniforms() -> None:
    model, noise = deaf_to(), torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lso.tasks.exploration._uniforms", lambda *_: noise)
        found = measure_image_changes(model, codes(1.0, 1.0, 1.0))
    origin = model.generate(torch.zeros(1, LATENT), "sample", noise)
    for dim in range(LATENT):
        ends = torch.zeros(2, LATENT)
        ends[0, dim], ends[1, dim] = 2.0, -2.0
        change = (model.generate(ends, "sample", noise) - origin).abs().mean()
        assert float(found.near[dim]) == pytest.approx(float(change))


def test_tables_count_and_average_live_and_dead_dimensions_apart() -> None:
    (line,) = active_units_table({"m": codes(1.0, 0.05, 0.001)}).rows
    assert line == ["m", "3", "2", "1", "1", "1", "0.5"]
    live = torch.tensor([True, True, False])
    near, far = torch.tensor([0.1, 0.3, 0.0]), torch.tensor([0.2, 0.4, 0.05])
    moved = use_of_latents.ImageChanges(live=live, near=near, far=far)
    all_live = replace(moved, live=torch.ones(3, dtype=torch.bool))
    assert image_change_table({"m": moved, "n": all_live}).rows == [
        ["m", "2", "0.2", "0.3", "1", "0", "0.05"],
        ["n", "3", "0.133", "0.217", "0", "–", "–"],
    ]


def test_sections_show_one_training_a_method(members: list[Member]) -> None:
    runs = first_runs(members, {})
    made = [make(runs) for make in (activity_section, reencoding_section, traversals_section)]
    assert [section.title for section in made if section] == [
        "Activity of each dimension",
        "Re-encoding error over training",
        "Along live and dead dimensions",
    ]
    charts = [part.alt for section in made if section for part in section.parts if isinstance(part, Chart)]
    assert charts[2:] == ["Traversals of vae", "Traversals of ne-vae-se"]
    assert used(runs) == ["vae", "ne-vae-se"] and used(first_runs(members[:1], {"vae": "VAE no anneal"})) == [
        "VAE no anneal"
    ]


def used(runs: dict[str, Run]) -> list[str]:
    """The names in the table of units in use."""
    return [row[0] for row in units(runs).rows]


def units(runs: dict[str, Run]) -> Table:
    """The table of units in use."""
    section = activity_section(runs)
    assert section is not None
    return next(part for part in section.parts if isinstance(part, Table))


def test_a_training_under_way_says_how_far_it_is_and_yields_to_a_finished_one(tmp_path: Path) -> None:
    planned = small("vae", seeds=2, epochs=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "_write_report", lambda run, _: run)
        experiment.train_planned(
            planned[0].config, _data(planned[0]), out=tmp_path / planned[0].name, device="cpu", limits=Limits(steps=3)
        )
        (row,) = units(first_runs(read_members(planned, tmp_path), {})).rows
        assert row[0] == "vae (epoch 1 of 2)" and list(row[-2:]) == [
            "–",
            "–",
        ]  # measured at the end
        train_all(planned[1:], tmp_path, device="cpu")
    (row,) = units(first_runs(read_members(planned, tmp_path), {})).rows
    assert row[0] == "vae" and row[-1] != "–"
    for nothing in (read_members(small("ne-vae-se"), tmp_path), []):
        runs = first_runs(nothing, {})
        assert [make(runs) for make in (activity_section, reencoding_section, traversals_section)] == [None] * 3


def _data(planned: PlannedRun) -> Dataset:
    config = planned.config
    return load_dataset(config.data, config.protocol.binarize, config.seed)
