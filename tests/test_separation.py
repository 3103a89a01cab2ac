"""Algorithm 1 around closed-form priors: exactness, batches, seeds, guards; guidance and losses against their
formulas.
"""

import math
from dataclasses import FrozenInstanceError, dataclass

import numpy
import pytest
import torch
from safetensors.torch import save_file

import unasdiff_teach as ut
from unasdiff_teach.task import SeparationTask

S = ut.NoiseSchedule.linear()
FAST = ut.SeparationConfig.short().replace(steps=20)
N = 1024


def spectrum(centre, width=20.0, floor=1e-4):
    k = torch.arange(N // 2 + 1)
    return floor + 0.3 * torch.exp(-0.5 * ((k - centre) / width) ** 2)


LOW, HIGH = (ut.priors.StationaryGaussian(spectrum(c)) for c in (60, 300))


def sources(seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.cat([LOW.sample((1, N), g), HIGH.sample((1, N), g)])


# --- exact posterior -------------------------------------------------------------------------------------------------


def test_the_exact_posterior_of_two_gaussian_sources_is_the_wiener_filter():
    y = sources().sum(0)
    mean, covariance = ut.priors.gaussian_posterior(y, [LOW, HIGH])
    wiener = torch.fft.irfft(torch.fft.rfft(y.double()) * LOW.power / (LOW.power + HIGH.power), n=N)
    assert torch.allclose(mean[0], wiener, atol=1e-8)
    assert torch.allclose(mean.sum(0), y.double(), atol=1e-8)
    # Given their sum, the two sources err in opposite directions by equal amounts.
    assert torch.allclose(covariance[0, :, 0], covariance[1, :, 1], atol=1e-9)
    assert torch.allclose(covariance[0, :, 0], -covariance[0, :, 1], atol=1e-9)


def test_guided_sampling_comes_close_to_the_wiener_filter():
    x = sources()
    exact = ut.priors.gaussian_posterior(x.sum(0), [LOW, HIGH])[0]
    guided = ut.separate(x.sum(0), [LOW, HIGH], [None, None], S, FAST.replace(steps=60)).sources
    assert ut.si_sdr(exact.float(), x).mean() > 20
    # The gap to the exact posterior mean is a finding of chapter 5; here: it stays far below the sources themselves.
    assert (guided - exact).square().mean().sqrt() < 0.35 * x.square().mean().sqrt()
    assert ut.si_sdr(guided, x).mean() > 8


def test_the_mean_of_hypotheses_comes_closer_to_the_wiener_filter():
    y = sources().sum(0)
    exact = ut.priors.gaussian_posterior(y, [LOW, HIGH])[0]
    config = FAST.replace(steps=60, project=False)

    def gap(config):
        return (ut.separate(y, [LOW, HIGH], [None, None], S, config).sources - exact).square().mean().sqrt()

    # A sample of the posterior is as far from its mean as the posterior is wide; the mean of many is closer.
    shares = config.replace(guidance=ut.Wiener(), renoise=1.0)
    assert gap(shares.replace(hypotheses=8)) < 0.6 * gap(shares)


def test_wiener_shares_are_those_of_the_posterior_of_gaussians_bin_by_bin():
    t, n = 60, 512
    time = torch.arange(8192)
    tones = torch.stack([a * torch.cos(2 * torch.pi * 40 / n * time + k) for k, a in enumerate((0.5, 0.1))])[None]
    y = 0.3 * torch.cos(2 * torch.pi * 40 / n * time)[None] + tones.sum(1)
    shift = ut.Wiener(floor=0.0).shift(y, tones, t, S)
    assert torch.allclose((tones + shift).sum(1), y, atol=1e-5)
    window = torch.hann_window(n)
    noise = float(S.noise_to_signal[t]) ** 2 * float(window.square().sum())
    # A Hann window puts a tone into three bins: amplitude 1 with weight 2/3 in the synthesis, twice 1/2 with weight
    # 1/6.
    P = (torch.tensor((0.5, 0.1)) * float(window.sum()) / 2) ** 2 * torch.tensor((1.0, 0.25))[:, None]
    V = P * noise / (P + noise)
    shares = torch.tensor((2 / 3, 1 / 3)) @ (V / V.sum(1, keepdim=True))
    middle = slice(2048, 6144)
    gains = shift[0, :, middle].square().mean(-1).sqrt() / (0.3 / 2**0.5)
    assert torch.allclose(gains, shares, atol=0.005)


def test_a_step_with_fresh_noise_has_the_noise_level_of_the_step_below():
    s, t = S, 120
    alpha_bar, below = float(s.alpha_bar[t]), float(s.alpha_bar[t - 1])
    for renoise in (0.0, 0.5, 1.0):
        from_x0, from_xt, sigma = ut.reverse_weights(t, s, renoise)
        # x_0 itself in place of its estimate: the noise of t - 1 must come out, whatever its share
        assert from_x0 + from_xt * alpha_bar**0.5 == pytest.approx(below**0.5)
        assert from_xt**2 * (1 - alpha_bar) + sigma**2 == pytest.approx(1 - below)
    assert ut.reverse_weights(0, s, 0.7) == (1.0, 0.0, 0.0)
    mean, x_t, sigma = ut.reverse_weights(t, s)
    assert (mean, x_t, sigma) == tuple(float(w[t]) for w in (s.posterior_x0, s.posterior_xt, s.sigma))
    with pytest.raises(ValueError, match="renoise is 2"):
        ut.SeparationConfig(renoise=2)


# --- the paper's algorithm, and rules, priors and losses of one's own -------------------------------------------------


def test_algorithm_1_is_separate_with_the_papers_configuration():
    y, generator = sources().sum(0), torch.Generator().manual_seed(5)
    for rule in (ut.Hybrid.paper(), ut.DSG.paper(), ut.CQT()):
        config = ut.SeparationConfig.paper(rule)
        by_line = ut.algorithm_1(y, [LOW, HIGH], [None, None], S, rule, config.loss, generator.manual_seed(5))
        result = ut.separate(y, [LOW, HIGH], [None, None], S, config, noise=5)
        # Equal to the last bit where this was written; other machines may add in another order.
        assert torch.allclose(by_line, result.sources, atol=1e-5) and result.calls == len(S)

    def prior(x_t, t, label):  # what it says depends on its label
        return LOW(x_t, t) * (1 + 0.1 * label[:, None])

    by_line = ut.algorithm_1(y, [prior, prior], [0, 1], S, ut.Hybrid.paper(), config.loss, generator.manual_seed(6))
    together = ut.separate(y, prior, [0, 1], S, ut.SeparationConfig.paper(), noise=6).sources
    assert torch.allclose(by_line, together, atol=1e-5)


def test_paper_gives_every_rule_the_constants_of_the_text():
    paper, authors = ut.SeparationConfig.paper, ut.SeparationConfig.authors
    assert (
        paper().guidance == paper(ut.Hybrid).guidance == ut.Hybrid.paper() and paper(ut.DSG).guidance == ut.DSG.paper()
    )
    assert authors().guidance == ut.Hybrid() and authors(ut.DSG).guidance == ut.DSG()
    assert paper(ut.DPS).guidance == ut.DPS() and paper(ut.Wiener(floor=0.0)).guidance == ut.Wiener(floor=0.0)
    for rule in (ut.DSG(), ut.Hybrid(s_floor=0.005)):
        with pytest.raises(ValueError, match=r"sigma_scale = 0\.09 is the released code's, where the text has 1\.0"):
            paper(rule)
        assert paper().replace(guidance=rule).guidance == rule
    for rule in (ut.DSG.paper(), ut.DSG(sigma_scale=0.5), ut.Hybrid(s_floor=0.005, sigma_scale=1.0)):
        assert paper(rule).guidance == rule


@dataclass(frozen=True)
class Damped:
    """A rule that inherits nothing: the gradient's direction, a length that falls linearly."""

    size: float = 0.05
    needs_gradient = True

    def direction(self, estimates):
        (gradient,) = torch.autograd.grad(estimates.loss.sum(), estimates.x_t)
        return -gradient

    def step(self, mean, noise, direction, norm, t, schedule):
        gamma = self.size * t / len(schedule) * math.sqrt(mean.shape[-1]) / (norm + 1e-8)
        return mean + noise + gamma[..., None] * direction, gamma


class EqualShares:
    """A rule without gradients: each estimate gets an equal part of what is missing."""

    needs_gradient = False

    def direction(self, estimates):
        missing = estimates.mixture - estimates.x0_hat.sum(1)
        return estimates.from_x0 * missing[:, None].expand(estimates.x_t.shape) / estimates.x_t.shape[1]

    def step(self, mean, noise, direction, norm, t, schedule):
        return mean + noise + direction, torch.ones_like(norm)


@pytest.mark.parametrize("rule", [Damped(), EqualShares()])
def test_a_rule_of_ones_own_needs_nothing_but_the_protocol(rule):
    y, recorder = torch.stack([sources(seed).sum(0) for seed in range(2)]), ut.ConflictRecorder()
    config = FAST.replace(guidance=rule, project=False)
    asked = []

    def prior(x_t, t, label):
        asked.append(x_t.requires_grad)
        return LOW(x_t, t)

    found = ut.separate(y, [prior, HIGH], [0, None], S, config, on_step=recorder).sources
    unguided = ut.separate(y, [prior, HIGH], [0, None], S, config.replace(guidance=ut.DPS(0.0))).sources
    assert (y - found.sum(1)).norm() < 0.5 * (y - unguided.sum(1)).norm()
    assert set(asked[:20]) == {rule.needs_gradient}
    assert recorder.table()["gamma"].shape == (20, 2, 2) and recorder.table()["loss"].shape == (20, 2)


@pytest.mark.parametrize("rule", [ut.DPS, object(), "hybrid"])
def test_what_is_no_rule_is_refused(rule):
    with pytest.raises(TypeError, match="needs_gradient, direction and step"):
        ut.SeparationConfig(guidance=rule)


def test_every_rule_of_the_library_is_one_of_the_protocol():
    rules = (ut.DPS(), ut.DSG(), ut.DSG(variant="original"), ut.Hybrid(), ut.CQT(), ut.Wiener())
    assert all(isinstance(rule, ut.Guidance) for rule in rules)
    assert [rule.needs_gradient for rule in rules] == [True] * 5 + [False]
    assert str(ut.Wiener()) == "Wiener(n_fft=512, floor=0.1)"  # stored results are told apart by it


def test_a_loss_of_ones_own_is_any_callable():
    calls = []

    def squared_error(mixture, estimate):
        calls.append(mixture.shape)
        return (mixture - estimate).square().sum(-1)

    y, config = sources().sum(0), FAST.replace(loss=squared_error)
    library = ut.ReconstructionLoss(time=1, group=0, stft=0, squared=True)
    found, same = (
        ut.separate(y, [LOW, HIGH], [None, None], S, c).sources for c in (config, FAST.replace(loss=library))
    )
    assert torch.equal(found, same) and calls == [(1, N)] * 20
    ut.separate(y, [LOW, HIGH], [None, None], S, config.replace(guidance=ut.Wiener()))
    assert len(calls) == 20, "nobody asks for the loss without gradients and without a recorder"


def test_shapes_of_a_rule_and_a_loss_of_ones_own_are_checked():
    y = sources().sum(0)
    with pytest.raises(ValueError, match=r"loss has shape \[\] for 1 mixtures"):
        ut.separate(
            y, LOW, [0, 0], S, FAST.replace(loss=lambda mixture, estimate: (mixture - estimate).square().mean())
        )

    class Flat(EqualShares):
        def direction(self, estimates):
            return super().direction(estimates).sum(1)

    with pytest.raises(ValueError, match=r"direction has shape \[1, 1024\], the states \[1, 2, 1024\]"):
        ut.separate(y, LOW, [0, 0], S, FAST.replace(guidance=Flat()))


def test_a_stopped_run_goes_on_to_the_last_bit(tmp_path):
    y, rest = sources().sum(0), []
    for rule in (ut.Hybrid(), ut.DSG(variant="original"), ut.Wiener()):
        config = FAST.replace(guidance=rule, renoise=0.5)
        state = ut.RunState(tmp_path / type(rule).__name__, every=0)

        def stop(record):
            if record.step == 12:
                raise KeyboardInterrupt

        whole = ut.separate(y, [LOW, HIGH], [None, None], S, config, noise=3).sources
        with pytest.raises(KeyboardInterrupt):
            ut.separate(y, [LOW, HIGH], [None, None], S, config, noise=3, on_step=stop, state=state)
        assert state.steps == 12
        again = ut.separate(
            y, [LOW, HIGH], [None, None], S, config, noise=3, on_step=lambda r: rest.append(r.step), state=state
        )
        assert torch.equal(again.sources, whole) and again.calls == 20
        assert rest[-8:] == list(range(12, 20)) and state.steps == 20
        done = ut.separate(y, [LOW, HIGH], [None, None], S, config, noise=3, state=state)
        assert torch.equal(done.sources, whole)


def nan_from(t_bad):
    """An exact prior whose predictions are NaN from step t_bad of the training chain on."""
    return lambda x_t, t, label=None: torch.where(t[:, None] <= t_bad, math.nan, LOW(x_t, t, label))


def test_a_state_that_is_not_finite_stops_the_run_and_is_not_kept(tmp_path):
    state = ut.RunState(tmp_path / "state", every=0)
    s, start = FAST.chain(S)
    bad = int(s.timesteps[start - 12])
    with pytest.raises(FloatingPointError, match=f"after step 12, t = {bad}"):
        ut.separate(sources().sum(0), nan_from(bad), [None, None], S, FAST, state=state)
    assert state.steps == 12 and state.load(torch.zeros(1, 2, N))[1].isfinite().all()


@pytest.mark.parametrize(
    ("value", "metadata"), [(1.0, None), (1.0, {"made_by": "another"}), (math.nan, {"steps": "12"})]
)
def test_a_state_file_that_no_run_can_go_on_from_counts_as_none(tmp_path, value, metadata):
    save_file({"x_t": torch.full((1, 2, N), value)}, tmp_path / "state", metadata)
    state, initial = ut.RunState(tmp_path / "state"), torch.zeros(1, 2, N)
    assert state.steps == 0 and state.load(initial) == (0, initial)


@pytest.mark.parametrize("separate", [ut.separate, ut.separate_analytical, ut.separate_dirac])
def test_no_sampler_returns_what_is_not_finite(separate):
    with pytest.raises(FloatingPointError, match="the sources have NaN or infinite samples at the end"):
        separate(sources().sum(0), nan_from(0), [None, None], S.respace(20))


def test_what_is_not_finite_in_a_batch_is_named():
    y = torch.stack([sources(seed).sum(0) for seed in range(3)])

    def prior(x_t, t, label):
        return torch.where(label[:, None] == 1, math.nan, LOW(x_t, t, label))

    with pytest.raises(FloatingPointError, match="the sources of mixture 2 have"):
        ut.separate(y, prior, [[0, 0], [0, 0], [0, 1]], S, FAST.replace(hypotheses=2), noise=[1, 2, 3])


# --- batches, seeds, priors, labels ----------------------------------------------------------------------------------


@pytest.mark.parametrize("separate", [ut.separate, ut.separate_analytical])
def test_a_batch_of_three_equals_three_single_runs(separate):
    y = torch.stack([sources(seed).sum(0) for seed in range(3)])
    config = {"config": FAST} if separate is ut.separate else {"schedule": S.respace(20)}
    batch = separate(y, [LOW, HIGH], [None, None], noise=[5, 6, 7], **config).sources
    single = [separate(y[b], [LOW, HIGH], [None, None], noise=5 + b, **config).sources for b in range(3)]
    assert batch.shape == (3, 2, N)
    assert torch.allclose(batch, torch.stack(single), atol=1e-5)
    assert torch.equal(batch, separate(y, [LOW, HIGH], [None, None], noise=5, **config).sources)


def test_hypotheses_are_averaged_mixture_by_mixture():
    y = torch.stack([sources(seed).sum(0) for seed in range(2)])
    config = FAST.replace(hypotheses=3)
    both = ut.separate(y, [LOW, HIGH], [None, None], config=config, schedule=S, noise=[5, 6])
    for b in range(2):
        single = ut.separate(y[b], [LOW, HIGH], [None, None], config=config, schedule=S, noise=5 + b).sources
        assert torch.allclose(both.sources[b], single, atol=1e-5)
    assert both.calls == 3 * 20
    z = torch.randn(3, 2, N, generator=torch.Generator().manual_seed(1))

    # with no noise but that of the start, the result is the mean of the three runs
    def noise(kind, i, shape):
        return z[i] if kind == "init" else torch.zeros(shape)

    config = config.replace(init_noise="independent")
    mean = ut.separate(y[0], [LOW, HIGH], [None, None], S, config, noise).sources
    runs = [
        ut.separate(y[0], [LOW, HIGH], [None, None], S, config.replace(hypotheses=1),
                    lambda kind, i, shape, h=h: noise(kind, h, shape)).sources
        for h in range(3)
    ]  # fmt: skip
    assert torch.allclose(mean, torch.stack(runs).mean(0), atol=1e-5)
    with pytest.raises(ValueError, match="hypotheses"):
        ut.separate(y[0], [LOW, HIGH], [None, None], S, config, on_step=print)


def test_hypotheses_are_brought_to_one_order_before_they_are_averaged():
    """Two sources of one prior and label: a run may return them in either order. Others keep their places."""
    y, found = torch.stack([sources(seed).sum(0) for seed in range(2)]), torch.stack([sources(0), sources(1)])
    runs = torch.stack([found, found.flip(1), found], 1) + 0.01 * torch.randn(2, 3, 2, N)  # [B, H, K, N]
    apart = SeparationTask(y, [LOW, HIGH], [None, None], S, 0, None, hypotheses=3)
    assert torch.equal(apart.unbatch(runs.flatten(0, 1)), runs.mean(1))
    alike = SeparationTask(y, LOW, [None, None], S, 0, None, hypotheses=3)
    in_order = torch.stack([runs[:, 0], runs[:, 1].flip(1), runs[:, 2]], 1).mean(1)
    assert torch.equal(alike.unbatch(runs.flatten(0, 1)), in_order)
    single = SeparationTask(y[1], LOW, [None, None], S, 0, None, hypotheses=3)
    assert torch.equal(single.unbatch(runs[1]), in_order[1])
    three = SeparationTask(y, [LOW, LOW, HIGH], [None] * 3, S, 0, None)
    assert three._orders([None] * 3) == [[0, 1, 2], [1, 0, 2]]
    assert SeparationTask(y, LOW, [None] * 3, S, 0, None)._orders(["a", "b", "a"]) == [[0, 1, 2], [2, 1, 0]]


def test_the_same_seed_gives_the_same_result_and_another_does_not():
    y = sources().sum(0)
    first, again, other = (
        ut.separate(y, [LOW, HIGH], [None, None], config=FAST, noise=seed).sources for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.allclose(first, other, atol=1e-3)


def test_rows_that_share_a_prior_go_through_it_in_one_call():
    seen = []

    def prior(x_t, t, label):
        seen.append((tuple(x_t.shape), tuple(t.shape), label.tolist()))
        return LOW(x_t, t)

    y = torch.stack([sources(0).sum(0), sources(1).sum(0)])
    result = ut.separate(y, prior, [[0, 1, 2], [3, 4, 5]], S, FAST)
    assert result.sources.shape == (2, 3, N) and result.calls == len(seen) == 20
    assert set(map(str, seen)) == {str(((6, N), (6,), [0, 1, 2, 3, 4, 5]))}


def test_the_noise_callable_is_asked_for_each_kind_in_order():
    asked = []

    def noise(kind, i, shape):
        asked.append((kind, i, shape))
        return torch.zeros(shape)

    ut.separate(sources().sum(0), LOW, [0, 0], S, FAST.replace(init_noise="independent"), noise)
    assert asked == [("init", 0, (2, N))] + [("step", i, (2, N)) for i in range(19)]
    asked.clear()
    ut.separate(sources().sum(0)[None], LOW, [0, 0], S, FAST, noise)
    assert asked[0] == ("init", 0, (1, N)) and asked[1] == ("step", 0, (1, 2, N))


def test_records_describe_the_update():
    records = []
    result = ut.separate(
        sources().sum(0),
        [LOW, HIGH],
        [None, None],
        S,
        FAST,
        noise=lambda kind, i, shape: torch.zeros(shape),
        on_step=records.append,
    )
    assert [r.t for r in records] == result.schedule.timesteps.flip(0).tolist()
    for r in records:
        update = r.g_prior + r.gamma[:, None] * r.g_cond
        assert torch.allclose(r.x_prev, r.x_t + update, atol=1e-5)
    assert records[0].loss.shape == () and records[0].gamma.shape == (2,)


# --- guards ----------------------------------------------------------------------------------------------------------


class Named(ut.priors.StationaryGaussian):
    """An exact prior that claims class names and a rate."""

    def __init__(self):
        super().__init__(spectrum(60))
        self.labels, self.unconditional, self.sample_rate = ("Chime", "Flute"), 2, 8000


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"mixture": torch.full((N,), math.nan)}, ValueError, "NaN"),
        ({"mixture": torch.full((N,), math.inf)}, ValueError, "infinite"),
        ({"mixture": torch.ones(N, dtype=torch.int16)}, TypeError, "int16"),
        ({"mixture": [0.0] * N}, TypeError, "list"),
        ({"mixture": torch.zeros(N, 2)}, ValueError, "stereo"),
        ({"mixture": torch.zeros(1, 1, N)}, ValueError, "one channel"),
        ({"mixture": torch.zeros(0)}, ValueError, "empty"),
        ({"mixture": torch.zeros(100)}, ValueError, "100 samples"),
        ({"labels": []}, ValueError, "labels is empty"),
        ({"labels": [0]}, ValueError, "2 priors for K = 1"),
        ({"labels": [[0, 0], [0, 0]]}, ValueError, "2 rows for 1 mixtures"),
        ({"labels": [0, 1.5]}, ValueError, "1.5"),
        ({"labels": [0, "Gong"]}, ValueError, "Chime, Flute"),
        ({"labels": [0, 2]}, ValueError, r"0\.\.1"),
        ({"labels": ["speech", 0]}, ValueError, "unconditional"),
        ({"schedule": ut.NoiseSchedule.linear(T=100)}, ValueError, "100 steps"),
        ({"sample_rate": 16000}, ValueError, "resample"),
        ({"noise": [1, 2]}, ValueError, "2 seeds for 1"),
        ({"noise": None}, TypeError, "noise is None; accepted are an integer seed"),
        ({"noise": 0.5}, TypeError, "noise is 0.5; accepted"),
        ({"noise": [0.5]}, TypeError, r"noise is \[0.5\]; accepted"),
        ({"noise": "seed"}, TypeError, "noise is 'seed'; accepted"),
    ],
)
@pytest.mark.parametrize("separate", [ut.separate, ut.separate_analytical])
def test_bad_input_is_named(separate, change, error, message):
    arguments = {
        "mixture": sources().sum(0),
        "prior": [LOW, Named()],
        "labels": [0, "Chime"],
        "schedule": S,
        "noise": 0,
    } | change
    with pytest.raises(error, match=message):
        separate(**arguments)


def test_silence_gives_a_finite_result():
    for config in (FAST, ut.SeparationConfig.authors().replace(steps=20)):
        assert torch.isfinite(ut.separate(torch.zeros(N), [LOW, HIGH], [None, None], S, config).sources).all()


@pytest.mark.parametrize("field", ["grad_norm", "init", "start", "init_noise", "normalize"])
def test_unknown_options_are_refused(field):
    with pytest.raises(ValueError, match=f"{field} is 'nonsense'"):
        ut.SeparationConfig.authors().replace(**{field: "nonsense"})


def test_configurations_are_frozen():
    with pytest.raises(FrozenInstanceError):
        ut.SeparationConfig.authors().clamp = 2.0


# --- options ---------------------------------------------------------------------------------------------------------


def test_projection_restores_the_mixture():
    y = sources().sum(0)
    projected = ut.separate(y, [LOW, HIGH], [None, None], S, FAST.replace(project=True)).sources
    free = ut.separate(y, [LOW, HIGH], [None, None], S, FAST.replace(project=False)).sources
    assert torch.allclose(projected.sum(0), y, atol=1e-5)
    assert torch.allclose(projected - free, ((y - free.sum(0)) / 2).expand(2, N), atol=1e-6)


def test_peak_normalisation_makes_the_result_scale_with_the_mixture():
    y, config = sources().sum(0), FAST.replace(normalize="peak")
    once, tenfold = (ut.separate(a * y, [LOW, HIGH], [None, None], S, config).sources for a in (1, 10))
    assert torch.allclose(10 * once, tenfold, atol=1e-3)


def test_the_loop_starts_where_it_is_told():
    y, base = sources().sum(0), ut.SeparationConfig.authors()
    assert ut.separate(y, LOW, [0, 0], S, base.replace(start="T")).calls == 200
    records = []
    assert ut.separate(y, LOW, [0, 0], S, base.replace(start="init_step"), on_step=records.append).calls == 150
    assert records[0].t == 149
    respaced = ut.separate(y, LOW, [0, 0], S, base.replace(start="init_step", steps=25))
    assert respaced.calls == 25 and respaced.schedule.timesteps[-1] == 149


def test_the_initial_state_is_eq_12():
    first = []
    y = sources().sum(0)
    ut.separate(
        y,
        LOW,
        [0, 0],
        S,
        ut.SeparationConfig.authors().replace(steps=2),
        lambda kind, i, shape: torch.ones(shape),
        first.append,
    )
    s = S.respace(2)
    ab = s.alpha_bar[s.index_of(150)]
    assert torch.allclose(first[0].x_t, (ab.sqrt() * y + (1 - ab).sqrt()).float().expand(2, N), atol=1e-6)


def test_analytical_sampling_projects_two_sources_but_not_three():
    y = sources().sum(0)
    short = S.respace(20)
    residual = {}
    for K in (2, 3):
        for name, config in (
            ("authors", ut.AnalyticalConfig.authors()),
            ("recommended", ut.AnalyticalConfig.recommended()),
        ):
            x = ut.separate_analytical(y, LOW, [0] * K, short, config).sources
            residual[K, name] = float((x.sum(0) - y).abs().max())
    assert residual[2, "authors"] < 1e-4 and residual[2, "recommended"] < 1e-4 and residual[3, "recommended"] < 1e-4
    assert residual[3, "authors"] > 1e-2


def test_the_chain_layout_gives_the_prior_all_sources_as_one_signal():
    seen = []

    def prior(x_t, t, label):
        seen.append((tuple(x_t.shape), tuple(t.shape), label.tolist()))
        return torch.roll(x_t, 1, -1)  # what a source is given depends on its neighbour's last sample

    y, config = (
        torch.stack([sources(seed).sum(0) for seed in (0, 1)]),
        ut.AnalyticalConfig.undiff().replace(corrector=False),
    )
    found = ut.separate_analytical(y, prior, [[2, 2], [3, 3]], S.respace(4), config, [0, 1]).sources
    assert seen == [((2, 2 * N), (2,), [2, 3])] * 4
    rows = ut.separate_analytical(
        y, prior, [[2, 2], [3, 3]], S.respace(4), config.replace(layout="rows"), [0, 1]
    ).sources
    assert not torch.equal(found, rows) and torch.allclose(found.sum(1), y, atol=1e-4)
    alone = ut.separate_analytical(y[1], prior, [3, 3], S.respace(4), config, 1).sources
    assert torch.allclose(alone, found[1], atol=1e-5)
    for priors, labels in (([LOW, HIGH], [None, None]), (prior, [0, 1])):
        with pytest.raises(ValueError, match="a chain of sources has one of each"):
            ut.separate_analytical(y[0], priors, labels, S, config)


# --- guidance and losses ---------------------------------------------------------------------------------------------


def test_smooth_max_lies_just_above_the_maximum():
    a, b = torch.rand(100).double(), torch.rand(100).double()
    c = 50.0
    excess = ut.smooth_max(a, b, c) - torch.maximum(a, b)
    assert (excess >= 0).all() and (excess <= math.log(2) / c + 1e-12).all()
    assert torch.isfinite(ut.smooth_max(1e4, 2e4, 1e3))
    with pytest.raises(ValueError, match="sharpness"):
        ut.smooth_max(1.0, 2.0, 0.0)


@pytest.mark.parametrize("rule", [ut.DSG(), ut.Hybrid(), ut.CQT()])
def test_normalised_rules_step_by_strength_times_root_n(rule):
    g = torch.randn(3, 64).double()
    norm = torch.linalg.vector_norm(g, dim=-1)
    step = torch.linalg.vector_norm(rule.gamma(S, 100, norm, 64)[:, None] * g, dim=-1)
    assert torch.allclose(step, rule.strength(S)[100] * 8, rtol=1e-3)


def test_dps_is_constant_and_dsg_ends_at_zero():
    assert (ut.DPS(2.0).strength(S) == 2).all()
    assert ut.DSG().strength(S)[0] == 0 and float(ut.DSG().gamma(S, 0, torch.ones(1), N)) == 0


def test_the_original_dsg_keeps_the_length_of_the_step():
    noise, direction, mean = (torch.randn(1, 2, 256) for _ in range(3))
    norm = torch.linalg.vector_norm(direction, dim=-1)
    x, _ = ut.DSG(variant="original", mix=0.5).step(mean, noise, direction, norm, 100, S)
    assert torch.allclose(torch.linalg.vector_norm(x - mean, dim=-1), S.sigma[100].float() * 16, rtol=1e-4)


def test_guidance_bound_is_where_the_update_turns():
    g_prior, g_cond = torch.randn(4, 50).double(), torch.randn(4, 50).double()
    bound = ut.guidance_bound(g_prior, g_cond)
    assert torch.allclose(((g_prior + bound[:, None] * g_cond) * g_cond).sum(-1), torch.zeros(4).double(), atol=1e-9)
    assert ut.guidance_bound(g_prior, torch.zeros(4, 50).double()).eq(0).all()


def test_the_conflict_recorder_keeps_a_whole_run():
    recorder = ut.ConflictRecorder()
    ut.separate(sources().sum(0), [LOW, HIGH], [None, None], S, FAST, on_step=recorder)
    table = recorder.table()
    assert table["bound"].shape == table["gamma"].shape == (20, 2) and table["progress"].dtype == torch.bool


@pytest.mark.parametrize("N", [512, 1000, 16000])
def test_group_term_equals_a_loop_over_chunks(N):
    a, b = torch.randn(2, N), torch.randn(2, N)
    chunks = (a - b).split(-(-N // 512), dim=-1)
    norms = torch.stack([c.norm(dim=-1) for c in chunks])
    assert torch.allclose(ut.ReconstructionLoss().group_term(a, b), norms.sum(0), rtol=1e-5)
    paper = ut.ReconstructionLoss.paper().group_term(a, b)
    assert torch.allclose(paper, norms.square().mean(0), rtol=1e-5)


def test_a_perfect_reconstruction_has_a_finite_gradient():
    x = torch.randn(1, N, requires_grad=True)
    ut.ReconstructionLoss()(x.detach().clone(), x).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_the_squared_loss_is_the_square():
    a, b = torch.randn(2, N), torch.randn(2, N)
    root, square = (ut.ReconstructionLoss(group=0, stft=0, squared=s)(a, b) for s in (False, True))
    assert torch.allclose(root**2, square, rtol=1e-5)


# --- what callers have at hand ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    config = ut.networks.TriplePathConfig.pocket(classes=2).replace(channels=8, embedding=16)
    return ut.priors.PriorConfig(8000, labels=("low", "high"), target="preconditioned", network=config).build().eval()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_any_floating_point_is_separated(network, dtype):
    """soundfile reads float64 by default; a network computes in the type of its weights, an exact prior in the
    mixture's.
    """
    config = ut.SeparationConfig.recommended().replace(steps=2, hypotheses=1)
    y = (0.1 * sources().sum(0)).to(dtype)
    found = ut.separate(y, network, ["low", "high"], config=config).sources
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, ut.separate(y.float(), network, ["low", "high"], config=config).sources)
    exact = ut.separate(y, [LOW, HIGH], [None, None], S, FAST).sources
    assert exact.dtype == (torch.float64 if dtype == torch.float64 else torch.float32) and torch.isfinite(exact).all()
    assert ut.separate_long(y, network, ["low", "high"], ut.Windows(600, 150), config).sources.dtype == torch.float32


def test_numbers_labels_and_lists_of_numpy_and_torch(network):
    config = ut.SeparationConfig.recommended().replace(steps=2, hypotheses=1)
    y = 0.1 * sources().sum(0)
    expected = ut.separate(y, network, [0, 1], config=config, noise=3).sources
    for labels in (
        numpy.array([0, 1]),
        torch.tensor([0, 1]),
        [numpy.int64(0), numpy.int64(1)],
        numpy.array(["low", "high"]),
    ):
        assert torch.equal(ut.separate(y, network, labels, config=config, noise=numpy.int64(3)).sources, expected)
    pair = torch.nn.ModuleList([network, network])
    assert torch.equal(ut.separate(y, pair, [0, 1], config=config, noise=3).sources, expected)
    both = ut.separate(torch.stack([y, y]), network, numpy.array([[0, 1], [1, 0]]), config=config, noise=[3, 3]).sources
    torch.testing.assert_close(both[0], expected, rtol=0, atol=1e-6)


def test_names_in_place_of_things_are_explained():
    y = sources().sum(0)
    with pytest.raises(
        TypeError,
        match=r"prior 1 is 'pocket-sound'; it must be a prior; unasdiff_teach.priors.load\('pocket-sound'\) is one",
    ):
        ut.separate(y, [LOW, "pocket-sound"], [None, None], S)
    with pytest.raises(TypeError, match=r"config is 'recommended'.*SeparationConfig.recommended\(\) is one"):
        ut.separate(y, [LOW, HIGH], [None, None], S, "recommended")
    with pytest.raises(TypeError, match="config is SeparationConfig"):
        ut.separate_analytical(y, [LOW, HIGH], [None, None], S, FAST)
