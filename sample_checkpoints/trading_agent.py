"""A small trading agent on real prices: market indicators, environment, features extractor.

The prices are the hourly EURUSD bars of 2017 that gym-anytrading ships. One bar of an observation is
73 normalised market indicators followed by 7 position features; an observation is the last 4 bars,
oldest first: float32 [4, 80]. `make_samples.py` trains on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from eurusd import MARKET_NAMES, market
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

SEQUENCE_LENGTH = 4
POSITION_NAMES = (
    "position_duration_long_normalized",
    "position_duration_short_normalized",
    "position_pnl_unrealized_long_normalized",
    "position_pnl_unrealized_short_normalized",
    "position_size_long_normalized",
    "position_size_short_normalized",
    "position_margin_used_normalized",
)
FEATURE_NAMES = (*MARKET_NAMES, *POSITION_NAMES)
NUM_MARKET, NUM_POSITION, NUM_FEATURES = len(MARKET_NAMES), len(POSITION_NAMES), len(FEATURE_NAMES)
SLICES = {"market": f"0:{NUM_MARKET}", "position": f"{NUM_MARKET}:{NUM_FEATURES}"}

START_BAR = 2000  # the first pass starts here, the later ones where the indicators do
WARM_UP = 5000  # steps without real positions
LOT = 100  # euros
LOTS_MORE_A_WEEK = 2
WEEK = 120  # trading hours
LEVERAGE = 30  # the most that European brokers may offer private clients on EURUSD


@dataclass(frozen=True, kw_only=True)
class Position:
    """What the account holds: `direction` is 1 long, -1 short, 0 nothing; `entry` is the price paid."""

    direction: int = 0
    euros: float = LOT
    entry: float = 0.0
    bought: int = 0

    def features(self, price: float, hours: int) -> np.ndarray:
        """Float64 [7] in natural units: hours held, dollars won, thousands of euros, dollars of margin."""
        long, short = float(self.direction > 0), float(self.direction < 0)
        won = self.euros * self.direction * (price - self.entry)
        held = self.euros / 1000
        margin = self.euros * price / LEVERAGE * (long + short)
        return np.array(
            [hours * long, hours * short, won * long, won * short, held * long, held * short, margin]
        )

    def normalised(self, price: float, hours: int) -> np.ndarray:
        """The same features within [-2, 2]: per 100 hours, per cent of the price move, per position held."""
        cent, held, margin = self.euros / 100, self.euros / 1000, self.euros / LEVERAGE
        units = np.array([100, 100, cent, cent, held, held, margin])
        return np.clip(self.features(price, hours) / units, -2, 2)


class TradingEnv(gymnasium.Env[np.ndarray, Any]):
    """One EURUSD position, reconsidered every hour: keep it (0), be long (1), be short (2).

    During the first `WARM_UP` steps orders are only written on paper: they earn `paper_reward` times what
    a position would have earned, none is opened, and the position features stay 0. Afterwards the first
    order opens a position, which is only ever turned round; each new one is larger by two lots for each
    week that has passed. Rewards are in standard deviations of the hourly return.

    Args:
        natural_units: position features in hours, euros and dollars; else normalised.
        continuous: the action is a number in [-1, 1] whose sign is the order.
        paper_reward: share of the reward that paper orders earn.
        carry: interest for each hour a real position is long, paid where it is short.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(
        self,
        *,
        natural_units: bool = True,
        continuous: bool = False,
        paper_reward: float = 1.0,
        carry: float = 0.0,
    ) -> None:
        self.features, self.prices = market()
        returns = np.diff(self.prices) / self.prices[:-1]
        self.returns = returns / returns.std()
        self.natural_units, self.paper_reward, self.carry = natural_units, paper_reward, carry
        shape = (SEQUENCE_LENGTH, NUM_FEATURES)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, shape, np.float32)
        signed = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.action_space = signed if continuous else gymnasium.spaces.Discrete(3)
        self.num_steps, self.first_bar = 0, START_BAR

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin a pass over the prices without a position."""
        super().reset(seed=seed, options=options)
        self.bar, self.first_bar = self.first_bar, SEQUENCE_LENGTH
        self.paper, self.position = 0, Position()
        self.window = [self._row(self.bar - back) for back in reversed(range(SEQUENCE_LENGTH))]
        return np.stack(self.window), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Trade at this bar's close, hold for an hour, see the next bar."""
        self.num_steps += 1
        self._trade(self._order(action))
        reward = self._reward()
        self.bar += 1
        self.window = [*self.window[1:], self._row(self.bar)]
        at_end = self.bar + 1 >= len(self.prices)
        return np.stack(self.window), reward, False, at_end, {}

    def _order(self, action: Any) -> int:
        if isinstance(self.action_space, gymnasium.spaces.Box):
            return int(np.sign(action[0]))
        return (0, 1, -1)[int(action)]

    def _trade(self, order: int) -> None:
        self.paper = order or self.paper
        weeks = (self.num_steps - WARM_UP) * LOTS_MORE_A_WEEK // WEEK
        if self.num_steps > WARM_UP and order not in {0, self.position.direction}:
            self.position = Position(
                direction=order, euros=LOT * (1 + weeks), entry=self.prices[self.bar], bought=self.bar
            )

    def _reward(self) -> float:
        earned = self.returns[self.bar]
        if self.position.direction:
            return float(self.position.direction * (earned + self.carry))
        return float(self.paper_reward * self.paper * earned)

    def _row(self, bar: int) -> np.ndarray:
        position = self.position.features if self.natural_units else self.position.normalised
        held = position(self.prices[bar], bar - self.position.bought)
        return np.concatenate([self.features[bar], held]).astype(np.float32)


class SliceNorm(nn.Module):
    """The cure: a layer norm for each slice of a bar, so that neither slice's scale drowns the other."""

    def __init__(self) -> None:
        super().__init__()
        self.market = nn.LayerNorm(NUM_MARKET)
        self.position = nn.LayerNorm(NUM_POSITION)

    def forward(self, bars: torch.Tensor) -> torch.Tensor:
        """Bars [..., 80] -> bars [..., 80]."""
        market_part, position_part = bars.split((NUM_MARKET, NUM_POSITION), dim=-1)
        return torch.cat((self.market(market_part), self.position(position_part)), dim=-1)


class TradingExtractor(BaseFeaturesExtractor):
    """Projects each bar, lets the bars attend to each other, pools them with learned weights.

    Args:
        observation_space: float32 [bars, features].
        width: units of the projection, and features of the result.
        num_heads: heads of the attention.
        normalise: put a `SliceNorm` before the projection.
    """

    def __init__(
        self,
        observation_space: gymnasium.spaces.Box,
        *,
        width: int = 64,
        num_heads: int = 2,
        normalise: bool = False,
    ) -> None:
        super().__init__(observation_space, features_dim=width)
        num_bars, num_features = observation_space.shape
        self.input_norm = SliceNorm() if normalise else nn.Identity()
        self.temporal_projection = nn.Linear(num_features, width)
        nn.init.normal_(self.temporal_projection.weight, std=0.02)  # usual for Transformers since BERT
        nn.init.zeros_(self.temporal_projection.bias)
        self.attention = nn.MultiheadAttention(width, num_heads, batch_first=True)
        self.pooling = nn.Parameter(torch.zeros(num_bars))

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Observations [rows, bars, features] -> [rows, width]."""
        bars = torch.relu(self.temporal_projection(self.input_norm(observations)))
        attended, _ = self.attention(bars, bars, bars, need_weights=False)
        weights = torch.softmax(self.pooling, dim=0)
        return torch.einsum("b,rbw->rw", weights, bars + attended)
