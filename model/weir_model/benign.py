"""Generated benign sequences: their kinds and how often each is drawn."""

from __future__ import annotations

import numpy as np

from .everyday import browsing, resolver, busy_resolver, sessions, discovery, peers, peers_tcp, single, kept
from .lookalikes import (
    updates,
    ntp,
    telemetry,
    monitoring,
    backup,
    calls,
    mail,
    push,
    polling,
    connectivity,
    probe,
    devices,
    lan_api,
)
from .transport import Rng, Seq

KINDS = {
    updates: 0.09,
    ntp: 0.05,
    telemetry: 0.1,
    monitoring: 0.07,
    backup: 0.06,
    calls: 0.03,
    mail: 0.05,
    push: 0.07,
    polling: 0.07,
    browsing: 0.13,
    resolver: 0.07,
    busy_resolver: 0.03,
    sessions: 0.05,
    devices: 0.04,
    discovery: 0.02,
    peers: 0.02,
    lan_api: 0.03,
    single: 0.02,
    kept: 0.015,
    connectivity: 0.005,
    probe: 0.005,
    peers_tcp: 0.005,
}


def benign(rng: Rng) -> Seq:
    """One benign sequence."""
    kinds, odds = list(KINDS), np.array(list(KINDS.values()))
    return kinds[rng.choice(len(kinds), p=odds / odds.sum())](rng)
