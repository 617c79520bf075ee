#!/usr/bin/env python3
"""A small GPT-2 in float64 with hand-written gradients and AdamW: the reference for train_gpt.

  gpt_tiny.py [DIR]   checks its gradients by central differences, then writes to DIR (default: the
                      folder of this script) the files

gpt_tiny.safetensors  initial weights, fp32, Hugging Face names, linear weights [in, out]
gpt_tiny.tokens.bin   256 int32 {20240520, 1, count, 0...}, then the tokens as uint16
gpt_tiny.losses       lines of 12 losses, each before its update: plain; with weight decay 0.1 and the
                      gradient clipped to a norm of 0.5; with each block applied twice in a row

Needs numpy only. Random numbers are splitmix64's, so the files do not depend on numpy's version.
"""
import json
import os
import sys
import numpy as np

L, C, H, T, V, B = 2, 32, 4, 24, 61, 3  # layers, channels, heads, sequence, vocabulary, batch
STEPS, N_TOKENS = 12, 500               # 6 steps, then the next would pass the end: back to 0
LR, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8
GELU = np.sqrt(2 / np.pi)

# ---- data --------------------------------------------------------------------------------------


class Random:
    def __init__(self, seed):
        self.state = seed

    def u64(self):
        mask = 2**64 - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & mask
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    def uniform(self, shape, middle, radius):
        n = int(np.prod(shape))
        u = np.array([self.u64() >> 40 for _ in range(n)], np.float64) / 2**23 - 1
        return (middle + radius * u).astype(np.float32).reshape(shape)


def make_weights(random):
    """No parameter is at a value that hides it: gains are not 1, biases not 0."""
    shapes = [("wte.weight", (V, C)), ("wpe.weight", (T, C))]
    for i in range(L):
        shapes += [(f"h.{i}.{name}", shape) for name, shape in (
            ("ln_1.weight", (C,)), ("ln_1.bias", (C,)),
            ("attn.c_attn.weight", (C, 3 * C)), ("attn.c_attn.bias", (3 * C,)),
            ("attn.c_proj.weight", (C, C)), ("attn.c_proj.bias", (C,)),
            ("ln_2.weight", (C,)), ("ln_2.bias", (C,)),
            ("mlp.c_fc.weight", (C, 4 * C)), ("mlp.c_fc.bias", (4 * C,)),
            ("mlp.c_proj.weight", (4 * C, C)), ("mlp.c_proj.bias", (C,)))]
    shapes += [("ln_f.weight", (C,)), ("ln_f.bias", (C,))]
    weights = {}
    for name, shape in shapes:
        gain = "ln_" in name and name.endswith("weight")
        weights[name] = random.uniform(shape, 1.0 if gain else 0.0, 0.2 if len(shape) == 2 else 0.1)
    return weights


def make_tokens(random):
    """Learnable: mostly a fixed successor of the token before, now and then any token."""
    tokens = [7]
    while len(tokens) < N_TOKENS:
        any_token = random.u64() % 8 == 0
        tokens.append(random.u64() % V if any_token else (tokens[-1] * 5 + 3) % V)
    return np.array(tokens, np.int64)


def batch_at(tokens, position):
    if position + B * T + 1 > len(tokens):
        position = 0
    x = tokens[position:position + B * T].reshape(B, T)
    y = tokens[position + 1:position + B * T + 1].reshape(B, T)
    return x, y, position + B * T


# ---- model -------------------------------------------------------------------------------------


def norm_forward(x, w, b):
    d = x - x.mean(-1, keepdims=True)
    rstd = 1 / np.sqrt((d * d).mean(-1, keepdims=True) + 1e-5)
    z = d * rstd
    return z * w + b, (z, rstd)


def norm_backward(dy, w, cache):
    z, rstd = cache
    dz = dy * w
    dx = rstd * (dz - dz.mean(-1, keepdims=True) - z * (dz * z).mean(-1, keepdims=True))
    return dx, (dy * z).sum((0, 1)), dy.sum((0, 1))


def linear_backward(dy, x, w):
    rows = x.reshape(-1, x.shape[-1])
    drows = dy.reshape(-1, dy.shape[-1])
    return dy @ w.T, rows.T @ drows, drows.sum(0)


def heads(x):
    return x.reshape(B, T, H, C // H).transpose(0, 2, 1, 3)


def merge(x):
    return x.transpose(0, 2, 1, 3).reshape(B, T, C)


def loss_and_gradients(p, x, y, share=1):
    mask = np.triu(np.full((T, T), -np.inf), 1)
    g = {}
    r = p["wte.weight"][x] + p["wpe.weight"][:T]
    caches = []
    for layer in range(L * share):
        i = layer // share
        q = {k[len(f"h.{i}."):]: v for k, v in p.items() if k.startswith(f"h.{i}.")}
        n1, c1 = norm_forward(r, q["ln_1.weight"], q["ln_1.bias"])
        qkv = n1 @ q["attn.c_attn.weight"] + q["attn.c_attn.bias"]
        Q, K, W = (heads(s) for s in np.split(qkv, 3, axis=-1))
        s = Q @ K.transpose(0, 1, 3, 2) / np.sqrt(C // H) + mask
        e = np.exp(s - s.max(-1, keepdims=True))
        a = e / e.sum(-1, keepdims=True)
        o = merge(a @ W)
        r = r + o @ q["attn.c_proj.weight"] + q["attn.c_proj.bias"]
        n2, c2 = norm_forward(r, q["ln_2.weight"], q["ln_2.bias"])
        f = n2 @ q["mlp.c_fc.weight"] + q["mlp.c_fc.bias"]
        t = np.tanh(GELU * (f + 0.044715 * f**3))
        u = 0.5 * f * (1 + t)
        r = r + u @ q["mlp.c_proj.weight"] + q["mlp.c_proj.bias"]
        caches.append((q, n1, c1, Q, K, W, a, o, n2, c2, f, t, u))
    nf, cf = norm_forward(r, p["ln_f.weight"], p["ln_f.bias"])
    logits = nf @ p["wte.weight"].T
    logits -= logits.max(-1, keepdims=True)
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    loss = -np.take_along_axis(logp, y[..., None], -1).mean()

    dlogits = np.exp(logp)
    np.put_along_axis(dlogits, y[..., None], np.take_along_axis(dlogits, y[..., None], -1) - 1, -1)
    dlogits /= B * T
    g["wte.weight"] = dlogits.reshape(-1, V).T @ nf.reshape(-1, C)
    dr, g["ln_f.weight"], g["ln_f.bias"] = norm_backward(dlogits @ p["wte.weight"],
                                                         p["ln_f.weight"], cf)
    for layer in reversed(range(L * share)):
        i = layer // share
        q, n1, c1, Q, K, W, a, o, n2, c2, f, t, u = caches[layer]

        def put(name, dw, db):
            for kind, d in (("weight", dw), ("bias", db)):
                key = f"h.{i}.{name}.{kind}"
                g[key] = g[key] + d if key in g else d

        du, dw, db = linear_backward(dr, u, q["mlp.c_proj.weight"])
        put("mlp.c_proj", dw, db)
        slope = 0.5 * (1 + t) + 0.5 * f * (1 - t * t) * GELU * (1 + 3 * 0.044715 * f * f)
        dn, dw, db = linear_backward(du * slope, n2, q["mlp.c_fc.weight"])
        put("mlp.c_fc", dw, db)
        dx, dw, db = norm_backward(dn, q["ln_2.weight"], c2)
        put("ln_2", dw, db)
        dr = dr + dx
        do, dw, db = linear_backward(dr, o, q["attn.c_proj.weight"])
        put("attn.c_proj", dw, db)
        do = heads(do)
        da = do @ W.transpose(0, 1, 3, 2)
        ds = a * (da - (da * a).sum(-1, keepdims=True)) / np.sqrt(C // H)
        dqkv = np.concatenate([merge(ds @ K), merge(ds.transpose(0, 1, 3, 2) @ Q),
                               merge(a.transpose(0, 1, 3, 2) @ do)], -1)
        dn, dw, db = linear_backward(dqkv, n1, q["attn.c_attn.weight"])
        put("attn.c_attn", dw, db)
        dx, dw, db = norm_backward(dn, q["ln_1.weight"], c1)
        put("ln_1", dw, db)
        dr = dr + dx
    np.add.at(g["wte.weight"], x.ravel(), dr.reshape(-1, C))
    g["wpe.weight"] = dr.sum(0)
    return loss, g


# ---- training ----------------------------------------------------------------------------------


def to_double(weights):
    return {k: v.astype(np.float64) for k, v in weights.items()}


def train(weights, tokens, weight_decay, clip, share):
    p = to_double(weights)
    m = {k: np.zeros_like(x) for k, x in p.items()}
    v = {k: np.zeros_like(x) for k, x in p.items()}
    losses, clipped, position = [], 0, 0
    for step in range(1, STEPS + 1):
        x, y, position = batch_at(tokens, position)
        loss, g = loss_and_gradients(p, x, y, share)
        losses.append(loss)
        scale = 1.0
        if clip:
            scale = min(1.0, clip / (np.sqrt(sum((d * d).sum() for d in g.values())) + 1e-6))
            clipped += scale < 1
        for k in p:
            d = g[k] * scale
            m[k] = BETA1 * m[k] + (1 - BETA1) * d
            v[k] = BETA2 * v[k] + (1 - BETA2) * d * d
            p[k] = p[k] * (1 - LR * weight_decay)
            p[k] -= LR * (m[k] / (1 - BETA1**step)) / (np.sqrt(v[k] / (1 - BETA2**step)) + EPS)
    assert not clip or clipped == STEPS, f"only {clipped} of {STEPS} steps clip"
    return losses


def check_gradients(weights, tokens, random, share, h=1e-5):
    """Three entries of every tensor: central differences agree to 1e-7 of the largest gradient."""
    p = to_double(weights)
    x, y, _ = batch_at(tokens, 0)
    _, g = loss_and_gradients(p, x, y, share)
    assert g.keys() == p.keys()
    worst = 0.0
    for k in p:
        for _ in range(3):
            i = random.u64() % p[k].size
            old = p[k].flat[i]
            p[k].flat[i] = old + h
            above = loss_and_gradients(p, x, y, share)[0]
            p[k].flat[i] = old - h
            below = loss_and_gradients(p, x, y, share)[0]
            p[k].flat[i] = old
            error = abs((above - below) / (2 * h) - g[k].flat[i]) / max(1e-3, abs(g[k]).max())
            assert error < 1e-7, f"{k}[{i}]: gradient is off by {error:.2e}"
            worst = max(worst, error)
    return worst


# ---- files -------------------------------------------------------------------------------------


def save_weights(path, weights):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for k, v in weights.items():
        header[k] = {"dtype": "F32", "shape": list(v.shape), "data_offsets": [at, at + v.nbytes]}
        at += v.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for v in weights.values():
            f.write(v.astype("<f4").tobytes())


def save_tokens(path, tokens):
    header = np.zeros(256, "<i4")
    header[:3] = 20240520, 1, len(tokens)
    with open(path, "wb") as f:
        f.write(header.tobytes() + tokens.astype("<u2").tobytes())


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(sys.argv[0])
    out = os.path.join(folder, "gpt_tiny")
    random = Random(1)
    weights, tokens = make_weights(random), make_tokens(random)
    worst = max(check_gradients(weights, tokens, random, share) for share in (1, 2))
    save_weights(out + ".safetensors", weights)
    save_tokens(out + ".tokens.bin", tokens)
    with open(out + ".losses", "w") as f:
        for weight_decay, clip, share in ((0, 0, 1), (0.1, 0.5, 1), (0, 0, 2)):
            losses = train(weights, tokens, weight_decay, clip, share)
            print(*(f"{x:.9f}" for x in losses), file=f)
    print(f"gradients agree with central differences to {worst:.1e}")


if __name__ == "__main__":
    main()
