"""Conv-TasNet around torchaudio's network: sizes, lengths, batches."""

import pytest
import torch

from unasdiff_teach.networks import ConvTasNet, ConvTasNetConfig

TINY = ConvTasNetConfig(filters=16, bottleneck=8, hidden=16, layers=2, stacks=1)


def test_the_paper_size_is_the_best_of_luo_and_mesgarani():
    with torch.device("meta"):
        net = ConvTasNet(ConvTasNetConfig.paper())
    count = sum(p.numel() for p in net.parameters())
    assert 4.9e6 < count < 5.2e6, "their Table II says 5.1 M"
    reference = pytest.importorskip("torchaudio").models.conv_tasnet_base()
    assert count == sum(p.numel() for p in reference.parameters())


def test_the_pocket_network_fits_into_5_mb():
    net = ConvTasNet(ConvTasNetConfig.pocket(sources=3))
    assert 2 * sum(v.numel() for v in net.state_dict().values()) < 5e6
    assert net(torch.randn(2, 1000)).shape == (2, 3, 1000)


@pytest.mark.parametrize("length", [1, 7, 100, 1001])
@pytest.mark.parametrize("sources", [1, 2, 3])
def test_any_length_comes_back(length, sources):
    found = ConvTasNet(TINY.replace(sources=sources))(torch.randn(2, length))
    assert found.shape == (2, sources, length) and torch.isfinite(found).all()


def test_it_is_torchaudios_network_with_these_sizes():
    torch.manual_seed(0)
    net, x = ConvTasNet(TINY), torch.randn(1, 500)
    assert torch.equal(net(x), net.core(x[:, None]))
    assert (net.core.enc_kernel_size, net.core.enc_num_feats, net.core.num_sources) == (16, 16, 2)
    generator = net.core.mask_generator
    assert [layer.conv_layers[3].dilation for layer in generator.conv_layers] == [(1,), (2,)]
    assert generator.input_conv.out_channels == 8 and generator.conv_layers[0].conv_layers[0].out_channels == 16


def test_rows_of_a_batch_do_not_see_each_other():
    net, x = ConvTasNet(TINY), torch.randn(3, 200)
    assert torch.allclose(net(x), torch.cat([net(x[b : b + 1]) for b in range(3)]), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"window": 15}, "window is 15"), ({"kernel": 4}, "kernel is 4"), ({"mask": "tanh"}, "mask is 'tanh'")],
)
def test_impossible_configurations_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        TINY.replace(**change)
