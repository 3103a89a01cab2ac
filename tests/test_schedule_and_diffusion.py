"""The chain, Tweedie's estimate and ancestral sampling against closed forms."""

import math

import pytest
import torch

import unasdiff_teach as ut

S = ut.NoiseSchedule.linear()


def test_the_chain_keeps_a_third_of_the_signal():
    assert len(S) == 200 and S.timesteps.tolist() == list(range(200))
    assert float(S.alpha_bar[-1]) == pytest.approx(0.132, abs=5e-4)
    assert float(S.sigma[0]) == 0


@pytest.mark.parametrize("spacing", ["log_snr", "time"])
@pytest.mark.parametrize("steps", [2, 20, 33, 40, 200])
def test_respacing_keeps_exactly_the_steps_asked_for(spacing, steps):
    r = S.respace(steps=steps, spacing=spacing)
    assert len(r) == steps
    assert (r.timesteps.diff() > 0).all() and r.timesteps[0] == 0 and r.timesteps[-1] == 199
    assert torch.equal(r.alpha_bar, S.alpha_bar[r.timesteps])
    assert torch.allclose(torch.cumprod(1 - r.beta, 0), r.alpha_bar)


def test_all_steps_respaced_are_the_same_chain():
    r = S.respace(200, "time")
    assert torch.allclose(r.beta, S.beta, atol=1e-6) and torch.allclose(
        r.posterior_variance, S.posterior_variance, atol=1e-6
    )


def test_log_snr_spacing_is_even_where_the_indices_allow():
    gaps = -S.respace(33).log_snr.diff()
    assert gaps[-20:].max() / gaps[-20:].min() < 1.35
    assert (-S.respace(33, "time").log_snr.diff())[-20:].max() / gaps[-20:].min() < 1.2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ut.NoiseSchedule.linear(T=1), "T is 1"),
        (lambda: ut.NoiseSchedule.linear(beta_min=0.1, beta_max=0.01), "beta_min"),
        (lambda: S.respace(1), "2..200"),
        (lambda: S.respace(201), "2..200"),
        (lambda: S.respace(20, "cosine"), "log_snr"),
        (lambda: S.index_of(0), "1..200"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_old_names_of_the_schedule_warn():
    with pytest.warns(DeprecationWarning, match="index is now timesteps"):
        assert torch.equal(S.index, S.timesteps)
    with pytest.warns(DeprecationWarning, match="position is now index_of"):
        assert S.position(150) == S.index_of(150) == 149
    with pytest.warns(DeprecationWarning, match="index is now timesteps"):
        made = ut.NoiseSchedule(S.beta, S.alpha_bar, index=S.timesteps, T_train=200)
    assert torch.equal(made.timesteps, S.timesteps)


def test_forward_noise_has_the_stated_mean_and_variance():
    g = torch.Generator().manual_seed(0)
    x0 = torch.full((1, 200_000), 0.5)
    x_t = ut.forward_noise(x0, 120, torch.randn(x0.shape, generator=g), S)
    assert float(x_t.mean()) == pytest.approx(0.5 * math.sqrt(S.alpha_bar[120]), abs=0.01)
    assert float(x_t.var()) == pytest.approx(1 - float(S.alpha_bar[120]), rel=0.01)


def test_a_tensor_of_steps_equals_single_steps():
    x0, noise, t = torch.randn(3, 50), torch.randn(3, 50), torch.tensor([0, 77, 199])
    together = ut.forward_noise(x0, t, noise, S)
    assert torch.equal(together, torch.stack([ut.forward_noise(x0[b], int(t[b]), noise[b], S) for b in range(3)]))


def test_tweedie_inverts_forward_noise_when_the_noise_is_known():
    x0, noise = torch.randn(2, 100).double(), torch.randn(2, 100).double()
    assert torch.allclose(ut.tweedie(ut.forward_noise(x0, 199, noise, S), noise, 199, S), x0)


def test_one_posterior_step_matches_bayes():
    """Mean and variance of x_{t-1} given x_t and x_0, from the joint Gaussian of the two transitions."""
    t, x_t, x0 = 90, torch.tensor([0.7]).double(), torch.tensor([0.2]).double()
    previous, beta = S.alpha_bar[t - 1], S.beta[t]
    precision = 1 / (1 - previous) + (1 - beta) / beta
    mean = (previous.sqrt() * x0 / (1 - previous) + (1 - beta).sqrt() * x_t / beta) / precision
    step = ut.posterior_step(x_t, x0, t, S, torch.ones(1).double())
    assert torch.allclose(step, mean + precision**-0.5, atol=1e-6)


PRIORS = {
    "gaussian": ut.priors.Gaussian(mean=0.3, std=torch.linspace(0.05, 0.5, 8)),
    "correlated": ut.priors.Gaussian(
        covariance=0.04 * torch.tensor([[0.8 ** abs(i - j) for j in range(8)] for i in range(8)])
    ),
    "stationary": ut.priors.StationaryGaussian(power_spectrum=torch.tensor([1.0, 0.5, 0.2, 0.05, 0.01])),
    "mixture": ut.priors.GaussianMixture(
        [0.3, 0.7], torch.stack([-torch.ones(8), torch.ones(8)]) * 0.4, torch.tensor([0.1, 0.2])
    ),
}


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("t", [60, 120, 180])
def test_tweedie_mean_against_monte_carlo(name, t):
    """E[x_0 | x_t] by weighting many draws of x_0 with the likelihood of x_t."""
    prior, g = PRIORS[name], torch.Generator().manual_seed(t)
    x0 = prior.sample((1, 8), g)
    x_t = ut.forward_noise(x0, t, torch.randn(x0.shape, generator=g), S)
    draws = prior.sample((400_000, 8), g)
    ab = S.alpha_bar[t]
    weight = (-(x_t - ab.sqrt() * draws).square().sum(-1) / (2 * (1 - ab))).softmax(0)
    expected = weight @ draws.to(weight.dtype)
    effective = float(1 / weight.square().sum())
    error = (prior.tweedie_mean(x_t, t) - expected).abs().max()
    assert error < 6 * 0.5 / math.sqrt(effective), (error, effective)


@pytest.mark.parametrize("name", PRIORS)
def test_eps_and_tweedie_mean_agree(name):
    prior, x_t = PRIORS[name], torch.randn(4, 8)
    eps = prior(x_t, torch.full((4,), 33), None)
    assert torch.allclose(ut.tweedie(x_t, eps, 33, S), prior.tweedie_mean(x_t, 33), atol=1e-5)


def test_mixture_score_is_the_gradient_of_its_density():
    prior, x_t = PRIORS["mixture"], torch.randn(5, 8).double().requires_grad_()
    (gradient,) = torch.autograd.grad(prior.log_prob(x_t, 50).sum(), x_t)
    assert torch.allclose(prior.score(x_t.detach(), 50), gradient, atol=1e-8)


def sampled_variance(variance, schedule):
    """Variance that ancestral sampling gives along an axis of prior variance [n]: every step is linear, so it is
    exact.
    """
    out = schedule.alpha_bar[-1] * variance + 1 - schedule.alpha_bar[-1]
    for t in reversed(range(len(schedule))):
        ab = schedule.alpha_bar[t]
        shrink = schedule.posterior_x0[t] * ab.sqrt() * variance / (ab * variance + 1 - ab) + schedule.posterior_xt[t]
        out = shrink**2 * out + schedule.posterior_variance[t]
    return out


def test_ancestral_sampling_from_an_exact_prior_reproduces_it():
    prior, M = PRIORS["correlated"], 20_000
    g = torch.Generator().manual_seed(1)
    x_T = ut.forward_noise(prior.sample((M, 8), g), 199, torch.randn(M, 8, generator=g), S)
    samples = ut.ancestral_sample(prior, (M, 8), S, generator=g, x_T=x_T).double()
    assert samples.mean(0).abs().max() < 4 * 0.2 / math.sqrt(M)
    along_axes = (samples @ prior.basis).var(0)
    expected = sampled_variance(prior.variance, S)
    assert ((along_axes / expected - 1).abs() < 5 * math.sqrt(2 / M)).all()
    # Taking x0_hat for x_0 loses spread: up to a fifth of the variance with 200 steps, next to nothing in a fine chain.
    assert ((expected / prior.variance - 1).abs() < 0.2).all()
    fine = ut.NoiseSchedule.linear(4000, 5e-6, 1e-3)
    assert ((sampled_variance(prior.variance, fine) / prior.variance - 1).abs() < 0.02).all()


def test_denoising_loss_of_the_exact_prior_is_its_conditional_variance():
    sd, t = 0.2, 80
    prior, g = ut.priors.Gaussian(std=sd), torch.Generator().manual_seed(2)
    x0 = prior.sample((4000, 50), g)
    loss = ut.denoising_loss(prior, x0, torch.full((4000,), t), torch.randn(x0.shape, generator=g), S).mean()
    ab = float(S.alpha_bar[t])
    assert float(loss) == pytest.approx(ab * sd**2 / (ab * sd**2 + 1 - ab), rel=0.03)
