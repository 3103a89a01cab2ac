"""`unasdiff-teach data`: data sets and mixtures at the paper's scale. Each command says what it costs before it
starts, and resumes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .._console import duration, errors
from . import say_next

if TYPE_CHECKING:
    from ..data.archives import Archive
    from ..data.convert import Result

app = typer.Typer(
    name="data",
    help="Download, check and convert data sets, and write the paper's mixtures.",
    no_args_is_help=True,
)

STOPPED = "what is done is kept, and the same command goes on from there"

Root = Annotated[
    Path, typer.Option(help="Folder with the archives, or where they go. It must be there.", show_default=False)
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before a download.")]
Download = Annotated[bool, typer.Option(help="Fetch archives that are missing.")]
Mirror = Annotated[str | None, typer.Option(help="Folder of a server that has the same archives.")]
Rate = Annotated[int, typer.Option(help="Sample rate in Hz; the paper's is 16000.")]
Workers = Annotated[int | None, typer.Option(help="Threads that convert; by default one for each core, 8 at most.")]


@app.command()
def vctk(
    root: Root,
    microphone: Annotated[
        str, typer.Option(help="Microphone: mic1 (all 110 speakers) or mic2 (without p280 and p315).")
    ] = "mic1",
    download: Download = True,
    mirror: Mirror = None,
    yes: Yes = False,
    rate: Rate = 16_000,
    workers: Workers = None,
) -> None:
    """VCTK 0.92, 100 speakers for training and 10 for test: 11.7 GB to fetch, 3 GB when converted.

    \b
    unasdiff-teach data vctk --root /data
    unasdiff-teach data vctk --root /data --microphone mic2
    unasdiff-teach data vctk --root /data --no-download    (archive or unpacked folder already there)
    """
    from ..data import vctk as source

    with errors(STOPPED):
        if microphone not in source.MICROPHONES:
            raise ValueError(f"microphone is {microphone!r}; accepted: {', '.join(source.MICROPHONES)}")
        if _obtain(root, source.ARCHIVES, source.HOURS, download, mirror, yes):
            _finish(
                source.prepare(root, microphone, rate, workers, progress=True), {"published": source.CLIPS[microphone]}
            )


@app.command()
def fsdkaggle2018(
    root: Root,
    download: Download = True,
    mirror: Mirror = None,
    yes: Yes = False,
    rate: Rate = 16_000,
    workers: Workers = None,
) -> None:
    """FSDKaggle2018, sound events of 41 classes: about 5 GB to fetch, 1 GB when converted.

    \b
    unasdiff-teach data fsdkaggle2018 --root /data
    unasdiff-teach data fsdkaggle2018 --root /data --mirror http://my.server/fsd --yes
    """
    from ..data import fsdkaggle2018 as source

    with errors(STOPPED):
        if _obtain(root, source.ARCHIVES, source.HOURS, download, mirror, yes):
            _finish(
                source.prepare(root, rate, workers, progress=True),
                {f"published, {k}": n for k, n in source.CLIPS.items()},
            )


@app.command()
def folder(
    root: Annotated[
        Path,
        typer.Option(
            help="Folder of recordings: CLASS/FILE or SPEAKER/FILE, under train, validation and test if you like."
        ),
    ],
    kind: Annotated[str, typer.Option(help="Kind of the recordings: speech or sound.")],
    out: Annotated[Path | None, typer.Option(help="Where the data set goes; by default ROOT-16k beside it.")] = None,
    test: Annotated[float, typer.Option(help="Fraction for test, where there are no folders train and test.")] = 0.1,
    licence: Annotated[str | None, typer.Option(help="Licence of the recordings, for the manifest.")] = None,
    mono: Annotated[str, typer.Option(help="What to take of several channels: mean, first, or error.")] = "mean",
    rate: Rate = 16_000,
    workers: Workers = None,
) -> None:
    """Your own recordings: a folder for each sound class, or for each speaker.

    \b
    unasdiff-teach data folder --root my_sounds --kind sound
    unasdiff-teach data folder --root my_voices --kind speech --rate 8000 --licence "CC BY 4.0"
    """
    from ..data import folder as source
    from ..data.archives import gigabytes
    from ..data.convert import MINUTES_PER_HOUR, estimate, hours

    with errors(STOPPED):
        found = source.listing(root, kind, test, licence)
        target = out or source.destination(root, rate)
        size, minutes = sum(item.member.size for item in found.items), MINUTES_PER_HOUR * hours(found.items)
        typer.echo(
            f"{len(found.items)} recordings, {gigabytes(size)}; converted they take less than "
            f"{gigabytes(estimate(found.items, rate))} in {target}, and about {duration(60 * minutes)} on one core"
        )
        _finish(source.prepare(root, kind, out, test, licence, rate, mono, workers, progress=True), {})


@app.command()
def mixtures(
    out: Annotated[Path, typer.Option(help="Folder of the lists; its parent must be there.")],
    speech: Annotated[Path | None, typer.Option(help="Converted speech, for tasks with speech.")] = None,
    sound: Annotated[Path | None, typer.Option(help="Converted sounds, for tasks with sounds.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only this task; may be given several times.")] = None,
    placement: Annotated[
        str, typer.Option(help="Placement of the sources: paper (its text), authors (the released code), or both.")
    ] = "both",
    split: Annotated[str, typer.Option(help="Clips to mix: test, validation or train.")] = "test",
    count: Annotated[int, typer.Option(help="Mixtures of each task and placement.")] = 400,
    seed: Annotated[int, typer.Option(help="Random seed for the choice, placement and levels of the clips.")] = 7,
) -> None:
    """The paper's five settings, 400 mixtures of 4 s each, in two placements, as FLAC and one Parquet file.

    \b
    unasdiff-teach data mixtures --speech data/vctk-mic1-16k --sound data/fsdkaggle2018-16k --out data/mixtures
    unasdiff-teach data mixtures --sound my_sounds-16k --out my_mixtures --task "2 sounds" --count 50
    """
    from ..data import full_mixtures, manifest
    from ..data.archives import gigabytes

    with errors(STOPPED):
        manifests = {
            kind: manifest.load(path) for kind, path in (("speech", speech), ("sound", sound)) if path is not None
        }
        placements = full_mixtures.PLACEMENTS if placement == "both" else (placement,)
        plan = full_mixtures.plan(out, manifests, task or None, placements, count)
        left = [name for name in full_mixtures.TASKS if name not in plan.tasks]
        cost = f"less than {gigabytes(plan.bytes)} in {out}, about {duration(60 * plan.minutes)}"
        typer.echo(f"{plan.mixtures} mixtures of {', '.join(map(repr, plan.tasks))}; {cost}")
        if left and not task:
            typer.echo(f"without manifests for them: {', '.join(map(repr, left))}")
        table = full_mixtures.write(plan, manifests, split, seed, progress=True)
        typer.echo(f"{table['id'].nunique()} mixtures are in {out}; their table is {full_mixtures.TABLE}")


@app.command()
def verify(
    manifest: Annotated[Path, typer.Argument(help="A converted data set: its folder, or its manifest.")],
) -> None:
    """Hash every clip of a converted data set, and name those that are missing or damaged (exit status 1)."""
    from ..data import convert
    from ..data import manifest as manifests

    with errors(STOPPED):
        loaded = manifests.load(manifest)
        damaged = convert.verify(loaded, progress=True)
        for path, reason in damaged:
            typer.echo(f"{path}: {reason}")
        if damaged:
            typer.echo(
                f"{len(damaged)} of {len(loaded.rows)} clips; delete the damaged ones, and the command that made them"
                " makes them anew"
            )
            raise typer.Exit(1)
        typer.echo(f"all {len(loaded.rows)} clips are as they were converted")


def _obtain(
    root: Path, archives: tuple[Archive, ...], hours: float, download: bool, mirror: str | None, yes: bool
) -> bool:
    """Say what is there and what the rest costs, fetch it, and check all archives. False: nothing can be converted."""
    from ..data.archives import check, fetch, gigabytes, have, inspect, published_size
    from ..data.convert import MINUTES_PER_HOUR

    if not root.is_dir():
        raise FileNotFoundError(
            f"no folder {root}; make it, on a disk with room for the archives and the converted clips"
        )
    states = {archive: inspect(root, archive) for archive in archives}
    for archive, state in states.items():
        bytes_ = published_size(archive, mirror) if download and state in ("missing", "part") else None
        size = f"{gigabytes(bytes_)} " if bytes_ else ""
        words = {
            "archive": "there", "unpacked": f"there, unpacked in {archive.unpacked}",
            "missing": f"missing, {size}to fetch", "part": f"{gigabytes(have(root, archive))} of {size}fetched",
        }  # fmt: skip
        typer.echo(f"{archive.name}: {words[state]}")
    absent = [archive for archive, state in states.items() if state in ("missing", "part")]
    typer.echo(f"conversion of {hours} hours of audio: about {duration(60 * MINUTES_PER_HOUR * hours)} on one core")
    if absent and download:
        if not yes and not typer.confirm("Fetch what is missing?"):
            return False
        for archive in absent:
            fetch(root, archive, mirror, progress=True)
    for archive, state in states.items():
        if state == "archive":
            check(root, archive, progress=True)
    return True


def _finish(result: Result, published: dict[str, int]) -> None:
    """Say what was made, what was left out, and what to do next."""
    from ..data.convert import LEFT_OUT
    from ..training.recipes import SCALES

    manifest = result.manifest
    rows = manifest.rows
    for split, clips in rows.groupby("split", sort=False):
        speakers, classes = clips["speaker"].nunique(), clips["label"].nunique()
        of = f"{speakers} speakers" if manifest.kind == "speech" else f"{classes} classes"
        typer.echo(f"{split}: {len(clips)} clips of {of}, {clips['seconds'].sum() / 3600:.2f} hours")
    for what, count in published.items():
        typer.echo(f"{what}: {count} clips")
    for name, reason in result.left_out[:10]:
        typer.echo(f"left out: {name}: {reason}")
    if len(result.left_out) > 10:
        typer.echo(f"and {len(result.left_out) - 10} more, all in {manifest.folder / LEFT_OUT}")
    typer.echo(f"{result.converted} clips converted now, {len(rows)} in all: {manifest.folder}")
    scale = next(name for name, scale in SCALES.items() if scale.sample_rate in (None, manifest.sample_rate))
    say_next(
        "train", "prior", "--data", manifest.folder, "--scale", scale, "--out", f"runs/{manifest.name}", "--dry-run"
    )
