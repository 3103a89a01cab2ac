"""Figures, a listening player, a scrubber and an explorer, for notebooks and pages (Figs. 2, 3)."""

from typing import TYPE_CHECKING

from .._lazy import lazy
from .players import Player, Track, player
from .scrubbers import Scrubber, scrubber
from .sound import log_spectrograms

if TYPE_CHECKING:  # what `__getattr__` below imports when it is first used
    from .algorithm import algorithm_drawing
    from .explorer import GammaExplorer, curves, gamma_explorer
    from .figures import bars_with_intervals, guidance_curves, schedule_curves, spectrograms, trajectories, waveforms
    from .network import network_drawing, network_shapes
    from .plane import Plane, plane_of_sources
    from .style import PALETTE, use_style
    from .svg import Drawing
    from .two_sources import plane_numbers

__all__ = [
    "PALETTE",
    "Drawing",
    "GammaExplorer",
    "Plane",
    "Player",
    "Scrubber",
    "Track",
    "algorithm_drawing",
    "bars_with_intervals",
    "curves",
    "gamma_explorer",
    "guidance_curves",
    "log_spectrograms",
    "network_drawing",
    "network_shapes",
    "plane_numbers",
    "plane_of_sources",
    "player",
    "schedule_curves",
    "scrubber",
    "spectrograms",
    "trajectories",
    "use_style",
    "waveforms",
]

# A player needs neither seaborn and pandas, as the figures do, nor IPython, as the explorer does.
_HOMES = {
    "algorithm": "algorithm_drawing",
    "explorer": "GammaExplorer curves gamma_explorer",
    "figures": "bars_with_intervals guidance_curves schedule_curves spectrograms trajectories waveforms",
    "network": "network_drawing network_shapes",
    "plane": "Plane plane_of_sources",
    "style": "PALETTE use_style",
    "svg": "Drawing",
    "two_sources": "plane_numbers",
}
__getattr__, __dir__ = lazy(__name__, _HOMES)
