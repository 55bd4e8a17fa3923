"""The network: the steps of a window to class logits. Plain tensor operations of fixed shape, no recurrence.

The trees read the window's statistics; the network reads the sequence alone, so that the two err differently.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from .events import WINDOW
from .features import STEP_NAMES
from .flows import CLASSES


class Net(nn.Module):
    """A layer for each step, a causal look at the two steps before, attention over the valid steps beside the last one.
    About 17 thousand parameters."""

    def __init__(self, width: int = 32, heads: int = 4, hidden: int = 64, dropout: float = 0.2):
        super().__init__()
        self.heads = heads
        self.step = nn.Linear(len(STEP_NAMES), width)
        self.look = nn.Linear(3 * width, width)
        self.attend = nn.Linear(width, heads)
        self.head = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(width * (heads + 1), hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, len(CLASSES)),
        )

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        """`steps` [n, 32, F] as `features` gives them; logits [n, classes]."""
        valid = steps[:, :, 0:1]
        x = torch.relu(self.step(steps)) * valid
        blank = torch.zeros_like(x[:, :1])
        back = torch.cat([blank, x[:, :-1]], 1)
        back2 = torch.cat([blank, back[:, :-1]], 1)
        x = torch.relu(self.look(torch.cat([x, back, back2], 2)))
        weight = torch.softmax(self.attend(x) + (valid - 1.0) * 1e4, 1)
        pooled = torch.matmul(weight.transpose(1, 2), x).reshape(-1, self.heads * x.shape[2])
        return self.head(torch.cat([pooled, x[:, WINDOW - 1]], 1))


def train(steps, y, w, seed: int, windows: int = 160_000, batch: int = 256, rate: float = 3e-3) -> Net:
    """Trains on `windows` rows drawn by weight; the same seed, data and library give the same network on one machine."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = Net()
    p = np.cumsum(w / w.sum())
    total = windows // batch
    optimiser = torch.optim.AdamW(net.parameters(), rate, weight_decay=2e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=total)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.02)
    net.train()
    for _ in range(total):
        rows = np.minimum(np.searchsorted(p, rng.random(batch)), len(p) - 1)
        loss = loss_of(net(torch.from_numpy(steps[rows])), torch.from_numpy(y[rows]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return net.eval()


def logits(net: Net, steps: np.ndarray) -> np.ndarray:
    """In batches, as float32 [n, classes]."""
    with torch.no_grad():
        return np.concatenate([net(torch.from_numpy(steps[i : i + 4096])).numpy() for i in range(0, len(steps), 4096)])


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)
