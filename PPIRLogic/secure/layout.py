"""How the samples of a level lie in an operand: chunks of 8192, groups of eight chunks.

Every protocol uses this layout, so that all of them open the same sums. Under encryption a chunk is one polynomial and
a group is one vector register of them.
"""

CHUNK = 8192
LANES = 8
GROUP = CHUNK * LANES


def group_size(samples: int, group: int) -> int:
    """How many of the samples lie in a group."""
    return min(GROUP, samples - group * GROUP)
