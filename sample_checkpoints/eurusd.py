"""The market half of an observation: 73 indicators of the hourly EURUSD prices of 2017.

gym-anytrading (MIT licence) ships the prices: 6,225 hourly bars, open, high, low, close and volume.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
from gym_anytrading.datasets import FOREX_EURUSD_1H_ASK

FIRST_BAR = 150  # the longest indicator looks 144 hours back
MARKET_NAMES = (
    *(f"return_{hours}h" for hours in (1, 2, 3, 4, 6, 8, 12, 24, 48, 72, 96, 120)),
    *(f"volatility_{hours}h" for hours in (6, 12, 24, 48, 96)),
    *(f"rsi_{hours}h" for hours in (6, 14, 24, 48)),
    *(f"macd_{part}_{speed}" for speed in ("fast", "slow") for part in ("line", "signal", "gap")),
    *(f"sma_distance_{hours}h" for hours in (6, 12, 24, 48, 96, 120)),
    *(f"ema_distance_{hours}h" for hours in (6, 12, 24, 48, 96)),
    *(f"bollinger_{part}_{h}h" for h in (12, 24, 48, 96) for part in ("position", "width")),
    *(f"stochastic_{hours}h" for hours in (6, 14, 24, 48)),
    *(f"stochastic_smooth_{hours}h" for hours in (14, 24)),
    *(f"momentum_score_{hours}h" for hours in (4, 8, 12, 24, 48)),
    *(f"commodity_channel_{hours}h" for hours in (14, 24, 48)),
    *(f"true_range_{hours}h" for hours in (6, 14, 24)),
    *("candle_body", "candle_upper_wick", "candle_lower_wick", "candle_range"),
    *(f"volume_{hours}h" for hours in (24, 96)),
    *("hour_sin", "hour_cos", "weekday_sin", "weekday_cos"),
)


def indicators(prices: pd.DataFrame) -> dict[str, pd.Series]:
    """Every market indicator of `prices` (Open, High, Low, Close, Volume), before normalising."""
    open_, high, low, close = (prices[name] for name in ("Open", "High", "Low", "Close"))
    log_close, volume = np.log(close), np.log1p(prices["Volume"])
    step = log_close.diff()
    deviation = step.rolling(120).std()
    reach = pd.concat([high - low, (high - close.shift()).abs(), (low - close.shift()).abs()], axis=1)
    true_range, typical = reach.max(axis=1), (high + low + close) / 3

    def rsi(hours: int) -> pd.Series:
        gain, loss = step.clip(lower=0).rolling(hours).sum(), -step.clip(upper=0).rolling(hours).sum()
        return gain / (gain + loss + 1e-12)

    def macd(fast: int, slow: int, smooth: int) -> tuple[pd.Series, pd.Series, pd.Series]:
        line = close.ewm(span=fast).mean() - close.ewm(span=slow).mean()
        signal = line.ewm(span=smooth).mean()
        return line, signal, line - signal

    def stochastic(hours: int) -> pd.Series:
        lowest, highest = low.rolling(hours).min(), high.rolling(hours).max()
        return (close - lowest) / (highest - lowest + 1e-12)

    def score(series: pd.Series, hours: int) -> pd.Series:
        rolling = series.rolling(hours)
        return (series - rolling.mean()) / (rolling.std() + 1e-12)

    def channel(hours: int) -> pd.Series:
        mean = typical.rolling(hours).mean()
        return (typical - mean) / ((typical - mean).abs().rolling(hours).mean() + 1e-12)

    time = pd.to_datetime(prices["Time"], format="%d.%m.%Y %H:%M:%S.%f").dt
    hour, weekday = 2 * np.pi * time.hour / 24, 2 * np.pi * time.weekday / 7
    body = np.maximum(open_, close), np.minimum(open_, close)
    columns = [
        *(log_close.diff(h) for h in (1, 2, 3, 4, 6, 8, 12, 24, 48, 72, 96, 120)),
        *(np.log((step.rolling(h).std() + 1e-6) / deviation) for h in (6, 12, 24, 48, 96)),
        *(rsi(h) for h in (6, 14, 24, 48)),
        *macd(12, 26, 9),
        *macd(24, 52, 18),
        *(close / close.rolling(h).mean() - 1 for h in (6, 12, 24, 48, 96, 120)),
        *(close / close.ewm(span=h).mean() - 1 for h in (6, 12, 24, 48, 96)),
        *(part for h in (12, 24, 48, 96) for part in (score(close, h), np.log(close.rolling(h).std()))),
        *(stochastic(h) for h in (6, 14, 24, 48)),
        *(stochastic(h).rolling(3).mean() for h in (14, 24)),
        *(score(log_close.diff(h), 2 * h) for h in (4, 8, 12, 24, 48)),
        *(channel(h) for h in (14, 24, 48)),
        *(true_range.rolling(h).mean() / close for h in (6, 14, 24)),
        *(close - open_, high - body[0], body[1] - low, high - low),
        *(score(volume, h) for h in (24, 96)),
        *(np.sin(hour), np.cos(hour), np.sin(weekday), np.cos(weekday)),
    ]
    return dict(zip(MARKET_NAMES, columns, strict=True))


@cache
def market() -> tuple[np.ndarray, np.ndarray]:
    """Indicators float32 [bars, 73] within [-2, 2], and closing prices float64 [bars].

    Each indicator is normalised by its own mean and deviation over the year: enough to study
    gradients, and a look into the future for anyone who would trade on it.
    """
    prices = FOREX_EURUSD_1H_ASK.reset_index()
    table = pd.DataFrame(indicators(prices)).iloc[FIRST_BAR:]
    normalised = ((table - table.mean()) / table.std()).clip(-2, 2)
    return (
        normalised.to_numpy(np.float32),
        prices["Close"].to_numpy(np.float64)[FIRST_BAR:],
    )
