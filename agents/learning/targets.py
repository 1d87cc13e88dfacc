"""Target rules: what the prediction is trained towards. No rule mentions a head.

A rule maps (online network, target network, batch, draws) to Atoms [B, K]; its options are keyword-only, and bound
before a learner gets it. The draws are those of the target's prediction; those under "choice" are noise for the online
network where it chooses the action. Illegal actions are never an argmax and never have mass.
Dimensions: B batch, A actions, K atoms.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from agents.learning.batch import Batch
from agents.networks.qnetwork import Network, greedy
from value_heads import ActionValues, Atoms, Draws
from value_heads.base import of_part

TargetRule = Callable[[Network, Network, Batch, Draws | None], Atoms]


def backup(next_values: ActionValues, action: Tensor, batch: Batch) -> Atoms:
    """r + discount * Z(next_obs, action)."""
    return next_values.select(action).atoms().backup(batch.reward, batch.discount)


def q_learning(online: Network, target: Network, batch: Batch, draws: Draws | None) -> Atoms:
    """r + discount * Z_target(s', argmax_a Q_target(s', a)). Source: Watkins 1989; Mnih et al. 2015.

    The target network picks the action and gives its value. With a target that follows by a small target_tau this is
    the rule of SR-SPR and BBF (D'Oro et al. 2023; Schwarzer et al. 2023).
    """
    next_values = target(batch.next_obs, draws)
    return backup(next_values, greedy(next_values.mean(), batch.next_mask), batch)


def double_q_learning(online: Network, target: Network, batch: Batch, draws: Draws | None) -> Atoms:
    """r + discount * Z_target(s', argmax_a Q_online(s', a)). Source: van Hasselt et al. 2016."""
    action = greedy(online(batch.next_obs, of_part("choice", draws)).mean(), batch.next_mask)
    return backup(target(batch.next_obs, draws), action, batch)


def sarsa(online: Network, target: Network, batch: Batch, draws: Draws | None) -> Atoms:
    """r + discount * Z_target(s', a') with the a' that was taken; greedy where the episode was cut off before it.

    Source: Rummery & Niranjan 1994. From replay it evaluates the average behaviour over the buffer.
    """
    if batch.next_action is None:
        raise ValueError("target rule 'sarsa' needs batches with next_action")
    next_values = target(batch.next_obs, draws)
    best = greedy(next_values.mean(), batch.next_mask)
    return backup(next_values, torch.where(batch.next_action < 0, best, batch.next_action), batch)


def observed_return(online: Network, target: Network, batch: Batch, draws: Draws | None) -> Atoms:
    """The reward as it is: for agents that make whole returns of what they saw (`Batch.of_returns`)."""
    return Atoms.at(batch.reward)


def expected_sarsa(
    online: Network,
    target: Network,
    batch: Batch,
    draws: Draws | None,
    *,
    epsilon: float = 0.05,
    temperature: float | None = None,
) -> Atoms:
    """r + discount * Z_pi(s') with Z_pi the mixture of Z_target(s', a') over a' ~ pi(.|s').

    pi = (1 - epsilon) * greedy + epsilon * uniform over legal actions, and where a temperature is given
    softmax(Q / temperature) stands for greedy. pi is that of the target network, as the rule has one Q for the policy
    and its value; no sampled action enters, so it is the same from replay as from the policy itself.
    With epsilon = 0 it is q_learning. Source: van Seijen et al. 2009; a policy's return distribution is a mixture:
    Bellemare, Dabney & Rowland 2023.

    Args:
        epsilon: in [0, 1]; that of the policy to be evaluated, so usually the last one of exploration.
        temperature: in units of return.

    Raises:
        ValueError: for an option out of range.
    """
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon must be in [0, 1], got {epsilon}")
    next_values = target(batch.next_obs, draws)
    q_values = next_values.mean()
    if temperature is None:
        actions = torch.arange(q_values.shape[-1], device=q_values.device)
        best = (greedy(q_values, batch.next_mask).unsqueeze(-1) == actions).float()
    else:
        best = soft_policy(q_values, batch.next_mask, temperature)[0]
    legal = torch.ones_like(q_values) if batch.next_mask is None else some_legal(batch.next_mask).float()
    policy = (1 - epsilon) * best + epsilon * legal / legal.sum(-1, keepdim=True)
    return next_values.mix(policy).backup(batch.reward, batch.discount)


def munchausen(
    online: Network,
    target: Network,
    batch: Batch,
    draws: Draws | None,
    *,
    temperature: float = 0.03,
    scale: float = 0.9,
    clip: float = -1.0,
    policy: Literal["target", "online"] = "target",
) -> Atoms:
    """r + scale * max(clip, L(a|s)) + discount * sum_a' pi(a'|s') (Z(s', a') - L(a'|s')).

    pi = softmax(Q / temperature), L = temperature * log pi, and Z is the target network's. The soft backup over a' is
    one atom for heads that bootstrap their mean, the mixture for those that bootstrap a distribution, and for
    quantiles the average of quantile functions on one draw of fractions, which also gives pi(.|s') (as in M-IQN and
    BTR). With scale = 0 it is soft Q-learning, and that tends to q_learning as the temperature goes to 0.

    pi(a|s) is what the network says without draws, as it does where it acts: sources that sample fractions there
    (M-IQN, BTR) have a noisier log-policy. With n steps the bonus is that of the first of them, as in BTR.
    Source: Vieillard et al. 2020 (M-DQN and M-IQN).

    Args:
        temperature: tau, in units of return.
        scale: alpha, how much of the log-policy is added to the reward.
        clip: l_0, the lower bound of L(a|s), which would be without one where pi(a|s) is tiny.
        policy: whose pi(a|s): the `target` network's (M-DQN), or the `online` network's (BTR). pi(.|s') is always
            the target's.

    Raises:
        ValueError: for an option out of range.
    """
    if clip > 0 or policy not in ("target", "online"):
        raise ValueError(f"clip must not be above 0 and policy 'target' or 'online', got {clip} and {policy!r}")
    q_values = (target if policy == "target" else online)(batch.obs).mean()
    log_policy = soft_policy(q_values, batch.mask, temperature)[1]
    bonus = scale * log_policy.gather(-1, batch.action.unsqueeze(-1)).squeeze(-1).clamp(min=clip)
    next_values = target(batch.next_obs, draws)
    next_policy, next_log_policy = soft_policy(next_values.mean(), batch.next_mask, temperature)
    return next_values.average(next_policy, -next_log_policy).backup(batch.reward + bonus, batch.discount)


def some_legal(mask: Tensor) -> Tensor:
    """`mask` [B, A] with all actions legal where none is: after a terminal step, whose successor has no weight."""
    return mask | ~mask.any(-1, keepdim=True)


def soft_policy(q_values: Tensor, mask: Tensor | None, temperature: float) -> tuple[Tensor, Tensor]:
    """pi = softmax(q / temperature) over legal actions, and temperature * log pi; both [B, A].

    An illegal action has pi = 0, and 0 where its logarithm would be, so that pi * log pi is 0 there. The maximum is
    taken off before the division by a small temperature, which would leave float32 with few digits of differences.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    if mask is not None:
        mask = some_legal(mask)
        q_values = q_values.masked_fill(~mask, -torch.inf)
    log_policy = ((q_values - q_values.amax(-1, keepdim=True)) / temperature).log_softmax(-1)
    scaled = temperature * log_policy
    return log_policy.exp(), scaled if mask is None else scaled.masked_fill(~mask, 0.0)


TARGET_RULES: dict[str, TargetRule] = {
    "q_learning": q_learning,
    "double_q_learning": double_q_learning,
    "sarsa": sarsa,
    "expected_sarsa": expected_sarsa,
    "munchausen": munchausen,
}
