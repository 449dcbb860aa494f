"""One home for seeds: whatever draws at random has a seed made of names, so that no two draw the same numbers.

Sums such as `seed + rank` or `1000 * seed + i` meet again sooner or later: rank 1 of seed 0 is rank 0 of seed 1000.
"""

import hashlib


def derived(*names: object) -> int:
    """A seed in [0, 2^62) that these names fix, far from that of any other names.

    >>> derived("rollout", 0, 1) == derived("rollout", 0, 1), derived("rollout", 0, 1) == derived("rollout", 0, 11)
    (True, False)
    """
    text = "/".join(str(name).replace("/", "//") for name in names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 2
