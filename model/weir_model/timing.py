"""When generated clients call: sleeps, jitter, missed beats, working hours, outages, and human or event-driven times."""

from __future__ import annotations

import numpy as np

from .transport import Rng, loguniform


def observation(rng: Rng) -> float:
    """How long the pair is watched, s: two minutes to three days."""
    return float(loguniform(rng, 120, 3 * 86400))


def beats(rng: Rng, sleep: float, jitter: float, style: str, span: float, cap: int, missed: float = 0.0) -> np.ndarray:
    """Times of a client that sleeps `sleep` s between calls.

    `style` is where the jitter goes: "below" (sleep less up to the share), "around" (either side), "above" (added), "normal".
    """
    n = int(np.clip(span / max(sleep, 1e-3) + 2, 2, cap * 2))
    u = rng.random(n)
    factor = {
        "below": 1 - jitter * u,
        "around": 1 + jitter * (2 * u - 1),
        "above": 1 + jitter * u,
        "normal": np.maximum(1 + jitter * rng.normal(size=n) / 2, 0.05),
    }[style]
    t = np.cumsum(sleep * factor) - sleep * factor[0] + rng.uniform(0, min(sleep, span / 4))
    t = t[t <= span] if (t <= span).sum() >= 1 else t[:1]
    if missed > 0:
        keep = rng.random(len(t)) >= missed
        keep[0] = True
        t = t[keep]
    return t[:cap]


def outages(rng: Rng, t: np.ndarray) -> np.ndarray:
    """Without one or two stretches: the host slept or the network was down."""
    if len(t) < 6:
        return t
    keep = np.ones(len(t), bool)
    for _ in range(rng.integers(1, 3)):
        a = rng.uniform(t[0], t[-1])
        keep &= ~((t > a) & (t < a + rng.uniform(0.05, 0.3) * (t[-1] - t[0])))
    return t[keep] if keep.sum() >= 2 else t


def working_hours(rng: Rng, t: np.ndarray) -> np.ndarray:
    """Only within a working day of 7 to 11 hours that begins at a random time of the observation."""
    begin, length = rng.uniform(0, 86400), rng.uniform(7, 11) * 3600
    kept = t[((t - begin) % 86400) < length]
    return kept if len(kept) >= 2 else t


def bursts(rng: Rng, span: float, cap: int) -> np.ndarray:
    """Human or event-driven times: heavy-tailed pauses between sessions, short ones inside."""
    out, t = [], rng.exponential(span / 20)
    pause, inside = loguniform(rng, 20, 4000), loguniform(rng, 0.02, 8)
    while t < span and len(out) < cap:
        k = int(np.minimum(rng.geometric(rng.uniform(0.08, 0.6)), cap))
        steps = rng.exponential(inside, k) * rng.lognormal(0, 1, k)
        out.extend((t + np.cumsum(steps)).tolist())
        t = out[-1] + pause * rng.lognormal(0, 1.2)
    return np.sort(np.array(out[:cap])) if out else np.array([0.0])


def poisson(rng: Rng, mean_gap: float, span: float, cap: int) -> np.ndarray:
    """Memoryless calls."""
    t = np.cumsum(rng.exponential(mean_gap, int(np.clip(span / mean_gap + 4, 2, cap))))
    return t[t <= span] if (t <= span).any() else t[:1]
