"""A drawing of the triple-path U-Net with its shapes (Fig. 4)."""

from __future__ import annotations

from ..networks import TriplePathConfig
from .style import GREY, INK
from .svg import Drawing, arrow, box, text

WIDTH, HEIGHT, BOX = 640, 502, (206, 62)
COLUMNS, ROWS = (4, 217, 430), (36, 130, 224, 318)
PATHS = {
    "global": ("global-temporal", "time × all bins"),
    "frame": ("intra-frame", "across frequencies"),
    "frequency": ("intra-frequency", "along time"),
}


def network_shapes(config: TriplePathConfig, samples: int) -> dict[str, tuple[int, int, int]]:
    """Channels, frequencies and times of what the parts of a `TriplePathUNet` hand on, from its configuration alone.

    Args:
        samples: length of the signal.

    Returns:
        name of the part -> [C, F, T]; "spectrum" is what the first convolution gets (without the magnitudes that
        `config.gains` adds), and "head" what leaves the network. "down" parts are given before their unshuffle, "up"
        parts before their shuffle, and "merge" parts after the skip has been merged.
    """
    c, F = config, config.bins
    frames = samples // c.hop + 1
    T = (frames + -frames % (4 * c.patch[1])) // c.patch[1]
    bins = c.patch[0] * c.patch[1]
    first, second, third = ((c.channels << k, F >> k, T >> k) for k in range(3))

    def wide(factor: float, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        return int(factor * shape[0]), *shape[1:]

    return {
        "spectrum": (2 * bins, F, T),
        "stem": first,
        "encoder1": first,
        "down1": wide(0.5, first),
        "encoder2": second,
        "down2": wide(0.5, second),
        "latent": third,
        "up2": wide(2, third),
        "merge2": second,
        "decoder2": second,
        "up1": wide(2, second),
        "merge1": first,
        "decoder1": first,
        "head": ((3 if c.gains else 2) * bins, F, T),
    }


def network_drawing(config: TriplePathConfig, samples: int) -> Drawing:
    """The network as in Fig. 4(a), each block with the shape C × F × T that it hands on, and its paths below.

    Args:
        config: of the network.
        samples: length of the signal.
    """
    shapes = {name: " × ".join(map(str, shape)) for name, shape in network_shapes(config, samples).items()}
    places = {
        "spectrum": (0, 0, "spectrum", ""),
        "encoder1": (0, 1, "encoder 1", config.depths[0]),
        "encoder2": (0, 2, "encoder 2", config.depths[1]),
        "latent": (1, 3, "latent", config.depths[2]),
        "decoder2": (2, 2, "decoder 2", config.depths[3]),
        "decoder1": (2, 1, "decoder 1", config.depths[4]),
        "head": (2, 0, "output", ""),
    }
    width, height = BOX
    parts = [
        box(
            (COLUMNS[i], ROWS[j], width, height),
            title,
            shapes[name],
            f"{depth} block{'s' * (depth > 1)}" if depth else "",
        )
        for name, (i, j, title, depth) in places.items()
    ]
    left, right = COLUMNS[0] + width / 2, COLUMNS[2] + width / 2
    for above, below, name in zip(ROWS[:2], ROWS[1:], ("stem", "down")):
        parts += [arrow(INK, (left, above + height), (left, below - 3)), text(left + 10, below - 10, name)]
    for above, below, name in zip(ROWS[:2], ROWS[1:], ("head", "up, merge")):
        parts += [arrow(INK, (right, below), (right, above + height + 3)), text(right + 10, below - 10, name)]
    for row in ROWS[1:3]:
        parts += [arrow(GREY, (COLUMNS[0] + width, row + 31), (COLUMNS[2] - 3, row + 31), dash="6 4")]
        parts += [text(WIDTH / 2, row + 23, "skip", "middle")]
    middle = ROWS[3] + height / 2
    parts += [arrow(INK, (left, ROWS[2] + height), (left, middle), (COLUMNS[1] - 3, middle))]
    parts += [arrow(INK, (COLUMNS[1] + width, middle), (right, middle), (right, ROWS[2] + height + 3))]
    parts += [text(left + 10, middle - 12, "down"), text(right - 10, middle - 12, "up, merge", "end")]
    parts += [text(4, 20, f"STFT of {samples:,} samples".replace(",", " ")), text(636, 20, "to the waveform", "end")]
    used = [name for name in PATHS if name in config.paths]
    only = " (the first in the latent level only)" if "global" in used else ""
    parts += [text(4, ROWS[3] + height + 32, f"A block holds, one after another{only}:")]
    for column, name in zip(COLUMNS, used):
        parts += [box((column, HEIGHT - height - 14, width, height), *PATHS[name])]
    told = ", ".join(f"{places[name][2]} {shapes[name]}" for name in places)
    paths = ", ".join(PATHS[name][0] + " (lowest level only)" * (name == "global") for name in used)
    return Drawing(
        WIDTH,
        HEIGHT,
        "".join(parts),
        f"The triple-path U-Net, channels × frequencies × times: {told}. Skips lead from each encoder to its decoder. "
        f"The paths in a block: {paths}.",
    )
