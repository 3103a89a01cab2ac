"""Training at full scale, in small: several processes, SIGKILL at any moment, a full disk, states of others, boards,
commands.
"""

from __future__ import annotations

import copy
import json
import math
import multiprocessing
import os
import random
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import CONFIG, PRIOR, TINY, crops, equal, state, train, trainer
from torch._dynamo.testing import CompileCounterWithBackend

import unasdiff_teach as ut
from unasdiff_teach import _machine
from unasdiff_teach.networks import ConvTasNetConfig, TFLoCoformerConfig, TriplePathConfig, TriplePathUNet
from unasdiff_teach.networks.budget import flops, parameters
from unasdiff_teach.networks.triple_path import SwiGLU
from unasdiff_teach.priors.neural import read
from unasdiff_teach.training import PriorTrainer, SeparatorTrainConfig, TrainConfig
from unasdiff_teach.training.loop import processes
from unasdiff_teach.training.prior import ValidationConfig


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The folder of a training that nothing disturbs."""
    return train(tmp_path_factory.mktemp("straight")).folder


# Children of a server that has imported torch once: each is a process of its own, and starts at once.
@pytest.fixture(scope="module")
def children():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "lightning_fabric", "torch._dynamo", "safetensors.torch", "tqdm"])
    return context


# --- several processes -----------------------------------------------------------------------------------------------


def one_of_two(rank, port, folder):
    """What torchrun starts: one process of two, on the CPU."""
    torch.set_num_threads(1)
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "test",
        "TORCHELASTIC_USE_AGENT_STORE": "False",
    }  # fmt: skip
    fabric = processes("cpu", 1)
    assert fabric.world_size == 2 and torch.distributed.get_backend() == "gloo"
    run = train(
        folder,
        fabric=fabric,
        validation=crops(),
        validation_config=ValidationConfig(every=10, examples=6, levels=(5, 150)),
    )
    assert run.step == 20 and [len(a) for a in run._rows(0)] == [2] * 4
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path, straight, children):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pair = [children.Process(target=one_of_two, args=(rank, port, tmp_path)) for rank in range(2)]
    for process in pair:
        process.start()
    for process in pair:
        process.join(300)
    assert [process.exitcode for process in pair] == [0, 0]
    one, two = state(straight), state(tmp_path)
    start = trainer(tmp_path / "fresh").net.state_dict()
    for part in ("model", "average"):
        assert max(float((one[part][k] - start[k]).abs().max()) for k in start) > 1e-2, (
            "training moves the weights far more than that"
        )
        for key in start:
            assert torch.allclose(one[part][key], two[part][key], rtol=0, atol=1e-5), key
    assert [line["loss"] for line in two["log"]] == pytest.approx([line["loss"] for line in one["log"]], abs=1e-5)
    # The validation is shared as well; one process finds the same.
    lines = [json.loads(line) for line in (tmp_path / "validation.jsonl").read_text().splitlines()]
    alone = trainer(
        straight, validation=crops(), validation_config=ValidationConfig(examples=6, levels=(5, 150))
    ).loss_by_level()
    assert [line["step"] for line in lines] == [10, 20] and lines[-1]["loss"] == pytest.approx(alone.tolist(), abs=1e-4)


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path):
    class Three:
        world_size = 3

    with pytest.raises(ValueError, match="batch is 4; 3 processes"):
        trainer(tmp_path, fabric=Three())


# --- killed at any moment --------------------------------------------------------------------------------------------

LONG = replace(CONFIG, steps=210, batch=2, save_every=2, log_every=3, checkpoint_every=100)


def killable(folder, drawn, limit):
    """Trains; counts its draws in `drawn`, and waits where they pass `limit`."""
    torch.set_num_threads(1)
    draw = crops()

    def counted(batch, generator):
        drawn.value += 1
        while drawn.value > limit.value:
            time.sleep(0.001)
        return draw(batch, generator)

    PriorTrainer(folder, PRIOR, LONG, counted, {"corpus": "tones"}).fit(progress=False)


@pytest.mark.slow
def test_training_killed_at_20_random_moments_ends_with_the_same_bits(tmp_path, children):
    chance = random.Random(0)
    drawn, limit = children.Value("l", 0), children.Value("l", 0)
    reached = []
    for life in range(21):
        least = chance.randint(1, 6)
        drawn.value, limit.value = 0, least + 3 if life < 20 else 10**9  # a slow killer must not let it finish
        process = children.Process(target=killable, args=(tmp_path / "killed", drawn, limit))
        process.start()
        if life < 20:
            while drawn.value < least and process.is_alive():
                time.sleep(0.001)
            time.sleep(chance.uniform(0, 0.05))  # somewhere in a step, or while the state is written
            process.kill()
        process.join(300)
        assert process.exitcode == (-9 if life < 20 else 0)
        reached.append(state(tmp_path / "killed")["step"] if (tmp_path / "killed" / "state.pt").is_file() else 0)
    assert reached == sorted(reached) and reached[-2] > 10 and reached[-1] == 210
    drawn.value, limit.value = 0, 10**9
    process = children.Process(target=killable, args=(tmp_path / "straight", drawn, limit))
    process.start()
    process.join(300)
    assert drawn.value == 210
    assert equal(state(tmp_path / "killed"), state(tmp_path / "straight"))
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("killed", "straight")]
    assert len(logs[0]) == len(logs[1]) == 70


def test_batches_drawn_ahead_are_the_same(tmp_path, straight):
    train(tmp_path, replace(CONFIG, prefetch=3))
    assert equal(state(tmp_path), state(straight))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_full_disk_loses_nothing(tmp_path, straight):
    """The device /dev/full is a disk without space: writing to it fails as writing to a full disk does."""
    run = trainer(tmp_path)
    original = run._save

    def no_space():
        if run.step == 15:
            (tmp_path / "state.pt.partial").symlink_to("/dev/full")
        original()

    run._save = no_space
    with pytest.raises(OSError, match="step 15 .*No space left.* as it was"):
        run.fit(progress=False)
    assert not list(tmp_path.glob("*.partial")) and state(tmp_path)["step"] == 10
    assert train(tmp_path).step == 20
    assert equal(state(tmp_path), state(straight))


# --- states ----------------------------------------------------------------------------------------------------------


def test_states_from_before_there_was_a_log_go_on(tmp_path, straight):
    run = trainer(tmp_path)
    for run.step in range(10):
        run._train_step()
    kept = {"model": run.net.state_dict(), "average": run.ema, "optimiser": run.optimiser.state_dict()}
    torch.save(kept | {"step": 10, "seconds": 1.5, "losses": [(5, 1.25), (10, 1.0)]}, tmp_path / "state.pt")
    resumed = trainer(tmp_path)
    assert resumed.step == 10 and resumed.losses == [(5, 1.25), (10, 1.0)]
    resumed.fit(progress=False)
    for part in ("model", "average", "optimiser"):
        assert equal(state(tmp_path)[part], state(straight)[part])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(config=replace(CONFIG, batch=2)), "train.batch was 4, is now 2"),
        (dict(config=replace(CONFIG, seed=1)), "train.seed was 0, is now 1"),
        (dict(prior=replace(PRIOR, target="eps")), "prior.target was 'preconditioned', is now 'eps'"),
        (dict(prior=replace(PRIOR, network=TINY.replace(channels=16))), "prior.network.channels was 8, is now 16"),
    ],
)
def test_the_state_of_another_training_is_refused(straight, change, message):
    with pytest.raises(ValueError, match=f"another training: .*{message}.*another folder"):
        trainer(straight, **change)


def test_other_data_are_refused(straight):
    with pytest.raises(ValueError, match="data.sha256 was '5ea1', is now 'other'"):
        PriorTrainer(straight, PRIOR, CONFIG, crops(), {"sha256": "other"})


def test_what_does_not_change_the_weights_may_change(straight):
    free = replace(CONFIG, log_every=1, save_every=7, save_minutes=1.0, checkpoint_every=None, prefetch=2)
    assert trainer(straight, free).step == 20


def test_damaged_and_foreign_states_are_named(tmp_path, straight):
    whole = (straight / "state.pt").read_bytes()
    for name, content in {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"not a state"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.pt").write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}/state.pt is damaged"):
            trainer(tmp_path / name)
    torch.save({"weights": torch.zeros(3)}, tmp_path / "state.pt")
    with pytest.raises(ValueError, match=r"state.pt is no state"):
        trainer(tmp_path)
    strange = {k: v for k, v in state(straight).items() if k != "identity"}
    strange["model"] = {k: v for k, v in strange["model"].items() if k != "stem.weight"}
    torch.save(strange, tmp_path / "state.pt")
    with pytest.raises(ValueError, match=r"another network: .*stem\.weight"):
        trainer(tmp_path)


# --- precision, memory, compilation ----------------------------------------------------------------------------------


def awake(**changes):
    torch.manual_seed(0)
    return TriplePathUNet(TINY.replace(zero_init=False, **changes))


def signals():
    g = torch.Generator().manual_seed(1)
    return torch.randn(2, 500, generator=g), torch.tensor([5.0, 700.0]), torch.tensor([0, 2])


def gradients(net):
    x, time, label = signals()
    x.requires_grad_()
    out = net(x, time, label)
    return out, torch.autograd.grad(out.square().sum(), [x, *net.parameters()])


def test_checkpointing_changes_no_bit_and_keeps_less():
    kept = []

    def count(a):
        kept[-1] += a.numel()
        return a

    results = []
    for net in (awake(), awake().checkpoint_activations()):
        kept.append(0)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda a: a):
            results.append(gradients(net))
    assert equal([list(r) for r in results[0]], [list(r) for r in results[1]])
    assert kept[1] < 0.3 * kept[0]


def test_the_gate_has_first_and_second_derivatives():
    h = torch.randn(3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(SwiGLU.apply, (h,)) and torch.autograd.gradgradcheck(SwiGLU.apply, (h,))
    value, gate = h.chunk(2, -1)
    assert torch.equal(SwiGLU.apply(h), value * torch.nn.functional.silu(gate))


def test_bfloat16_leaves_the_transforms_in_float32(monkeypatch):
    from unasdiff_teach.networks import triple_path

    seen = {"norm": set(), "stft": set(), "istft": set(), "attention": set()}

    def spy(module, name, key):
        original = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda a, *rest, **named: seen[key].add(a.dtype) or original(a, *rest, **named)
        )

    spy(triple_path.F, "layer_norm", "norm")
    spy(torch, "stft", "stft")
    spy(torch, "istft", "istft")
    net = awake()
    for module in net.modules():
        if hasattr(module, "attend"):
            module.attend = lambda q, k, v: seen["attention"].add(q.dtype) or triple_path.fused_attention(q, k, v)
    exact = net(*signals())
    assert seen == {
        "norm": {torch.float32},
        "stft": {torch.float32},
        "istft": {torch.complex64},
        "attention": {torch.float32},
    }
    with torch.autocast("cpu", torch.bfloat16):
        low = net(*signals())
    assert seen["stft"] == {torch.float32} and seen["istft"] == {torch.complex64}
    assert torch.bfloat16 in seen["norm"] and torch.bfloat16 in seen["attention"]
    assert low.dtype == torch.float32 and 1e-4 < ((low - exact).norm() / exact.norm()).item() < 0.03


def test_attention_for_gradients_in_bfloat16_is_computed_in_float32_on_a_processor(monkeypatch):
    """Its kernel for gradients is slow there in bfloat16."""
    from unasdiff_teach.networks import triple_path

    seen, original = [], triple_path.F.scaled_dot_product_attention
    monkeypatch.setattr(
        triple_path.F,
        "scaled_dot_product_attention",
        lambda q, k, v, **named: seen.append(q.dtype) or original(q, k, v, **named),
    )
    q = torch.randn(2, 2, 9, 6).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        plain = triple_path.fused_attention(q, q, q)
        for_gradients = triple_path.fused_attention(q.requires_grad_(), q, q)
    assert seen == [torch.bfloat16, torch.float32] and for_gradients.dtype == torch.bfloat16
    assert torch.allclose(plain, for_gradients, atol=0.02)


def test_prepared_weights_serve_frozen_networks_in_their_precision():
    from unasdiff_teach.networks import triple_path

    net = awake(frequency_embedding=True, gains=True).requires_grad_(False)
    before, exact = {k: v.clone() for k, v in net.state_dict().items()}, net(*signals())
    with torch.autocast("cpu", torch.bfloat16):
        low = net(*signals())
    net.for_inference(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net(*signals()), low), "the same roundings, made once"
    assert torch.equal(net(*signals()), exact), "what is in another precision does not serve"
    assert equal(net.state_dict(), before)

    for module in net.for_inference().modules():
        if isinstance(module, triple_path.Attention):
            module.prepare(torch.float32, 8)  # as for a GPU; the heads of this network have 4, 8 and 16 channels
            assert module.qkv.prepared[0].shape[0] % 8 == 0
    assert torch.allclose(net(*signals()), exact, atol=1e-5) and not torch.equal(net(*signals()), exact)
    assert torch.equal(net.requires_grad_()(*signals()), exact), "a training sees its parameters"


def test_mixed_precision_trains_float32_weights(tmp_path, straight):
    fresh = trainer(tmp_path / "fresh", replace(CONFIG, precision="bf16-mixed"))
    batch = fresh._rows(0)
    low, exact = fresh._shared(*batch), fresh.loss(*batch)
    assert low.dtype == torch.float32 and not torch.equal(low, exact) and torch.allclose(low, exact, rtol=5e-3)
    with pytest.raises(ValueError, match="precision is '16-mixed'"):
        replace(CONFIG, precision="16-mixed")
    run = train(tmp_path, replace(CONFIG, precision="bfloat16"))
    assert {v.dtype for v in [*run.net.state_dict().values(), *run.ema.values()]} == {torch.float32}
    moments = [v for entry in run.optimiser.state.values() for v in entry.values()]
    assert {v.dtype for v in moments} == {torch.float32}
    losses = [s["log"][-1]["loss"] for s in (state(tmp_path), state(straight))]
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "backend"), [("inference", "inductor"), ("guided", "aot_eager"), ("training", "aot_eager")]
)
def test_the_compiled_core_takes_any_batch_and_is_silent(mode, backend, recwarn, tmp_path, monkeypatch):
    """One compilation for batches of two and three, without breaks in the graph, and the same numbers.

    Code is written for inference alone, as that of gradients takes minutes; their graph is what the network can break.
    """

    def results(net, x, time, label):
        x = x.clone().requires_grad_(mode == "guided")
        with torch.set_grad_enabled(mode != "inference"):
            out = net(x, time, label)
        if mode == "inference":
            return [out]
        return [
            out.detach(),
            *torch.autograd.grad(out.square().sum(), [x] if mode == "guided" else list(net.parameters())),
        ]

    monkeypatch.setenv(
        "TORCHINDUCTOR_CACHE_DIR", str(tmp_path)
    )  # what a killed compiler has left elsewhere does not count
    graphs = CompileCounterWithBackend(backend)
    plain = awake(frequency_embedding=True, gains=True).requires_grad_(mode == "training")
    compiled = copy.deepcopy(plain).compile_core(backend=graphs)
    for batch in (2, 3):
        x, time, label = (a.repeat(2, *[1] * (a.ndim - 1))[:batch] for a in signals())
        for a, b in zip(results(compiled, x, time, label), results(plain, x, time, label), strict=True):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()) + 1e-7)
    assert graphs.frame_count == 1
    assert not [str(w.message) for w in recwarn if not issubclass(w.category, DeprecationWarning)]


def test_a_missing_compiler_is_named(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(RuntimeError, match=r"needs a C\+\+ compiler.*install g\+\+"):
        awake().compile_core()


def test_what_is_compiled_is_kept_unless_the_user_says_where(monkeypatch, tmp_path):
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    monkeypatch.setattr(_machine, "cache", lambda file: tmp_path / file)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/elsewhere")
    awake().compile_core()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/elsewhere"
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    awake().compile_core()
    assert Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]) == tmp_path / "inductor"


@pytest.mark.slow
def test_any_number_of_shapes_is_compiled():
    net = awake().compile_core(backend="eager")
    with torch.no_grad():
        for length in range(500, 1300, 62):  # torch's own limit is eight
            x = torch.zeros(1, length)
            assert net(x, torch.ones(1), torch.zeros(1, dtype=torch.long)).shape == x.shape


# --- cost ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_cost_of_the_papers_network():
    paper = TriplePathConfig.paper()
    assert [round(flops(paper, 64_000, work) / 1e9, 1) for work in ("forward", "guided", "training")] == [
        455.4,
        972.2,
        1366.1,
    ]
    assert parameters(paper) == 37_212_016
    total = flops(paper, 64_000, "training") * TrainConfig.paper().batch * TrainConfig.paper().steps
    assert total == pytest.approx(6.6e18, rel=0.01)


@pytest.mark.parametrize(
    "config", [ConvTasNetConfig.pocket(), TFLoCoformerConfig.pocket()], ids=["conv-tasnet", "tf-locoformer"]
)
def test_cost_of_the_separators(config):
    counts = [flops(config, 4000, work) for work in ("forward", "training")]
    assert counts[0] > 1e8 and 2.9 < counts[1] / counts[0] <= 3
    with pytest.raises(ValueError, match="work is 'sampling'"):
        flops(config, 4000, "sampling")


# --- what is watched -------------------------------------------------------------------------------------------------


def test_validation_shows_the_averaged_weights_by_noise_level(tmp_path):
    run = trainer(
        tmp_path, validation=crops(), validation_config=ValidationConfig(every=10, examples=5, levels=(0, 30, 199))
    )
    run.fit(progress=False)
    lines = [json.loads(line) for line in (tmp_path / "validation.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20] and lines[0]["t"] == [0, 30, 199]
    # By the exported prior and its own formula: the error of eps, in units of the preconditioned target.
    run.export(tmp_path / "p.safetensors")
    prior = read(tmp_path / "p.safetensors")  # rounded to float16
    g = torch.Generator().manual_seed(0)
    x0, label = crops()(5, g)
    noise = torch.randn(x0.shape, generator=g)
    for t, found in zip((0, 30, 199), lines[1]["loss"], strict=True):
        expected = ut.training.prior_loss(prior, x0, torch.full((5,), t), noise, label).mean()
        assert found == pytest.approx(float(expected), rel=5e-3)


@pytest.mark.slow
def test_watching_changes_no_weight(tmp_path, straight):
    run = train(
        tmp_path,
        validation=crops(),
        validation_config=ValidationConfig(every=3, examples=4, sample_every=10, samples=1),
        board=True,
    )
    assert equal(state(tmp_path), state(straight)) and run.step == 20


def test_a_level_beyond_the_chain_is_refused(tmp_path):
    with pytest.raises(ValueError, match="accepted are steps 0..199"):
        trainer(tmp_path, validation=crops(), validation_config=ValidationConfig(levels=(0, 200)))


@pytest.mark.slow
def test_the_board_holds_losses_audio_and_spectrograms(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(
        tmp_path,
        validation=crops(),
        validation_config=ValidationConfig(every=10, examples=4, levels=(5, 50), sample_every=20, samples=2),
        board=True,
    )
    events = EventAccumulator(str(tmp_path / "board"))
    events.Reload()
    tags = events.Tags()
    assert set(tags["scalars"]) == {"loss/train", "rate", "loss/validation", "validation/t=5", "validation/t=50"}
    assert [(e.step, pytest.approx(e.value)) for e in events.Scalars("loss/train")] == run.losses
    assert tags["audio"] == tags["images"] == ["generated/0", "generated/1"]
    audio = events.Audio("generated/0")[0]
    assert audio.step == 20 and audio.sample_rate == 8000 and audio.length_frames == 250
    assert torch.isfinite(run.generate(2)).all() and torch.equal(run.generate(2), run.generate(2))


def test_a_spectrogram_is_an_image_with_its_tone_in_the_right_place():
    from unasdiff_teach.training.board import RANGE_DB, spectrogram

    image = spectrogram(torch.sin(2 * torch.pi * 1000 * torch.arange(8000) / 8000))
    assert image.shape[:2] == (1, 257) and image.min() >= 0 and image.max() == 1
    assert (image[0, :, 10].argmax() == 256 - 64).item(), "1 kHz is bin 64 from the bottom"
    assert RANGE_DB == 80


def test_without_tensorboard_a_board_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        trainer(tmp_path, board=True)
    assert train(tmp_path).step == 20


# --- commands --------------------------------------------------------------------------------------------------------


@pytest.fixture
def invoke():
    from typer.testing import CliRunner

    from unasdiff_teach._commands.train import app

    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def manifests(tmp_path_factory):
    """Two small converted data sets, of speech and of sounds, 8 kHz."""
    import numpy as np
    import soundfile

    from unasdiff_teach.data import manifest

    found = {}
    for kind, names in (("speech", ("anna", "otto")), ("sound", ("bell", "drum"))):
        folder = tmp_path_factory.mktemp(kind)
        rows = []
        for name in names:
            for i, split in enumerate(("train", "train", "validation", "test")):
                path = f"{name}{i}.flac"
                soundfile.write(folder / path, 0.2 * np.sin(np.arange(8000) * (0.1 + 0.2 * names.index(name))), 8000)
                rows.append({
                    "id": path, "path": path, "split": split, "label": name if kind == "sound" else None,
                    "speaker": name if kind == "speech" else None, "spans": [[0.0, 1.0]], "samples": 8000,
                    "seconds": 1.0, "gain_db": 0.0, "bytes": 1, "sha256": "0", "licence": "CC0", "source": path,
                    "source_bytes": 1,
                })  # fmt: skip
        labels = names if kind == "sound" else ()
        manifest.save(manifest.build(folder, rows, f"small {kind}", kind, 8000, labels, {}))
        found[kind] = folder
    return found


@pytest.mark.slow
def test_train_prior_says_what_it_costs_trains_and_goes_on(tmp_path, manifests, invoke):
    words = (
        "prior",
        "--scale",
        "smoke",
        "--data",
        manifests["sound"],
        "--out",
        tmp_path,
        "--device",
        "cpu",
        "--batch",
        2,
    )
    dry = invoke(*words, "--dry-run")
    assert dry.exit_code == 0 and "million parameters" in dry.output and "FLOP for 20 steps" in dry.output
    assert not list(tmp_path.iterdir())
    first = invoke(*words, "--steps", 10, "--no-board")
    assert first.exit_code == 0, first.output
    other = invoke(*words, "--no-board")
    assert other.exit_code == 1 and "steps was 10, is now 20" in other.output and "reschedule" in other.output
    again = invoke(*words, "--no-board", "--reschedule")
    assert again.exit_code == 0 and "goes on at step 10" in again.output
    assert "next: unasdiff-teach separate RECORDING.wav --sources bell,drum --prior " in again.output
    assert "next:" not in dry.output
    prior = read(tmp_path / "prior.safetensors")
    assert prior.labels == ("bell", "drum") and prior.sample_rate == 8000 and prior.card["steps"] == 20
    assert prior.card["data"]["corpus"] == "small sound" and len(prior.card["data"]["sha256"]) == 64
    assert json.loads((tmp_path / "validation.jsonl").read_text().splitlines()[-1])["step"] == 20


@pytest.mark.parametrize(("task", "kinds"), [("2 speech", ["speech"]), ("1 speech + 1 sound", ["speech", "sound"])])
def test_train_separator_on_manifests(tmp_path, manifests, invoke, task, kinds):
    data = [word for kind in kinds for word in ("--data", manifests[kind])]
    words = (
        "separator",
        "--scale",
        "smoke",
        *data,
        "--task",
        task,
        "--network",
        "conv-tasnet",
        "--out",
        tmp_path,
        "--device",
        "cpu",
    )
    done = invoke(*words, "--steps", 4)
    assert done.exit_code == 0, done.output
    separator = ut.separators.read(tmp_path / "separator.safetensors")
    assert f"next: unasdiff-teach evaluate --mixtures pocket --task '{task}' --method conv-tasnet" in done.output
    assert separator.sample_rate == 8000 and separator.card["steps"] == 4
    assert separator.kinds == (("speech", "speech") if task == "2 speech" else ("speech", "sound"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("prior --scale huge --data pocket-speech", "scale is 'huge'; accepted: paper, pocket, smoke"),
        ("prior --data pocket-speech", "8000 Hz; this scale needs 16000 Hz"),
        ("prior --data nowhere", "no manifest at nowhere"),
        ("separator --scale smoke --data pocket-speech", "no data of kind sound"),
        ("separator --scale smoke --data pocket-speech --data pocket-sound --task karaoke", "task is 'karaoke'"),
        ("separator --scale smoke --data pocket-speech --data pocket-sound --network unet", "network is 'unet'"),
        ("separator --scale smoke --data pocket-speech --data pocket-speech", "two of the data sets are of one kind"),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(tmp_path, invoke, words, message):
    done = invoke(*words.split(), "--out", tmp_path, "--device", "cpu")
    assert done.exit_code == 1 and message in done.output.replace("\n", " ")


def test_help_has_examples_that_parse(invoke):
    for command in ("prior", "separator"):
        text = invoke(command, "--help").output
        assert f"unasdiff-teach train {command} --scale smoke" in " ".join(text.split())
        assert " /" not in text.replace(" / ", ""), "no place outside the project"
        if command == "prior":
            assert [line for line in text.splitlines() if line.strip(" │").startswith("tensorboard --logdir runs/")]
    assert SeparatorTrainConfig.paper().steps == 500_000 and TrainConfig.paper().steps == 400_000


@pytest.mark.slow
def test_torchrun_starts_the_command(tmp_path):
    """The line of the help, on two processes of the CPU."""
    words = "train prior --scale smoke --data pocket-speech --steps 2 --no-board --device cpu --out"
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "unasdiff_teach.cli",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *words.split(), str(tmp_path)], capture_output=True, text=True, timeout=500, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2 x cpu") == 1 and math.isfinite(state(tmp_path)["log"][-1]["loss"])
    assert read(tmp_path / "prior.safetensors").card["machine"].count("2 x cpu") == 1
