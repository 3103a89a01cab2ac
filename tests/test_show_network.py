"""The drawing of the network: its shapes are those of a real forward pass."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
import torch

from unasdiff_teach import show
from unasdiff_teach.networks import TriplePathConfig, TriplePathUNet

CONFIGS = {
    "paper": (TriplePathConfig.paper(classes=50), 64_000),
    "pocket": (TriplePathConfig.pocket(classes=12), 16_000),
    "odd": (TriplePathConfig.pocket().replace(patch=(2, 3), depths=(2, 1, 1, 1, 3), paths=("frame",)), 9_001),
}


def real_shapes(config: TriplePathConfig, samples: int) -> dict[str, tuple[int, ...]]:
    """What hooks see in a forward pass of `core`, on a device where tensors have a shape and nothing else."""
    net = TriplePathUNet(config)
    spectrum = net._spectrum(torch.zeros(1, samples))
    shapes = {"spectrum": tuple(spectrum.shape[1:])}
    net = net.to("meta")
    for name, part in net.named_children():

        def remember(module, inputs, output, name=name):
            size = tuple(output.shape[1:])
            channels_last = name.startswith(("encoder", "decoder", "latent", "merge"))
            shapes[name] = (size[2], *size[:2]) if channels_last else size

        part.register_forward_hook(remember)
    net.core(spectrum.to("meta"), torch.zeros(1, device="meta"), torch.zeros(1, dtype=torch.long, device="meta"))
    return shapes


@pytest.mark.parametrize("name", CONFIGS)
def test_shapes_are_those_of_a_forward_pass(name):
    assert show.network_shapes(*CONFIGS[name]) == real_shapes(*CONFIGS[name])


@pytest.mark.parametrize("name", CONFIGS)
def test_every_level_is_drawn_with_its_shape_and_depth(name):
    config, samples = CONFIGS[name]
    drawing = show.network_drawing(config, samples)
    words = [element.text for element in ElementTree.fromstring(drawing.svg).iter() if element.text]
    shapes = show.network_shapes(config, samples)
    for part in ("spectrum", "encoder1", "encoder2", "latent", "decoder2", "decoder1", "head"):
        shape = " × ".join(map(str, shapes[part]))
        assert shape in words and shape in drawing.description, part
    for depth in config.depths:
        assert f"{depth} block{'s' * (depth > 1)}" in words
    assert ("global-temporal" in words) == ("global" in config.paths) == ("latent level only" in " ".join(words))
