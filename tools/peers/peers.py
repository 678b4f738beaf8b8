"""Measures other software on this GPU and prints it beside ours: peers.py FOLDER [--no-compile].

FOLDER has runs of `ultraspeed bench kernels --json` (kernels_*.json), `bench decode --json`
(decode_*.json) and `bench step --json` of Llama-3.2-1B's shape (llama_*.json) that tools/peers/run
has just made on this machine. Writes FOLDER/peers.json, prints it, and a table of ratios. Needs
PyTorch and transformers.
"""

import argparse
import json
import pathlib
import sys

import torch
import transformers

import decode
import products
import tiny_mimo

MODEL = "models/tiny-mimo"
EXPERTS = ("batched_mm",)  # one column: "grouped_mm" took 1.1 to 1.3 times as long on an H100


def read_runs(folder, pattern):
    paths = sorted(pathlib.Path(folder).glob(pattern))
    if not paths:
        sys.exit(f"peers.py: no {pattern} in {folder}; tools/peers/run makes them")
    return {path.stem: json.loads(path.read_text()) for path in paths}


def say(text):
    print(text, file=sys.stderr, flush=True)


def measure_tiny(with_compiled):
    model = tiny_mimo.load(MODEL)
    prompt, golden = tiny_mimo.golden(MODEL)
    rows = decode.measure_forms(model, prompt, EXPERTS, with_compiled)
    for row in rows:
        ids = row.pop("ids", None)
        if ids is not None:  # of BF16 weights, against a text of float32
            same = [a == b for a, b in zip(ids, golden)]
            row["golden_ids_equal"] = same.index(False) if False in same else len(same)
    what = tiny_mimo.WHAT_WAS_DONE
    return {"model": MODEL, "what": what, "golden_ids": len(golden), "rows": rows}


def measure_llama(with_compiled, ceiling_gb_s, ours):
    model = decode.llama_1b()
    rows = decode.measure_forms(model, list(range(1, 65)), (None,), with_compiled)
    size = decode.bytes_of(model)
    bound_us = size / ceiling_gb_s / 1e3
    for row in rows:
        row.pop("ids", None)
        if "us" in row:
            row["of_bound"] = bound_us / row["us"]
    steps = [
        {"rows": run["rows"], "us": run["step"]["median_us"], "bytes": run["step"]["bytes"]}
        for run in ours.values()
    ]
    return {"bytes": size, "bound_us": bound_us, "rows": rows, "ours": steps}


def measure_all(folder, with_compiled):
    kernels = read_runs(folder, "kernels_*.json")
    decodes = read_runs(folder, "decode_*.json")
    ceilings = [run["ceiling"]["gb_s"] for run in kernels.values()]
    result = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "transformers": transformers.__version__,
        "ceiling_gb_s": max(ceilings),
        "ours_decode": {name: run["results"] for name, run in decodes.items()},
        "products": [],
    }
    for name, run in kernels.items():
        if run["gpu"]["name"] != result["device"]:
            sys.exit(f"peers.py: {name}.json is of {run['gpu']['name']}, not {result['device']}")
        say(f"cuBLASLt beside {name}")
        result["products"] += products.compare(run)
    result["fp8_peak"] = products.measure_peak()
    say("transformers, Llama-3.2-1B shape")
    result["llama_1b"] = measure_llama(
        with_compiled, result["ceiling_gb_s"], read_runs(folder, "llama_*.json")
    )
    say("transformers, " + MODEL)
    result["tiny_mimo"] = measure_tiny(with_compiled)
    return result


def product_lines(result):
    for row in sorted(result["products"], key=lambda row: (row["name"], row["width"])):
        shape = f"{row['rows']} x {row['columns']} {row['format']}"
        name = f"{row['name']} {shape}, width {row['width']}"
        peer = f"cuBLASLt by torch, {row['format']}"
        yield name, row["ours_us"], peer, row.get("peer_us"), row.get("refusal")


def step_lines(result):
    """Every way of ours with every way of transformers."""
    for name, rows in sorted(result["ours_decode"].items()):
        rate = next(r for r in rows if r["drafter"] == "none" and r["streams"] == 1)
        ours_us = 1e6 / rate["tokens_per_second"]
        for row in result["tiny_mimo"]["rows"]:
            peer = f"transformers, {row['form']}, {row['experts']}"
            yield f"tiny-mimo step, {name}", ours_us, peer, row.get("us"), row.get("refusal")


def print_table(result):
    print(f"\n{result['device']}, torch {result['torch']}, transformers {result['transformers']}")
    print(f"memory: {result['ceiling_gb_s']:.0f} GB/s (ultraspeed's drain of 8 GB)")
    peak = result["fp8_peak"]
    print(f"FP8 {peak['size']}^3, torch._scaled_mm: {peak['tflop_s']:.0f} TFLOP/s\n")
    form = "{:<48} {:>10} {:>10} {:>12}  {}"
    print(form.format("what", "ours us", "peer us", "ours / peer", "peer"))
    for name, ours_us, peer, peer_us, refusal in (*product_lines(result), *step_lines(result)):
        if peer_us is None:
            print(form.format(name, f"{ours_us:.2f}", "-", "-", f"{peer}: {refusal}"))
        else:
            ratio = f"{ours_us / peer_us:.2f}"
            print(form.format(name, f"{ours_us:.2f}", f"{peer_us:.2f}", ratio, peer))
    llama = result["llama_1b"]
    print(f"\nLlama-3.2-1B shape, BF16: bound {llama['bound_us']:.0f} us (weights at the ceiling)")
    for step in llama["ours"]:
        of_bound = 100 * llama["bound_us"] / step["us"]
        print(f"  ours, {step['rows']} rows: {step['us']:.0f} us, {of_bound:.0f} % of the bound")
    for row in llama["rows"]:
        if "us" in row:
            text = f"{row['us']:.0f} us, {100 * row['of_bound']:.0f} % of the bound"
            for step in llama["ours"]:
                text += f"; ours of {step['rows']} rows / this: {step['us'] / row['us']:.2f}"
        else:
            text = row["refusal"]
        print(f"  transformers, {row['form']}: {text}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    arguments = parser.parse_args()
    torch.manual_seed(1)
    result = measure_all(arguments.folder, not arguments.no_compile)
    text = json.dumps(result, indent=1)
    (pathlib.Path(arguments.folder) / "peers.json").write_text(text + "\n")
    print(text)
    print_table(result)


if __name__ == "__main__":
    main()
