"""Which classification losses learn the mean of a return, what is left of it after bootstrapping, and what they cost.

`python -m agents.experiments.calibration` writes docs/results/losses.md.

Dimensions: R return distributions, S equally likely returns, m bins.
"""

import math
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import typer

from agents.experiments import reward_process, statistics
from agents.experiments.loss_cost import relative_costs
from value_heads import ENCODINGS, LOSSES, Atoms
from value_heads.base import Support
from value_heads.losses import ClassificationLoss

SUPPORT, NUM_BINS, NUM_RETURNS = Support(-12, 12), 51, 50
STEPS, TOLERANCE = (900, 2000), 0.05
RATES, SWEPT, REPORTED = (1e-3, 3e-3, 1e-2), range(3), range(3, 8)
BINS = (51, 101, 401)
COMMAND = "python -m agents.experiments.calibration"

# Every loss as it is, and forms of some that are taken with leave alone or worth seeing beside it.
CASES: dict[str, dict[str, Any]] = {
    **{name: {"loss": name} for name in LOSSES},
    "ensemble, categorical": {"loss": "ensemble", "form": "categorical"},
    "ensemble, literal": {"loss": "ensemble", "form": "literal"},
    "soft_top_k, kappa 5": {"loss": "soft_top_k", "kappa": 5.0},
    "elastic_cos, plus": {"loss": "elastic_cos", "plus": True},
    "elastic_cos, for faces": {"loss": "elastic_cos", "scale": 64.0, "margin": 0.35},
    "elastic_arc, for faces": {"loss": "elastic_arc", "scale": 64.0, "margin": 0.5},
}


class Bias(NamedTuple):
    """What a loss decodes to at the end less the mean, for each return distribution, after few steps and after many."""

    early: list[float]
    late: list[float]
    other: list[float]  # after many steps with two-hot targets


def criterion_of(options: Mapping[str, Any]) -> ClassificationLoss:
    return LOSSES[options["loss"]](**{k: v for k, v in options.items() if k != "loss"})


def returns() -> torch.Tensor:
    """[R, S]: normal, shifted exponential, and two modes at -2 and 5 with masses 0.8 and 0.2."""
    levels = (torch.arange(NUM_RETURNS, dtype=torch.float64) + 0.5) / NUM_RETURNS
    normal = torch.special.ndtri(levels)
    return torch.stack(
        [0.7 + 1.2 * normal, -1 - 1.5 * torch.log1p(-levels), torch.where(levels < 0.8, -2, 5) + normal / 10]
    )


def population_bias(criterion: ClassificationLoss, encoding: str, steps: int, lr: float = 0.1) -> list[float]:
    """Decoded mean - true mean of each distribution, after minimising the expected loss of free logits by Adam. [R]"""
    y = returns()
    bins = ENCODINGS[encoding](SUPPORT, NUM_BINS)
    targets, num_logits = bins(Atoms.at(y)).double(), criterion.num_logits(NUM_BINS)
    generator = torch.Generator().manual_seed(0)
    logits = torch.zeros(len(y), num_logits, dtype=torch.float64, requires_grad=True)
    whole = not linear(criterion, targets, num_logits)
    rows = targets if whole else targets.mean(1, keepdim=True)
    optimizer = torch.optim.Adam([logits], lr=lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / (steps + 1))
    for _ in range(steps):
        optimizer.zero_grad()
        loss = expected(criterion, logits, rows, criterion.draw(rows[..., 0].numel(), num_logits, generator))
        loss.sum().backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return (bins.mean(criterion.probs(logits)) - y.mean(1)).tolist()


def expected(
    criterion: ClassificationLoss, logits: torch.Tensor, rows: torch.Tensor, draws: Any = None
) -> torch.Tensor:
    """The mean loss of logits [R, D] over targets [R, S, m], [R]; all of them are one batch."""
    repeated = logits.unsqueeze(1).expand(-1, rows.shape[1], -1).flatten(0, 1)
    return criterion(repeated, rows.flatten(0, 1), draws=draws).unflatten(0, rows.shape[:2]).mean(1)


def linear(criterion: ClassificationLoss, targets: torch.Tensor, num_logits: int) -> bool:
    """Whether the gradient is that of the expected target, which is then all that need be looked at."""
    generator = torch.Generator().manual_seed(1)
    if criterion.couples_batch or criterion.draw(2, num_logits, generator):
        return False
    logits = torch.randn(len(targets), num_logits, dtype=torch.float64, generator=generator).requires_grad_()
    each, at_mean = (
        torch.autograd.grad(expected(criterion, logits, rows).sum(), logits)[0]
        for rows in (targets, targets.mean(1, keepdim=True))
    )
    return torch.allclose(each, at_mean, atol=1e-9, rtol=1e-6)


def population(echo: Callable[[str], Any]) -> dict[str, Bias]:
    found = {}
    for name, options in CASES.items():
        runs = (("hl_gauss", STEPS[0]), ("hl_gauss", STEPS[1]), ("two_hot", STEPS[1]))
        found[name] = Bias(*(population_bias(criterion_of(options), *run) for run in runs))
        echo(f"population bias  {name:24s} {in_cells(found[name].late)}")
    return found


class Learned(NamedTuple):
    """The rate that was best on the seeds of the sweep, and what became of other seeds with it."""

    rate: float
    rmse: statistics.Estimate
    bias: statistics.Estimate


def bootstrapped(echo: Callable[[str], Any], updates: int) -> dict[str, Learned]:
    heads = {"mse (a regression head)": ("mse", {})}
    heads |= {name: ("hl_gauss", {**options, "allow_biased": True}) for name, options in CASES.items()}
    found = {}
    for name, (head, options) in heads.items():
        sweep = reward_process.evaluate(head, options, seeds=SWEPT, rates=RATES, updates=updates)
        rate = RATES[int(sweep.rmse.mean(0).argmin())]
        outcome = reward_process.evaluate(head, options, seeds=REPORTED, rates=(rate,), updates=updates)
        rmse, bias = (statistics.bootstrap(x, statistics.mean) for x in outcome)
        found[name] = Learned(rate, rmse, bias)
        echo(f"bootstrapped     {name:24s} rate {rate:g}  {in_words(rmse)}  {in_words(bias)}")
    return found


def in_cells(numbers: Iterable[float]) -> str:
    """Three digits after the point; what is out of the bound is bold."""
    return " | ".join(f"**{x:+.3f}**" if abs(x) > TOLERANCE else f"{x:+.3f}" for x in numbers)


def in_words(estimate: statistics.Estimate) -> str:
    assert estimate.low is not None
    assert estimate.high is not None
    return f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"


def verdict(found: Mapping[str, Bias]) -> str:
    """Whether what is offered without leave is within the bound."""
    offered = [name for name in found if criterion_of(CASES[name]).learns == "mean"]
    off = [name for name in offered if max(map(abs, [*found[name].late, *found[name].other])) > TOLERANCE]
    told = f"**not so: {', '.join(off)}**" if off else f"all {len(offered)} that a head takes without leave are"
    return f"Within {TOLERANCE:g} of the mean on all three, with both encodings: {told}."


def population_section(found: Mapping[str, Bias]) -> list[str]:
    lines = [
        "## What is learned of a random return",
        "",
        f"Decoded mean less true mean, after minimising the expected loss of one state's free logits over "
        f"{NUM_RETURNS} equally likely returns: {STEPS[1]} steps of Adam, HL-Gauss on {NUM_BINS} bins over "
        f"[{SUPPORT.v_min:g}, {SUPPORT.v_max:g}]. The returns are normal (deviation 1.2), exponential (1.5), and 80 % "
        "at -2 with 20 % at 5; medians less means are 0, -0.46 and -1.4. Losses that couple a batch see the three "
        f"states as one. Beyond {TOLERANCE:g} is bold. {verdict(found)}",
        "",
        f"| loss | without leave | normal | skewed | two modes | largest, two-hot | largest after {STEPS[0]} steps |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, bias in found.items():
        offered = "yes" if criterion_of(CASES[name]).learns == "mean" else "no"
        largest = (max(numbers, key=abs) for numbers in (bias.other, bias.early))
        lines.append(f"| {name} | {offered} | {in_cells(bias.late)} | {in_cells(largest)} |")
    return lines


def bootstrapped_section(found: Mapping[str, Learned], updates: int) -> list[str]:
    process, rates = reward_process, ", ".join(f"{rate:g}" for rate in RATES)
    lines = [
        "## What is left of it when targets are predictions",
        "",
        f"A random Markov reward process ({process.STATES} states, gamma {process.GAMMA:g}, exponential reward noise "
        f"of deviation 1, known values around -2) is learned from samples with a target network: {updates:,} updates "
        f"of {process.BATCH} transitions, HL-Gauss on 51 bins. RMSE and bias of values in the last quarter of them, "
        f"mean and 95 % interval (bootstrap) over {len(REPORTED)} seeds, each another process. The rate of Adam is the "
        f"best of {rates} on {len(SWEPT)} other seeds, for each row with the same budget. Sorted by RMSE; with "
        "`allow_biased` where it is needed.",
        "",
        "| loss | best rate | RMSE | bias |",
        "|---|---|---|---|",
    ]
    for name, row in sorted(found.items(), key=lambda item: float(item[1].rmse.value)):
        lines.append(f"| {name} | {row.rate:g} | {in_words(row.rmse)} | {in_words(row.bias)} |")
    return lines


def cost_section(found: Mapping[int, Mapping[str, float]], rounds: int) -> list[str]:
    lines = [
        "## What it costs",
        "",
        "CPU time of a whole update (32 transitions, a hidden layer of 128, 4 actions, recorded) over that of "
        f"cross_entropy, in turns; medians of {rounds} rounds.",
        "",
        f"| loss | {' | '.join(f'{m} bins' for m in found)} |",
        f"|---|{'---|' * len(found)}",
    ]
    for name in LOSSES:
        lines.append(f"| {name} | {' | '.join(f'{of_bins[name]:.2f}' for of_bins in found.values())} |")
    return lines


def report(echo: Callable[[str], Any], updates: int, rounds: int) -> str:
    """The page, in Markdown; it takes some ten minutes of one core as it is asked for by default."""
    start = time.process_time()
    biases, learned = population(echo), bootstrapped(echo, updates)
    plain = {name: {"loss": name, "allow_biased": True} for name in LOSSES}
    costs = {m: relative_costs(plain, m, rounds=rounds) for m in BINS}
    minutes = math.ceil((time.process_time() - start) / 60)
    lines = [
        "# Which classification losses learn the mean?",
        "",
        f"Made by `{COMMAND}`. Everything is small and synthetic: it tells which losses are sound, and not which is "
        "best. Options are the defaults unless a row says otherwise. Without leave means: without `allow_biased`.",
        "",
        *population_section(biases),
        "",
        *bootstrapped_section(learned, updates),
        "",
        *cost_section(costs, rounds),
        "",
        f"{minutes} minutes of CPU time on one thread ({platform.machine()}). torch {torch.__version__}, Python "
        f"{platform.python_version()}.",
    ]
    return "\n".join(lines) + "\n"


def main(
    updates: Annotated[int, typer.Option(min=200, help="of each run of the Markov reward process")] = 3_000,
    rounds: Annotated[int, typer.Option(min=1, help="of timing")] = 15,
    out: Annotated[Path, typer.Option(help="where the page goes")] = Path("docs/results"),
) -> None:
    """Measure the classification losses, and write a page on which of them learn the mean."""
    torch.set_num_threads(1)
    page = report(typer.echo, updates, rounds)
    out.mkdir(parents=True, exist_ok=True)
    (out / "losses.md").write_text(page, encoding="utf-8")
    typer.echo(f"wrote {out / 'losses.md'}")


if __name__ == "__main__":
    typer.run(main)
