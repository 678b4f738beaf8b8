"""cuBLASLt's dense products, through torch, at the shapes that `ultraspeed bench kernels` lists."""

import re

import torch

import timing

# "3392 x 6144 FP8", "384 x 6144 BF16, F32 in the program"
SHAPE = re.compile(r"(\d+) x (\d+) (FP8|BF16)\b")
E4M3 = torch.float8_e4m3fn
PEAK_SIZE = 8192


def random_e4m3(rows, columns):
    return torch.randn(rows, columns, device="cuda").to(E4M3)


def scaled_product(a, b, one):
    """[m, k] e4m3 times the transpose of [n, k] e4m3, one scale each, to [m, n] BF16."""
    return torch._scaled_mm(
        a, b.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=True
    )


def measure_fp8(rows, columns, width):
    copies = timing.copies_of(rows * columns)
    weights = [random_e4m3(rows, columns) for _ in range(copies)]
    inputs = random_e4m3(width, columns)
    one = torch.ones((), device="cuda")
    return timing.node_us(lambda i: scaled_product(inputs, weights[i], one), copies)


def measure_bf16(rows, columns, width):
    copies = timing.copies_of(2 * rows * columns)
    weights = [
        torch.randn(rows, columns, device="cuda", dtype=torch.bfloat16) for _ in range(copies)
    ]
    inputs = torch.randn(width, columns, device="cuda", dtype=torch.bfloat16)
    return timing.node_us(lambda i: torch.nn.functional.linear(inputs, weights[i]), copies)


def compare(run):
    """A row for each dense product of a run of `bench kernels`, measured at its width."""
    rows = []
    for kernel in run["kernels"]:
        shape = SHAPE.match(kernel["shape"])
        if shape is None or "refusal" in kernel or "," in kernel["name"]:
            continue
        num_rows, columns, form = int(shape[1]), int(shape[2]), shape[3]
        measure = measure_fp8 if form == "FP8" else measure_bf16
        row = {
            "name": kernel["name"],
            "rows": num_rows,
            "columns": columns,
            "format": form,
            "width": run["width"],
            "ours_us": kernel["median_us"],
        }
        try:
            row["peer_us"] = measure(num_rows, columns, run["width"])
        except RuntimeError as error:
            row["refusal"] = str(error).splitlines()[0]
        rows.append(row)
    return rows


def random_codes(size):
    """Any codes but NaN, which loses its lowest bit: as `bench kernels` fills the matrices of its
    peak. Which values they are counts, for a large product draws as much power as the card may."""
    codes = torch.randint(0, 256, (size, size), device="cuda", dtype=torch.uint8)
    return torch.where(codes & 127 == 127, codes ^ 1, codes).view(E4M3)


def measure_peak():
    """TFLOP/s of 8192^3 in e4m3."""
    a, b = random_codes(PEAK_SIZE), random_codes(PEAK_SIZE)
    one = torch.ones((), device="cuda")
    us = timing.node_us(lambda i: scaled_product(a, b, one), 1, least_nodes=4)
    return {"size": PEAK_SIZE, "us": us, "tflop_s": 2 * PEAK_SIZE**3 / us / 1e6}
