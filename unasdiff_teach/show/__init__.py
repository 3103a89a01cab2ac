"""Figures, a listening player, a scrubber and an explorer, for notebooks and pages (Figs. 2, 3). Nothing else imports this room."""

from .explorer import GammaExplorer, curves, gamma_explorer
from .figures import (
    bars_with_intervals,
    guidance_curves,
    log_spectrograms,
    schedule_curves,
    spectrograms,
    trajectories,
    waveforms,
)
from .players import Player, Track, player
from .scrubbers import Scrubber, scrubber
from .style import PALETTE, use_style

__all__ = [
    "PALETTE", "GammaExplorer", "Player", "Scrubber", "Track", "bars_with_intervals", "curves", "gamma_explorer",
    "guidance_curves", "log_spectrograms", "player", "schedule_curves", "scrubber", "spectrograms", "trajectories",
    "use_style", "waveforms",
]
