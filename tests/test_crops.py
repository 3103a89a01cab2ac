"""Augmentation of training examples: what it may change, what it must leave, and that it can be switched off."""

from __future__ import annotations

import pytest
import torch

from unasdiff_teach.training.crops import CropConfig, Crops, coloured, room

N = 8000


def draw(waveforms, labels, seed=0, batch=64, **changes):
    return Crops(waveforms, labels, CropConfig(N, **changes))(batch, torch.Generator().manual_seed(seed))


@pytest.fixture
def noises():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(20_000, generator=generator) for _ in range(4)]


def test_level_and_labels_are_kept(noises):
    plain, label = draw(noises, [0, 0, 1, 1])
    changed, same = draw(noises, [0, 0, 1, 1], equalise_db=9.0, reverberant=0.5, layered=1.0, layered_labels=(1,))
    level = 20 * changed.square().mean(-1).sqrt().log10()
    assert torch.equal(label, same)
    assert level.min() > -25.01 and level.max() < -19.99
    assert not torch.allclose(plain, changed)


def test_the_equaliser_stays_within_its_gain():
    impulse = torch.zeros(200, N)
    impulse[:, N // 2] = 1
    out = coloured(impulse, CropConfig(N, equalise_db=9.0), torch.Generator().manual_seed(0))
    gain = 20 * torch.fft.rfft(torch.cat([out, torch.zeros_like(out)], -1)).abs().log10()
    assert gain.abs().max() < 9.1
    assert gain.max() > 8 and gain.min() < -8
    assert gain[:, 100:].diff(dim=-1).abs().max() < 0.2  # smooth


def test_a_room_is_direct_sound_and_a_tail_that_dies():
    response = room((500, N), torch.Generator().manual_seed(0))
    tail = response[:, 1:].square()
    ratio = -10 * tail.sum(-1).log10()
    assert (response[:, 0] == 1).all() and 2.9 < ratio.min() < 4 and 14 < ratio.max() < 15.1
    late = tail[:, round(0.4 * N) :].sum(-1) / tail.sum(-1)
    assert 10 * late.max().log10() < -45  # the longest has fallen by 60 dB there


def test_two_at_once_only_where_a_class_may_be_many():
    """Two unit steps of opposite place add up to a longer sound."""
    clips = [torch.ones(N), torch.ones(N)]
    alone, label = draw(clips, [0, 1], partial=1.0, shortest=0.2, batch=400)
    layered, same = draw(clips, [0, 1], partial=1.0, shortest=0.2, batch=400, layered=1.0, layered_labels=(1,))
    assert torch.equal(label, same)
    sounding = (layered.abs() > 0).float().mean(-1)
    assert (layered[label == 0].abs() > 0).float().mean() < 0.7
    assert sounding[label == 1].mean() > sounding[label == 0].mean() + 0.1
    values = [len(row[row != 0].unique()) for row in layered[label == 1]]
    assert max(values) >= 2 and all(len(row[row != 0].unique()) == 1 for row in layered[label == 0])


def test_switched_off_nothing_is_drawn(noises):
    """The examples of a recipe without augmentation are those that they were before there was any."""
    found, label = Crops(noises, [0, 1, 1, 2], CropConfig(N, partial=0.5, speeds=(1.0, 0.94)))(
        32, torch.Generator().manual_seed(5)
    )
    assert label.tolist()[:8] == [2, 0, 2, 2, 2, 0, 0, 2]
    again, _ = draw(noises, [0, 1, 1, 2], seed=5, batch=32, partial=0.5, speeds=(1.0, 0.94), layered=0.0)
    assert torch.equal(found, again)


def test_the_same_seed_gives_the_same_examples(noises):
    settings = {"equalise_db": 6.0, "reverberant": 0.5, "layered": 0.5, "layered_labels": (0,)}
    assert torch.equal(draw(noises, [0, 0, 1, 1], **settings)[0], draw(noises, [0, 0, 1, 1], **settings)[0])
