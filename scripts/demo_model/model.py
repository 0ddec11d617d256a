"""The network: a small Llama in JAX, with the forward pass for training and a sampler to look at it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import vocabulary as v

LAYERS, WIDTH, HEADS, HIDDEN = 4, 128, 4, 384
HEAD = WIDTH // HEADS
EPSILON, ROPE_BASE, CONTEXT = 1e-5, 10000.0, 512

MATRICES = {
    "q": (WIDTH, WIDTH), "k": (WIDTH, WIDTH), "v": (WIDTH, WIDTH), "o": (WIDTH, WIDTH),
    "gate": (WIDTH, HIDDEN), "up": (WIDTH, HIDDEN), "down": (HIDDEN, WIDTH),
}  # fmt: skip


def init(seed):
    """Fresh parameters. A matrix has its inputs in rows here; the export turns it over."""
    rng = np.random.default_rng(seed)

    def normal(*shape, scale):
        return (rng.standard_normal(shape) * scale).astype(np.float32)

    layers = []
    for _ in range(LAYERS):
        layer = {name: normal(*shape, scale=shape[0] ** -0.5) for name, shape in MATRICES.items()}
        for name in ("o", "down"):
            layer[name] *= (2 * LAYERS) ** -0.5
        layer["attn_norm"] = np.ones(WIDTH, np.float32)
        layer["ffn_norm"] = np.ones(WIDTH, np.float32)
        layers.append(layer)
    return {
        "embed": normal(v.SIZE, WIDTH, scale=0.5),
        "head": normal(v.SIZE, WIDTH, scale=0.5 * WIDTH**-0.5),
        "norm": np.ones(WIDTH, np.float32),
        "layers": layers,
    }


def norm(x, weight):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + EPSILON) * weight


def angles(positions):
    """Cosines and sines of the rotary embedding; Llama pairs neighbouring dimensions."""
    rates = ROPE_BASE ** (-np.arange(0, HEAD, 2) / HEAD)
    turn = positions[..., None].astype(jnp.float32) * rates.astype(np.float32)
    return jnp.repeat(jnp.cos(turn), 2, -1), jnp.repeat(jnp.sin(turn), 2, -1)


_SWAP = np.zeros((HEAD, HEAD), np.float32)  # (a, b) -> (-b, a) for each pair, as a matrix
_SWAP[np.arange(1, HEAD, 2), np.arange(0, HEAD, 2)] = -1
_SWAP[np.arange(0, HEAD, 2), np.arange(1, HEAD, 2)] = 1


def rotate(x, cos, sin):
    return x * cos + (x @ _SWAP) * sin


def feed_forward(layer, x):
    y = norm(x, layer["ffn_norm"])
    return x + (jax.nn.silu(y @ layer["gate"]) * (y @ layer["up"])) @ layer["down"]


def attend(query, key, value, rows, length):
    """Causal attention for tokens laid out one below the other: `rows` texts of `length` each."""
    cos, sin = angles(jnp.arange(length))
    mask = jnp.where(np.tril(np.ones((length, length), bool)), 0.0, -1e9)
    split = lambda y: y.reshape(rows, length, HEADS, HEAD).transpose(0, 2, 1, 3)
    query = rotate(split(query), cos, sin) * HEAD**-0.5
    scores = jax.nn.softmax(query @ rotate(split(key), cos, sin).transpose(0, 1, 3, 2) + mask, axis=-1)
    return (scores @ split(value)).transpose(0, 2, 1, 3).reshape(rows * length, WIDTH)


def forward(params, groups):
    """Logits for several arrays of token ids, each of its own length: (all tokens, vocabulary).

    Only attention needs to know the rows. Everything else sees one tall matrix of tokens, which keeps
    the matrix products plain: with more axes JAX's CPU back end takes a slow path for their gradients.
    """
    ids = jnp.concatenate([group.reshape(-1) for group in groups])
    ends = np.cumsum([group.size for group in groups])[:-1]
    x = jax.nn.one_hot(ids, v.SIZE, dtype=jnp.float32) @ params["embed"]
    for layer in params["layers"]:
        y = norm(x, layer["attn_norm"])
        parts = zip(*(jnp.split(y @ layer[name], ends) for name in "qkv"))
        mixed = [attend(*part, *group.shape) for part, group in zip(parts, groups)]
        x = x + jnp.concatenate(mixed) @ layer["o"]
        x = feed_forward(layer, x)
    return norm(x, params["norm"]) @ params["head"].T


@functools.partial(jax.jit, static_argnums=(5,))
def _sample(params, prompts, sizes, temperature, key, length):
    """One token a turn for all rows at once: the prompt's while it lasts, then a sampled one."""
    rows = prompts.shape[0]
    cache = jnp.zeros((LAYERS, 2, rows, HEADS, length, HEAD), jnp.float32)
    out = jnp.full((rows, length + 1), v.PAD, jnp.int32).at[:, : prompts.shape[1]].set(prompts)
    done = jnp.zeros(rows, bool)

    def more(state):
        return (state[0] < length) & ~jnp.all(state[3])

    def turn(state):
        at, out, cache, done, key = state
        key, draw = jax.random.split(key)
        cos, sin = angles(at[None])
        x = params["embed"][out[:, at]]
        for n, layer in enumerate(params["layers"]):
            y = norm(x, layer["attn_norm"])
            split = lambda z: z.reshape(rows, HEADS, 1, HEAD)
            new = jnp.stack([rotate(split(y @ layer["k"]), cos, sin), split(y @ layer["v"])])
            cache = jax.lax.dynamic_update_slice(cache, new[None], (n, 0, 0, 0, at, 0))
            query = rotate(split(y @ layer["q"]), cos, sin) * HEAD**-0.5
            scores = jnp.einsum("rhqd,rhtd->rhqt", query, cache[n, 0])
            scores = jnp.where(jnp.arange(length) <= at, scores, -1e9)
            mixed = jnp.einsum("rhqt,rhtd->rhqd", jax.nn.softmax(scores, -1), cache[n, 1])
            x = x + mixed.reshape(rows, WIDTH) @ layer["o"]
            x = feed_forward(layer, x)
        logits = norm(x, params["norm"]) @ params["head"].T
        noise = jax.random.gumbel(draw, logits.shape) * temperature
        token = jnp.where(done, v.PAD, jnp.argmax(logits + noise, -1).astype(jnp.int32))
        told = at + 1 < sizes
        token = jnp.where(told, out[:, jnp.minimum(at + 1, length)], token)
        out = out.at[:, at + 1].set(token)
        done = done | (~told & (token == v.EOS))
        return at + 1, out, cache, done, key

    return jax.lax.while_loop(more, turn, (0, out, cache, done, key))[1]


def sample(params, prompts, temperature, seed, length=288):
    """The answers, as text, to a list of prompts (token ids)."""
    table = np.full((len(prompts), length + 1), v.PAD, np.int32)
    for row, prompt in enumerate(prompts):
        table[row, : len(prompt)] = prompt
    sizes = np.array([len(prompt) for prompt in prompts], np.int32)
    out = np.asarray(_sample(params, table, sizes, temperature, jax.random.key(seed), length))
    return [v.decode(row[size:]) for row, size in zip(out.tolist(), sizes)]
