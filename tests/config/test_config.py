"""Configurations: what is refused and in which words, what a new head keeps, and what goes around unchanged."""

import copy
import json
import typing

import pytest

from agents.components import KINDS, component_model
from agents.config import RunConfig, json_schema
from agents.learning.regularizers import REGULARIZERS
from agents.presets import PRESETS, override, preset_names, read_preset
from agents.tables import ConfigError, Table
from value_heads import ENCODINGS, HEADS, LOSSES, head_options

ENV = {"env": {"id": "CartPole-v1"}}


def parse(**tables):
    return RunConfig.parse(ENV | tables, source="mine.toml")


def refused(**tables):
    with pytest.raises(ConfigError) as caught:
        parse(**tables)
    message = str(caught.value)
    assert message.startswith("mine.toml: "), "the message names the file"
    assert "\n" not in message
    return message.removeprefix("mine.toml: ")


@pytest.mark.parametrize(("tables", "unknown", "near"), [
    ({"stesp": 5}, "stesp", "steps"),
    ({"agnet": {}}, "agnet", "agent"),
    ({"env": {"id": "x", "num_env": 2}}, "env.num_env", "env.num_envs"),
    ({"agent": {"gama": 0.9}}, "agent.gama", "agent.gamma"),
    ({"replay": {"capacity": 9}}, "replay.capacity", "replay.capacity_steps"),
    ({"exploration": {"epsilon_stop": 0}}, "exploration.epsilon_stop", "exploration.epsilon_steps"),
    ({"evaluation": {"episodes": 1}}, "evaluation.episodes", "evaluation.num_episodes"),
    ({"checkpoint": {"keeps": 1}}, "checkpoint.keeps", "checkpoint.keep"),
    ({"log": {"every": 1}}, "log.every", "log.every_steps"),
    ({"head": {"name": "hl_gauss", "num_bin": 9}}, "head.num_bin", "head.num_bins"),
    ({"torso": {"name": "mlp", "hiden": [3]}}, "torso.hiden", "torso.hidden"),
    ({"output_layer": {"name": "linear", "hiden": 3}}, "output_layer.hiden", "output_layer.hidden"),
])  # fmt: skip
def test_an_unknown_key_is_named_with_the_nearest_and_all_choices(tables, unknown, near):
    message = refused(**tables)
    assert message.startswith(f"unknown key {unknown}. Did you mean {near}? Choose from: ")
    assert near.split(".")[-1] in message.split("Choose from: ")[1].split(", ")


def test_a_key_that_is_like_no_other_is_refused_with_the_choices():
    assert refused(log={"xxxxxxxx": 1}) == "unknown key log.xxxxxxxx. Choose from: every_steps, histogram_every_steps"


def test_options_of_an_environment_are_its_own():
    assert parse(env={"id": "x", "kwargs": {"anything": {"at": "all"}}}).env.kwargs == {"anything": {"at": "all"}}


@pytest.mark.parametrize(("tables", "key", "given"), [
    ({"steps": "many"}, "steps", "'many'"),
    ({"steps": 1.5}, "steps", "1.5"),
    ({"agent": {"lr": "fast"}}, "agent.lr", "'fast'"),
    ({"agent": {"normalize_obs": 2}}, "agent.normalize_obs", "2"),
    ({"agent": 5}, "agent", "5"),
    ({"env": {"id": 7}}, "env.id", "7"),
    ({"env": {}}, "env.id", "{}"),
    ({"head": 5}, "head", "5"),
    ({"head": ["hl_gauss"]}, "head", "['hl_gauss']"),
    ({"head": {"name": 5}}, "head.name", "5"),
    ({"head": {"name": ["c51"]}}, "head.name", "['c51']"),
    ({"head": {"name": "hl_gauss", "num_bins": "x"}}, "head.num_bins", "'x'"),
    ({"head": {"name": "hl_gauss", "bootstrap": "medium"}}, "head.bootstrap", "'medium'"),
    ({"head": {"name": "categorical", "encoding": 5}}, "head.encoding", "5"),
    ({"torso": {"name": "mlp", "hidden": [1, "x"]}}, "torso.hidden.1", "'x'"),
    ({"output_layer": None}, "output_layer", "None"),
])  # fmt: skip
def test_a_wrong_type_is_named_with_what_was_given(tables, key, given):
    message = refused(**tables)
    assert message.startswith(f"{key}: ")
    assert message.endswith(f", got {given}")


@pytest.mark.parametrize(("table", "key", "value"), [
    (None, "steps", 0), (None, "seed", -1), (None, "num_threads", 0),
    ("env", "num_envs", 0), ("env", "max_steps", 0), ("env", "frame_stack", 1),
    ("agent", "gamma", 1.0), ("agent", "gamma", -0.1), ("agent", "gamma", float("nan")), ("agent", "n_step", 0),
    ("agent", "lr", 0.0), ("agent", "lr", float("inf")), ("agent", "adam_eps", 0.0), ("agent", "max_grad_norm", 0.0),
    ("agent", "batch_size", 0), ("agent", "replay_ratio", 0.0), ("agent", "learn_after_steps", 0),
    ("agent", "target_every_updates", 0), ("agent", "target_tau", 0.0), ("agent", "target_tau", 1.1),
    ("agent", "reward_clip", 0.0), ("exploration", "epsilon_start", 1.1), ("exploration", "epsilon_end", -0.1),
    ("exploration", "epsilon_steps", 0), ("replay", "capacity_steps", 0), ("evaluation", "every_steps", 0),
    ("evaluation", "num_episodes", 0), ("evaluation", "final_episodes", 0), ("evaluation", "epsilon", 1.01),
    ("evaluation", "max_steps", 0), ("checkpoint", "every_steps", 0), ("checkpoint", "keep", 0),
    ("log", "every_steps", 0), ("log", "histogram_every_steps", 0),
])  # fmt: skip
def test_a_number_out_of_range_is_refused(table, key, value):
    if table is None:
        message = refused(**{key: value})
    else:
        message = refused(**{table: (ENV["env"] if table == "env" else {}) | {key: value}})
    name = key if table is None else f"{table}.{key}"
    assert message.startswith(f"{name}: Input should be ")
    assert message.endswith(f", got {value!r}")


@pytest.mark.parametrize(("table", "key", "value"), [
    ("agent", "gamma", 0.0), ("agent", "target_tau", 1.0), ("exploration", "epsilon_end", 0.0),
    ("exploration", "epsilon_start", 1.0), ("env", "frame_stack", 2), ("agent", "n_step", 1),
])  # fmt: skip
def test_the_ends_of_ranges_are_allowed(table, key, value):
    config = parse(**{table: (ENV["env"] if table == "env" else {}) | {key: value}})
    assert getattr(getattr(config, table), key) == value


def test_an_environment_must_be_given():
    with pytest.raises(ConfigError, match="configuration: env: Field required"):
        RunConfig.parse({})


@pytest.mark.parametrize(("tables", "message"), [
    ({"target_rule": "q_lerning"}, "target_rule: unknown target rule 'q_lerning'. Did you mean 'q_learning'?"),
    ({"agent": "dqm"}, "agent: unknown agent 'dqm'. Did you mean 'dqn'?"),
    ({"exploration": "apx"}, "exploration: unknown exploration 'apx'. Did you mean 'apex'?"),
    ({"replay": "unifrom"}, "replay: unknown replay 'unifrom'. Did you mean 'uniform'?"),
    ({"head": {"name": "hl_gaus"}}, "head: unknown head 'hl_gaus'. Did you mean 'hl_gauss'?"),
    ({"head": "hl_gaus"}, "head: unknown head 'hl_gaus'. Did you mean 'hl_gauss'?"),
    ({"torso": "cn"}, "torso: unknown torso 'cn'. Did you mean 'cnn'?"),
    ({"output_layer": "liner"}, "output_layer: unknown output layer 'liner'. Did you mean 'linear'?"),
    ({"head": {"name": "categorical", "encoding": "two_hto"}}, "head: unknown encoding 'two_hto'. Did you mean"),
    ({"head": {"name": "categorical", "loss": "ordinal_bc"}}, "head: unknown loss 'ordinal_bc'. Did you mean"),
    ({"head": {"num_bins": 5}}, "head.name is missing"),
])  # fmt: skip
def test_an_unknown_name_is_refused_with_the_choices(tables, message):
    said = refused(**tables)
    assert said.startswith(message)
    assert "Choose from: " in said or "missing" in said


def test_a_configuration_does_not_change():
    config = parse()
    with pytest.raises(ValueError, match="frozen"):
        config.agent.lr = 1.0


def test_a_name_alone_stands_for_a_component_with_its_defaults():
    assert parse(head="c51") == parse(head={"name": "c51"})
    assert parse().head.name == "hl_gauss"
    assert parse().torso.model_dump() == {"name": "auto"}


@pytest.mark.parametrize("name", HEADS)
def test_a_head_has_its_options_with_their_defaults(name):
    expected = {key: parameter.default for key, parameter in head_options(name).items()}
    assert parse(head=name).head.model_dump() == {"name": name, "members": 1} | expected


def test_options_of_a_bin_head_belong_to_its_encoding_and_loss():
    of = {name: set(parse(head={"name": "categorical", "encoding": name}).head.model_dump()) for name in ENCODINGS}
    assert "sigma_ratio" in of["hl_gauss"]
    assert "sigma_ratio" not in of["two_hot"]
    sigma = parse(head={"name": "categorical", "encoding": "hl_gauss", "sigma_ratio": 0.5}).head
    assert sigma.model_dump()["sigma_ratio"] == 0.5
    message = refused(head={"name": "categorical", "encoding": "two_hot", "sigma_ratio": 0.5})
    assert message.startswith("unknown key head.sigma_ratio")
    for loss in LOSSES:
        assert parse(head={"name": "categorical", "loss": loss}).head.model_dump()["loss"] == loss


def test_what_a_recipe_fixes_is_no_option():
    assert refused(head={"name": "c51", "bootstrap": "mean"}).startswith("unknown key head.bootstrap")


ROUND_TRIPS = {
    "defaults": {},
    **{name: {"head": name} for name in HEADS},
    "everything": {
        "steps": 7,
        "env": {"id": "x", "num_envs": 3, "support": [-1.5, 2.5], "frame_stack": 4, "kwargs": {"a": [1, {"b": None}]}},
        "head": {"name": "categorical", "encoding": "two_hot", "loss": "ordinal_bce", "num_bins": 11},
        "torso": {"name": "mlp", "hidden": [7, 8]},
        "output_layer": {"name": "linear", "hidden": 9},
        "agent": {"max_grad_norm": 10, "reward_clip": 1, "n_step": 3},
        "target_rule": "sarsa",
        "exploration": {"name": "boltzmann", "temperature_steps": 9},
        "replay": {"name": "uniform", "capacity_steps": 8},
    },
}


@pytest.mark.parametrize("case", ROUND_TRIPS)
def test_a_configuration_survives_its_own_file(case):
    config = parse(**ROUND_TRIPS[case])
    plain = config.plain()
    assert json.loads(json.dumps(plain)) == plain
    again = RunConfig.parse(plain)
    assert again == config
    assert again.plain() == plain


def test_configurations_that_differ_in_an_option_are_not_equal():
    a, b = (parse(head={"name": "hl_gauss", "num_bins": n}) for n in (51, 101))
    assert a != b
    assert parse(head="mse") != parse(head="huber")


# Overrides


BASE = {
    "steps": 9,
    "env": {"id": "x", "kwargs": {"size": 1}},
    "head": {"name": "hl_gauss", "sigma_ratio": 0.5, "num_bins": 101},
    "torso": {"name": "mlp", "hidden": [3]},
    "agent": {"name": "dqn", "lr": 0.1, "n_step": 5},
}


def test_a_new_head_drops_the_options_of_the_old_one_and_nothing_else():
    data = override(BASE, {"head.name": "c51"})
    assert data["head"] == {"name": "c51"}
    assert {k: v for k, v in data.items() if k != "head"} == {k: v for k, v in BASE.items() if k != "head"}


def test_regularizers_are_tables_of_their_own():
    config = parse(regularizers={"cql": {"alpha": 0.5}})
    assert config.regularizers["cql"].options() == {"alpha": 0.5}
    assert RunConfig.parse(config.plain()) == config
    assert config.with_overrides({"regularizers.dr3.coefficient": 0.1}).regularizers.keys() == {"cql", "dr3"}
    assert refused(regularizers={"cqll": {}}).startswith(
        "unknown key regularizers.cqll. Did you mean regularizers.cql?"
    )
    assert refused(regularizers={"cql": {"alfa": 1}}).startswith("unknown key regularizers.cql.alfa. Did you mean")
    assert refused(regularizers={"cql": {"alpha": "x"}}).startswith("regularizers.cql.alpha: ")
    assert refused(regularizers="cql").startswith("regularizers: ")


def test_a_table_that_an_agent_has_no_use_for_is_refused():
    said = refused(agent="pqn", replay={"capacity_steps": 7})
    assert said == "agent 'pqn' has no use for [replay]: leave it out"
    config = RunConfig.preset("catch", {"agent": "pqn", "agent.num_minibatches": 1})
    assert "replay" not in config.plain()
    assert RunConfig.parse(config.plain()) == config


def test_a_new_replay_keeps_what_all_replays_have():
    data = override({"replay": {"capacity_steps": 7, "exponent": 0.5}}, {"replay.name": "other"})
    assert data["replay"] == {"name": "other", "capacity_steps": 7}


def test_a_table_without_a_name_means_the_usual_component():
    assert parse(replay={"capacity_steps": 7}) == parse(replay={"name": "uniform", "capacity_steps": 7})
    assert parse(exploration={"epsilon_end": 0.5}).exploration.name == "epsilon_greedy"


def test_the_same_head_keeps_its_options():
    assert override(BASE, {"head.name": "hl_gauss", "head.num_bins": 5})["head"] == {**BASE["head"], "num_bins": 5}


@pytest.mark.parametrize("overrides", [
    {"head.name": "c51", "head.num_bins": 21},
    {"head.num_bins": 21, "head.name": "c51"},
    {"head": "c51", "head.num_bins": 21},
    {"head.num_bins": 21, "head": "c51"},
    {"head.num_bins": 21, "head": {"name": "c51"}},
    {"head": {"name": "c51", "num_bins": 3}, "head.num_bins": 21},
])  # fmt: skip
def test_the_order_of_overrides_does_not_matter(overrides):
    assert override(BASE, overrides)["head"] == {"name": "c51", "num_bins": 21}


def test_overrides_of_a_component_given_by_its_name():
    assert override({"head": "c51"}, {"head.num_bins": 21})["head"] == {"name": "c51", "num_bins": 21}


def test_overrides_reach_any_depth_and_leave_what_was_given_alone():
    before = copy.deepcopy(BASE)
    data = override(BASE, {"steps": 1, "env.kwargs.size": 2, "env.kwargs.new.deep": 3, "replay.device": "cuda"})
    assert data["steps"] == 1
    assert data["env"]["kwargs"] == {"size": 2, "new": {"deep": 3}}
    assert data["replay"] == {"device": "cuda"}
    data["env"]["kwargs"]["size"] = 99
    assert before == BASE


def test_a_number_is_not_a_table():
    with pytest.raises(ConfigError, match=r"steps\.more: steps is not a table"):
        override(BASE, {"steps.more": 1})


def test_nothing_is_a_value():
    config = parse(agent={"max_grad_norm": 10, "reward_clip": 1.0}, env={"id": "x", "max_steps": 5})
    config = config.with_overrides({"agent.max_grad_norm": None, "agent.reward_clip": None, "env.max_steps": None})
    assert (config.agent.max_grad_norm, config.agent.reward_clip, config.env.max_steps) == (None, None, None)
    assert refused(agent={"lr": None}).startswith("agent.lr: ")
    assert parse(head="huber").with_overrides({"head.kappa": None}).head.model_dump()["kappa"] is None


def test_with_overrides_keeps_the_rest():
    config = parse(**{k: v for k, v in BASE.items() if k != "env"})
    changed = config.with_overrides({"agent.lr": 0.2})
    assert changed.agent.lr == 0.2
    assert changed.with_overrides({"agent.lr": 0.1}) == config
    with pytest.raises(ConfigError, match=r"unknown key agent\.rl"):
        config.with_overrides({"agent.rl": 1})


# Files


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_parses_by_name_and_by_path(name):
    config = RunConfig.preset(name)
    assert config == RunConfig.preset(str(PRESETS / f"{name}.toml"))
    assert RunConfig.parse(config.plain()) == config
    assert RunConfig.preset(name, {"agent.lr": 0.125}).agent.lr == 0.125


def test_there_are_presets():
    assert "cartpole" in preset_names()


def test_a_stored_configuration_can_be_read(tmp_path):
    path = tmp_path / "config.json"
    config = parse(head="iqn")
    path.write_text(json.dumps(config.plain()), encoding="utf-8")
    assert RunConfig.preset(str(path)) == config


def test_a_preset_that_is_not_there():
    with pytest.raises(
        ConfigError, match=r"unknown preset 'cartpol'\. Did you mean cartpole\? Choose from: .*cartpole"
    ):
        read_preset("cartpol")
    with pytest.raises(ConfigError, match=r"unknown preset '/nowhere/at_all\.toml'"):
        read_preset("/nowhere/at_all.toml")


@pytest.mark.parametrize(("name", "content"), [
    ("bad.toml", b"steps = = 3"),
    ("bad.json", b'{"steps": '),
    ("bad.json", b"[1, 2]"),
    ("bad.toml", b"id = '\xff\xfe'"),
])  # fmt: skip
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        RunConfig.preset(str(path))
    assert str(caught.value).startswith(f"{path}: ")


# The schema for editors


def accepts(schema, value, root):
    """Whether a JSON value fits: the part of JSON schema that ours uses, and an error for what it does not know."""
    if "$ref" in schema:
        return accepts(root["$defs"][schema["$ref"].rpartition("/")[2]], value, root)
    if "anyOf" in schema:
        return any(accepts(s, value, root) for s in schema["anyOf"])
    known = {"title", "description", "default", "type", "enum", "const", "properties", "required", "items", "$defs"}
    known |= {"additionalProperties", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
    known |= {"minItems", "maxItems", "prefixItems"}
    assert schema.keys() <= known, f"teach this test {schema.keys() - known}"
    types = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "null": type(None)}
    types["boolean"] = bool
    if "type" in schema and not isinstance(value, types[schema["type"]]):
        return False
    if isinstance(value, bool) and schema.get("type") in ("integer", "number"):
        return False
    if ("enum" in schema and value not in schema["enum"]) or ("const" in schema and value != schema["const"]):
        return False
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        others = schema.get("additionalProperties", True)
        others = others if isinstance(others, dict) else {} if others else {"enum": []}
        fits = all(accepts(properties.get(k, others), v, root) for k, v in value.items())
        return fits and all(k in value for k in schema.get("required", []))
    if isinstance(value, list):
        if "prefixItems" in schema:
            pairs = zip(schema["prefixItems"], value, strict=False)
            return schema.get("minItems", 0) <= len(value) <= schema["maxItems"] and all(
                accepts(s, v, root) for s, v in pairs
            )
        return all(accepts(schema.get("items", {}), v, root) for v in value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = schema.get("minimum", value), schema.get("maximum", value)
        above, below = schema.get("exclusiveMinimum", value - 1), schema.get("exclusiveMaximum", value + 1)
        return low <= value <= high and above < value < below
    return True


@pytest.fixture(scope="module")
def schema():
    return json_schema()


@pytest.mark.parametrize("name", preset_names())
def test_the_schema_accepts_what_parses(schema, name):
    assert accepts(schema, read_preset(name), schema)
    assert accepts(schema, RunConfig.preset(name).plain(), schema)


@pytest.mark.parametrize("change", [
    {"steps": 0}, {"stesp": 3}, {"agent.gamma": 1.0}, {"agent.gama": 0.5}, {"head.name": "hl_gaus"},
    {"head.num_bin": 3}, {"env.support": [1.0]}, {"torso": {"name": "cnn", "hidden": [3]}}, {"steps": "x"},
])  # fmt: skip
def test_the_schema_refuses_what_does_not_parse(schema, change):
    data = override(read_preset("cartpole"), change)
    assert not accepts(schema, data, schema)
    with pytest.raises(ConfigError):
        RunConfig.parse(data)


def test_the_schema_lists_every_built_in_component(schema):
    terms = schema["properties"]["regularizers"]["properties"]
    assert {name: set(term["properties"]) for name, term in terms.items()} == {
        name: set(component_model("regularizer", {"name": name}).model_fields) for name in REGULARIZERS
    }
    for key, kind in KINDS.items():
        if key == "regularizer":
            continue
        choices = schema["properties"][key]["anyOf"]
        assert set(kind.registry) <= set(choices[0]["enum"])
        by_name = {c["properties"]["name"]["const"]: c for c in choices[1:]}
        for name in kind.registry:
            assert accepts(schema, {**ENV, key: name}, schema)
            assert set(by_name[name]["properties"]) == set(component_model(key, {"name": name}).model_fields)


def tables():
    """(key, model) of every plain table."""
    found = {k: typing.cast(type, f.annotation) for k, f in RunConfig.model_fields.items() if k not in KINDS}
    return {k: m for k, m in found.items() if isinstance(m, type) and issubclass(m, Table)}


def test_the_schema_has_every_key_of_every_table(schema):
    assert set(schema["properties"]) == {*RunConfig.model_fields, "by_head"}
    assert len(tables()) == 4
    for key, model in tables().items():
        reference = schema["properties"][key]["$ref"].rpartition("/")[2]
        assert set(schema["$defs"][reference]["properties"]) == set(model.model_fields)


@pytest.mark.parametrize("key", ["agent.lr", "agent.n_step", "steps", "head.num_bins", "env.max_steps"])
def test_a_flag_is_no_number(key):
    with pytest.raises(ConfigError, match="wants a number, and has true: was its value left out"):
        RunConfig.preset("cartpole", {key: True})
    RunConfig.preset("cartpole", {"agent.normalize_obs": True})


def test_another_environment_has_another_range():
    config = RunConfig.preset("catch", {"env.id": "CartPole-v1", "env.num_envs": 3})
    assert (config.env.support, config.env.num_envs) == ("auto", 3)
    assert RunConfig.preset("catch", {"env.id": "catch"}).env.support == (-1.2, 1.2)
    assert RunConfig.preset("catch", {"env.id": "chain", "env.support": [-2, 2]}).env.support == (-2, 2)


@pytest.mark.parametrize("given", [8, [8], (8,)])
def test_one_value_may_stand_for_a_tuple_of_one(given):
    config = RunConfig.preset("cartpole", {"torso.hidden": given})
    assert config.torso.model_dump()["hidden"] == (8,)
