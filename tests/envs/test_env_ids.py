"""Does an id lead to its environment, and a wrong one to a helpful sentence?"""

import importlib
import pickle
import sys
from pathlib import Path

import gymnasium
import pytest

import envs
from envs import ENVS, UnknownEnvironment, list_envs, make_env, make_vector
from envs.toy import Catch, Chain

WORLDS = Path(__file__).with_name("worlds.py")
PACKAGE = """
import gymnasium
from envs.toy import Chain

class Mine(Chain):
    pass

gymnasium.register("OnlyHere-v0", entry_point=Mine, max_episode_steps=3)
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package `my_worlds.chains` to import from."""
    (tmp_path / "my_worlds").mkdir()
    (tmp_path / "my_worlds" / "__init__.py").touch()
    (tmp_path / "my_worlds" / "chains.py").write_text(PACKAGE)
    (tmp_path / "my_worlds" / "needy.py").write_text("import a_package_that_is_missing\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    gymnasium.registry.pop("OnlyHere-v0", None)
    for name in [name for name in sys.modules if name.split(".")[0] == "my_worlds"]:
        del sys.modules[name]


@pytest.mark.parametrize(("name", "env_class"), ENVS.items())
def test_built_in_names(name, env_class):
    assert type(make_env(name)) is env_class


def test_arguments_reach_the_environment():
    assert make_env("chain", kwargs={"length": 7}).observation_space.shape == (7,)
    assert make_env("catch", render_mode="rgb_array").render_mode == "rgb_array"
    assert make_vector("chain", num_envs=3, kwargs={"length": 7}).observation_space.shape == (7,)
    assert make_vector("chain", num_envs=3).num_envs == 3


def test_gymnasium_ids():
    env = make_env("FrozenLake-v1", kwargs={"is_slippery": False})
    assert env.spec.id == "FrozenLake-v1"
    assert env.spec.kwargs["is_slippery"] is False
    assert "PassiveEnvChecker" not in str(env)


@pytest.mark.parametrize("absolute", [True, False])
def test_a_class_in_a_file(absolute, monkeypatch):
    monkeypatch.chdir(WORLDS.parent)
    env = make_env(f"{WORLDS if absolute else './worlds.py'}:Counter", kwargs={"reuse_buffer": True})
    assert type(env).__name__ == "Counter"
    assert env.reuse_buffer


def test_a_file_is_loaded_once_and_its_classes_can_be_pickled():
    one, two = (make_env(f"{WORLDS}:Numbered") for _ in range(2))
    assert type(one) is type(two)
    assert type(pickle.loads(pickle.dumps(one))) is type(one)


def test_files_of_the_same_name_are_different_modules(tmp_path):
    for folder, length in (("a", 3), ("b", 4)):
        (tmp_path / folder).mkdir()
        code = f"from envs.toy import Chain\ndef make():\n    return Chain(length={length})\n"
        (tmp_path / folder / "mine.py").write_text(code)
    lengths = [make_env(f"{tmp_path / folder / 'mine.py'}:make").length for folder in ("a", "b", "a")]
    assert lengths == [3, 4, 3]


def test_a_function_in_a_file():
    venv = make_vector(f"{WORLDS}:flattened")
    assert venv.reset().shape == (1, 16)


def test_an_id_that_a_file_registers():
    assert make_env(f"{WORLDS}:classyq_tests/Counter-v0").spec.id == "classyq_tests/Counter-v0"


def test_a_class_in_a_package(package):
    env = make_env("my_worlds.chains:Mine", kwargs={"slip": 0.0})
    assert isinstance(env, Chain)
    assert env.slip == 0.0


def test_an_id_that_a_package_registers(package):
    env = make_env("my_worlds.chains:OnlyHere-v0")
    assert env.spec.max_episode_steps == 3
    assert "PassiveEnvChecker" not in str(env)


def test_entry_points_come_after_built_ins(package):
    (package / "my_worlds-1.dist-info").mkdir()
    (package / "my_worlds-1.dist-info" / "METADATA").write_text("Name: my-worlds\nVersion: 1\n")
    (package / "my_worlds-1.dist-info" / "entry_points.txt").write_text(
        "[classyq.envs]\nmine = my_worlds.chains:Mine\ncatch = my_worlds.chains:Mine\n"
    )
    assert type(make_env("mine")).__name__ == "Mine"
    assert type(make_env("catch")) is Catch
    assert "mine" in list_envs()


def test_list():
    names = list_envs()
    assert names[: len(ENVS)] == sorted(ENVS)
    assert "CartPole-v1" in names


@pytest.mark.parametrize(
    ("env_id", "words"),
    [
        ("cathc", "did you mean 'catch'?"),
        ("cartpole-v1", "did you mean 'CartPole-v1'?"),
        ("CartPole", "did you mean 'CartPole-v1'?"),
        ("CartPole-v7", "./file.py:Name, package.module:Name or a gymnasium id"),
        ("xyzzy", "wanted a built-in name (catch, chain, deep_sea, doors, identity, recall)"),
        ("no_such_package.module:Name", "No module named 'no_such_package'"),
        ("envs.nothing:Name", "No module named 'envs.nothing'"),
        ("envs.toy:Catsh", "has no callable 'Catsh' and registers no such id; did you mean 'Catch'?"),
        ("./nowhere.py:Name", "there is no file"),
        (f"{WORLDS}:Cuonter", "did you mean 'Counter'?"),
        (f"{WORLDS}:NOT_CALLABLE", "has no callable 'NOT_CALLABLE'"),
    ],
)
def test_an_unknown_id_says_what_is_there(env_id, words):
    with pytest.raises(UnknownEnvironment) as caught:
        make_env(env_id)
    assert f"unknown environment {env_id!r}" in str(caught.value)
    assert words in str(caught.value)


def test_a_wild_id_has_no_nearest():
    with pytest.raises(UnknownEnvironment) as caught:
        make_env("xyzzy")
    assert "did you mean" not in str(caught.value)


def test_what_a_module_fails_to_import_is_its_own_error(package):
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_missing"):
        make_env("my_worlds.needy:Name")


def test_a_file_that_fails_is_not_kept(tmp_path):
    path = tmp_path / "unfinished.py"
    path.write_text("raise RuntimeError('not yet')\n")
    with pytest.raises(RuntimeError, match="not yet"):
        make_env(f"{path}:Name")
    path.write_text("from envs.toy import Catch as Name  # now it is longer\n")
    assert type(make_env(f"{path}:Name")) is Catch


def test_only_environments_are_made():
    with pytest.raises(TypeError, match=r"'builtins:dict' made dict, wanted a gymnasium\.Env"):
        make_env("builtins:dict")


def test_a_package_is_asked_to_register_its_ids(package, monkeypatch):
    monkeypatch.setitem(envs.REGISTERED_BY, "Late/", ("late_worlds", "register", "pip install late"))
    with pytest.raises(UnknownEnvironment, match=r"'Late/Catch-v0' is in a package.*not installed: pip install late"):
        make_env("Late/Catch-v0")
    (package / "late_worlds.py").write_text(
        "import gymnasium\nfrom envs.toy import Catch\n"
        "def register():\n    gymnasium.register('Late/Catch-v0', entry_point=Catch)\n"
    )
    importlib.invalidate_caches()
    assert type(make_env("Late/Catch-v0").unwrapped) is Catch
    gymnasium.registry.pop("Late/Catch-v0")
