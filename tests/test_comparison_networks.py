"""The comparison networks against reference vectors and published parameter counts, and foreign checkpoints."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

import unasdiff_teach as ut
from unasdiff_teach.networks import ConvTasNet, ConvTasNetConfig, DiffWave, DiffWaveConfig, TFLoCoformer, TFLoCoformerConfig
from unasdiff_teach.networks.triple_path import TriplePathConfig, TriplePathUNet

DATA = Path(__file__).parent / "data"


def reference_weights(keys, seed):
    """Weights by the rule of the reference vectors: from the key's checksum and the seed."""
    state = {}
    for key, shape in keys.items():
        if "rope" in key:
            # the rotary table of the foreign file: it has half a head's frequencies
            state[key] = torch.from_numpy((10000.0 ** (-np.arange(shape[0]) / shape[0])).astype("float32"))
            continue
        w = np.random.RandomState((zlib.crc32(key.encode()) ^ seed) & 0xFFFFFFFF).standard_normal(shape).astype("float32")
        if key.endswith("gamma"):
            w = np.float32(1) + np.float32(0.1) * w
        else:
            w = w * np.float32(1 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.1)
        state[key] = torch.from_numpy(w)
    return state


def stored(name):
    keys = json.loads((DATA / f"{name}_keys.json").read_text())
    return keys.get("keys", keys), dict(np.load(DATA / f"{name}_io.npz"))


def test_diffwave_agrees_with_the_reference():
    keys, io = stored("diffwave")
    net = DiffWave.from_undiff_state_dict(reference_weights(keys, int(io["seed"])), dilation_cycle=int(io["dilation_cycle"]))
    with torch.no_grad():
        eps = net(torch.from_numpy(io["x"]).reshape(2, -1), torch.from_numpy(io["beta"]).float())
    assert np.abs(eps.numpy() - io["eps"].reshape(2, -1)).max() <= 2e-5


def test_tf_locoformer_agrees_with_the_reference():
    keys, io = stored("tflocoformer")
    frames, bins = io["spectrum"].shape[1:]
    state = reference_weights(keys, int(io["seed"]))
    net = TFLoCoformer.from_espnet_state_dict(state, heads=int(io["n_heads"]), n_fft=2 * (bins - 1), hop=bins - 1)
    with torch.no_grad():
        out = net.separate_spectrum(torch.from_numpy(io["spectrum"]))
    assert out.shape == (2, 2, frames, bins)
    # relative to the largest value: the spectra reach far beyond 1
    assert np.abs(out.numpy() - io["separated"]).max() <= 2e-5 * np.abs(io["separated"]).max()


def test_published_parameter_counts():
    def count(build):
        with torch.device("meta"):
            net = build()
        return sum(a.numel() for a in net.parameters())

    assert count(lambda: DiffWave(DiffWaveConfig.large())) == 32_307_201
    for config, expected in ((TFLoCoformerConfig.medium(), 14_975_652), (TFLoCoformerConfig.small(), 5_026_940)):
        net = TFLoCoformer(config)
        tables = sum(buffer.numel() for name, buffer in net.named_buffers() if "rate" in name or "rotary" in name)
        assert sum(p.numel() for p in net.parameters()) + tables == expected


@pytest.mark.parametrize(
    "net", [ConvTasNet(ConvTasNetConfig.pocket(3)), TFLoCoformer(TFLoCoformerConfig.pocket(3))], ids=["conv_tasnet", "tf_locoformer"]
)
def test_separators_keep_length_and_rows_apart(net):
    net.eval()
    mixture = torch.randn(2, 2345, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        both, first = net(mixture), net(mixture[:1])
    assert both.shape == (2, 3, 2345) and torch.isfinite(both).all()
    assert torch.allclose(both[:1], first, atol=1e-5)
    assert 2 * sum(p.numel() for p in net.parameters()) <= 5e6  # bytes in half precision


def test_an_authors_checkpoint_loads_its_average_and_names_what_does_not_fit(tmp_path):
    keys = json.loads((DATA / "network_keys.json").read_text())
    keys = keys.get("keys", keys)
    ema, model = reference_weights(keys, 1), reference_weights(keys, 2)
    path = tmp_path / "model.pt"
    torch.save({"model": model, "ema": ema}, path)
    net = TriplePathUNet.from_authors_state_dict(ema, heads=2, n_fft=126, hop=63)
    assert isinstance(net.config, TriplePathConfig)
    broken = {k: v for k, v in ema.items() if k != "conv_1.weight"}
    torch.save({"model": model, "ema": broken}, path)
    with pytest.raises(ValueError, match="conv_1.weight"):
        ut.priors.from_authors_checkpoint(path)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError):
        ut.priors.from_authors_checkpoint(path)
