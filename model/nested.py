"""`make model-nested`: nested validation of the shipped family of models; its table goes into the card.

    python model/nested.py [--card]

Fifteen trainings of each setting, one thread: about ten minutes. What comes last is the choice of all inner folds together:
the constants of `folds.py`, `sets.py` and `trees.py` are to be that.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import torch

from report import table, write
from weir_model import data, evaluate, folds, nested, sets, trees
from weir_model.features import features, ordinals, scoring_windows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--card", action="store_true", help="write the table into MODEL_CARD.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    begun = time.time()
    log = lambda message: print(f"[{time.time() - begun:6.0f} s] {message}", flush=True)
    corpus = data.load()
    s = folds.training_set(corpus)
    w = scoring_windows(corpus.flows)
    steps, stats = features(corpus.flows, w)
    found = nested.scores(s, corpus, steps, stats, log)
    rows, chosen, best = nested.nested(corpus, found, w.seq, ordinals(w))
    outer = nested.groups(corpus.pairs)
    means = evaluate.summary(evaluate.measure(corpus.pairs, outer, chosen))
    spread = evaluate.bootstrap(corpus.pairs, outer, chosen)
    whole = [f"{name} {v:.3f} [{spread[name][0]:.3f}, {spread[name][1]:.3f}]" for name, v in means.items()]
    shipped = nested.Choice(trees.KIND, sets.GENERATED_BENIGN, folds.MIX, folds.PERSISTENCE)
    text = (
        f"{table(rows)}\n\nMacro average by family of the five outer folds, each with its own inner choice: "
        f"{', '.join(whole)}.\n\nThe choice of all inner folds together: {best}; shipped: "
        f"{'the same' if best == shipped else shipped}."
    )
    print(f"\n{text}")
    if arguments.card:
        write({"nested": text})


if __name__ == "__main__":
    main()
