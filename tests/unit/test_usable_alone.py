"""value_heads in a DQN of one's own: torch and nothing else of this repository."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A corridor of five cells, start in the middle: +1 for leaving to the right, +0.2 to the left. With gamma 0.9 the
# best return from the middle is 0.9^2 = 0.81; to the left it is 0.162.
DQN = """
import copy, random, sys
import torch
from value_heads import Atoms, make_head

random.seed(0), torch.manual_seed(0)
torso = torch.nn.Sequential(torch.nn.Linear(5, 32), torch.nn.ReLU())
head = make_head(sys.argv[1], in_features=32, num_actions=2, support=(-1, 2))
online = torch.nn.Sequential(torso, head)
target = copy.deepcopy(online)
optimizer = torch.optim.Adam(online.parameters(), lr=3e-3)
obs, replay = torch.eye(5), []
s = 2
for step in range(700):
    a = random.randrange(2) if random.random() < 0.6 else online(obs[s, None]).mean().argmax().item()
    n = s + 2 * a - 1
    replay.append((s, a, {-1: 0.2, 5: 1.0}.get(n, 0.0), n % 5, float(0 <= n < 5)))
    s = n if 0 <= n < 5 else 2
    batch = [torch.tensor(column) for column in zip(*random.choices(replay, k=64))]
    with torch.no_grad():
        following = target(obs[batch[3]])
        goal = following.select(following.mean().argmax(-1)).atoms().backup(batch[2], 0.9 * batch[4])
    loss = online(obs[batch[0]]).select(batch[1]).loss(goal).mean()
    optimizer.zero_grad(), loss.backward(), optimizer.step()
    if step % 20 == 0:
        target.load_state_dict(online.state_dict())
"""

REPORT = """
s, moves = 2, 0
while 0 <= s < 5 and moves < 20:
    s, moves = s + 2 * online(obs[s, None]).mean().argmax().item() - 1, moves + 1
print("return", 0.9 ** (moves - 1) * {-1: 0.2, 5: 1.0}.get(s, 0.0), "value", online(obs[2, None]).mean().max().item())
print("others", sorted({"agents", "envs", "gymnasium"} & set(sys.modules)))
"""


@pytest.mark.parametrize("name", ["hl_gauss", "c51"])
def test_a_dqn_of_thirty_lines(name, tmp_path):
    assert len([line for line in DQN.splitlines() if line]) <= 30
    script = tmp_path / "dqn.py"
    script.write_text(DQN + REPORT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, script, name], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert result.returncode == 0, result.stderr
    first, last = result.stdout.splitlines()
    _, achieved, _, value = first.split()
    assert float(achieved) == pytest.approx(0.81)  # exact: three steps to the right
    # 700 updates of a small network at a fixed learning rate leave a few percent.
    assert float(value) == pytest.approx(0.81, abs=0.08)
    assert last == "others []"
