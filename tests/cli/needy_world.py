"""An environment that says, as some of gymnasium's own do, that a package is missing."""

import gymnasium


class Needy(gymnasium.Env):
    def __init__(self):
        raise gymnasium.error.DependencyNotInstalled("Box3D is not installed")
