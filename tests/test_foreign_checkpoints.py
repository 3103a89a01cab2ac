"""Checkpoints that others published: what they become, which weights are taken, that none of their code runs, what is
refused.
"""

import argparse
import json

import pytest
import torch
from reference import reference_weights
from torch import nn

import unasdiff_teach as ut
from unasdiff_teach.networks import DiffWave, DiffWaveConfig, TFLoCoformer, TriplePathUNet
from unasdiff_teach.networks.foreign import read_checkpoint, undiff_name

AUTHORS = {"heads": 2, "n_fft": 126, "hop": 63}  # of the small reference network
ESPNET = {"heads": 2, "groups": 4, "n_fft": 32, "hop": 16}


def authors(classes=3, seed=0):
    """The authors' reference network with another number of classes."""
    made = reference_weights("network", seed)
    for key in made:
        if "embedding_table" in key:
            made[key] = torch.randn(classes + 1, made[key].shape[1], generator=torch.Generator().manual_seed(seed))
    return made


@pytest.fixture
def authors_file(tmp_path):
    torch.save({"model": authors(seed=1), "ema": authors(seed=2)}, tmp_path / "prior.pt")
    return tmp_path / "prior.pt"


# --- the authors' priors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("choice", "seed"), [({}, 2), ({"weights": "ema"}, 2), ({"weights": "model"}, 1)])
def test_the_average_is_taken_unless_told_otherwise(authors_file, choice, seed):
    prior = ut.priors.from_authors_checkpoint(authors_file, **choice, **AUTHORS)
    net = TriplePathUNet.from_authors_state_dict(authors(seed=seed), **AUTHORS)
    x, t, label = torch.randn(2, 700), torch.tensor([199, 7]), torch.tensor([0, 2])
    assert torch.allclose(prior(x, t, label), net(x, 5.0 * t, label), atol=1e-6)
    assert not prior.training and not any(p.requires_grad for p in prior.parameters())


def test_the_card_says_what_it_is(authors_file):
    card = ut.priors.from_authors_checkpoint(authors_file, **AUTHORS).card
    assert "Shi et al. 2025" in card["network"] and card["file"] == "prior.pt" and len(card["sha256"]) == 64
    assert (card["weights"], card["classes"], card["sample_rate"]) == ("ema", 3, 16000)
    assert card["parameters"] == sum(v.numel() for v in authors().values())
    json.dumps(card)


@pytest.mark.parametrize("classes", [1, 50])
def test_labels_of_the_published_files(tmp_path, classes):
    torch.save({"model": authors(classes), "ema": authors(classes)}, tmp_path / "prior.pt")
    prior = ut.priors.from_authors_checkpoint(tmp_path / "prior.pt", **AUTHORS)
    x, t = torch.randn(1, 700), torch.tensor([100])

    def as_row(row):
        return prior.net(x, torch.tensor([500.0]), torch.tensor([row]))

    if classes == 1:  # their speech prior knows row 0 alone; row 1 was never trained
        assert prior.labels == () and torch.equal(prior(x, t), as_row(0))
        return
    assert prior.labels[:2] == ("Hi-hat", "Saxophone") and prior.labels[40:42] == ("Glockenspiel", "row 41")
    assert len(prior.labels) == len(set(prior.labels)) == 50 and prior.card["trained classes"] == 41
    assert torch.equal(prior(x, t), as_row(50)), "no label is the unconditional row"


def test_sounds_separate_by_number_and_by_name(tmp_path):
    torch.save({"model": authors(50), "ema": authors(50)}, tmp_path / "prior.pt")
    prior = ut.priors.from_authors_checkpoint(tmp_path / "prior.pt", **AUTHORS)
    y, config = 0.1 * torch.randn(700), ut.SeparationConfig.authors().replace(steps=3)
    by_number, by_name = (
        ut.separate(y, prior, labels, config=config).sources for labels in ([3, 40], ["Cello", "Glockenspiel"])
    )
    assert torch.equal(by_number, by_name) and torch.isfinite(by_number).all()
    assert not torch.equal(by_number, ut.separate(y, prior, [3, 0], config=config).sources)
    with pytest.raises(ValueError, match=r"0\.\.49"):
        ut.separate(y, prior, [3, 50], config=config)
    with pytest.raises(ValueError, match="16000 Hz"):
        ut.separate(y, prior, [3, 40], config=config, sample_rate=8000)


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        ({"model": {}}, {}, "no entry 'ema'.*it has model"),
        ([1, 2], {}, "it has a list"),
        ({"ema": 3.0, "model": 3.0}, {}, "holds a float instead of a state dict"),
        ({"ema": {"conv_1.weight": 1}}, {}, "no tensors: conv_1.weight"),
        ({"ema": authors() | {"odd": torch.zeros(1)}}, {}, "unknown keys: odd"),
        ({"ema": {k: v for k, v in authors().items() if k != "out_conv.bias"}}, {}, "missing keys: head.smooth.bias"),
        ({"ema": authors() | {"out_conv.bias": torch.zeros(9)}}, {}, r"head\.smooth\.bias: \(9,\) instead of \(8,\)"),
        ({"ema": authors()}, {"weights": "average"}, "weights is 'average'"),
    ],
)
def test_what_is_no_checkpoint_of_the_authors_is_named(tmp_path, content, arguments, message):
    torch.save(content, tmp_path / "prior.pt")
    with pytest.raises(ValueError, match=message):
        ut.priors.from_authors_checkpoint(tmp_path / "prior.pt", **AUTHORS, **arguments)


# --- UnDiff ----------------------------------------------------------------------------------------------------------


def undiff_file(path, prefix="model.", **entries):
    torch.save(
        {"state_dict": {prefix + k: v for k, v in reference_weights("diffwave").items()}, "epoch": 3} | entries, path
    )
    return path


@pytest.mark.parametrize("prefix", ["model.", "generator.", ""])
def test_undiff_is_told_beta_and_knows_no_classes(tmp_path, prefix):
    prior = ut.priors.from_undiff_checkpoint(undiff_file(tmp_path / "diffwave.ckpt", prefix))
    net = DiffWave.from_undiff_state_dict(reference_weights("diffwave"))
    x, t = torch.randn(2, 500), torch.tensor([0, 199])
    assert torch.allclose(prior(x, t), net(x, torch.tensor([1e-4, 2e-2])), atol=1e-6)
    assert (prior.sample_rate, prior.labels, prior.condition) == (16000, (), "beta")
    assert "UnDiff" in prior.card["network"] and prior.card["weights"] == "model"
    found = ut.separate_analytical(0.1 * torch.randn(600), prior, [None, None], prior.schedule.respace(3)).sources
    assert torch.isfinite(found).all()


def test_a_bare_state_dict_is_read_as_well(tmp_path):
    torch.save(reference_weights("diffwave"), tmp_path / "diffwave.pt")
    prior = ut.priors.from_undiff_checkpoint(tmp_path / "diffwave.pt", dilation_cycle=3)
    assert prior.net.config == DiffWaveConfig(layers=6, channels=32, dilation_cycle=3)


def test_undiffs_averages_are_a_list_in_the_order_of_the_parameters(tmp_path):
    names = [key for key in reference_weights("diffwave") if "gaussian" not in key]
    averages = [reference_weights("diffwave", seed=5)[key] for key in names]
    path = undiff_file(tmp_path / "diffwave.ckpt", ema_params=[averages])
    prior = ut.priors.from_undiff_checkpoint(path, weights="ema")
    for key, parameter in prior.net.named_parameters():
        assert torch.equal(parameter, averages[names.index(undiff_name(key))])
    assert torch.equal(prior.net.embed.frequencies, reference_weights("diffwave")["diffusion_embedding.rff.gaussian"])

    with pytest.raises(ValueError, match=f"should have {len(names)} averaged tensors.*it has {len(names) - 1} tensors"):
        ut.priors.from_undiff_checkpoint(undiff_file(tmp_path / "short.ckpt", ema_params=[averages[1:]]), weights="ema")
    with pytest.raises(ValueError, match="it has none"):
        ut.priors.from_undiff_checkpoint(undiff_file(tmp_path / "none.ckpt"), weights="ema")
    swapped = [averages[1], averages[0], *averages[2:]]
    with pytest.raises(ValueError, match="the average of input_projection.weight"):
        ut.priors.from_undiff_checkpoint(undiff_file(tmp_path / "swapped.ckpt", ema_params=[swapped]), weights="ema")


def test_what_is_no_checkpoint_of_undiff_is_named(tmp_path):
    torch.save({"state_dict": {"model.input_projection.weight": torch.zeros(1)}}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match="missing keys: residual_layers.0.dilated_conv.weight"):
        ut.priors.from_undiff_checkpoint(tmp_path / "a.ckpt")
    undiff_file(
        tmp_path / "b.ckpt", state_dict=reference_weights("diffwave") | {"skip_projection.bias": torch.zeros(3)}
    )
    with pytest.raises(ValueError, match=r"skip_projection\.bias: \(3,\) instead of \(32,\)"):
        ut.priors.from_undiff_checkpoint(tmp_path / "b.ckpt")


# --- TF-LoCoformer ---------------------------------------------------------------------------------------------------

CONFIG_YAML = """sample_rate: 8000
encoder_conf:
    n_fft: 32
    hop_length: 8
separator_conf:
    num_groups: 2
    n_heads: 1
"""


@pytest.mark.parametrize("with_config", [True, False])
def test_espnet_settings_stand_beside_the_file(tmp_path, with_config):
    # The rotary tables of the 16 channels: one head has 8 rates, each of the default four heads 2.
    rates = torch.ones(8 if with_config else 2)
    torch.save(
        {f"separator.{k}": rates if "rope" in k else v for k, v in reference_weights("tflocoformer").items()},
        tmp_path / "valid.pth",
    )
    if with_config:
        (tmp_path / "config.yaml").write_text(CONFIG_YAML)
    net = TFLoCoformer.from_espnet_checkpoint(tmp_path / "valid.pth")
    c = net.config
    assert (c.heads, c.groups, c.n_fft, c.hop) == ((1, 2, 32, 8) if with_config else (4, 4, 256, 128))
    assert net.card["sample_rate"] == (8000 if with_config else None)
    assert set(net.card["read from config.yaml"]) == ({"heads", "groups", "n_fft", "hop"} if with_config else set())
    assert "ESPnet" in net.card["network"] and not any(p.requires_grad for p in net.parameters())
    assert net(torch.randn(2, 500)).shape == (2, 2, 500)


def test_an_espnet_file_gives_the_network_of_its_state_dict(tmp_path):
    torch.save({f"separator.{k}": v for k, v in reference_weights("tflocoformer").items()}, tmp_path / "valid.pth")
    (tmp_path / "config.yaml").write_text(CONFIG_YAML.replace("n_heads: 1", "n_heads: 2"))
    X = torch.randn(1, 5, 17, dtype=torch.complex64)
    expected = TFLoCoformer.from_espnet_state_dict(
        reference_weights("tflocoformer"), **ESPNET | {"groups": 2}
    ).separate_spectrum(X)
    assert torch.allclose(
        TFLoCoformer.from_espnet_checkpoint(tmp_path / "valid.pth").separate_spectrum(X), expected, rtol=1e-5, atol=1e-5
    )
    torch.save(
        {f"separator.{k}": v for k, v in reference_weights("tflocoformer").items()} | {"mask.weight": torch.zeros(1)},
        tmp_path / "valid.pth",
    )
    with pytest.raises(ValueError, match="unknown keys: mask.weight"):
        TFLoCoformer.from_espnet_checkpoint(tmp_path / "valid.pth")


# --- no code of theirs runs ------------------------------------------------------------------------------------------

RAN = []


def run_me(*arguments):
    RAN.append(arguments)
    return {}


class Hostile:
    """Rebuilt by a call of our choice, as any pickled object may ask to be."""

    def __reduce__(self):
        return run_me, ("ran",)


class Keeper(nn.Module):
    """A module of somebody else's, as Lightning files hold many."""

    def __setstate__(self, state):
        RAN.append(state)


@pytest.mark.parametrize(
    "extra", [Hostile(), argparse.Namespace(lr=1), Keeper()], ids=["call", "plain object", "module"]
)
def test_foreign_objects_in_a_file_are_left_out_and_nothing_of_theirs_runs(tmp_path, extra):
    path = undiff_file(tmp_path / "diffwave.ckpt", hyper_parameters=extra)
    RAN.clear()
    allowed = torch.serialization.get_safe_globals()
    prior = ut.priors.from_undiff_checkpoint(path)
    assert RAN == [] and prior.card["parameters"] > 0
    assert set(torch.serialization.get_safe_globals()) == set(allowed), "the permission ends with the reading"


def test_the_hostile_file_would_have_run(tmp_path):
    torch.save(Hostile(), tmp_path / "hostile.pt")
    RAN.clear()
    torch.load(tmp_path / "hostile.pt", weights_only=False)
    assert RAN == [("ran",)]


class Shell:
    def __reduce__(self):
        import os

        return os.system, ("echo ran",)


@pytest.mark.parametrize(
    "load", [ut.priors.from_authors_checkpoint, ut.priors.from_undiff_checkpoint, TFLoCoformer.from_espnet_checkpoint]
)
@pytest.mark.parametrize("bad", ["shell", "text", "empty", "object", "missing"])
def test_what_cannot_be_read_is_refused(tmp_path, capfd, load, bad):
    path = tmp_path / "file.pt"
    if bad == "shell":
        torch.save({"ema": Shell(), "state_dict": Shell()}, path)
    elif bad == "text":
        path.write_text("not a checkpoint")
    elif bad == "empty":
        path.touch()
    elif bad == "object":
        torch.save(Hostile(), path)
    with pytest.raises(FileNotFoundError if bad == "missing" else ValueError, match=path.name):
        load(path)
    assert "ran" not in capfd.readouterr().out


def test_tensors_and_plain_values_come_through(tmp_path):
    content = {"a": torch.arange(3), "b": [1, "two", (3.0, None)]}
    torch.save(content, tmp_path / "file.pt")
    found = read_checkpoint(tmp_path / "file.pt")
    assert torch.equal(found["a"], content["a"]) and found["b"] == content["b"]
