"""Annealing: long returns and a short horizon at first, shorter returns and a longer horizon later."""


def exponential_schedule(step: int, start: float, end: float, duration: int) -> float:
    """From `start` at step 0 to `end` at step `duration`, by the same factor in every step, and `end` from there."""
    return start * (end / start) ** min(step / duration, 1.0)


class Annealing:
    """n and gamma of the targets after k updates since the last reset, K = `over_updates`.

    n = round(n_0 (n_K / n_0)^min(k/K, 1)), and gamma falls short of 1 by (1 - gamma_0) ((1 - gamma_K) / (1 - gamma_0))
    ^min(k/K, 1): what changes evenly is the logarithm of the effective horizon 1 / (1 - gamma).
    Source: Schwarzer et al. 2023 (BBF), s. 3, "receding update horizon" and "increasing discount factor": n from 10 to
    3 and gamma from 0.97 to 0.997 over 10,000 updates; the parametrisation is that of their code.

    Args:
        n_step, gamma: where they end.
        n_step_start, gamma_start: where they begin.
        over_updates: K.
    """

    def __init__(self, n_step: int, gamma: float, *, n_step_start: int, gamma_start: float, over_updates: int):
        self.n_steps, self.gammas, self.over_updates = (n_step_start, n_step), (gamma_start, gamma), over_updates

    def at(self, updates: int) -> tuple[int, float]:
        """n and gamma for the next update, after so many since the last reset."""
        n_step = round(exponential_schedule(updates, *self.n_steps, self.over_updates))
        first, last = (1 - gamma for gamma in self.gammas)
        return n_step, 1 - exponential_schedule(updates, first, last, self.over_updates)
