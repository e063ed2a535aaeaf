"""Configurations: round trips through TOML, strict reading, remedies in errors."""

import dataclasses
import math
from pathlib import Path

import pytest

from lso.vae.config.architectures import ARCHITECTURES, architecture
from lso.vae.config.components import Aggressive
from lso.vae.config.methods import method
from lso.vae.config.protocol import DataConfig, Protocol
from lso.vae.config.training import TrainConfig, from_dict, from_folder, from_toml, load_config, to_dict, to_toml
from lso.vae.errors import UsageError
from tests.vae.small import BASELINE_METHODS, PAIRS, example, kind_of, small_networks

ODD = 'a "quoted" \\path\\ with\ttab, newline\n, bell\x07, del\x7f, Ünïcode 数'


@pytest.mark.parametrize(("name", "arch"), PAIRS)
def test_every_method_and_architecture_survives_toml(name: str, arch: str) -> None:
    chosen = example(name) if name in BASELINE_METHODS else example(name, anneal=3, cycles=2)
    likelihood = "gaussian" if kind_of(arch) == "image" else None
    config = TrainConfig(method=chosen, architecture=small_networks(chosen, arch, 7, likelihood), seed=3)
    assert from_toml(to_toml(config)) == config
    assert from_dict(to_dict(config)) == config


@pytest.mark.parametrize("c", [-math.inf, -0.1, 0.0, 1e-7, 1e22, 1 / 3])
def test_numbers_survive_toml_exactly(c: float) -> None:
    config = TrainConfig(method=method("ne-vae-lp", c=c), protocol=Protocol(learning_rate=1e-5, clip=math.inf))
    again = from_toml(to_toml(config))
    assert again == config and again.method.params["c"] == c


@pytest.mark.parametrize("seed", [0, -1, 2**53 + 1, 2**62 + 1])
def test_seeds_survive_toml_beyond_the_digits_of_a_float(seed: int) -> None:
    assert from_toml(to_toml(TrainConfig(method=method("vae"), seed=seed))).seed == seed


def test_texts_survive_toml() -> None:
    config = TrainConfig(method=method("vae"), data=DataConfig(task="folder", path=ODD, invert=True))
    assert from_toml(to_toml(config)).data == config.data


def test_a_folder_of_an_earlier_version_keeps_its_networks() -> None:
    config = TrainConfig(method=method("skip-vae"), architecture=architecture("dieng2019"))
    text = to_toml(config)
    assert config.architecture.edition == from_folder(text, "x").architecture.edition == 1
    earlier = text.replace("edition = 1\n", "")
    assert earlier != text and from_folder(earlier, "x").architecture.edition == 0
    assert from_toml('[architecture]\nname = "dieng2019"\n').architecture.edition == 1  # a user's own file


def test_a_folder_of_an_earlier_version_ends_its_aggressive_phase_as_it_did() -> None:
    config = TrainConfig(method=method("aggressive", tolerance=0.5), architecture=architecture("lstm"))
    text = to_toml(config)
    earlier = text.replace("early = 5\n", "").replace('mi_lengths = "equal"\n', "")
    old, new = from_folder(earlier, "x"), from_toml(earlier)
    assert from_folder(text, "x") == config and old.protocol.mi_lengths == "any" != new.protocol.mi_lengths
    assert old.method.updates == Aggressive(tolerance=0.5, early=0) and new.method.updates == Aggressive(tolerance=0.5)


def test_missing_parts_come_from_the_defaults() -> None:
    base = TrainConfig(method=method("iwae", samples=3), protocol=Protocol(epochs=7), seed=5)
    found = from_toml("[protocol]\nbatch_size = 8\n", "x")
    assert found == dataclasses.replace(from_dict({}), protocol=Protocol(batch_size=8))
    assert from_dict({"seed": 6}, base) == dataclasses.replace(base, seed=6)
    assert from_dict({"protocol": {"epochs": 2}}, base).method == base.method


def test_another_family_comes_at_its_own_width() -> None:
    base = TrainConfig(method=method("vae"), architecture=architecture("mlp", latent_dim=5, width=512))
    conv = from_dict({"architecture": {"name": "conv"}}, base).architecture
    assert (conv.name, conv.width, conv.latent_dim) == ("conv", ARCHITECTURES["conv"].width, 5)
    assert from_dict({"architecture": {"name": "mlp"}}, base).architecture.width == 512
    assert from_dict({"architecture": {"name": "conv", "width": 9}}, base).architecture.width == 9


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[protocl]\nepochs = 1", "unknown section of the configuration 'protocl'\nDid you mean 'protocol'"),
        ("[protocol]\nepoch = 1", "unknown key in \\[protocol\\] 'epoch'\nDid you mean 'epochs'"),
        ("[data]\nsise = 8", "unknown key in \\[data\\] 'sise'\nDid you mean 'size'"),
        ('[method]\nname = "vea"', "unknown method 'vea'\nDid you mean 'vae'"),
        ('[method]\nname = "beta-vae"\nbet = 1', "unknown parameter of beta-vae 'bet'\nDid you mean 'beta'"),
        ('[method]\nname = "ne-vae-lp"', "method ne-vae-lp needs c\n.*ne-vae-lp:c=0.0"),
        ("[method]\nbeta = 1", "expected a key name in \\[method\\]"),
        ('[architecture]\nname = "cnv"', "unknown architecture 'cnv'\nDid you mean 'conv'"),
        ('[protocol]\nepochs = "many"', "protocol.epochs: expected a whole number, got 'many'"),
        ("[protocol]\nepochs = 1.5", "protocol.epochs: expected a whole number, got 1.5"),
        ("[protocol]\nlearning_rate = true", "protocol.learning_rate: expected a number, got True"),
        ("[protocol]\nlearning_rate = nan", "protocol.learning_rate: expected a number"),
        ("[protocol]\nlearning_rate = 0", "learning_rate > 0"),
        ('[protocol]\nbinarize = "some"', "expected one of dynamic, fixed, none, got 'some'"),
        ('[protocol]\nprecision = "float8"', "expected one of float32, bfloat16, got 'float8'"),
        ('[architecture]\nname = "lstm"\n[protocol]\ncompiled = true', "steps can be compiled for images"),
        ("[data]\ninvert = 1", "data.invert: expected true or false"),
        ("[data]\nsize = 4", "a size of 8 to 64 pixels"),
        ("[data]\npath = 3", "data.path: expected a text"),
        ("seed = [1]", "seed: expected a whole number"),
        ("data = 3", "expected a table \\[data\\], got 3"),
        ("epochs = ", "my.toml is not TOML"),
    ],
)
def test_mistakes_are_refused_in_two_lines(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        from_toml(text, "my.toml")
    assert caught.value.hint and str(caught.value).count("\n") == 1


@pytest.mark.parametrize("name", ["svi", "pixelcnn"])
def test_a_rate_of_an_encoder_that_is_not_there_is_refused(name: str) -> None:
    chosen, protocol = example(name), Protocol(encoder_learning_rate=1e-4)
    with pytest.raises(UsageError, match=rf"{name} has no encoder, and .*0\.0001\nLeave --encoder-learning-rate out"):
        TrainConfig(method=chosen, architecture=small_networks(chosen), protocol=protocol)
    assert TrainConfig(method=method("sa-vae"), protocol=protocol).protocol == protocol


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b"seed = 1 # \xff")
    for name in ("missing.toml", "latin.toml"):
        with pytest.raises(UsageError, match=f"cannot read the configuration .*{name}"):
            load_config(tmp_path / name)
    (tmp_path / "good.toml").write_text("seed = 4\n")
    assert load_config(tmp_path / "good.toml") == {"seed": 4}


def test_another_optimizer_comes_with_its_own_learning_rate() -> None:
    base = TrainConfig(method=method("vae"), protocol=Protocol(optimizer="sgd", learning_rate=1.0, batch_size=7))
    assert from_dict({"protocol": {"optimizer": "adam"}}, base).protocol == Protocol(batch_size=7)
    assert from_dict({"protocol": {"optimizer": "sgd"}}, base).protocol == base.protocol
    assert from_dict({"protocol": {"optimizer": "adam", "learning_rate": 0.5}}, base).protocol.learning_rate == 0.5
    with pytest.raises(UsageError, match="expected one of adam, sgd"):
        from_dict({"protocol": {"optimizer": "rmsprop"}}, base)
