"""DiffWave: parity with UnDiff's code, size, lengths, conditioning on beta, and its classes and its life as a prior."""

import numpy as np
import pytest
import torch
from reference import DATA, reference_weights

import unasdiff_teach as ut
from unasdiff_teach.networks import DiffWave, DiffWaveConfig
from unasdiff_teach.priors import NeuralPrior, PriorConfig
from unasdiff_teach.priors.neural import read, save
from unasdiff_teach.training import PriorTrainer, TrainConfig

TINY = DiffWaveConfig(layers=3, channels=16, dilation_cycle=2, embedding=8, features=4)


def awake(config=TINY, seed=0):
    """A network whose last layer is not zero: at its start it predicts nothing, and would hide mistakes."""
    torch.manual_seed(seed)
    net = DiffWave(config)
    torch.nn.init.normal_(net.leave.weight)
    return net


def test_parity_with_undiff():
    io = np.load(DATA / "diffwave_io.npz")
    net = DiffWave.from_undiff_state_dict(reference_weights("diffwave"), dilation_cycle=int(io["dilation_cycle"]))
    assert (net.config.layers, net.config.channels) == (int(io["residual_layers"]), int(io["residual_channels"]))
    with torch.no_grad():
        eps = net(torch.from_numpy(io["x"])[:, 0], torch.from_numpy(io["beta"]))
    assert np.abs(eps.numpy() - io["eps"][:, 0]).max() <= 2e-5


def test_the_cycle_of_dilations_matters():
    io = np.load(DATA / "diffwave_io.npz")
    other = DiffWave.from_undiff_state_dict(reference_weights("diffwave"), dilation_cycle=int(io["dilation_cycle"]) + 1)
    with torch.no_grad():
        eps = other(torch.from_numpy(io["x"])[:, 0], torch.from_numpy(io["beta"]))
    assert np.abs(eps.numpy() - io["eps"][:, 0]).max() > 1e-3


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing", r"missing keys: residual_layers\.1\.output_projection\.weight"),
        ("unknown", r"unknown keys: residual_layers\.1\.conditioner\.weight"),
        ("shape", r"residual_layers\.1\.output_projection\.weight: \(63, 32, 1\) instead of \(64, 32, 1\)"),
        ("first", r"missing keys: diffusion_embedding\.rff\.gaussian"),
        ("axes", r"residual_layers\.0\.dilated_conv\.weight: \(6144,\) instead of 3 axes"),
    ],
)
def test_a_state_dict_that_does_not_fit_is_named(damage, message):
    state, key = reference_weights("diffwave"), "residual_layers.1.output_projection.weight"
    if damage == "missing":
        del state[key]
    elif damage == "unknown":
        state["residual_layers.1.conditioner.weight"] = state[key]
    elif damage == "shape":
        state[key] = state[key][:-1]
    elif damage == "first":
        del state["diffusion_embedding.rff.gaussian"]
    else:
        state["residual_layers.0.dilated_conv.weight"] = state["residual_layers.0.dilated_conv.weight"].flatten()
    with pytest.raises(ValueError, match=message):
        DiffWave.from_undiff_state_dict(state)


def test_parameter_counts():
    with torch.device("meta"):
        large, pocket = DiffWave(DiffWaveConfig.large()), DiffWave(DiffWaveConfig.pocket())
    assert sum(p.numel() for p in large.parameters()) == 32_307_201
    assert 1.7e6 < sum(p.numel() for p in pocket.parameters()) < 2.3e6


@pytest.mark.parametrize("patch", [1, 16])
@pytest.mark.parametrize("length", [1, 100, 777])
def test_any_length_comes_back(patch, length):
    eps = awake(TINY.replace(patch=patch))(torch.randn(2, length), torch.tensor([1e-4, 1e-2]))
    assert eps.shape == (2, length) and torch.isfinite(eps).all() and eps.abs().max() > 0


def test_patches_keep_samples_in_order():
    """With the layers silenced and identities at both ends, samples come back where they were."""
    net = DiffWave(TINY.replace(patch=16, layers=1))
    layer = net.layers[0]
    with torch.no_grad():
        for p in net.parameters():
            p.zero_()
        net.enter.weight.copy_(torch.eye(16)[..., None])
        net.merge.weight.copy_(torch.eye(16)[..., None])
        net.leave.weight.copy_(torch.eye(16)[..., None])
        layer.dilated.weight[:, :, 1] = torch.cat([torch.zeros(16, 16), torch.eye(16)])
        layer.out.weight[16:] = torch.eye(16)[..., None]
        x = torch.rand(1, 100)
        assert torch.allclose(net(x, torch.tensor([1e-3])), x.tanh() / 4, atol=1e-6)  # gate 1/2, excitation 1/2


def test_rows_of_a_batch_do_not_see_each_other_and_beta_matters():
    net, x, beta = awake(), torch.randn(3, 200), torch.tensor([1e-4, 1e-3, 2e-2])
    single = torch.cat([net(x[b : b + 1], beta[b : b + 1]) for b in range(3)])
    assert torch.allclose(net(x, beta), single, atol=1e-5)
    assert not torch.allclose(net(x, beta), net(x, beta.flip(0)), atol=1e-3)


def test_classes_matter_and_no_label_is_the_unconditional_class():
    net, x, beta = awake(TINY.replace(classes=3)), torch.randn(3, 200), torch.full((3,), 1e-3)
    labels = torch.tensor([0, 2, 3])
    eps = net(x, beta, labels)
    assert torch.allclose(eps[2:], net(x[2:], beta[2:]), atol=1e-6), (
        "the last row of the table is the unconditional class"
    )
    assert not torch.allclose(eps[:2], net(x, beta)[:2], atol=1e-3)


def test_it_starts_from_a_prediction_of_nothing_with_layers_that_keep_the_variance():
    torch.manual_seed(0)
    net, kept = DiffWave(DiffWaveConfig.pocket()), []
    net.merge.register_forward_hook(lambda module, inputs, output: kept.append(float(output.detach().std())))
    assert not net(torch.randn(2, 4000), torch.full((2,), 1e-3)).any()
    assert 0.1 < kept[0] < 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": 2}, "kernel is 2"),
        ({"layers": 0}, "layers is 0"),
        ({"channels": 8}, "channels = 8"),
        ({"classes": -1}, "classes is -1"),
    ],
)
def test_impossible_configurations_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        TINY.replace(**change)


# --- as a prior ------------------------------------------------------------------------------------------------------

PRIOR = PriorConfig(sample_rate=8000, target="preconditioned", sigma_data=0.1, network=TINY)


@pytest.mark.parametrize("respaced", [False, True])
def test_the_network_is_told_beta_of_the_training_chain(respaced):
    told = []
    schedule = ut.NoiseSchedule.linear()
    net = torch.nn.Module()
    net.forward = lambda x, beta, label: told.extend(beta.tolist()) or x
    prior = NeuralPrior(net, schedule, 16000, condition="beta")
    s = schedule.respace(10) if respaced else schedule
    for t in range(len(s)):
        prior(torch.zeros(1, 8), s.timesteps[t].expand(1))
    assert told == pytest.approx(schedule.beta[s.timesteps].tolist(), rel=1e-6)


def test_an_unknown_condition_and_classes_are_refused():
    with pytest.raises(ValueError, match="condition is 'sigma'"):
        NeuralPrior(awake(), ut.NoiseSchedule.linear(), 16000, condition="sigma")
    with pytest.raises(ValueError, match="no classes"):
        PriorConfig(sample_rate=8000, labels=("Chime",), network=TINY)
    with pytest.raises(ValueError, match="knows 2 classes"):
        PriorConfig(sample_rate=8000, labels=("Chime",), network=TINY.replace(classes=2))


def test_a_file_brings_the_same_prior_back(tmp_path):
    torch.manual_seed(0)
    prior = PRIOR.build()
    torch.nn.init.normal_(prior.net.leave.weight)
    save(tmp_path / "prior.safetensors", prior.net.state_dict(), PRIOR, {"steps": 1}, dtype=torch.float32)
    again = read(tmp_path / "prior.safetensors")
    x, t = torch.randn(2, 300), torch.tensor([0, 150])
    assert again.condition == "beta" and again.net.config == TINY and again.card == {"steps": 1}
    assert torch.equal(again(x, t), prior(x, t))


def test_files_without_the_name_of_a_network_are_triple_path_ones_and_unknown_names_are_refused(tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    from unasdiff_teach.networks import TriplePathConfig

    network = TriplePathConfig(n_fft=62, hop=31, channels=8, heads=2, depths=(1,) * 5, sub_bands=2)
    config = PriorConfig(sample_rate=8000, network=network)
    prior, path = config.build(), tmp_path / "prior.safetensors"
    save(path, prior.net.state_dict(), config, {}, dtype=torch.float32)
    with safe_open(path, "pt") as file:
        header, state = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}
    del header["network"]
    save_file(state, path, header)
    assert read(path).net.config == config.network and read(path).condition == "time"
    save_file(state, path, header | {"network": "WaveNetConfig"})
    with pytest.raises(ValueError, match="WaveNetConfig"):
        read(path)


def test_it_trains_as_a_prior_and_separates(tmp_path):
    def draw(batch, generator):
        phase = 2 * torch.pi * torch.rand(batch, 1, generator=generator)
        return 0.14 * torch.sin(0.5 * torch.arange(256) + phase), torch.zeros(batch, dtype=torch.long)

    config = TrainConfig.pocket(steps=120, warmup=10, log_every=40, save_every=120, learning_rate=5e-3)
    trainer = PriorTrainer(tmp_path, PRIOR, config, draw, {})
    trainer.fit(progress=False)
    assert trainer.losses[-1][1] < 0.85, "a network that predicts nothing has a loss of 1"
    trainer.export(tmp_path / "prior.safetensors")
    prior, y = read(tmp_path / "prior.safetensors"), 0.1 * torch.randn(600)
    found = ut.separate(y, prior, [None, None], config=ut.SeparationConfig.recommended().replace(steps=5)).sources
    assert torch.isfinite(found).all() and torch.allclose(found.sum(0), y, atol=1e-4)
