"""Networks, neural priors, their files, and training that resumes to the same weights."""

import math
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import unasdiff_teach as ut
from unasdiff_teach.networks import TriplePathConfig, TriplePathUNet
from unasdiff_teach.networks.triple_path import fused_attention, rotate
from unasdiff_teach.priors import PriorConfig
from unasdiff_teach.priors.neural import preconditioning, read, save
from unasdiff_teach.training import CropConfig, Crops, PriorTrainer, TrainConfig, draw_steps, prior_loss

TINY = TriplePathConfig(
    n_fft=62, hop=31, channels=8, embedding=16, heads=2, depths=(1, 1, 1, 1, 1), sub_bands=2, squeezed=4, patch=(2, 2)
)


def awake(config, seed=0):
    """A network whose gates are open: true AdaLN-Zero starts as almost the identity and would hide mistakes."""
    torch.manual_seed(seed)
    return TriplePathUNet(config.replace(zero_init=False))


# --- the network -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "count"), [(1, 37_212_016), (50, 37_243_376)])
def test_the_papers_parameter_count(classes, count):
    with torch.device("meta"):
        net = TriplePathUNet(TriplePathConfig.paper(classes))
    assert sum(p.numel() for p in net.parameters()) == count


def test_the_pocket_network_has_about_two_million_parameters():
    assert 1.8e6 < sum(p.numel() for p in TriplePathUNet(TriplePathConfig.pocket(12)).parameters()) < 2.5e6


@pytest.mark.parametrize("patch", [(1, 1), (2, 2), (4, 1)])
@pytest.mark.parametrize("length", [100, 31 * 15, 31 * 16, 1000])
def test_any_length_comes_back(patch, length):
    net = awake(TINY.replace(patch=patch, sub_bands=1))
    out = net(torch.randn(2, length), torch.tensor([0.0, 500.0]), torch.tensor([0, 1]))
    assert out.shape == (2, length) and torch.isfinite(out).all()


def test_the_transforms_invert_each_other():
    net, x = awake(TINY), torch.randn(3, 777)
    assert torch.allclose(net._waveform(net._spectrum(x), 777), x, atol=1e-5)


def test_rows_of_a_batch_do_not_see_each_other():
    net = awake(TINY)
    x, time, label = torch.randn(4, 500), torch.tensor([0.0, 5.0, 300.0, 995.0]), torch.tensor([0, 1, 0, 1])
    single = torch.cat([net(x[b : b + 1], time[b : b + 1], label[b : b + 1]) for b in range(4)])
    assert torch.allclose(net(x, time, label), single, atol=1e-5)


def test_time_and_label_matter_once_gates_are_open():
    net, x = awake(TINY), torch.randn(1, 500)
    base = net(x, torch.tensor([100.0]), torch.tensor([0]))
    assert not torch.allclose(base, net(x, torch.tensor([200.0]), torch.tensor([0])), atol=1e-4)
    assert not torch.allclose(base, net(x, torch.tensor([100.0]), torch.tensor([1])), atol=1e-5)
    assert torch.equal(net(x, torch.tensor([100.0])), net(x, torch.tensor([100.0]), torch.tensor([1])))


def test_adaln_zero_starts_with_closed_gates():
    torch.manual_seed(0)
    path = TriplePathUNet(TINY).encoder1
    h = torch.randn(2, 8, 8, 8)
    assert torch.equal(path(h, torch.tensor([1.0, 2.0]), torch.tensor([0, 1])), h)


@pytest.mark.parametrize("paths", [("frame",), ("frequency",), ("global", "frame")])
def test_paths_can_be_ablated(paths):
    out = awake(TINY.replace(paths=paths))(torch.randn(1, 500), torch.tensor([1.0]))
    assert torch.isfinite(out).all()


def test_fused_attention_and_its_gradient_equal_the_plain_form():
    q, k, v = (torch.randn(2, 3, 11, 18, requires_grad=True) for _ in range(3))
    plain = torch.softmax(q @ k.mT / math.sqrt(18), -1) @ v
    fused = fused_attention(q, k, v)
    assert torch.allclose(fused, plain, atol=1e-5)
    for a, b in zip(
        torch.autograd.grad(fused.square().sum(), (q, k, v)),
        torch.autograd.grad(plain.square().sum(), (q, k, v)),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-4)


def test_rotary_products_depend_on_distance_alone():
    q, k = torch.randn(1, 1, 8).expand(1, 9, 8), torch.randn(1, 1, 8).expand(1, 9, 8)
    products = rotate(q)[0] @ rotate(k)[0].mT
    for d in range(-8, 9):
        diagonal = products.diagonal(d)
        assert torch.allclose(diagonal, diagonal[0].expand_as(diagonal), atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"channels": 9}, "channels"), ({"sub_bands": 3}, "bins"), ({"paths": ("sideways",)}, "paths")],
)
def test_impossible_configurations_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        TINY.replace(**change)


def test_a_signal_too_short_for_the_stft_is_refused():
    with pytest.raises(ValueError, match="too short"):
        awake(TINY)(torch.randn(1, 31), torch.tensor([0.0]))


# --- the prior -------------------------------------------------------------------------------------------------------

PRIOR = PriorConfig(
    sample_rate=8000,
    labels=("Chime", "Flute"),
    target="preconditioned",
    sigma_data=0.1,
    network=TINY.replace(classes=2),
)


@pytest.mark.parametrize("sd", [0.05, 0.1])
def test_preconditioning_of_an_idle_network_is_the_best_linear_denoiser(sd):
    """With F = 0 the estimate is skip x_t, which for white signals of RMS sigma_data is the Wiener estimate."""
    exact, prior = ut.priors.Gaussian(std=sd), PriorConfig(**(vars(PRIOR) | {"sigma_data": sd})).build()
    torch.nn.init.zeros_(prior.net.head.out.weight)
    x_t, t = torch.randn(3, 500), torch.tensor([0, 50, 199])
    assert torch.allclose(prior(x_t, t), exact(x_t, t), rtol=1e-3, atol=1e-3)


class NoFloat64Elsewhere(TorchDispatchMode):
    """Refuses float64 on any device but the CPU, as MPS does; the meta device stands in for it."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float64 and tensor.device.type != "cpu":
                raise TypeError(f"{function} makes float64 on {tensor.device}, which MPS does not have")
        return result


@pytest.mark.parametrize("target", ["eps", "preconditioned"])
@pytest.mark.parametrize("condition", ["time", "beta"])
def test_a_prior_takes_no_float64_to_its_device(target, condition):
    prior = ut.priors.NeuralPrior(
        lambda x, level, label: x * level[:, None], ut.NoiseSchedule.linear(), 8000, (), target, condition=condition
    )
    with NoFloat64Elsewhere():
        with pytest.raises(TypeError, match="float64"):
            prior.schedule.alpha_bar.to("meta")
        assert prior(torch.empty(2, 500, device="meta"), torch.empty(2, dtype=torch.long, device="meta")).shape == (
            2,
            500,
        )


@pytest.mark.parametrize(("labels", "classes"), [("abc", 1), ("ab", 3), ("", 2)])
def test_labels_that_the_table_of_classes_does_not_hold_are_refused(labels, classes):
    with pytest.raises(
        ValueError, match=rf"labels has {len(labels)} entries .*; this TriplePath knows {classes} classes"
    ):
        PriorConfig(8000, labels, network=TINY.replace(classes=classes))
    with pytest.raises(ValueError, match=rf"labels has {len(labels)} entries .*; this TriplePath knows"):
        ut.priors.NeuralPrior(TriplePathUNet(TINY.replace(classes=classes)), ut.NoiseSchedule.linear(), 8000, labels)


@pytest.mark.parametrize("classes", [0, 1])
def test_an_unconditional_prior_needs_one_row_of_its_table(classes):
    prior = PriorConfig(8000, network=TINY.replace(classes=classes)).build()
    assert prior(torch.randn(2, 500), torch.tensor([3, 4])).shape == (2, 500)


def test_gradients_after_a_call_in_inference_mode():
    """Tables that such a call has made first serve a guided separation and a training as well."""
    prior = PRIOR.build()
    mixture, t = torch.randn(1, 1017), torch.tensor([3])  # a length of which no other test has made the tables
    windows = ut.Windows(600, 111)
    with torch.inference_mode():
        prior(mixture, t)
        ut.separate(mixture, prior, ["Chime", "Flute"])
        windows.weights(1017)
    prior_loss(prior, 0.1 * mixture, t, mixture, torch.zeros(1, dtype=torch.long)).sum().backward()
    separated = ut.separate(
        mixture.double(), prior.double(), ["Chime", "Flute"], config=ut.SeparationConfig.short().replace(steps=4)
    )
    assert separated.sources.isfinite().all()
    faded = mixture.clone().requires_grad_()
    (windows.merge(windows.cut(faded), 1017).square().sum()).backward()
    assert torch.allclose(faded.grad, 2 * mixture, atol=1e-5)


def test_the_preconditioned_target_has_unit_variance():
    g, prior = torch.Generator().manual_seed(0), PRIOR.build()
    torch.nn.init.zeros_(prior.net.head.out.weight)
    x0, noise = 0.1 * torch.randn(3, 4000, generator=g), torch.randn(3, 4000, generator=g)
    loss = prior_loss(prior, x0, torch.tensor([2, 60, 190]), noise, torch.zeros(3, dtype=torch.long))
    assert torch.allclose(loss, torch.ones(3), atol=0.1)


def test_time_is_scaled_and_truncated_as_released():
    """15 x 1000 / 60 is 250, but 249 in the released code's float32; networks were trained on that."""
    seen = []
    prior = PRIOR.build()
    prior.target = "eps"
    prior.net.forward = lambda x, time, label: seen.append(time.tolist()) or x
    prior(torch.randn(3, 500), torch.tensor([0, 1, 199]))
    prior.schedule = ut.NoiseSchedule.linear(T=60)
    prior(torch.randn(1, 500), torch.tensor([15]))
    assert seen == [[0, 5, 995], [249]]


def test_classifier_free_guidance_extrapolates():
    prior = PRIOR.build()
    prior.net = awake(PRIOR.network)
    x, t, label = torch.randn(2, 500), torch.tensor([20, 90]), torch.tensor([0, 1])
    conditional, free = prior(x, t, label), prior(x, t)
    prior.cfg_scale = 3.0
    assert torch.allclose(prior(x, t, label), free + 3 * (conditional - free), atol=1e-4)


def test_a_prior_survives_its_file(tmp_path):
    prior = PRIOR.build()
    prior.net = awake(PRIOR.network)
    save(tmp_path / "p.safetensors", prior.net.state_dict(), PRIOR, {"steps": 3}, dtype=torch.float32)
    again = read(tmp_path / "p.safetensors")
    x, t = torch.randn(2, 500), torch.tensor([3, 150])
    assert torch.equal(again(x, t), prior(x, t))
    assert again.labels == prior.labels and again.card == {"steps": 3} and again.sample_rate == 8000
    assert not any(p.requires_grad for p in again.parameters())


def test_wrong_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read(tmp_path / "nowhere.safetensors")
    (tmp_path / "junk.safetensors").write_bytes(b"not weights at all")
    with pytest.raises(ValueError, match="not a readable"):
        read(tmp_path / "junk.safetensors")
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="not a prior"):
        read(tmp_path / "other.safetensors")
    state = PRIOR.build().net.state_dict()
    state.pop("stem.weight")
    save(tmp_path / "short.safetensors", state, PRIOR, {})
    with pytest.raises(ValueError, match=r"stem\.weight"):
        read(tmp_path / "short.safetensors")


def test_unknown_shipped_prior():
    with pytest.raises(ValueError, match="pocket-speech"):
        ut.priors.load("pocket-whistle")


@pytest.mark.parametrize(("name", "kind"), [("pocket-speech", "speech"), ("pocket-sound", "sound")])
def test_the_shipped_priors(name, kind):
    prior = ut.priors.load(name)
    assert prior.sample_rate == 8000 and prior.labels == (
        () if kind == "speech" else ut.data.pocket("sound", split="train").labels
    )
    assert {"steps", "train", "data", "loss", "seconds", "machine", "weights"} <= prior.card.keys()
    assert prior.card["data"]["sha256"] == ut.data.pocket_hash()
    assert (ut.priors.shipped.WEIGHTS / f"{name}.safetensors").stat().st_size < 10e6
    # It knows its own sounds: far better than the best denoiser that knows the level alone.
    clips = ut.data.pocket(kind, split="validation")
    x0 = torch.stack([clip.audio[:16000] for clip in clips if len(clip.audio) >= 16000][:4])
    x0 = 0.1 * x0 / x0.square().mean(-1, keepdim=True).sqrt()
    label = (
        torch.tensor([prior.labels.index(c.label) for c in clips if len(c.audio) >= 16000][:4])
        if prior.labels
        else None
    )
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    t = torch.full((len(x0),), 25)
    loss = ut.denoising_loss(prior, x0, t, noise, prior.schedule, label).mean()
    idle = ut.denoising_loss(ut.priors.Gaussian(std=0.1), x0, t, noise, prior.schedule).mean()
    assert loss < 0.6 * idle, (float(loss), float(idle))


# --- training --------------------------------------------------------------------------------------------------------


def tone_crops(length=400, **changes):
    n = torch.arange(3 * length)
    tones = [0.1 * torch.sin(2 * torch.pi * f * n / 8000) for f in (400, 500, 900)]
    return Crops(tones, [0, 0, 1], CropConfig(length, **changes))


def test_crops_have_the_level_and_length_asked_for():
    draw = tone_crops(level_db=(-25.0, -20.0), partial=0.5)
    x0, label = draw(256, torch.Generator().manual_seed(0))
    level = 20 * x0.square().mean(-1).sqrt().log10()
    assert x0.shape == (256, 400) and level.min() > -25.01 and level.max() < -19.99
    assert 0.4 < label.float().mean() < 0.6  # classes are even although clips are not
    silent = (x0 == 0).float().mean(-1)
    assert 0.3 < (silent > 0.01).float().mean() < 0.6 and silent.max() < 0.62


def test_crops_shorter_than_the_example_are_padded_with_silence():
    draw = Crops([torch.ones(100)], [0], CropConfig(400))
    x0, _ = draw(8, torch.Generator().manual_seed(0))
    assert ((x0 != 0).sum(-1) == 100).all()


def test_log_uniform_steps_favour_low_noise():
    g = torch.Generator().manual_seed(0)
    even = draw_steps(ut.NoiseSchedule.linear(), 20_000, 0.0, g)
    log = draw_steps(ut.NoiseSchedule.linear(), 20_000, 1.0, g)
    assert 95 < even.float().mean() < 104 and log.float().median() < 30 and log.min() == 0 and log.max() == 199


CONFIG = TrainConfig(
    steps=12,
    batch=2,
    learning_rate=2e-3,
    warmup=2,
    cosine=True,
    ema_decay=0.9,
    log_uniform=0.8,
    log_every=2,
    save_every=4,
)


def train(folder, config=CONFIG):
    run = PriorTrainer(folder, PRIOR, config, tone_crops(), {"corpus": "tones"})
    run.fit(progress=False)
    return run


def test_killed_training_resumes_to_the_same_weights(tmp_path, monkeypatch):
    straight = train(tmp_path / "straight")
    steps = iter(range(100))
    original = PriorTrainer._train_step

    def dies(self):
        if next(steps) == 7:
            raise KeyboardInterrupt
        return original(self)

    monkeypatch.setattr(PriorTrainer, "_train_step", dies)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed")
    monkeypatch.setattr(PriorTrainer, "_train_step", original)
    resumed = train(tmp_path / "killed")
    assert resumed.step == 12
    for a, b in zip(straight.ema.values(), resumed.ema.values(), strict=True):
        assert torch.equal(a, b)
    assert resumed.card()["loss"] == straight.card()["loss"]


@pytest.mark.slow
def test_training_learns(tmp_path):
    g = torch.Generator().manual_seed(9)
    x0, label = tone_crops()(16, g)
    t, noise = draw_steps(ut.NoiseSchedule.linear(), 16, 1.0, g), torch.randn(x0.shape, generator=g)
    run = PriorTrainer(
        tmp_path, PRIOR, replace(CONFIG, steps=60, learning_rate=1e-2), tone_crops(), {"corpus": "tones"}
    )
    before = prior_loss(run.prior, x0, t, noise, label).mean()
    run.fit(progress=False)
    assert prior_loss(run.prior, x0, t, noise, label).mean() < 0.92 * before
    assert (tmp_path / "step_000060.safetensors").is_file() and not list(tmp_path.glob("*.partial"))


def test_a_diverging_loss_stops_training(tmp_path):
    run = PriorTrainer(
        tmp_path,
        PRIOR,
        CONFIG,
        lambda batch, g: (torch.full((batch, 400), math.nan), torch.zeros(batch, dtype=torch.long)),
        {},
    )
    with pytest.raises(
        FloatingPointError, match="not finite in 10 steps in a row, the last of them step 10.*good state, of step 8"
    ):
        run.fit(progress=False)


def test_preconditioning_factors_satisfy_their_definition():
    s, x = ut.NoiseSchedule.linear(), torch.zeros(2, 1).double()
    f = preconditioning(s, torch.tensor([3, 120]), x, 0.1)
    # The estimate has the least error when c_skip is the Wiener gain, and c_out is then the rest's standard deviation.
    assert torch.allclose(f.c_out**2, 0.01 * (1 - f.c_skip * f.signal) ** 2 + (f.c_skip * f.noise) ** 2)
    assert torch.allclose(f.c_in**-2, 0.01 * f.signal**2 + f.noise**2)
