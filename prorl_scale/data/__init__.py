"""Training data of the five domains: `python -m prorl_scale.data prepare` writes it, `Mixture` draws prompts from it.

One schema for all, in parquet: `id`, `domain`, `source`, `prompt` (a list of {role, content}), and, as JSON text
because their shapes differ by domain, `reference` (what `prorl_scale.rewards.verify` takes) and `meta`.
"""

from .mixture import Mixture

__all__ = ["Mixture"]
