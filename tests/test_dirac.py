"""The Dirac sampler around closed-form priors: its equation, exactness, batches, seeds, guards."""

import pytest
import torch

import unasdiff_teach as ut
from unasdiff_teach import DiracConfig, separate_dirac

S = ut.NoiseSchedule.linear()
N = 1024
PLAIN = DiracConfig(normalize="none")


def spectrum(centre, width=20.0, floor=1e-4):
    k = torch.arange(N // 2 + 1)
    return floor + 0.3 * torch.exp(-0.5 * ((k - centre) / width) ** 2)


LOW, MID, HIGH = (ut.priors.StationaryGaussian(spectrum(c)) for c in (60, 200, 350))


def sources(seed=0, priors=(LOW, HIGH)):
    g = torch.Generator().manual_seed(seed)
    return torch.cat([p.sample((1, N), g) for p in priors])


def test_it_follows_its_differential_equation():
    """For white Gaussian sources the flow is du/dsigma = sigma (u / (a + sigma^2) - (y - u) / (b + sigma^2)), solved
    here by the closed form of a linear equation; the sampler's Euler steps come close to it, and closer on a finer
    chain."""
    a, b, y = 0.2**2, 0.1**2, torch.linspace(-0.3, 0.3, 64).double()
    start = torch.randn(64, generator=torch.Generator().manual_seed(0)).double()

    def noise(kind, i, shape):
        return torch.stack([start, torch.zeros_like(start)])

    def exact(sigma):
        # With q = (a + s^2)(b + s^2), u / sqrt(q) has the derivative -y s / (b + s^2) / sqrt(q); s runs down to 0.
        s = torch.linspace(0, sigma, 200_001).double()
        root = ((a + s**2) * (b + s**2)).sqrt()
        integral = torch.trapezoid(s / ((b + s**2) * root), s)
        return root[0] * (sigma * start / root[-1] + y * integral)

    error = {}
    for T in (200, 1600):
        # Chains of one total noise, so that only their steps differ.
        schedule = ut.NoiseSchedule.linear(T, 1e-4 * 200 / T, 2e-2 * 200 / T)
        priors = [ut.priors.Gaussian(std=v**0.5, schedule=schedule) for v in (a, b)]
        free = separate_dirac(y, priors, [None, None], schedule, PLAIN, noise).sources[0]
        error[T] = float((free - exact(float(schedule.noise_to_signal[-1]))).abs().max())
    assert error[200] < 0.02 and error[1600] < 0.25 * error[200]


def test_it_comes_close_to_the_wiener_filter():
    scores, exact_scores = [], []
    for seed in range(3):
        x = sources(seed)
        exact, covariance = ut.priors.gaussian_posterior(x.sum(0), [LOW, HIGH])
        found = separate_dirac(
            x.sum(0), [LOW, HIGH], [None, None], S, PLAIN, 100 + seed
        ).sources  # not the seed of the sources
        # nearer to the posterior mean than a sample of the posterior would be
        spread = covariance[0, :, 0].diagonal().mean().sqrt()
        assert (found - exact).square().mean().sqrt() < 0.8 * spread
        scores.append(ut.si_sdr(found, x).mean())
        exact_scores.append(ut.si_sdr(exact.float(), x).mean())
    assert torch.stack(scores).mean() > torch.stack(exact_scores).mean() - 1.5


@pytest.mark.parametrize("constrained", [0, 1, -1])
@pytest.mark.parametrize("langevin", [0.0, 0.5])
def test_three_sources_separate_and_add_up_to_the_mixture(constrained, langevin):
    x = sources(0, (LOW, MID, HIGH))
    config = PLAIN.replace(constrained=constrained, langevin=langevin)
    found = separate_dirac(x.sum(0), [LOW, MID, HIGH], [None] * 3, S, config).sources
    assert torch.allclose(found.sum(0), x.sum(0), atol=1e-5)
    assert ut.si_sdr(found, x).min() > 10


def test_langevin_noise_spreads_the_results_over_the_posterior():
    x = sources()
    _, covariance = ut.priors.gaussian_posterior(x.sum(0), [LOW, HIGH])
    spread = covariance[0, :, 0].diagonal().mean().sqrt()
    ratio = []
    for langevin in (0.0, 1.0):
        config = PLAIN.replace(langevin=langevin)
        runs = torch.stack(
            [separate_dirac(x.sum(0), [LOW, HIGH], [None] * 2, S, config, n).sources[0] for n in range(6)]
        )
        ratio.append(float(runs.std(0).square().mean().sqrt() / spread))
    assert ratio[0] < 0.3 and 0.6 < ratio[1] < 1.5


def test_a_batch_equals_single_runs_and_a_seed_its_result():
    y = torch.stack([sources(seed).sum(0) for seed in range(3)])
    config = DiracConfig(steps=20, langevin=0.5)
    batch = separate_dirac(y, [LOW, HIGH], [None, None], S, config, [5, 6, 7])
    single = [separate_dirac(y[b], [LOW, HIGH], [None, None], S, config, 5 + b).sources for b in range(3)]
    assert batch.sources.shape == (3, 2, N) and batch.calls == len(batch.schedule) == 20
    assert torch.allclose(batch.sources, torch.stack(single), atol=1e-5)
    assert torch.equal(batch.sources, separate_dirac(y, [LOW, HIGH], [None, None], S, config, 5).sources)
    assert not torch.allclose(
        batch.sources, separate_dirac(y, [LOW, HIGH], [None, None], S, config, 9).sources, atol=1e-3
    )


def test_it_is_told_indices_and_levels_of_the_training_chain_and_needs_no_gradient():
    seen = []

    def prior(x_t, t, label):
        assert not torch.is_grad_enabled() and label.tolist() == [3, 4]
        seen.append((int(t[0]), float(x_t[0].std())))
        return LOW(x_t, t)

    separate_dirac(sources().sum(0), prior, [3, 4], S, PLAIN.replace(steps=25))
    assert [t for t, _ in seen] == S.respace(25).timesteps.flip(0).tolist()
    # the first state is noise at the level that the chain has there
    assert seen[0][1] == pytest.approx(float((1 - S.alpha_bar[-1]).sqrt()), rel=0.1)


def test_peak_normalisation_makes_the_result_scale_with_the_mixture():
    y = sources().sum(0)
    once, tenfold = (separate_dirac(a * y, [LOW, HIGH], [None, None], S).sources for a in (1, 10))
    assert torch.allclose(10 * once, tenfold, atol=1e-3)


@pytest.mark.parametrize(
    ("labels", "config", "message"),
    [
        ([None], {}, "at least two"),
        ([None, None], {"constrained": 2}, "constrained is 2"),
        ([None, None], {"normalize": "nonsense"}, "normalize is 'nonsense'"),
        ([None, None], {"langevin": -1.0}, "langevin is -1"),
    ],
)
def test_bad_input_is_named(labels, config, message):
    with pytest.raises(ValueError, match=message):
        separate_dirac(sources().sum(0), LOW, labels, S, DiracConfig(**config))


def test_the_name_of_a_configuration_is_none():
    with pytest.raises(TypeError, match="config is 'recommended'; it must be of type DiracConfig"):
        separate_dirac(sources().sum(0), [LOW, HIGH], [None, None], config="recommended")
