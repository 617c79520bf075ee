#!/usr/bin/env python3
"""A small Llama of Hugging Face, in float64 with AdamW: the reference for train_gpt --arch llama.

  llama_tiny.py [DIR]   writes to DIR (default: the folder of this script) the files

llama_tiny.safetensors  initial weights, fp32, Hugging Face names, linear weights [out, in]
llama_tiny.losses       two lines of 12 losses, each before its update, on the tokens of gpt_tiny:
                        with a rope theta of 10000, and of 100

Model and gradients are those of FlaxLlamaForCausalLM; the embedding is tied to the head. Needs
numpy, safetensors, jax, flax and transformers 4 (made with jax 0.4.38, transformers 4.48.3).
"""
import os
import sys
import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file
from transformers import FlaxLlamaForCausalLM, LlamaConfig
from transformers.models.llama import modeling_flax_llama
import gpt_tiny
from gpt_tiny import B, BETA1, BETA2, EPS, LR, STEPS, T, V

jax.config.update("jax_enable_x64", True)
L, C, H, K, I = 2, 16, 4, 2, 48  # layers, channels, heads, those of k and v, hidden units
LINEAR = {"self_attn.q_proj": (C, C), "self_attn.k_proj": (C // H * K, C),
          "self_attn.v_proj": (C // H * K, C), "self_attn.o_proj": (C, C),
          "mlp.gate_proj": (I, C), "mlp.up_proj": (I, C), "mlp.down_proj": (C, I)}
NORMS = ("input_layernorm", "post_attention_layernorm")


def make_weights(random):
    """No gain is 1."""
    weights = {"model.embed_tokens.weight": random.uniform((V, C), 0, 0.3)}
    for i in range(L):
        for name, shape in LINEAR.items():
            weights[f"model.layers.{i}.{name}.weight"] = random.uniform(shape, 0, 0.4)
        for name in NORMS:
            weights[f"model.layers.{i}.{name}.weight"] = random.uniform((C,), 1, 0.3)
    weights["model.norm.weight"] = random.uniform((C,), 1, 0.3)
    return weights


def to_flax(p):
    """Flax has linear weights [in, out]."""
    layers = {}
    for i in range(L):
        layer = layers[str(i)] = {"self_attn": {}, "mlp": {}}
        for name in LINEAR:
            group, part = name.split(".")
            layer[group][part] = {"kernel": p[f"model.layers.{i}.{name}.weight"].T}
        for name in NORMS:
            layer[name] = {"weight": p[f"model.layers.{i}.{name}.weight"]}
    wte = p["model.embed_tokens.weight"]
    return {"lm_head": {"kernel": wte.T},
            "model": {"embed_tokens": {"embedding": wte}, "layers": layers,
                      "norm": {"weight": p["model.norm.weight"]}}}


def angles(theta):
    """Flax's Llama knows a theta of 10000 only: its table with another one."""
    def table(positions, size):
        turns = np.outer(np.arange(positions), theta ** -(np.arange(0, size, 2) / size))
        both = np.concatenate((turns, turns), axis=-1)[:, None, :]
        return jnp.array(np.concatenate((np.sin(both), np.cos(both)), axis=-1)[:, :, :positions])
    return table


def train(weights, tokens, theta):
    config = LlamaConfig(vocab_size=V, hidden_size=C, intermediate_size=I, num_hidden_layers=L,
                         num_attention_heads=H, num_key_value_heads=K, max_position_embeddings=T,
                         rms_norm_eps=1e-5)
    if theta != 10000:
        modeling_flax_llama.create_sinusoidal_positions = angles(theta)
    model = FlaxLlamaForCausalLM(config, dtype=jnp.float64)

    def loss(p, x, y):
        logp = jax.nn.log_softmax(model(input_ids=x, params=to_flax(p)).logits, -1)
        return -jnp.take_along_axis(logp, y[..., None], -1).mean()

    step = jax.jit(jax.value_and_grad(loss))
    p = {k: jnp.asarray(x, jnp.float64) for k, x in weights.items()}
    m = {k: 0 * x for k, x in p.items()}
    v = dict(m)
    losses, position = [], 0
    for t in range(1, STEPS + 1):
        x, y, position = gpt_tiny.batch_at(tokens, position)
        value, g = step(p, x, y)
        losses.append(float(value))
        for k in p:
            m[k] = BETA1 * m[k] + (1 - BETA1) * g[k]
            v[k] = BETA2 * v[k] + (1 - BETA2) * g[k] * g[k]
            p[k] -= LR * m[k] / (1 - BETA1**t) / (jnp.sqrt(v[k] / (1 - BETA2**t)) + EPS)
    return losses


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    weights = make_weights(gpt_tiny.Random(77))
    here = os.path.dirname(os.path.abspath(gpt_tiny.__file__))
    tokens = np.fromfile(os.path.join(here, "gpt_tiny.tokens.bin"), np.uint16)[512:].astype(int)
    assert B * T + 1 <= len(tokens)
    save_file(weights, os.path.join(folder, "llama_tiny.safetensors"))
    with open(os.path.join(folder, "llama_tiny.losses"), "w", encoding="ascii") as f:
        for theta in (10000.0, 100.0):
            f.write(" ".join(f"{x:.9f}" for x in train(weights, tokens, theta)) + "\n")


main()
