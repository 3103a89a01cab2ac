"""`unasdiff-teach train`: priors and separators on one process or many. Each command says what it costs, and
resumes.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .._checks import one_of
from .._console import duration, errors
from .._files import read_json, write_json
from .._machine import check_device, free_disk, use_threads
from . import Compile, Precision, Threads, say, say_next

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from ..training.loop import Trainer
    from ..training.prior import PriorTrainer

app = typer.Typer(
    name="train",
    help="Train diffusion priors and supervised separators. The same command goes on where it stopped.",
    no_args_is_help=True,
)

CHOICES = "choices.json"
COMPILED = 2000  # steps on a GPU, from which compiling pays
STOPPED = "the same command goes on from the last saved state"

ScaleOption = Annotated[
    str, typer.Option(help="Scale: paper (16 kHz, 4 s), pocket (8 kHz, 2 s) or smoke (seconds, to try things).")
]
Out = Annotated[Path, typer.Option(help="Folder of this training alone: state, log, weights.")]
Devices = Annotated[
    int, typer.Option(help="Processes on this machine, each on a GPU of its own; torchrun's count where it is used.")
]
Device = Annotated[str | None, typer.Option(help="Device: cpu, cuda, cuda:1 or mps; default: cuda where there is one.")]
Steps = Annotated[int | None, typer.Option(help="Steps in all; default: the scale's.")]
Batch = Annotated[int | None, typer.Option(help="Examples of a step, of all processes together; default: the scale's.")]
Minutes = Annotated[
    float | None, typer.Option(help="Stop after so many minutes, with the state saved; the same command goes on.")
]
SaveMinutes = Annotated[
    float | None, typer.Option(help="Save the state at least this often, besides every so many steps.")
]
Reschedule = Annotated[
    bool,
    typer.Option(
        "--reschedule",
        help="Go on with other --steps although the cosine of the rate depends on them; the card notes it.",
    ),
]
Seed = Annotated[int, typer.Option(help="Random seed for the weights and for everything that is drawn.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything and show the cost, but do not start.")]


@app.command()
def prior(
    data: Annotated[
        str,
        typer.Option(
            help="Converted data set (`unasdiff-teach data`): folder or manifest; or pocket-speech, pocket-sound."
        ),
    ],
    out: Out,
    scale: ScaleOption = "paper",
    devices: Devices = 1,
    device: Device = None,
    precision: Precision = "auto",
    threads: Threads = None,
    steps: Steps = None,
    batch: Batch = None,
    seed: Seed = 0,
    minutes: Minutes = None,
    save_minutes: SaveMinutes = None,
    reschedule: Reschedule = False,
    board: Annotated[
        bool, typer.Option(help="Log losses, generated audio and spectrograms for TensorBoard, in OUT/board.")
    ] = True,
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Keep fewer activations: least memory, a third more time.")
    ] = False,
    compile: Compile = None,
    dry_run: DryRun = False,
) -> None:
    """Train the prior of one kind of sound: 400,000 steps of 12 examples at paper scale, 6.6e18 FLOP.

    At pocket scale pocket-speech and pocket-sound give the shipped priors: OUT/joint is trained first, on both.

    Writes OUT/state.pt, log.jsonl, validation.jsonl (loss by noise level), step_*.safetensors, and prior.safetensors
    at the end. GPUs, alone or several, are what it is written for; it has been tried on CPUs and on one GPU.

    \b
    unasdiff-teach train prior --scale smoke --data pocket-speech --out runs/try
    unasdiff-teach train prior --data data/vctk-mic1-16k --out runs/speech --dry-run
    unasdiff-teach train prior --data data/fsdkaggle2018-16k --out runs/sound --devices 4 --compile
    torchrun --nnodes 2 --nproc-per-node 8 ... -m unasdiff_teach.cli train prior --data data/vctk-mic1-16k \\
        --out runs/speech
    tensorboard --logdir runs/speech/board
    """
    from .. import precision as precisions
    from ..training import pocket, recipes, scales

    def finish(trainer: PriorTrainer, seconds: float, result: Path, minutes: float | None) -> bool:
        if checkpointing:
            trainer.net.checkpoint_activations()
        compiled, line = precisions.compiling(compile, trainer.device, trainer.config.steps - trainer.step > COMPILED)
        if compiled:
            trainer.net.compile_core()
        say(line if fabric.is_global_zero else "")
        length = round(seconds * trainer.prior.sample_rate)
        return _train(trainer, length, result, precision, minutes, dry_run)

    with errors(STOPPED):
        chosen, source = _scale(scale), scales.Source.open(data)
        changes = {"steps": steps, "batch": batch, "seed": seed, "save_minutes": save_minutes, "reschedule": reschedule}
        fabric, changes = _start(out, device, devices, threads, dry_run, **changes)
        looking = {"fabric": fabric, "board": board and not dry_run}
        if scale == "pocket" and data.startswith("pocket-"):
            began = time.monotonic()
            joint = pocket.stage_trainer("joint", out / "joint", changes, fabric=fabric)
            looking |= scales.validation(chosen, source)

            def branch() -> PriorTrainer:
                start = pocket.branch(source.kind, joint.prior.labels, joint.ema)
                return pocket.stage_trainer(source.kind, out, changes, start, **looking)

            trainer = branch()  # what another training has left in OUT is refused before the work
            if joint.step < joint.config.steps:
                say("first speech and sounds together" if fabric.is_global_zero else "")
                if not finish(joint, recipes.SECONDS["joint"], out / "joint" / "prior.safetensors", minutes):
                    return _end()
                minutes = minutes and max(0.01, minutes - (time.monotonic() - began) / 60)
                trainer = branch()
            finished = finish(trainer, recipes.SECONDS[source.kind], out / "prior.safetensors", minutes)
        else:
            trainer = scales.prior_trainer(chosen, source, out, changes, **looking)
            finished = finish(trainer, chosen.seconds, out / "prior.safetensors", minutes)
        if finished and not dry_run and fabric.is_global_zero:
            sources = ",".join((2 * trainer.prior.labels)[:2]) or "speech,speech"
            say_next("separate", "RECORDING.wav", "--sources", sources, "--prior", out / "prior.safetensors")
        _end()


@app.command()
def separator(
    data: Annotated[
        list[str], typer.Option(help="Converted data set, one for each kind of sound; or pocket-speech, pocket-sound.")
    ],
    out: Out,
    task: Annotated[
        str, typer.Option(help='Task, such as "1 speech + 1 sound", "2 sounds" or "2 speech".')
    ] = "1 speech + 1 sound",
    network: Annotated[str, typer.Option(help="Network: conv-tasnet or tf-locoformer.")] = "tf-locoformer",
    scale: ScaleOption = "paper",
    devices: Devices = 1,
    device: Device = None,
    precision: Precision = "auto",
    threads: Threads = None,
    steps: Steps = None,
    batch: Batch = None,
    seed: Seed = 0,
    minutes: Minutes = None,
    save_minutes: SaveMinutes = None,
    reschedule: Reschedule = False,
    dry_run: DryRun = False,
) -> None:
    """Train a supervised separator, the expert for one task, on mixtures that are made on the fly.

    Writes OUT/state.pt, log.jsonl, step_*.safetensors, and separator.safetensors at the end. At pocket scale
    pocket-speech and pocket-sound give the shipped separators.

    \b
    unasdiff-teach train separator --scale smoke --data pocket-speech --data pocket-sound --out runs/try-expert
    unasdiff-teach train separator --data data/vctk-mic1-16k --data data/fsdkaggle2018-16k --out runs/expert \\
        --devices 4
    unasdiff-teach train separator --data data/vctk-mic1-16k --task "2 speech" --network conv-tasnet \\
        --out runs/speakers
    """
    from ..data import POCKET_RATE
    from ..data.mixing import TASKS
    from ..training import recipes, scales, separators

    with errors(STOPPED):
        chosen = _scale(scale)
        if task not in TASKS:
            raise ValueError(f"task is {task!r}; accepted: {', '.join(map(repr, TASKS))}")
        sources = {source.kind: source for source in map(scales.Source.open, data)}
        if len(sources) < len(data):
            raise ValueError("two of the data sets are of one kind; give one for each")
        changes = {"steps": steps, "batch": batch, "seed": seed, "save_minutes": save_minutes, "reschedule": reschedule}
        fabric, changes = _start(out, device, devices, threads, dry_run, **changes)
        if scale == "pocket" and all(name.startswith("pocket-") for name in data) and set(TASKS[task]) <= set(sources):
            one_of("network", network, recipes.CONFIGS)
            config = replace(recipes.CONFIGS[network], **changes)
            trainer = separators.expert(network, task, out, config, fabric)
        else:
            trainer = scales.separator_trainer(chosen, network, TASKS[task], sources, out, changes, fabric)
        length = chosen.cut(trainer.model.sample_rate).length
        result = out / "separator.safetensors"
        if _train(trainer, length, result, precision, minutes, dry_run) and not dry_run and fabric.is_global_zero:
            mixtures = "pocket" if trainer.model.sample_rate == POCKET_RATE else "MIXTURES"
            say_next(
                "evaluate", "--mixtures", mixtures, "--task", task, "--method", network, "--separator", result, "--out",
                out / "evaluation",
            )  # fmt: skip
        _end()


def _scale(name: str):
    from ..training.scales import SCALES

    if name not in SCALES:
        raise ValueError(f"scale is {name!r}; accepted: {', '.join(SCALES)}")
    return SCALES[name]


def _start(
    out: Path, device: str | None, devices: int, threads: int | None, dry_run: bool, **given
) -> tuple[Fabric, dict]:
    """The processes, and the fields of the configuration that were given or follow from the device."""
    import torch

    from ..training.loop import processes

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    check_device(device)
    before = _choices(out).get("threads")
    # another number of threads would round otherwise
    if threads is None and before and device == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(before)
        line = f"threads: {before}, as the training began (--threads chooses)"
    else:
        line = use_threads(threads, device)
    fabric = processes(device, 1 if dry_run else devices)
    say(line if fabric.is_global_zero else "")
    changes = {name: value for name, value in given.items() if value is not None}
    return fabric, changes | {"prefetch": 0 if device == "cpu" else 4}


def _end() -> None:
    """Let the other processes go."""
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _choices(out: Path) -> dict:
    """What an earlier call has chosen for a training."""
    try:
        return read_json(out / CHOICES)
    except (OSError, ValueError):
        return {}


def _choose(trainer: Trainer, asked: str) -> tuple[str, str]:
    """The precision of a training, and why: one that goes on keeps that in which it began."""
    import torch

    from .. import precision

    batch = [
        part[: min(4, len(part))].to(trainer.device) for part in trainer.examples(torch.Generator().manual_seed(0))
    ]

    def work() -> None:
        trainer.loss(*batch).mean().backward()
        trainer.net.zero_grad(set_to_none=True)

    before = _choices(trainer.folder).get("precision")
    if trainer.step and not before:  # begun before there was a choice
        before = "bfloat16" if trainer.device.type == "cuda" else "float32"
    key = (trainer.net.config, *batch[0].shape, "training")
    choice = precision.for_training(asked, str(trainer.device), before, key, work)
    return choice.precision, choice.why


def _train(trainer: Trainer, length: int, result: Path, precision: str, minutes: float | None, dry_run: bool) -> bool:
    """Choose the precision, say what it costs, train, and write the averaged weights. Returns whether nothing is left
    to do: all steps are made, or none was to be.
    """
    import torch

    first = trainer.fabric.is_global_zero
    chosen, why = trainer.fabric.broadcast(_choose(trainer, precision) if first else ("", ""))
    trainer.config = replace(trainer.config, precision=chosen)
    if first:
        typer.echo(f"precision: {why}")
        for line in _cost(trainer, length):
            typer.echo(line)
    if dry_run:
        return True

    def keep_choices() -> None:
        if first:
            write_json(trainer.folder / CHOICES, {"precision": chosen, "threads": torch.get_num_threads()})

    finished = trainer.fit(seconds=minutes and 60 * minutes, started=keep_choices)
    if first:
        if finished:
            trainer.export(result)
            typer.echo(f"written: {result}")
        else:
            typer.echo(f"stopped at step {trainer.step:,} of {trainer.config.steps:,}; {STOPPED}")
    return finished


def _cost(trainer: Trainer, length: int) -> list[str]:
    from ..cost import peak_matmul_flops, usual_mfu
    from ..networks.budget import flops, parameters
    from ..precision import PRECISIONS

    c, count = trainer.config, trainer.fabric.world_size
    step = flops(trainer.net.config, length, "training") * c.batch
    total = step * c.steps
    dtype = PRECISIONS[c.precision]
    peak, mfu = count * peak_matmul_flops(trainer.device, dtype), usual_mfu(trainer.device, dtype)
    seconds = step * (c.steps - trainer.step) / (mfu * peak)
    lines = [
        (
            f"{parameters(trainer.net.config) / 1e6:.1f} million parameters; {step / 1e12:.3g} TFLOP for a step of"
            f" {c.batch} examples, {total:.2g} FLOP for {c.steps:,} steps"
        ),
        (
            f"{count} x {trainer.device.type}, {c.precision}: {peak / 1e12:.3g} TFLOP/s of matrix products; at"
            f" {mfu:.0%} of that about {duration(seconds)} (the progress bar will know better)"
        ),
        f"state and weights go to {trainer.folder}; free there: {free_disk(trainer.folder) / 1e9:.0f} GB",
    ]
    return lines + [f"goes on at step {trainer.step:,}"] * bool(trainer.step)
