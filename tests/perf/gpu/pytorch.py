#!/usr/bin/env python3
"""PyTorch's own products and attention in the shapes of Qwen2.5-7B: a yardstick beside gpu_bench's figures.

    python3 tests/perf/gpu/pytorch.py

Prints Markdown; says so and ends well where there is no PyTorch with a GPU.
"""

HIDDEN, INTERMEDIATE, HEADS, KV_HEADS, HEAD_DIM = 3584, 18944, 28, 4, 128
LINEARS = {
    "qkv": (HIDDEN, (HEADS + 2 * KV_HEADS) * HEAD_DIM),
    "output": (HEADS * HEAD_DIM, HIDDEN),
    "gate and up": (HIDDEN, 2 * INTERMEDIATE),
    "down": (INTERMEDIATE, HIDDEN),
}


def milliseconds(torch, work, rounds=20):
    for _ in range(3):
        work()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(rounds):
        work()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / rounds


def main():
    try:
        import torch
        import torch.nn.functional as F
    except ImportError:
        print("PyTorch is not here: no yardstick.")
        return
    if not torch.cuda.is_available():
        print("PyTorch sees no GPU: no yardstick.")
        return

    def random(*shape):
        return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)

    print(f"PyTorch {torch.__version__}\n\n| product | rows | ms | TFLOP/s | TB/s of weights |\n| --- | ---: | ---: | ---: | ---: |")
    for name, (inputs, outputs) in LINEARS.items():
        weight = random(outputs, inputs)
        for rows in (1, 8, 64, 256, 8192):
            x = random(rows, inputs)
            ms = milliseconds(torch, lambda: F.linear(x, weight))
            rate, bandwidth = 2e-9 * rows * inputs * outputs / ms, 2e-9 * inputs * outputs / ms
            print(f"| {name} | {rows} | {ms:.4f} | {rate:.0f} | {bandwidth:.2f} |")
    print("\n| causal attention, tokens | ms | TFLOP/s |\n| ---: | ---: | ---: |")
    for tokens in (512, 2048, 8192):
        q = random(1, HEADS, tokens, HEAD_DIM)
        k, v = (random(1, HEADS, tokens, HEAD_DIM) for _ in range(2))
        ms = milliseconds(torch, lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True))
        print(f"| {tokens} | {ms:.3f} | {2e-9 * tokens * tokens * HEADS * HEAD_DIM / ms:.0f} |")


if __name__ == "__main__":
    main()
