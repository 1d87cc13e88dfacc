"""Before a run: a configuration with nothing left open, every part built, and only then something written."""

import importlib.metadata
import json
import platform
from pathlib import Path

import gymnasium
import torch

from agents.config import EnvConfig, RunConfig
from agents.running.metrics import write_whole
from agents.running.progress import Reporter
from agents.running.run import Run, differences
from agents.running.support import resolve_support
from agents.tables import ConfigError
from envs.atari_protocol import make_protocol

VERSIONS = ("torch", "numpy", "gymnasium", "ale-py")
LOG, REQUESTED = "log.txt", "requested.json"  # what a parent process may have put into a run's directory


def resolve(config: RunConfig, run_dir: Path) -> tuple[RunConfig, str]:
    """The configuration, or that of the run where there is one, device and support resolved; the support's source."""
    path = run_dir / "config.json"
    if not path.is_file():
        device = ("cuda" if torch.cuda.is_available() else "cpu") if config.device == "auto" else config.device
        return resolve_support(config.with_overrides({"device": device}))
    stored = RunConfig.preset(str(path))
    left_open = {"env.support": list(stored.env.support)} if config.env.support == "auto" else {}
    left_open |= {"device": stored.device} if config.device == "auto" else {}
    given = config.with_overrides(left_open)
    if changed := differences(stored, given):
        raise ConfigError(
            f"{run_dir} is a run with another {', '.join(changed)}; to go on with it: classyq resume {run_dir}; "
            "to begin anew, give another directory"
        )
    return stored, "stored with the run"


def build(config: RunConfig, run_dir: Path, reporter: Reporter) -> Run:
    """All parts of a run, before anything is written; what a part refuses is an error of the configuration."""
    check_device("device", config.device)
    if config.replay.device != "same":
        check_device("replay.device", config.replay.device)
    try:
        return Run(config, run_dir, reporter)
    except (TypeError, ValueError, gymnasium.error.Error) as error:
        raise ConfigError(str(error)) from error


def protocol_of(env: EnvConfig) -> str | None:
    """What a score of an Atari game depends on besides the agent, in words."""
    if env.protocol is None:
        return None
    changes = {key: value for key, value in env.kwargs.items() if key != "num_threads"}
    return make_protocol(env.protocol, **changes).describe()


def check_device(key: str, name: str) -> None:
    """Raise ConfigError unless tensors can be put on the device called `name`."""
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # the second where torch was built without CUDA
        raise ConfigError(f"{key}: {name!r} cannot be used here: {str(error).splitlines()[0]}") from error


def store(config: RunConfig, run_dir: Path, support_source: str) -> None:
    """Put the configuration and the versions of what matters into the run's directory."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        foreign = sorted({p.name for p in run_dir.iterdir()} - {LOG, REQUESTED})
    except OSError as error:
        raise ConfigError(f"the run's directory {run_dir} cannot be made: {error}") from error
    if foreign and not (run_dir / "config.json").is_file():
        raise ConfigError(f"{run_dir} is no run, and not empty ({foreign[0]}); give a new directory")
    earlier = run_dir / "run.json"
    if earlier.is_file():  # killed before its first checkpoint, the run begins again
        support_source = json.loads(earlier.read_text(encoding="utf-8"))["support"]
    versions = {name: importlib.metadata.version(name) for name in VERSIONS}
    notes = {"versions": versions, "python": platform.python_version(), "support": support_source}
    if (protocol := protocol_of(config.env)) is not None:
        notes["protocol"] = protocol
    write_whole(run_dir / "config.json", json.dumps(config.plain(), indent=1))
    write_whole(earlier, json.dumps(notes, indent=1))


def describe(config: RunConfig, run: Run, support_source: str) -> str:
    """What is about to happen, with the derived values."""
    spec, protocol, (low, high) = run.spec, protocol_of(config.env), config.env.support
    options = ", ".join(f"{k} {v}" for k, v in config.head.options().items())
    weights = sum(p.numel() for p in run.agent.online.parameters())
    replay = run.agent.kept()
    kept = f", replay on {replay.device}" if replay is not None else ""
    return (
        f"run    {run.run_dir}   (device {config.device}{kept}, threads {config.num_threads}, seed {config.seed})\n"
        f"env    {config.env.id} x{config.env.num_envs}: obs {spec.obs_dtype}{list(spec.obs_shape)}, "
        f"{spec.num_actions} actions{' with masks' if spec.has_action_mask else ''}\n"
        f"{f'       {protocol}' + chr(10) if protocol else ''}"
        f"head   {config.head.name}: {options or 'no options'}   support [{low:g}, {high:g}] ({support_source})\n"
        f"agent  {config.agent.name}: {weights:,} weights, {config.steps:,} steps, {run.agent.plan()}"
    )
