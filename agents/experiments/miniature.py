"""Recipes in a small world: their parts as they are, the sizes and the rhythm of that world."""

from typing import Any

from agents.config import RunConfig
from agents.presets import flatten, preset_names

WORLDS = {"dqn": "catch", "pqn": "pqn_catch"}  # the preset that gives sizes, by agent
# What a world decides beside `env`. The rest is the recipe's: head, layers, target rule, n, gamma, optimiser, noise.
RHYTHM = (
    "steps",
    "evaluation",
    "checkpoint",
    "log",
    "output_layer.hidden",
    "agent.adam_eps",
    "agent.batch_size",
    "agent.replay_ratio",
    "agent.learn_after_steps",
    "agent.target_every_updates",
    "agent.rollout_steps",
    "agent.num_minibatches",
    "replay.capacity_steps",
    "exploration.epsilon_end",
    "exploration.epsilon_steps",
)
# Found on seeds 101 and 102, which no page has: with the 6,000 steps of `catch` bin heads were at 0.6, and with its
# rate of 2e-3 for all, the deeper encoders of PQN stayed at random play. Ratios of rates between recipes stay.
CHANGED = {"dqn": {"steps": 12_000, "exploration.epsilon_steps": 6_000}, "pqn": {}}
FASTER = {"dqn": 8, "pqn": 2}  # times the learning rate of the recipe
NUM_BINS = 51
FRAMES = 2  # stacked, so that boards are images [2, 10, 5], as every encoder wants them
MORE_THAN_ONE = ("atari", "pong")  # presets for any head, whose parts are those of other recipes
ANNEALING = 1_000  # updates, of some 3,000
# Under Munchausen a step adds between -0.9 and 0.03, the entropy of three actions: bins have to cover that.
SOFT_SUPPORT = [-9.5, 1.6]


def recipes() -> list[str]:
    """The recipes for Atari of agents that a world is named for; those for other worlds are their small siblings."""
    configs = {name: RunConfig.preset(name) for name in preset_names() if name not in MORE_THAN_ONE}
    return [name for name, c in configs.items() if c.env.id.startswith("ALE/") and c.agent.name in WORLDS]


def miniature(recipe: str) -> dict[str, Any]:
    """Overrides that bring a recipe for Atari to the board of `catch`.

    Encoders stay, but for what they cannot do on ten rows and five columns: no pooling to 6x6 at the end, and padding
    where there is none.
    """
    config = RunConfig.preset(recipe)
    own, world = flatten(config.plain()), flatten(RunConfig.preset(WORLDS[config.agent.name]).plain())
    changes = {
        key: value
        for key, value in world.items()
        if key.startswith("env.") or (key in own and any(f"{key}.".startswith(f"{start}.") for start in RHYTHM))
    }
    changes = {key: value for key, value in changes.items() if value is not None or own.get(key) is not None}
    changes |= {key: value for key, value in CHANGED[config.agent.name].items() if key in changes}
    changes["env.frame_stack"] = FRAMES
    changes["agent.lr"] = FASTER[config.agent.name] * own["agent.lr"]
    if own.get("agent.target_tau", 1.0) < 1:  # a target that follows by little steps follows every update
        changes.pop("agent.target_every_updates")
    if own.get("target_rule.name") == "munchausen":
        changes["env.support"] = SOFT_SUPPORT
    if "head.num_bins" in own:
        changes["head.num_bins"] = NUM_BINS  # of a support that is as small as the returns
    changes |= {key: "none" for key in own if key == "torso.pool"}
    changes |= {key: "same" for key in own if key == "torso.padding"}
    if "exploration.epsilon_after_steps" in own:
        changes |= {"exploration.epsilon_after_steps": 0, "exploration.epsilon_until_steps": None}
    if "annealing.over_updates" in own:
        changes["annealing.over_updates"] = ANNEALING
    if "replay.importance_steps" in own and own["replay.importance_steps"] is not None:
        changes["replay.importance_steps"] = changes["steps"]
    return changes
