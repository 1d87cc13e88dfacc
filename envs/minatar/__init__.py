"""MinAtar (Young and Tian 2019) as programs of torch: N games in one call, on any device, with no loop over them.

Written from the paper (arXiv 1903.03176), its README and what the original package does when it runs; the tests hold
each game against that package, step by step.
"""

from envs.minatar.games import GAMES
from envs.minatar.single import MinAtarEnv
from envs.minatar.vector import MinAtarVector, minatar_vector

__all__ = ["GAMES", "MinAtarEnv", "MinAtarVector", "minatar_vector"]
