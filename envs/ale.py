"""What is asked of ale_py itself: the games that it has, and its vector environment with nothing left to defaults."""

import ale_py
import gymnasium
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode

from envs import UnknownEnvironment
from envs.atari_protocol import AtariProtocol
from envs.names import did_you_mean

SEED_LIMIT = 2**31 - 1 - 4096  # ALE refuses seeds of 2**31 - 1 - num_envs and more


def rom_name(env_id: str) -> str:
    """The name of the ROM: `ALE/SpaceInvaders-v5` -> `space_invaders`.

    Raises:
        UnknownEnvironment: there is no such game.
    """
    gymnasium.register_envs(ale_py)
    known = {key: spec for key, spec in gymnasium.registry.items() if key.startswith("ALE/")}
    if env_id not in known:
        raise UnknownEnvironment(f"unknown environment {env_id!r}{did_you_mean(env_id, known)}")
    return known[env_id].kwargs["game"]


def make_ale(rom: str, num_envs: int, num_threads: int, protocol: AtariProtocol) -> AtariVectorEnv:
    """ALE's vector environment with every argument given, as its defaults differ from route to route."""
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    shared = gymnasium.vector.VectorEnv.metadata  # which ALE's constructor writes to, for every VectorEnv there is
    before = dict(shared)
    ale = AtariVectorEnv(
        rom,
        num_envs,
        batch_size=0,
        num_threads=num_threads,
        thread_affinity_offset=-1,
        max_num_frames_per_episode=protocol.max_frames,
        repeat_action_probability=protocol.repeat_action_probability,
        full_action_space=protocol.full_action_space,
        continuous=False,
        autoreset_mode=AutoresetMode.NEXT_STEP,
        img_height=protocol.size,
        img_width=protocol.size,
        grayscale=True,
        stack_num=protocol.frame_stack,
        frameskip=protocol.frame_skip,
        maxpool=True,
        noop_max=protocol.noop_max,
        episodic_life=False,
        life_loss_info=False,
        reward_clipping=False,
        use_fire_reset=False,
    )
    ale.metadata = dict(ale.metadata)
    shared.clear()
    shared.update(before)
    return ale
