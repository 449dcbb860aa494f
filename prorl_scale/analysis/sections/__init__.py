"""From the inputs to the page's sections: which numbers, tables, figures and sentences belong together.

One file a section, in the order of the page; `common.py` has what several use.
"""

from .creativity import creativity_section
from .difficulty import difficulty_section
from .distribution import distribution_section
from .gain import gain_section
from .passk import pass_at_k_section
from .regimes import regimes_section
from .solvable import solvable_section
from .training import training_section

__all__ = [
    "creativity_section",
    "difficulty_section",
    "distribution_section",
    "gain_section",
    "pass_at_k_section",
    "regimes_section",
    "solvable_section",
    "training_section",
]
