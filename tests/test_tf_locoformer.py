"""TF-LoCoformer: parity with the published code, sizes, shapes, patches, and its foreign files."""

import numpy as np
import pytest
import torch
from reference import DATA, reference_weights

from unasdiff_teach.networks import TFLoCoformer, TFLoCoformerConfig
from unasdiff_teach.networks.triple_path import unfold_patches

TINY = TFLoCoformerConfig(blocks=1, channels=16, hidden=12, heads=2, attention=16, n_fft=32, hop=16)


def reference_settings():
    io = np.load(DATA / "tflocoformer_io.npz")
    return {"heads": int(io["n_heads"]), "groups": int(io["num_groups"]), "n_fft": 32, "hop": 16}


def test_parity_with_the_published_code():
    """Within 2e-5 of the largest value, 13.4: in float32 the reference itself is 3e-5 away from what exact arithmetic
    gives.
    """
    io = np.load(DATA / "tflocoformer_io.npz")
    net = TFLoCoformer.from_espnet_state_dict(reference_weights("tflocoformer"), **reference_settings())
    c = net.config
    assert (c.channels, c.blocks, c.hidden, c.kernel, c.attention, c.sources) == tuple(
        int(io[k]) for k in ("emb_dim", "n_layers", "ffn_hidden_dim", "conv1d_kernel", "attention_dim", "num_spk")
    )
    with torch.no_grad():
        separated = net.separate_spectrum(torch.from_numpy(io["spectrum"]))
        exact = net.double().separate_spectrum(torch.from_numpy(io["spectrum"]).to(torch.complex128))
    for found in (separated, exact):
        assert np.abs(found.numpy() - io["separated"]).max() <= min(2e-5 * np.abs(io["separated"]).max(), 5e-5)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing", r"missing keys: blocks\.1\.frame_path\.attn\.qkv\.weight"),
        ("unknown", r"unknown keys: blocks\.1\.frame_path\.attn\.bias"),
        ("shape", r"blocks\.1\.frame_path\.attn\.qkv\.weight: \(47, 16\) instead of \(48, 16\)"),
        ("rotary", r"rotary tables that differ from block 0: blocks\.1\.freq_path\.attn\.rope\.freqs"),
        ("head", r"missing keys: deconv\.bias"),
    ],
)
def test_a_state_dict_that_does_not_fit_is_named(damage, message):
    state, key = reference_weights("tflocoformer"), "blocks.1.frame_path.attn.qkv.weight"
    if damage == "missing":
        del state[key]
    elif damage == "unknown":
        state["blocks.1.frame_path.attn.bias"] = state[key]
    elif damage == "shape":
        state[key] = state[key][:-1]
    elif damage == "rotary":
        state["blocks.1.freq_path.attn.rope.freqs"] = 2 * state["blocks.1.freq_path.attn.rope.freqs"]
    else:
        del state["deconv.bias"]
    with pytest.raises(ValueError, match=message):
        TFLoCoformer.from_espnet_state_dict(state, **reference_settings())


@pytest.mark.parametrize(
    ("config", "count"), [(TFLoCoformerConfig.medium(), 14_975_652), (TFLoCoformerConfig.small(), 5_026_940)]
)
def test_parameter_counts_with_the_rotary_tables(config, count):
    with torch.device("meta"):
        net = TFLoCoformer(config)
    assert sum(p.numel() for p in net.parameters()) == count
    fixed = [name for name, p in net.named_parameters() if not p.requires_grad]
    assert fixed == ["rotary_frequency", "rotary_frame"]


def test_the_pocket_network_fits_into_5_mb():
    net = TFLoCoformer(TFLoCoformerConfig.pocket(sources=3))
    assert 2 * sum(v.numel() for v in net.state_dict().values()) < 5e6
    assert net(torch.randn(2, 1000)).shape == (2, 3, 1000)


@pytest.mark.parametrize("patch", [(1, 1), (2, 4)])
@pytest.mark.parametrize("length", [100, 160, 333])
@pytest.mark.parametrize("sources", [1, 3])
def test_any_length_comes_back(patch, length, sources):
    torch.manual_seed(0)
    found = TFLoCoformer(TINY.replace(patch=patch, sources=sources))(torch.randn(2, length))
    assert found.shape == (2, sources, length) and torch.isfinite(found).all()


def test_the_waveform_is_the_spectrum_transformed():
    """An identity for the separation gives the mixture back, for every source."""
    net = TFLoCoformer(TINY)
    net.separate_spectrum = lambda X: X[:, None].expand(-1, 2, -1, -1)
    x = 3 * torch.randn(2, 333)
    assert torch.allclose(net(x), x[:, None].expand(-1, 2, -1), atol=1e-4)


@pytest.mark.parametrize("shape", [(9, 17), (8, 16), (1, 5)])
def test_patches_unfold_to_what_was_folded(shape):
    net, h = TFLoCoformer(TINY.replace(patch=(2, 4))), torch.randn(2, 3, *shape)
    folded = net._fold(h)
    assert folded.shape == (2, 24, -(-shape[0] // 2), -(-shape[1] // 4))
    assert torch.equal(unfold_patches(folded, net.config.patch)[..., : shape[0], : shape[1]], h)


def test_rows_of_a_batch_do_not_see_each_other_and_level_only_scales():
    torch.manual_seed(0)
    net, x = TFLoCoformer(TINY), torch.randn(3, 320) * torch.tensor([[0.01], [1.0], [10.0]])
    found = net(x)
    assert torch.allclose(found, torch.cat([net(x[b : b + 1]) for b in range(3)]), atol=1e-4)
    assert torch.allclose(net(5 * x), 5 * found, rtol=1e-3, atol=1e-5)
    assert torch.isfinite(net(torch.zeros(1, 320))).all()


def test_attention_is_relative_in_position():
    """Rotary products depend on distance alone: shifted along the axis, an attention's output shifts with it."""
    from unasdiff_teach.networks.tf_locoformer import Attention, _rotary_rates, _turn

    torch.manual_seed(0)
    attention, turn, x = Attention(TINY), _turn(_rotary_rates(TINY), 40), torch.randn(1, 10, 16)
    assert torch.allclose(attention(x, turn[:10]), attention(x, turn[30:]), atol=1e-4)
    assert not torch.allclose(attention(x, turn[:10]), attention(x, turn[:10].flip(0)), atol=1e-3)


def test_gradients_reach_every_weight():
    net = TFLoCoformer(TINY)
    net(torch.randn(1, 320)).square().sum().backward()
    assert [
        name for name, p in net.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.abs().sum() > 0)
    ] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [({"groups": 3}, "groups = 3"), ({"attention": 18}, "attention = 18"), ({"hop": 17}, "hop is 17")],
)
def test_impossible_configurations_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        TINY.replace(**change)


def test_a_mixture_too_short_for_the_stft_is_refused():
    with pytest.raises(ValueError, match="too short"):
        TFLoCoformer(TINY)(torch.randn(1, 16))
