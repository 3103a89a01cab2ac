"""What is counted is what closed forms say: FLOP and bytes of operations, and the limits that follow."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from unasdiff_teach import cost
from unasdiff_teach.cost import Cost, CostCounter, Roofline
from unasdiff_teach.networks import TriplePathConfig
from unasdiff_teach.networks.budget import flops, shapes_alone
from unasdiff_teach.networks.triple_path import TriplePathUNet

FLOAT = 4  # bytes
x = torch.randn(8, 16, 32)  # 4096 numbers


def counted(work) -> dict[str, Cost]:
    with CostCounter() as counter:
        work()
    return {kind: found for kind, found in counter.costs.items() if found != Cost()}


def bytes_of(*numbers: int) -> int:
    return FLOAT * sum(numbers)


def test_a_linear_layer_and_its_gradients():
    M, K, N = 128, 32, 24
    layer, a = nn.Linear(K, N), torch.randn(M, K, requires_grad=True)
    forward = Cost(2 * M * K * N, bytes_of(M * K, K * N, N, M * N), 1)
    assert counted(lambda: layer(a)) == {"products": forward}
    assert counted(torch.inference_mode()(lambda: layer(a))) == {"products": forward}
    backward = counted(lambda: layer(a).sum().backward())["products"]
    assert (backward.flop, backward.operations) == (3 * forward.flop, 3)


@pytest.mark.parametrize(
    ("work", "kind", "size"),
    [
        (lambda: x + x, "elementwise", 3 * 4096),
        (lambda: x + x[:1, :1], "elementwise", 2 * 4096 + 32),
        (lambda: x + x[:1].expand_as(x), "elementwise", 2 * 4096 + 512),  # what is broadcast is read once
        (lambda: x.clone().mul_(2), "elementwise", 2 * 4096),
        (lambda: F.layer_norm(x, (32,)), "norms", 2 * 4096 + 2 * 128),  # and mean and deviation of each row
        (lambda: x.softmax(-1), "norms", 2 * 4096),
        (lambda: x.sum(-1), "norms", 4096 + 128),
        (lambda: x.transpose(1, 2).contiguous(), "copies", 2 * 4096),
        (lambda: torch.cat([x, x]), "copies", 4 * 4096),
        (lambda: torch.empty_like(x).copy_(x), "copies", 2 * 4096),  # overwrites: what was there is not read
        (lambda: torch.zeros(100), "copies", 100),
        (lambda: torch.fft.rfft(x), "fft", 4096 + 2 * 128 * 17),
    ],
)
def test_bytes_are_those_of_inputs_and_outputs(work, kind, size):
    assert counted(work)[kind].bytes == FLOAT * size


def test_views_and_allocation_move_nothing():
    assert not counted(lambda: x.transpose(0, 1)[3:].unflatten(-1, (4, 8)).detach().contiguous)
    assert not counted(lambda: (x.contiguous(), torch.empty(9), x.view(-1).unbind(0), torch.equal(x, x)))


def test_casts_count_in_both_precisions():
    assert counted(lambda: x.bfloat16())["copies"].bytes == (4 + 2) * 4096


def test_attention():
    """Fused, it moves its inputs, its output and the logarithm of each row's sum; written out, all weights go to memory, twice."""
    M, H, L, d = 3, 2, 40, 8
    q, k, v = torch.randn(3, M, H, L, d)
    found = counted(lambda: F.scaled_dot_product_attention(q, k, v))
    assert found == {"attention": Cost(4 * M * H * L * L * d, bytes_of(4 * M * H * L * d, M * H * L), 1)}
    written_out = counted(lambda: torch.softmax(q @ k.mT, -1) @ v)
    assert written_out["products"] == Cost(4 * M * H * L * L * d, bytes_of(4 * M * H * L * d, 2 * M * H * L * L), 2)
    assert written_out["norms"].bytes == bytes_of(2 * M * H * L * L)


def test_a_convolution():
    weight, image = torch.randn(6, 4, 3, 3), torch.randn(2, 4, 10, 12)
    size = bytes_of(image.numel(), weight.numel(), 2 * 6 * 10 * 12)
    assert counted(lambda: F.conv2d(image, weight, padding=1)) == {"convolution": Cost(2 * 2 * 6 * 4 * 9 * 120, size, 1)}


def test_the_roofline_takes_whichever_is_slower_for_each_kind():
    roofline = Roofline(flops=100.0, bandwidth=10.0)
    assert roofline.alone(Cost(200, 5)) == (2.0, 0.5)
    assert roofline.limit([Cost(200, 5), Cost(0, 30)]) == 5.0


def test_the_rates_are_rates_and_their_old_names_say_so():
    found = Roofline.measure("cpu", seconds=0.05)
    assert 1e8 < found.flops < 1e14 and 1e8 < found.bandwidth < 1e13
    from unasdiff_teach import bench

    with pytest.warns(DeprecationWarning, match=r"cost\.peak_matmul_flops"):
        assert bench.matrix_rate is cost.peak_matmul_flops
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        bench.nothing  # noqa: B018


def test_counting_on_shapes_leaves_other_threads_alone():
    """Two threads count a network without data, while this one transforms signals with data."""
    small = TriplePathConfig.pocket().replace(depths=(1, 0, 0, 0, 0))
    original, results = torch.istft, []

    def count(samples):
        results.append([flops(small, samples + i, "guided") for i in range(3)])

    threads = [threading.Thread(target=count, args=(n,)) for n in (4000, 6000)]
    for thread in threads:
        thread.start()
    window, signal = torch.hann_window(64), torch.randn(1000)
    while any(thread.is_alive() for thread in threads):
        spectrum = torch.stft(signal, 64, 32, window=window, return_complex=True)
        assert torch.allclose(torch.istft(spectrum, 64, 32, window=window, length=1000), signal, atol=1e-4)
    assert len(results) == 2 and min(map(min, results)) > 0 and torch.istft is original
    with shapes_alone():
        assert TriplePathUNet(small)(torch.empty(1, 4000), torch.empty(1)).is_meta
    assert torch.empty(1).device.type == "cpu" and torch.utils._device.CURRENT_DEVICE is None
