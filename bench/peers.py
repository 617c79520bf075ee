#!/usr/bin/env python3
"""peers.py - the cases of memopt-bench in PyTorch and bitsandbytes, on the CPU.

A development check, not a part of the build: pip install torch bitsandbytes, then

  build/memopt-bench --filter 'half|quant|optim' -o json > memopt.json
  python3 bench/peers.py --n 16777216 --threads 1 --compare memopt.json

Prints one row per case that the installed versions have: median ns per number over --repeats runs
after one that is not counted, and with --compare how many times faster memopt is. What a peer cannot
do on the CPU is named and left out. Set the same number of threads on both sides, and for PyTorch
ATEN_CPU_CAPABILITY=avx512 where the machine has it.
"""
import argparse
import json
import statistics
import time


def median_ns(run, n, repeats):
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter_ns()
        run()
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times) / n


def torch_cases(torch, n):
    x = torch.randn(n)
    for name, dtype in (("bf16", torch.bfloat16), ("f16", torch.float16)):
        half = x.to(dtype)
        out_half, out = torch.empty_like(half), torch.empty_like(x)
        yield f"half.f32_to_{name}", lambda o=out_half: o.copy_(x)
        yield f"half.{name}_to_f32", lambda o=out, h=half: o.copy_(h)
    p = torch.nn.Parameter(torch.randn(n))
    p.grad = torch.randn(n) * 0.01
    yield "optim.adamw_f32", torch.optim.AdamW([p], lr=1e-5, weight_decay=0.01).step
    try:
        yield "optim.adamw_f32 (fused)", torch.optim.AdamW(
            [p], lr=1e-5, weight_decay=0.01, fused=True).step
    except (RuntimeError, TypeError, ValueError) as error:
        print("left out: fused AdamW:", error)
    y = torch.randn(n)
    yield "accum.add_f32", lambda: y.add_(x, alpha=0.5)
    yield "accum.norm", lambda: torch.linalg.vector_norm(x)


def bitsandbytes_cases(torch, bnb, n):
    f = bnb.functional
    x = torch.randn(n)
    q8, s8 = f.quantize_blockwise(x, blocksize=256)
    yield "quant.q8_encode", lambda: f.quantize_blockwise(x, blocksize=256)
    yield "quant.q8_decode", lambda: f.dequantize_blockwise(q8, s8)
    for kind in ("nf4", "fp4"):
        q, s = f.quantize_4bit(x, blocksize=64, quant_type=kind)
        yield f"quant.{kind}_encode", lambda k=kind: f.quantize_4bit(x, blocksize=64, quant_type=k)
        yield f"quant.{kind}_decode", lambda q=q, s=s: f.dequantize_4bit(q, s)
    for name, cls in (("adamw", bnb.optim.AdamW8bit), ("lion", bnb.optim.Lion8bit)):
        p = torch.nn.Parameter(torch.randn(n))
        p.grad = torch.randn(n) * 0.01
        yield f"optim.{name}_8bit", cls([p], lr=1e-5, weight_decay=0.01).step


def measure(source, cases, args, old):
    while True:
        try:
            name, run = next(cases)
        except StopIteration:
            return
        except Exception as error:  # a peer that lacks a kernel ends its own list
            print(f"left out: the rest of {source}: {error}")
            return
        try:
            ns = median_ns(run, args.n, args.repeats)
        except Exception as error:
            print(f"left out: {source} {name}: {error}")
            continue
        mine = old.get(name.split(" ")[0])
        times = f"{ns / mine:8.1f} x memopt's {mine:.3f}" if mine else ""
        print(f"{name:28s} {source:14s} {ns:9.3f} ns {times}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=1 << 24)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compare", metavar="FILE", help="memopt-bench -o json")
    args = parser.parse_args()
    old = {}
    if args.compare:
        with open(args.compare, encoding="utf-8") as file:
            old = {row["name"]: row["ns"] for row in json.load(file)["rows"]}
    import torch
    torch.set_num_threads(args.threads)
    measure("torch " + torch.__version__.split("+")[0], torch_cases(torch, args.n), args, old)
    try:
        import bitsandbytes as bnb
    except ImportError as error:
        print("left out: bitsandbytes:", error)
        return
    source = "bnb " + bnb.__version__
    with torch.no_grad():
        measure(source, bitsandbytes_cases(torch, bnb, args.n), args, old)


if __name__ == "__main__":
    main()
