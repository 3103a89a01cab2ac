"""Checkers for the book's exercises: each tries named properties on your function and reports the first that fails.

    from unasdiff_teach import check

    check.si_sdr(my_si_sdr)      # shows which properties hold, and what to think of where one does not

All of them work offline, take seconds at most, and return a `Report`, which is true if the exercise is solved. The
docstring of a checker says what the function receives and what it has to return.
"""

from .chapter01 import best_order, mix_at, ratio_mask, si_sdr
from .chapter02 import amplification, jump, largest_beta, steps_above_noise
from .chapter03 import deterministic_step, fitting_start, reverse_variance
from .chapter04 import posterior_draw, posterior_variance, skip_weight
from .chapter05 import exact_guidance, guided_step, projected, wiener_shares
from .chapter06 import deaf_states, guidance_bound, needed_step, surgery
from .chapter07 import fixed_size, floor_wins, hybrid_strength, sharp_enough, smooth_max
from .chapter08 import best_start, first_state, found_share, inverted
from .chapter09 import bayes_direction, equal_pull, group_gradient, group_loss
from .chapter10 import fold_bands, path_parameters, rotary
from .chapter11 import dirac_step, multiplicative_update, receptive_field, uneven_projection
from .chapter12 import largest_batch
from .chapter14 import error_of_mean
from .core import Failure, Property, Report, checker

__all__ = [
    "Failure", "Property", "Report", "amplification", "bayes_direction", "best_order", "best_start", "checker",
    "deaf_states", "deterministic_step", "dirac_step", "equal_pull", "error_of_mean", "exact_guidance", "first_state",
    "fitting_start", "fixed_size", "floor_wins", "fold_bands", "found_share", "group_gradient", "group_loss",
    "guidance_bound", "guided_step", "hybrid_strength", "inverted", "jump", "largest_batch", "largest_beta", "mix_at",
    "multiplicative_update", "needed_step", "path_parameters", "posterior_draw", "posterior_variance", "projected",
    "ratio_mask", "receptive_field", "reverse_variance", "rotary", "sharp_enough", "si_sdr", "skip_weight",
    "smooth_max", "steps_above_noise", "surgery", "uneven_projection", "wiener_shares",
]  # fmt: skip
