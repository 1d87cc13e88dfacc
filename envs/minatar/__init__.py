"""MinAtar (Young and Tian 2019) as programs of torch: N games in one call, on any device, with no loop over them.

Where it is from: the rules are those that the paper (arXiv 1903.03176) and the README of its authors' package describe.
What these leave open, such as the order of things within a frame, is what that package does when it runs: the tests
drive both with the same random numbers and compare every step. No code of the package, whose licence is the GPL, is in
here.
"""

from envs.minatar.games import GAMES
from envs.minatar.single import MinAtarEnv
from envs.minatar.vector import MinAtarVector, minatar_vector

__all__ = ["GAMES", "MinAtarEnv", "MinAtarVector", "minatar_vector"]
