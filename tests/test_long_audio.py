"""Long mixtures: windows that are denoised together, against exact priors that need no windows."""

from __future__ import annotations

import pytest
import torch

import unasdiff_teach as ut
from unasdiff_teach import long_audio
from unasdiff_teach.long_audio import WindowedLoss, WindowedPrior, Windows, separate_long, shift_at

WINDOWS = Windows(200, 50)
SHORT = ut.SeparationConfig.short()  # a rule that takes gradients
SHIFTS = (0.0, 0.3, 0.99)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def t_of(x: torch.Tensor, t: int) -> torch.Tensor:
    return torch.full((len(x),), t)


# ------------------------------------------------------------------------------------------------------- windows


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("N", [1, 199, 200, 201, 350, 351, 1234])
def test_windows_cover_a_signal_and_merge_to_it(N, shift):
    starts, weights = WINDOWS.starts(N, shift), WINDOWS.weights(N, shift)
    size = min(N, WINDOWS.size)
    assert starts[0] == 0 and starts[-1] == N - size and (starts.diff() <= WINDOWS.size - WINDOWS.overlap).all()
    assert weights.shape == (len(starts), size) and (weights > 0).all()
    torch.testing.assert_close(WINDOWS.merge(torch.ones(len(starts), size).double(), N, shift), torch.ones(N).double())
    x = noise(2, 3, N).double()
    assert WINDOWS.cut(x, shift).shape == (2, 3, len(starts), size)
    torch.testing.assert_close(WINDOWS.merge(WINDOWS.cut(x, shift), N, shift), x)


def test_weights_fade_from_one_window_to_the_next():
    weights = WINDOWS.weights(350)  # windows at 0 and 150
    assert (weights[0, :150] == 1).all() and (weights[1, 50:] == 1).all()
    assert (weights[0, 150:].diff() < 0).all() and (weights[1, :50].diff() > 0).all()
    torch.testing.assert_close(weights[0, 150:] + weights[1, :50], torch.ones(50).double())


def test_windows_move_from_step_to_step():
    shifts = sorted(shift_at(t) for t in range(8))
    assert 0 == shifts[0] and shifts[-1] < 1
    assert max(b - a for a, b in zip(shifts, [*shifts[1:], 1])) < 2.7 / 8  # no gap much wider than an even one


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (10, 6), (10, -1)])
def test_windows_that_make_no_sense_are_refused(size, overlap):
    with pytest.raises(ValueError, match=f"size is {size} and overlap {overlap}"):
        Windows(size, overlap)


# --------------------------------------------------------------------------------------------------------- prior


class Counting:
    """A prior that remembers how many signals it was given at once, and how long they were."""

    def __init__(self, prior):
        self.prior, self.shapes = prior, []
        self.schedule, self.labels, self.unconditional = prior.schedule, prior.labels, prior.unconditional

    def __call__(self, x_t, t, label=None):
        self.shapes.append(tuple(x_t.shape))
        return self.prior(x_t, t, label)


@pytest.mark.parametrize("chunk", [1, 4, 1000])
@pytest.mark.parametrize("t", [0, 77, 199])
def test_windowed_prior_is_the_prior_where_samples_are_independent(chunk, t):
    """White noise has no memory, so that windows lose nothing: the estimate and its gradient are exact, in any
    chunks.
    """
    prior, x = ut.priors.Gaussian(mean=0.02, std=0.1), noise(3, 1000).double().requires_grad_()
    counting, weight = Counting(prior), noise(3, 1000, seed=1).double()
    windowed = WindowedPrior(counting, WINDOWS, chunk)
    eps = windowed(x, t_of(x, t))
    torch.testing.assert_close(eps, prior(x, t_of(x, t)))
    (gradient,) = torch.autograd.grad((weight * eps.square()).sum(), x)
    (expected,) = torch.autograd.grad((weight * prior(x, t_of(x, t)).square()).sum(), x)
    torch.testing.assert_close(gradient, expected)
    assert {size for _, size in counting.shapes} == {200} and max(rows for rows, _ in counting.shapes) <= chunk


def autoregressive(N: int, memory: float) -> ut.priors.Gaussian:
    """A Gaussian prior whose correlation falls by 1 / e in `memory` samples."""
    lag = (torch.arange(N)[:, None] - torch.arange(N)).abs()
    return ut.priors.Gaussian(covariance=0.02 * torch.exp(-lag.double() / memory))


@pytest.mark.parametrize(("memory", "error"), [(2, 0.004), (10, 0.03)])
def test_windowed_prior_is_nearly_the_prior_where_memory_is_short(memory, error):
    """The error that windows of 100 and of 20 times the memory make, relative to the estimate, at all noise levels."""
    N, ab = 800, ut.NoiseSchedule.linear().alpha_bar
    plain, windowed = autoregressive(N, memory), WindowedPrior(autoregressive(200, memory), WINDOWS)
    for t in (0, 20, 60, 149):
        x_t = (
            ab[t].sqrt() * plain.sample((4, N), torch.Generator().manual_seed(t)) + (1 - ab[t]).sqrt() * noise(4, N)
        ).double()
        exact = plain.tweedie_mean(x_t, t)
        x0_hat = ut.tweedie(x_t, windowed(x_t, t_of(x_t, t)), t, plain.schedule)
        assert (x0_hat - exact).norm() < error * exact.norm(), t


def test_short_signals_go_through_as_they_are():
    prior = Counting(autoregressive(200, 5))
    x = noise(2, 200).double()
    assert torch.equal(WindowedPrior(prior, WINDOWS)(x, t_of(x, 50)), prior(x, t_of(x, 50)))


def test_labels_follow_their_signals_and_metadata_is_the_priors():
    class Told:
        labels, sample_rate, unconditional = ("a", "b"), 8000, 2

        def __call__(self, x_t, t, label):
            return label[:, None] + 0.001 * t[:, None] + torch.zeros_like(x_t)

    prior = WindowedPrior(Told(), WINDOWS, 3)
    assert (prior.labels, prior.sample_rate, prior.unconditional) == (("a", "b"), 8000, 2)
    assert not hasattr(prior, "schedule")
    eps = prior(torch.zeros(2, 777), torch.tensor([5, 5]), torch.tensor([1, 0]))
    torch.testing.assert_close(eps, torch.tensor([[1.005], [0.005]]).expand(2, 777))
    with pytest.raises(ValueError, match="chunk is 0"):
        WindowedPrior(Told(), WINDOWS, 0)


def test_chunks_of_a_network_give_its_gradient():
    """What is forgotten and computed again in the backward pass gives the same gradient, once or several times."""
    network = ut.networks.TriplePathConfig.pocket(classes=1).replace(channels=16, embedding=16)
    torch.manual_seed(0)
    prior = ut.priors.PriorConfig(8000, target="preconditioned", network=network).build().eval().requires_grad_(False)
    windows = Windows(1000, 250)
    for parameter in prior.parameters():
        parameter += 0.02 * torch.randn(parameter.shape)
    gradients = []
    for chunk in (2, 100):
        x = noise(2, 2600).requires_grad_()
        eps = WindowedPrior(prior, windows, chunk)(x, t_of(x, 40))
        first = torch.autograd.grad(eps.square().sum(), x, retain_graph=True)[0]
        gradients.append((first, torch.autograd.grad(eps.sum(), x)[0]))
    assert gradients[0][0].norm() > 0
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------------------------------------------------- loss


def test_squared_norms_of_windows_are_the_squared_norm():
    base = ut.ReconstructionLoss(group=0, stft=0, squared=True)
    y, y_hat = noise(2, 3, 1234).double()
    torch.testing.assert_close(WindowedLoss(base, WINDOWS)(y, y_hat), base(y, y_hat))


def test_one_window_has_the_loss_of_the_whole():
    base, windows = ut.ReconstructionLoss(), Windows(1000, 100)
    y, y_hat = noise(2, 3, 1000)
    torch.testing.assert_close(WindowedLoss(base, windows)(y, y_hat), base(y, y_hat))


def test_each_window_has_a_gradient_of_its_own():
    """However loud the others are."""
    base, y_hat = ut.ReconstructionLoss(group=0, stft=0), torch.zeros(1, 800, requires_grad=True)
    y = noise(1, 800) * torch.tensor([1.0, 0.01]).repeat_interleave(400)
    (windowed,) = torch.autograd.grad(WindowedLoss(base, WINDOWS)(y, y_hat).sum(), y_hat)
    (whole,) = torch.autograd.grad(base(y, y_hat).sum(), y_hat)
    assert whole[:, 600:].norm() < 0.02 * whole[:, :200].norm()
    assert 0.5 < windowed[:, 600:].norm() / windowed[:, :200].norm() < 2


# ---------------------------------------------------------------------------------------------------- separation


def pair(level: torch.Tensor) -> list[ut.priors.Gaussian]:
    """Two sources of which one has the even, the other the odd samples; `level` [N] is their envelope."""
    odd = (torch.arange(len(level)) % 2).bool()
    return [ut.priors.Gaussian(std=level * torch.where(odd == flip, 0.15, 0.02)) for flip in (False, True)]


def test_long_separation_is_the_plain_one_where_windows_lose_nothing():
    """Priors without memory and a loss that is a sum over samples: windows of the loss and of the priors must cancel
    out.
    """
    config = SHORT.replace(loss=ut.ReconstructionLoss(group=0, stft=0, squared=True))
    y = 0.1 * noise(2, 1000).double()
    prior = [ut.priors.Gaussian(std=0.05), ut.priors.Gaussian(std=0.15)]
    plain = ut.separate(y, prior, [None, None], config=config, noise=[3, 4])
    long = separate_long(y, prior, [None, None], WINDOWS, config, chunk=5, noise=[3, 4])
    torch.testing.assert_close(long.sources, plain.sources, rtol=1e-6, atol=1e-8)
    assert long.calls == plain.calls and len(long.schedule) == len(plain.schedule)


def test_one_window_is_separated_as_ever_and_less_is_padded():
    prior = pair(torch.ones(1000))
    y = 0.1 * noise(1000)
    plain = ut.separate(y, prior, [None, None], config=SHORT, noise=1).sources
    assert torch.equal(separate_long(y, prior, [None, None], Windows(1000, 100), SHORT, noise=1).sources, plain)
    short = separate_long(y[:600], prior, [None, None], Windows(1000, 100), SHORT, noise=1).sources
    padded = ut.separate(torch.nn.functional.pad(y[:600], (0, 400)), prior, [None, None], config=SHORT, noise=1).sources
    assert torch.equal(short, padded[:, :600])


def test_the_name_of_a_prior_or_a_preset_is_none():
    with pytest.raises(TypeError, match=r"prior 0 is 'pocket-speech'; .*load\('pocket-speech'\) is one"):
        separate_long(noise(800), ["pocket-speech", "pocket-sound"], [None, None], WINDOWS)
    with pytest.raises(TypeError, match=r"SeparationConfig.recommended\(\) is one"):
        separate_long(noise(800), ut.priors.Gaussian(std=0.1), [None, None], WINDOWS, "recommended")


def test_the_level_of_a_window_too_large_for_a_quantile_is_that_of_some_samples(monkeypatch):
    y, windows = noise(2, 3001), Windows(3000, 0)
    whole = long_audio.working_gain(y, windows)
    monkeypatch.setattr(long_audio, "MOST", 1000)
    torch.testing.assert_close(long_audio.working_gain(y, windows), whole, rtol=0.2, atol=0)


def test_sources_that_share_a_prior_go_through_it_together():
    prior = Counting(ut.priors.Gaussian(std=0.1))
    config = SHORT.replace(steps=2, loss=ut.ReconstructionLoss(stft=0))
    separate_long(0.1 * noise(800), prior, [None, None], WINDOWS, config, chunk=1000)
    separate_long(0.1 * noise(800), [prior, prior], [None, None], WINDOWS, config, chunk=1000)
    windows = [len(WINDOWS.starts(800, shift_at(t))) for t in (149, 0)]
    assert prior.shapes == 2 * [(2 * count, 200) for count in windows]


@pytest.mark.parametrize("config", [ut.SeparationConfig.recommended(), ut.SeparationConfig.authors().replace(steps=20)])
def test_chunks_do_not_change_a_separation(config):
    prior, y = [ut.priors.Gaussian(std=0.05), ut.priors.Gaussian(std=0.15)], 0.1 * noise(1000).double()
    few, all_at_once = (
        separate_long(y, prior, [None, None], Windows(600, 100), config, chunk).sources for chunk in (1, 1000)
    )
    torch.testing.assert_close(few, all_at_once)
    assert all_at_once.abs().amax() > 0.01


def test_a_rule_without_gradients_needs_no_windows_of_its_own():
    prior, y = [ut.priors.Gaussian(std=0.05), ut.priors.Gaussian(std=0.15)], 0.1 * noise(1000).double()
    config = ut.SeparationConfig.recommended()
    long = separate_long(y, prior, [None, None], Windows(600, 100), config).sources
    torch.testing.assert_close(long, ut.separate(y, prior, [None, None], config=config).sources)


def speakers(N: int) -> ut.priors.GaussianMixture:
    """One prior for two speakers: it knows that each keeps to the even or to the odd samples, but not which."""
    odd = (torch.arange(N) % 2).bool()
    stds = torch.stack([torch.where(odd, 0.02, 0.15), torch.where(odd, 0.15, 0.02)])
    return ut.priors.GaussianMixture(torch.ones(2), torch.zeros(2, N), stds)


def exchanges(estimate: torch.Tensor, sources: torch.Tensor, tile: int) -> int:
    """How often two sources change places from tile to tile."""
    e, s = (x[:, : x.shape[1] // tile * tile].unflatten(-1, (-1, tile)) for x in (estimate, sources))
    straight = (e - s).square().sum((0, 2)) < (e - s.flip(0)).square().sum((0, 2))
    return int((straight[1:] != straight[:-1]).sum())


def test_windows_denoised_together_exchange_speakers_less_often_than_windows_alone():
    """Two speakers under one prior, which may come out in either order in each window.

    Alone, every other seam is an exchange. Together they are much fewer; they do not vanish, since far apart
    windows decide before they hear of each other.
    """
    windows, N = Windows(64, 16), 64 + 7 * 48
    config = SHORT.replace(loss=ut.ReconstructionLoss(group=0, stft=0))
    parts = torch.stack([torch.where((torch.arange(N) % 2).bool() == flip, 0.15, 0.02) for flip in (False, True)])
    prior, alone, together = speakers(64), 0, 0
    for seed in range(6):
        sources = parts * noise(2, N, seed=seed)
        y = sources.sum(0)
        long = separate_long(y, prior, [None, None], windows, config, chunk=1000, noise=seed).sources
        pieces = y[: N // 64 * 64].unflatten(0, (-1, 64))
        independent = ut.separate(pieces, prior, [None, None], config=config, noise=100 * seed).sources
        together += exchanges(long, sources, 64)
        alone += exchanges(independent.transpose(0, 1).flatten(1), sources, 64)
    assert together <= 0.7 * alone, (together, alone)


def test_soft_passages_get_steps_of_their_own():
    """A loud beginning takes nothing from what follows: the soft rest is separated better than with one norm for
    all.
    """
    level = torch.tensor([1.0] + 5 * [0.1]).repeat_interleave(500)
    priors = pair(level)
    sources = torch.stack(
        [p.sample((4, len(level)), torch.Generator().manual_seed(k)) for k, p in enumerate(priors)], 1
    ).float()
    config = SHORT.replace(normalize="none")  # these priors know their level
    scores = []
    for loss in (config.loss, WindowedLoss(config.loss, Windows(500, 125))):
        estimates = ut.separate(sources.sum(1), priors, [None, None], config=config.replace(loss=loss)).sources
        scores.append(ut.si_sdr(estimates[..., 750:], sources[..., 750:]).mean())
    assert scores[1] > scores[0] + 0.3, scores
