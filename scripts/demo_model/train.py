"""Trains the demonstration model in two phases and keeps a checkpoint, so that it can be stopped and resumed.

The *clean* phase teaches the tasks. Its errors are systematic, and voting mends no systematic error.
The *noisy* phase therefore goes on with sums in which some of the steps slip: the model learns to slip
at random, as a sampled language model does, while its most likely answer stays right.
"""

import argparse
import functools
import math
import pickle
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import data
import model
import splits

SEED = 7
SHAPE = {64: 15, 96: 13, 128: 11, 160: 7, 208: 5, 288: 2}  # rows of each length in a batch
ADAM_RATE, MUON_RATE, DECAY = 3e-3, 0.02, 0.01
CHECKPOINT_SECONDS = 120


def loss_of(params, batch):
    inputs, targets, weights = zip(*batch)
    targets, weights = (jnp.concatenate([x.reshape(-1) for x in part]) for part in (targets, weights))
    logits = model.forward(params, inputs)
    picked = jnp.sum(logits * jax.nn.one_hot(targets, logits.shape[-1]), -1)
    return jnp.sum((jax.nn.logsumexp(logits, -1) - picked) * weights) / jnp.sum(weights)


def orthogonal(matrix):
    """The nearest orthogonal matrix, roughly, by five Newton-Schulz turns (the heart of the Muon optimiser)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (jnp.linalg.norm(x) + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x


def is_matrix(path):
    return getattr(path[-1], "key", None) in model.MATRICES


@functools.partial(jax.jit, donate_argnums=(0, 1, 2))
def step(params, first, second, batch, turn, factor):
    """One step: Muon for the layers' matrices, AdamW for the rest; `factor` scales both learning rates."""
    loss, grads = jax.value_and_grad(loss_of)(params, batch)
    size = jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree.leaves(grads)))
    grads = jax.tree.map(lambda g: g * jnp.minimum(1.0, 1.0 / (size + 1e-6)), grads)

    def change(path, p, g, m, s):
        if is_matrix(path):
            m = 0.95 * m + g
            update = orthogonal(g + 0.95 * m) * max(1.0, p.shape[1] / p.shape[0]) ** 0.5
            return p * (1 - MUON_RATE * factor * DECAY) - MUON_RATE * factor * update, m, s
        m = 0.9 * m + 0.1 * g
        s = 0.98 * s + 0.02 * g * g
        update = (m / (1 - 0.9**turn)) / (jnp.sqrt(s / (1 - 0.98**turn)) + 1e-8)
        return p - ADAM_RATE * factor * update, m, s

    changed = jax.tree_util.tree_map_with_path(change, params, grads, first, second)
    pick = lambda n: jax.tree.map(lambda _, t: t[n], params, changed)
    return pick(0), pick(1), pick(2), loss


def schedule(turn, horizon, warm_up):
    """Warm-up, then a cosine down to a fiftieth."""
    if turn < warm_up:
        return (turn + 1) / warm_up
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (turn - warm_up) / max(1, horizon - warm_up)))


def save(path, state):
    temporary = path.with_suffix(".part")
    with open(temporary, "wb") as out:
        pickle.dump(jax.tree.map(np.asarray, state), out)
    temporary.replace(path)


def load(path):
    with open(path, "rb") as source:
        return pickle.load(source)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("phase", choices=("clean", "noisy"))
    parser.add_argument("--work", type=Path, default=Path(__file__).parent / "work")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--horizon", type=int, help="the step at which the learning rates would end; the last one unless told")
    parser.add_argument("--rate", type=float, default=1.0, help="scales the learning rates")
    parser.add_argument("--slips", type=float, default=0.0, help="share of the steps that slip")
    options = parser.parse_args()

    horizon = options.horizon or options.steps
    options.work.mkdir(parents=True, exist_ok=True)
    path = options.work / f"{options.phase}.pkl"
    zeros = lambda tree: jax.tree.map(np.zeros_like, tree)
    if path.exists():
        state = load(path)
    else:
        params = model.init(SEED) if options.phase == "clean" else load(options.work / "clean.pkl")["params"]
        state = {"params": params, "first": zeros(params), "second": zeros(params), "turn": 0, "seconds": 0.0}
    params, first, second = state["params"], state["first"], state["second"]
    turn, spent = int(state["turn"]), float(state["seconds"])

    # A resumed run draws fresh examples instead of finding its place in the old sequence.
    seed = f"{SEED}/{options.phase}/{turn}"
    batches = data.Batches(seed, SHAPE, options.slips, splits.held_out())
    began = saved = time.monotonic()
    recent = []
    while turn < options.steps:
        factor = options.rate * schedule(turn, horizon, warm_up=100 if options.phase == "clean" else 20)
        params, first, second, loss = step(params, first, second, batches.next(), turn + 1.0, factor)
        turn += 1
        recent.append(float(loss))
        now = time.monotonic()
        if turn % 20 == 0 or turn == options.steps:
            print(f"{options.phase} {turn} loss {np.mean(recent):.4f} after {spent + now - began:.0f} s", flush=True)
            recent = []
        if now - saved > CHECKPOINT_SECONDS or turn == options.steps:
            state = {"params": params, "first": first, "second": second, "turn": turn, "seconds": spent + now - began}
            save(path, state)
            saved = now


if __name__ == "__main__":
    main()
