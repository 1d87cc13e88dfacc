"""The five games by their names."""

from envs.minatar.asterix import Asterix
from envs.minatar.breakout import Breakout
from envs.minatar.freeway import Freeway
from envs.minatar.game import Game
from envs.minatar.seaquest import Seaquest
from envs.minatar.space_invaders import SpaceInvaders

GAMES: dict[str, type[Game]] = {
    "asterix": Asterix,
    "breakout": Breakout,
    "freeway": Freeway,
    "seaquest": Seaquest,
    "space_invaders": SpaceInvaders,
}
