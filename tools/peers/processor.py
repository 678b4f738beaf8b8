"""Decode speed of our binary beside llama.cpp's on the same random weights and processor, in turns.

    npm install --ignore-scripts node-llama-cpp @node-llama-cpp/linux-x64     # in NPM_FOLDER
    git clone node_modules/node-llama-cpp/llama/gitRelease.bundle llama.cpp   # there, for its headers
    python3 tools/peers/random_models.py MODELS
    python3 tools/peers/processor.py ULTRASPEED NPM_FOLDER MODELS [THREADS]

Each pair has weights of about the same bits: BF16 on both sides, and llama.cpp's Q8_0 beside our FP8 with int8
activations; MXFP4 experts are the same bytes everywhere. Prints the median tokens per second of ROUNDS turns and their ratio,
and how many greedy ids of the BF16 pair are equal. docs/performance.md has what was seen. The machine should do nothing else:
llama.cpp's threads spin, and lose more than ours where they are not alone.
"""

import json
import os
import statistics
import subprocess
import sys

ROUNDS, PROMPT, TOKENS = 5, 32, 33
PAIRS = [("bf16", ["--activations", "f32"]),
         ("q8_0", ["--activations", "int8", "--dense-dtype", "fp8", "--kv-cache", "bf16"])]


def build_peer(npm):
    libraries = os.path.join(npm, "node_modules/@node-llama-cpp/linux-x64/bins/linux-x64")
    names = sorted(name for name in os.listdir(libraries) if name.startswith(("libllama.v", "libggml.v", "libggml-base")))
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "llama_decode.cpp")
    program = os.path.join(npm, "llama_decode")
    headers = [f"-I{npm}/llama.cpp/include", f"-I{npm}/llama.cpp/ggml/include"]
    subprocess.check_call(["g++", "-O2", "-std=c++17", *headers, source, "-o", program, f"-L{libraries}",
                           *(f"-l:{name}" for name in names), f"-Wl,-rpath,{libraries}"])
    return program, libraries


def peer_run(program, libraries, model, threads):
    output = subprocess.check_output([program, model, str(threads), str(PROMPT), str(TOKENS)],
                                     env={**os.environ, "GGML_DIR": libraries}, text=True)
    result = json.loads(output)
    return 1 / statistics.median(result["steps_s"]), result["ids"]


def our_run(binary, model, flags, threads):
    prompts = model + "/prompt.json"
    with open(prompts, "w") as file:
        json.dump([{"prompt_ids": list(range(1, PROMPT + 1))}], file)
    common = ["--executor", "cpu", "-t", str(threads), "-c", "512", "-m", model, *flags]
    bench = subprocess.check_output([binary, "bench", "decode", *common, "--drafters", "none", "--repeat", "1",
                                     "-n", str(TOKENS), "--prompts", prompts, "--json"],
                                    text=True, stderr=subprocess.DEVNULL)
    return json.loads(bench)["results"][0]["tokens_per_second"]


def main():
    binary, npm, models = sys.argv[1:4]
    threads = int(sys.argv[4]) if len(sys.argv) > 4 else len(os.sched_getaffinity(0))
    program, libraries = build_peer(npm)
    print(f"{'model':<14}{'peer':<6}{'ours':>10}{'llama.cpp':>12}{'ratio':>8}   tokens/s, medians of {ROUNDS}")
    for name in sorted(entry for entry in os.listdir(models) if os.path.isdir(os.path.join(models, entry))):
        for kind, flags in PAIRS:
            ours, peers = [], []
            for _ in range(ROUNDS):
                ours.append(our_run(binary, f"{models}/{name}", flags, threads))
                peers.append(peer_run(program, libraries, f"{models}/{name}-{kind}.gguf", threads)[0])
            ratio = statistics.median(a / b for a, b in zip(ours, peers))
            print(f"{name:<14}{kind:<6}{statistics.median(ours):>10.1f}{statistics.median(peers):>12.1f}{ratio:>8.2f}",
                  flush=True)


if __name__ == "__main__":
    main()
