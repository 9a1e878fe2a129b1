"""Classes that a user might have, as a module on disk; and trainings with them."""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from makers import sb3_ring
from recompute.library import loaded, optimizers
from stable_baselines3.common.utils import set_random_seed

from gradscope.read import open_file
from gradscope.read.sb3_blobs import sb3_blobs
from gradscope.read.sb3_training import sb3_training
from gradscope.recompute import recompute_gradients
from gradscope.recompute.trusted.user_code import UserCode
from gradscope.records import Normalizer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import torch
    from recompute.library import Case, Files, Gradients

SOURCE = '''
import torch
from sb3_contrib.qrdqn.policies import QRDQNPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from stable_baselines3.sac.policies import SACPolicy
from torch import nn


class Plain(BaseFeaturesExtractor):
    """With a layer that is never used, and one that is frozen."""

    def __init__(self, space, width=7):
        super().__init__(space, width)
        self.first = nn.Linear(6, 8)
        self.unused = nn.Linear(2, 2)
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.last = nn.Linear(8, width)

    def forward(self, observations):
        hidden = torch.relu(self.frozen(torch.tanh(self.first(observations.flatten(1)))))
        return torch.relu(self.last(hidden))


class Noisy(BaseFeaturesExtractor):
    """Dropout and batch norm."""

    def __init__(self, space):
        super().__init__(space, 6)
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 6)
        )

    def forward(self, observations):
        return self.layers(observations)


class Drifting(BaseFeaturesExtractor):
    """Normalises by statistics that each forward pass in training moves, and that the output shows."""

    def __init__(self, space):
        super().__init__(space, 6)
        self.register_buffer("mean", torch.zeros(6))
        self.layer = nn.Linear(6, 6)

    def forward(self, observations):
        rows = observations.flatten(1)
        if self.training:
            self.mean = 0.5 * self.mean + 0.5 * rows.mean(0).detach()
        return self.layer(rows - self.mean)


class Recurrent(BaseFeaturesExtractor):
    """Reads bars one after the other; its first gradient column is scaled by a hook."""

    def __init__(self, space):
        super().__init__(space, 5)
        self.reader = nn.GRU(3, 5, batch_first=True)
        scale = torch.tensor([0.1, 1.0, 1.0])
        self.reader.weight_ih_l0.register_hook(lambda gradient: gradient * scale)

    def forward(self, observations):
        return self.reader(observations)[0][:, -1]


class Attending(BaseFeaturesExtractor):
    def __init__(self, space):
        super().__init__(space, 4)
        self.lift = nn.Linear(3, 4)
        self.attention = nn.MultiheadAttention(4, 2, dropout=0.3, batch_first=True)

    def forward(self, observations):
        bars = self.lift(observations)
        return self.attention(bars, bars, bars)[0].mean(1)


class Pixels(BaseFeaturesExtractor):
    def __init__(self, space):
        super().__init__(space, 6)
        self.eyes = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        self.last = nn.Linear(4 * 8 * 8, 6)

    def forward(self, observations):
        return torch.relu(self.last(self.eyes(observations)))


class Keyed(BaseFeaturesExtractor):
    def __init__(self, space):
        super().__init__(space, 6)
        self.market, self.mode = nn.Linear(4, 6), nn.Linear(3, 6)

    def forward(self, observations):
        return torch.tanh(self.market(observations["market"]) + self.mode(observations["mode"].flatten(1)))


class DuelingNet(QNetwork):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.advantage = nn.Linear(self.features_dim, 3)
        self.value = nn.Linear(self.features_dim, 1)

    def forward(self, obs):
        features = self.extract_features(obs, self.features_extractor)
        advantage = self.advantage(features)
        return self.value(features) + advantage - advantage.mean(1, keepdim=True)


class DuelingPolicy(DQNPolicy):
    def make_q_net(self):
        return DuelingNet(**self._update_features_extractor(self.net_args, features_extractor=None))


class QuantilePolicy(QRDQNPolicy):
    """Of the user's module: its class does not say whose algorithm's it is."""


class TemperedPolicy(SACPolicy):
    def __init__(self, *arguments, temperature=1.0, **named):
        self.temperature = temperature
        super().__init__(*arguments, **named)

    def make_critic(self, features_extractor=None):
        critic = super().make_critic(features_extractor)
        critic.register_parameter("bonus", nn.Parameter(torch.full((1,), self.temperature)))
        scale = critic.forward
        critic.forward = lambda obs, actions: tuple(each + critic.bonus for each in scale(obs, actions))
        return critic


class OneEncoder(SACPolicy):
    """Both critics begin with one and the same layer."""

    def make_critic(self, features_extractor=None):
        critic = super().make_critic(features_extractor)
        critic.qf1[0] = critic.qf0[0]
        return critic


class Sine(nn.Module):
    def forward(self, values):
        return torch.sin(values)


class HalfStep(torch.optim.Optimizer):
    """An optimizer of the user's own, with a state."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    average = self.state[parameter].setdefault("average", torch.zeros_like(parameter))
                    average.mul_(0.5).add_(parameter.grad)
                    parameter.sub_(group["lr"] * average)
'''
NAME = "user_agent_of_tests"


@contextmanager
def importable(folder: Path, source: str = SOURCE, name: str = NAME) -> Iterator[Any]:
    """The module, imported as a training script would; nothing of it is left afterwards."""
    (folder / f"{name}.py").write_text(source)
    sys.path.insert(0, str(folder))
    kept, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    importlib.invalidate_caches()
    try:
        yield importlib.import_module(name)
    finally:
        sys.dont_write_bytecode = kept
        sys.path.remove(str(folder))
        sys.modules.pop(name, None)


def truth(case: Case, checkpoint: Files) -> Any:
    """The library's model as its next train() finds it, with the actor's turn."""
    model = loaded(case, checkpoint)
    if case.algorithm in {"DQN", "QRDQN"}:
        model._on_step()  # runs between the checkpoint callback and train()
    if case.algorithm == "TD3":
        model.policy_delay = 1
    return model


def gradients_in_train(model: Any, *, seed: int = 5) -> Gradients:
    """What every optimizer holds inside its own step in one train(); parameters without gradient left out."""
    named = dict(model.policy.named_parameters())
    if getattr(model, "log_ent_coef", None) is not None:
        named["log_ent_coef"] = model.log_ent_coef
    names = {id(parameter): name for name, parameter in named.items()}
    seen: Gradients = {}

    def look(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for parameter in (each for group in optimizer.param_groups for each in group["params"]):
            if parameter.grad is not None:
                seen[names[id(parameter)]] = parameter.grad.detach().numpy().copy()

    hooks = [optimizer.register_step_pre_hook(look) for optimizer in optimizers(model)]
    set_random_seed(seed)
    model.train(gradient_steps=1, batch_size=16)
    for hook in hooks:
        hook.remove()
    return seen


def trusted(
    checkpoint: Files,
    folder: Path | None,
    *,
    batches: int = 1,
    batch_size: int = 16,
    announce: Any = None,
) -> Any:
    """What gradscope finds after consent."""
    normalizer = open_file(checkpoint.normalizer) if checkpoint.normalizer else None
    assert normalizer is None or isinstance(normalizer, Normalizer)
    return recompute_gradients(
        sb3_training(checkpoint.zip),
        sb3_ring(checkpoint.ring),
        normalizer,
        batches=batches,
        batch_size=batch_size,
        seed=5,
        user_code=UserCode(blobs=sb3_blobs(checkpoint.zip), folder=folder, announce=announce),
    )
