"""Watching a policy: is what is drawn what was predicted and what happened, and who is told what where it cannot be?"""

import itertools

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from PIL import Image

from agents.networks.qnetwork import EnvSpec, make_network
from agents.running import drawing
from agents.running.camera import Camera, make_watched_env, picture_of
from agents.running.checkpoint import CheckpointError
from agents.running.clip import Played, realised_returns, record
from agents.running.drawing import CHOSEN, OTHER, Axis, Look, Moment, bars, fit, padded
from agents.running.evaluation import Policy, load
from agents.running.trainer import train
from agents.running.watch import TAG, look_of, palette_of, value_range, watch
from agents.tables import ConfigError
from value_heads import Atoms

HEADS = ("hl_gauss", "quantile", "mse")


@pytest.fixture(scope="module")
def runs(small, tmp_path_factory):
    """{head: directory of a finished run}"""
    paths = {head: tmp_path_factory.mktemp(head) for head in HEADS}
    for head, path in paths.items():
        train(small(overrides={"head.name": head, "steps": 200}), path)
    return paths


def moment(atoms=None, action=0, at=0, **others) -> Moment:
    atoms = atoms or Atoms(torch.tensor([[-1.0, 0.0, 1.0]] * 2), torch.tensor([[0.25, 0.5, 0.25], [0.0, 0.0, 1.0]]))
    picture = np.zeros((10, 10, 3), np.uint8)
    return Moment(picture, ["left", "right"], atoms, atoms.mean().numpy(), action, at, "", **others)


def look(value_range=(-2.0, 2.0), predicted=(0.0,), realised=(0.0,), **others) -> Look:
    series = np.array(predicted), np.array(realised)
    ends = others.pop("ends", np.zeros(len(predicted), bool))
    return Look("", "", "", value_range, (0, 1), *series, "", ends, **{"first": 0} | others)


def pixels(image: Image.Image, color: tuple[int, int, int]) -> np.ndarray:
    """Where an image has a colour, bool [height, width]."""
    return (np.asarray(image.convert("RGB")) == color).all(-1)


@pytest.mark.parametrize("head", HEADS)
def test_the_gif(head, runs, tmp_path):
    """9 decisions of Catch and what they led to, all different, in the file and in the run's TensorBoard."""
    out = tmp_path / "clip.gif"
    made = watch(runs[head], out, seed=3)
    with Image.open(out) as clip:
        assert (clip.format, clip.n_frames, clip.size) == ("GIF", 10, (drawing.WIDTH, drawing.HEIGHT))
        shown, durations = [], []
        for index in range(10):
            clip.seek(index)
            shown.append(np.asarray(clip.convert("RGB")))
            durations.append(clip.info["duration"])
    assert all((a != b).any() for a, b in itertools.pairwise(shown))
    assert durations == [100] * 9 + [1500]
    assert 10_000 < made.num_bytes == out.stat().st_size < 300_000
    assert (made.path, made.num_pictures, made.step) == (out, 10, load(runs[head]).step)
    ((score, length, over),) = made.played
    assert (abs(score), length, over) == (1.0, 9, True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard(runs):
    """The same bytes at the policy's step, and nothing else is lost."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def board():
        return EventAccumulator(str(runs["mse"]), size_guidance={"images": 0, "scalars": 0}).Reload()

    before = board()
    made = watch(runs["mse"])
    after = board()
    image = after.Images(TAG)[-1]
    assert made.path == runs["mse"] / "watch.gif"
    assert image.encoded_image_string == made.path.read_bytes()
    assert (image.step, image.width, image.height) == (made.step, drawing.WIDTH, drawing.HEIGHT)
    assert made.step in (100, 200)
    assert len(after.Images(TAG)) == (len(before.Images(TAG)) if TAG in before.Tags()["images"] else 0) + 1
    for tag in before.Tags()["scalars"]:
        assert after.Scalars(tag) == before.Scalars(tag)


@pytest.mark.parametrize("head", HEADS)
def test_a_recording_is_what_the_network_says_and_what_the_world_did(head, runs):
    """Played again by hand: actions, distributions, values, score."""
    policy = load(runs[head])
    clip = recorded(policy, seed=5)
    assert len(clip.moments) == 10
    venv = make_watched_env(policy.config, seed=5)
    obs = venv.reset()
    for now in clip.moments[:-1]:
        prediction = policy.network(torch.from_numpy(obs))
        assert torch.equal(now.atoms.values, prediction.distribution().values[0])
        assert torch.equal(now.atoms.probs, prediction.distribution().probs[0])
        assert now.q_values.tolist() == prediction.mean()[0].tolist()
        assert now.action == prediction.mean().argmax()
        np.testing.assert_array_equal(now.picture, np.kron(obs[0] * 255, np.ones((32, 32)))[..., None].repeat(3, -1))
        step = venv.step(np.array([now.action]))
        obs = step.next_obs
    assert clip.moments[-1].over
    assert clip.moments[-1].headline == f"over   step 9   score {step.reward[0]:g}"
    assert (clip.moments[-1].picture[::32, ::32, 0] / 255 == obs[0]).all()
    assert clip.moments[0].names == ["left", "stay", "right"]
    assert clip.predicted.tolist() == [float(m.q_values.max()) for m in clip.moments[:-1]]
    np.testing.assert_allclose(clip.realised, step.reward[0] * 0.99 ** np.arange(8, -1, -1))
    assert not clip.borrowed.any()
    assert clip.ends.tolist() == [False] * 8 + [True]


def recorded(policy, seed=0, **options):
    venv = make_watched_env(policy.config, seed=seed)
    return record(policy, venv, Camera(venv, "here"), np.random.default_rng(seed), **options)


def untrained(small, env="catch", spec=((10, 5), "float32", 3, False), **overrides):
    config = small(env, {k.replace("__", "."): v for k, v in overrides.items()})
    return Policy(make_network(config, EnvSpec(*spec)), config, EnvSpec(*spec))


def test_parts_and_several_episodes(small):
    policy = untrained(small)
    whole = recorded(policy, episodes=3)
    assert [m.over for m in whole.moments] == ([False] * 9 + [True]) * 3
    assert [m.at for m in whole.moments if not m.over] == list(range(27))
    assert [p.length for p in whole.played] == [9] * 3
    assert whole.moments[12].headline == "episode 2   step 2   score 0"
    part = recorded(policy, episodes=3, start=7, steps=4)
    assert len(part.moments) == 5
    np.testing.assert_array_equal(part.moments[3].picture, whole.moments[10].picture)
    np.testing.assert_allclose(part.realised, whole.realised[7:11])
    assert [p[1:] for p in part.played] == [(9, True), (2, False)]
    assert part.ends.tolist() == [False, True, False, False]
    with pytest.raises(ConfigError, match="--start 9: what is played is over after 9 decisions"):
        recorded(policy, start=9)
    assert {m.action for m in recorded(policy, episodes=5, epsilon=1.0).moments} == {0, 1, 2}


def test_realised_returns_by_hand():
    """gamma 1/2; a lost life ends a value, a cut one goes on with what was predicted."""
    reward = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    no = np.zeros(5, bool)
    terminal, cut = no.copy(), no.copy()
    terminal[1] = True
    cut[3], cut[4] = True, True
    after = np.array([99.0, 99.0, 99.0, 10.0, 100.0])
    assert realised_returns(reward, terminal, cut, after, 0.5).tolist() == [2.0, 2.0, 10.5, 13.0, 66.0]
    with pytest.raises(ValueError, match="neither terminal nor cut"):
        realised_returns(reward, terminal, no, after, 0.5)


class Payday(gymnasium.Env):
    """Image observations, rewards 3, -3, 0.5 in turn, cut off after 6 steps unless told to go on for ever."""

    observation_space = Box(0, 255, (6, 6), np.uint8)
    action_space = Discrete(2)

    def __init__(self, length=6):
        self.length = length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros((6, 6), np.uint8), {}

    def step(self, action):
        self.t += 1
        obs = np.full((6, 6), self.t % 256, np.uint8)
        return obs, (0.5, 3.0, -3.0)[self.t % 3], False, self.t == self.length, {}


PAYDAY, SPEC = f"{__file__}:Payday", ((6, 6), "uint8", 2, False)


def test_returns_are_those_that_were_learned(small):
    """Rewards clipped to 1 and scaled by 2; the episode is cut, so the last value stands for the rest."""
    policy = untrained(small, PAYDAY, SPEC, agent__reward_clip=1.0, agent__gamma=0.5)
    policy.reward_factor = 2.0
    clip = recorded(policy)
    final = policy.q_values(np.full((1, 6, 6), 6, np.uint8)).max()
    wanted = [0.0] * 6 + [float(final)]
    for t in reversed(range(6)):
        wanted[t] = 2 * (1.0, -1.0, 0.5)[t % 3] + 0.5 * wanted[t + 1]
    np.testing.assert_allclose(clip.realised, wanted[:6], rtol=1e-6)
    np.testing.assert_allclose(clip.borrowed, 0.5 ** np.arange(6, 0, -1))
    assert clip.played == [Played(1.0, 6, True)], "scores are raw"
    label = look_of(clip, policy, 0)
    assert label.unit == "discounted return (gamma 0.5, rewards clipped to ±1, rewards x 2)"
    assert label.realised_label == "realised return (where it was cut: with the value predicted there)"


def test_it_plays_on_until_the_returns_are_known(small):
    """0.5^7 < 0.01: seven decisions after the last one that is drawn, which then borrows less than that."""
    policy = untrained(small, PAYDAY, SPEC, agent__gamma=0.5, env__kwargs={"length": 1000})
    clip = recorded(policy, steps=10)
    assert (len(clip.moments), len(clip.realised)) == (10, 10)
    assert clip.borrowed[-1] == 0.5**8
    assert clip.played == [Played(sum((3.0, -3.0, 0.5)[t % 3] for t in range(10)), 10, False)]
    assert look_of(clip, policy, 0).realised_label == "realised return"


def test_a_cut_goes_on_with_the_best_of_the_legal_actions(small):
    class Masked(Payday):
        def step(self, action):
            return *super().step(action)[:-1], {"action_mask": [0, 1]}

        def reset(self, **options):
            return super().reset(**options)[0], {"action_mask": [1, 1]}

    policy = untrained(small, PAYDAY, (*SPEC[:3], True), agent__gamma=0.5)
    final = np.full((1, 6, 6), 6, np.uint8)
    with torch.no_grad():  # the first action is better everywhere
        policy.network.head.output.last.bias[:51] += torch.linspace(0, 5, 51)
    assert policy.q_values(final).argmax() == 0
    from envs import GymnasiumVector

    venv = GymnasiumVector([Masked()])
    clip = record(policy, venv, Camera(venv, "here"), np.random.default_rng(0))
    assert clip.realised[-1] == pytest.approx(-0.0 + 0.5 + 0.5 * float(policy.q_values(final)[0, 1]))
    assert [m.action for m in clip.moments[1:]] == [1] * 6


def test_an_axis_is_linear():
    axis = Axis(-2.0, 2.0, 100, 500)
    assert [axis.pixel(v) for v in (-2, -1, 0, 0.5, 2, 3)] == [100, 200, 300, 350, 500, 600]
    assert [axis.inside(v) for v in (-9, 1.004, 9)] == [100, 400, 500]
    upright = Axis(0.0, 10.0, 90, 10)
    assert [upright.inside(v) for v in (-1, 0, 5, 10, 11)] == [90, 90, 50, 10, 10]


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (-1.2, 1.2, [-1, -0.5, 0, 0.5, 1]),
        (0, 100, [0, 20, 40, 60, 80, 100]),
        (0.31, 0.34, [0.31, 0.315, 0.32, 0.325, 0.33, 0.335, 0.34]),
        (-7, 9, [-5, 0, 5]),
    ],
)
def test_ticks_are_round(low, high, wanted):
    assert Axis(low, high, 0, 1).ticks() == pytest.approx(wanted)


def test_bars():
    """A bin head's are around its atoms, uneven ones too; others are counted; one value has none."""
    axis = Axis(-1.0, 2.0, 0, 100)
    values, probs = torch.tensor([[0.0, 1.0, 3.0]] * 2), torch.tensor([[0.5, 0.5, 0.0], [0.1, 0.2, 0.7]])
    edges, mass = bars(Atoms(values, probs), axis)
    assert edges.tolist() == [-0.5, 0.5, 2.0, 4.0]
    np.testing.assert_array_equal(mass, probs.double())
    edges, mass = bars(
        Atoms(torch.tensor([[1.99, -0.99, -0.98, 1.0], [5.0, 0.0, 0.0, 0.0]]), torch.full((2, 4), 0.25)), axis
    )
    assert edges == pytest.approx(np.linspace(-1, 2, 61))
    assert mass[0].nonzero()[0].tolist() == [0, 40, 59]
    assert mass[0, 0] == 0.5
    assert mass.sum(-1).tolist() == [1.0, 0.75], "what is off the axis is not drawn"
    assert bars(Atoms.at(torch.zeros(3)), axis) is None


def test_heights_of_bars_are_proportional_to_mass():
    """On an axis of [-2, 2] atoms at -1, 0, 1 have bars a quarter of it wide; the tallest of all fills its row."""
    image = drawing.draw(moment(), look())
    chosen, other = pixels(image, CHOSEN), pixels(image, OTHER)
    left = drawing.MARGIN + drawing.SCENE[0] + 24 + drawing.LABELS
    axis = Axis(-2.0, 2.0, left, drawing.WIDTH - drawing.MARGIN - 1)
    scene = slice(drawing.HEADER, drawing.HEADER + drawing.SCENE[1])
    heights = {v: chosen[scene, axis.inside(v) + 4].sum() for v in (-1, 0, 1)}
    assert (heights[-1], heights[0], heights[1]) == (24, 48, 24)
    assert other[scene, axis.inside(1) + 4].sum() == 97  # 0.88 of 110
    columns = np.flatnonzero(chosen[scene, left:].sum(0)) + left
    assert columns.min() == axis.inside(-1.5)
    assert columns.max() == axis.inside(1.5) - 2  # a gap between bars
    columns = np.flatnonzero(other[scene, left:].sum(0)) + left
    assert (columns.min(), columns.max()) == (axis.inside(0.5), axis.inside(1.5) - 2)
    assert [np.flatnonzero(p[scene].any(1)).min() for p in (chosen, other)] == sorted(
        np.flatnonzero(p[scene].any(1)).min() for p in (chosen, other)
    ), "the first action is above"


def test_a_single_value_is_a_line_where_it_is():
    image = drawing.draw(moment(Atoms.at(torch.tensor([-1.0, 0.5])), action=1), look())
    left = drawing.MARGIN + drawing.SCENE[0] + 24 + drawing.LABELS
    axis = Axis(-2.0, 2.0, left, drawing.WIDTH - drawing.MARGIN - 1)
    for color, value in ((CHOSEN, 0.5), (OTHER, -1.0)):
        columns = pixels(image, color)[drawing.HEADER : drawing.HEADER + drawing.SCENE[1], left:].sum(0)
        assert (np.flatnonzero(columns > 50) + left).tolist() == [axis.inside(value) + d for d in (-1, 0, 1)]


def test_lines_end_now_and_stop_between_episodes():
    """Values 0 and 1 in turn, drawn up to decision 2 of 4; the episode ends with decision 1."""
    ends = np.array([False, True, False, False])
    series = {"predicted": (0.0, 1.0, 0.0, 1.0), "realised": (2.0,) * 4, "ends": ends}
    image = drawing.draw(moment(at=2), look(**series))
    part = pixels(image, CHOSEN)[drawing.HEIGHT - 46 - drawing.PLOT :]
    across = Axis(0, 3, drawing.MARGIN + 54, drawing.WIDTH - drawing.MARGIN - 5)
    drawn = part.any(0)
    assert drawn[across.inside(0) : across.inside(1)].all()
    assert not drawn[across.inside(1) + 3 : across.inside(2) - 3].any()
    assert drawn[across.inside(2)]
    assert not drawn[across.inside(2) + 4 :].any()
    rows = [np.flatnonzero(part[:, across.inside(t)]).mean() for t in (0, 1, 2)]
    assert rows[1] < rows[0]
    assert rows[2] == pytest.approx(rows[0], abs=1)


def test_the_range_drawn_is_where_the_mass_is():
    """1 % at each end does not count, means always do; every moment counts."""
    values = torch.linspace(-10, 10, 201).expand(2, 201)
    probs = torch.full((2, 201), 0.005 / 199)
    probs[0, 110], probs[1, 120] = 0.995 + 0.005 / 199, 0.995 + 0.005 / 199
    first = moment(Atoms(values, probs / probs.sum(-1, keepdim=True)))
    assert value_range([first]) == pytest.approx(padded(float(first.q_values[0]), 2.0), abs=1e-5)
    second = moment(Atoms(torch.tensor([[-4.0, 3.0]] * 2), torch.full((2, 2), 0.5)))
    assert value_range([first, second]) == pytest.approx(padded(-4.0, 3.0))
    assert value_range([moment(Atoms.at(torch.tensor([2.0, 2.0])))]) == pytest.approx((1.5, 2.5))


def test_many_actions(small):
    """Of 30 the 24 that are taken most often have rows."""
    names = [f"a{i}" for i in range(30)]
    atoms = Atoms.at(torch.linspace(-1, 1, 30))
    base = moment(atoms)._replace(names=names)
    moments = [base._replace(action=a, at=i) for i, a in enumerate((29, 28, 29))]
    policy = untrained(small)
    clip = recorded(policy)._replace(moments=moments)
    shared = look_of(clip, policy, 0)
    assert shared.rows == [*range(22), 28, 29]
    drawing.draw(moments[0], shared)


def test_a_scene_is_enlarged_in_whole_squares_and_shrunk_to_fit():
    assert fit(Image.new("RGB", (84, 84)), (330, 400)).size == (252, 252)
    assert fit(Image.new("RGB", (200, 210)), (330, 400)).size == (200, 210)
    assert fit(Image.new("RGB", (600, 400)), (330, 400)).size == (330, 220)


def test_the_palette_keeps_text_bars_and_small_scenes():
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 256, (10, 10, 3), np.uint8)
    image = drawing.draw(moment()._replace(picture=scene), look())
    same = image.quantize(palette=palette_of([scene]), dither=Image.Dither.NONE).convert("RGB")
    error = np.abs(np.asarray(same).astype(int) - np.asarray(image))
    assert pixels(same, CHOSEN)[pixels(image, CHOSEN)].all()
    assert error.max() <= 24  # text between two of the seven shades of its edges


@pytest.mark.parametrize(
    ("shape", "dtype", "stacked", "wanted"),
    [
        ((5, 6), np.uint8, False, 3 * [7]),
        ((4, 8, 9), np.uint8, False, 3 * [40]),
        ((4, 8, 9), np.float32, True, 3 * [40]),
        ((2, 8, 9, 3), np.uint8, True, [21, 22, 23]),
        ((8, 9, 3), np.uint8, False, [11, 12, 13]),
        ((3, 8, 9), np.uint8, False, [10, 20, 30]),
        ((8, 9, 1), np.uint8, False, 3 * [11]),
    ],
)
def test_the_newest_frame_of_an_observation(shape, dtype, stacked, wanted):
    array = {
        (5, 6): np.full((5, 6), 7),
        (4, 8, 9): np.arange(10, 50, 10)[:, None, None] * np.ones((1, 8, 9)),
        (2, 8, 9, 3): np.array([[11, 12, 13], [21, 22, 23]])[:, None, None] * np.ones((1, 8, 9, 1)),
        (8, 9, 3): np.array([11, 12, 13]) * np.ones((8, 9, 1)),
        (3, 8, 9): np.array([10, 20, 30])[:, None, None] * np.ones((1, 8, 9)),
        (8, 9, 1): np.full((8, 9, 1), 11),
    }[shape].astype(dtype)
    picture = picture_of(array, 0, 255, stacked=stacked)
    assert picture.dtype == np.uint8
    assert picture.shape[-1] == 3
    assert (picture == wanted).all()


def test_channels_have_hues_and_bounds_decide_the_shade():
    """MinAtar's planes of 0 and 1; without bounds the darkest and the brightest of the array are black and white."""
    planes = np.zeros((10, 10, 4), np.float32)
    planes[2, 3, 0], planes[2, 4, 1] = 1, 1
    picture = picture_of(planes, 0, 1)
    assert picture[0, 0].tolist() == [0, 0, 0]
    assert picture[2, 3].tolist() == [255, 102, 102]
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 3
    np.testing.assert_array_equal(picture_of(np.moveaxis(planes, -1, 0), 0, 1), picture)
    assert picture_of(np.array([[-5.0, 5.0] * 4] * 4), -np.inf, np.inf)[0, :2, 0].tolist() == [0, 255]
    assert picture_of(np.zeros((4, 1), np.float32), 0, 1) is None
    assert picture_of(np.zeros((3, 7, 7), np.float32), 0, 0).max() == 0


class Blind(Payday):
    """Neither renders nor has images."""

    observation_space = Box(0, 1, (3,), np.float32)

    def reset(self, *, seed=None, options=None):
        return np.zeros(3, np.float32), super().reset(seed=seed)[1]

    def step(self, action):
        return np.zeros(3, np.float32), *super().step(action)[1:]


class Broken(Payday):
    """Would render, if a package were there; has images."""

    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self, render_mode=None):
        super().__init__()
        self.render_mode = render_mode

    def render(self):
        raise gymnasium.error.DependencyNotInstalled("paint is not installed, run `pip install paint`")


def test_who_cannot_be_watched(small):
    policy = untrained(small, f"{__file__}:Blind", ((3,), "float32", 2, False))
    with pytest.raises(
        ConfigError, match=r"here cannot be watched: wanted an environment that renders .* or has image"
    ):
        recorded(policy)
    stacked = untrained(small, f"{__file__}:Blind", ((4, 3), "float32", 2, False), env__frame_stack=4)
    with pytest.raises(ConfigError, match=r"its observations are \[4, 3\]$"):
        recorded(stacked)


def test_without_what_draws_it(small):
    """The observation instead, where it is an image; the remedy, where it is none."""
    policy = untrained(small, f"{__file__}:Broken", SPEC)
    assert [m.picture[0, 0, 0] for m in recorded(policy).moments] == list(range(7))


def test_cartpole_draws_itself(small):
    """The cart moves, and the picture is what gymnasium draws, not its four numbers."""
    policy = untrained(small, "CartPole-v1", ((4,), "float32", 2, False))
    pictures = [m.picture for m in recorded(policy).moments]
    assert pictures[0].shape == (220, 330, 3)  # of 400 x 600
    assert (pictures[0] != pictures[-1]).any()


def test_where_it_cannot_be_written(runs, tmp_path):
    with pytest.raises(ConfigError, match=r"--out .*nowhere/a.gif: there is no directory .*nowhere"):
        watch(runs["mse"], tmp_path / "nowhere" / "a.gif")
    with pytest.raises(ConfigError, match=r"--out .*a.png: wanted a name that ends in .gif"):
        watch(runs["mse"], tmp_path / "a.png")
    (tmp_path / "taken.gif").mkdir()
    with pytest.raises(ConfigError, match=r"--out: .*taken.gif"):
        watch(runs["mse"], tmp_path / "taken.gif")
    with pytest.raises(CheckpointError, match="has no checkpoint to load"):
        watch(tmp_path, tmp_path / "a.gif")


def test_what_a_policy_learned_from_is_stored(small, tmp_path):
    """The factor of normalised rewards, with the best policy and with a checkpoint."""
    train(small(overrides={"agent.normalize_reward": True}), tmp_path)
    for _ in ("best", "last"):
        policy = load(tmp_path)
        assert policy.reward_factor not in (0.0, 1.0)
        assert policy.learning_reward(np.array([2.0])) == pytest.approx(2.0 * policy.reward_factor)
        (tmp_path / "best.pt").unlink(missing_ok=True)
    assert policy.step == 300
