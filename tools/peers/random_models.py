"""Random checkpoints at published shapes, and the same weights as GGUF for llama.cpp. Needs numpy.

    python3 tools/peers/random_models.py FOLDER

writes FOLDER/NAME/{config.json,model.safetensors} and FOLDER/NAME-{bf16,q8_0}.gguf for each shape:

    qwen3-0.6b    28 dense layers, tied tables; of its config.json
    gpt-oss-like  4 of gpt-oss-20b's 24 layers at full width, all 32 experts, 32768 of the tokens

Values are small enough for a text without NaN, and no more is asked of them. MXFP4 stays MXFP4 bit for bit
in the GGUF (nibbles in llama.cpp's order); BF16 matrices stay BF16 or become Q8_0, as llama.cpp's own converter does.
"""

import json
import os
import struct
import sys

import numpy as np

QWEN3 = {
    "model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
    "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "hidden_act": "silu",
    "attention_bias": False, "rms_norm_eps": 1e-6, "rope_theta": 1000000, "vocab_size": 151936,
    "max_position_embeddings": 40960, "tie_word_embeddings": True, "eos_token_id": 151645,
}
GPT_OSS = {
    "model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880, "num_hidden_layers": 4,
    "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64, "hidden_act": "silu",
    "attention_bias": True, "rms_norm_eps": 1e-5, "rope_theta": 150000, "vocab_size": 32768,
    "max_position_embeddings": 131072, "tie_word_embeddings": False, "eos_token_id": 2,
    "layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 128,
    "num_local_experts": 32, "num_experts_per_tok": 4, "swiglu_limit": 7.0,
    "rope_scaling": {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
                     "original_max_position_embeddings": 4096, "truncate": False},
    "quantization_config": {"quant_method": "mxfp4"},
}
SHAPES = {"qwen3-0.6b": QWEN3, "gpt-oss-like": GPT_OSS}
F32, Q8_0, BF16, MXFP4 = 0, 8, 30, 39  # ggml's types


class Weights:
    """Tensors of a checkpoint, made one by one and written where both files want them."""

    def __init__(self, folder, name, config):
        self.random = np.random.default_rng(1)
        self.config = config
        self.safetensors = []  # (name, dtype, shape, bytes)
        self.gguf = []  # (name, shape, bytes in bf16 file, type, bytes in q8_0 file, type)
        self.folder, self.name = folder, name

    def bf16(self, shape, scale, offset=0.0):
        values = self.random.standard_normal(shape, dtype=np.float32) * np.float32(scale) + np.float32(offset)
        return (values.view(np.uint32) + 0x8000 >> 16).astype("<u2")

    def add(self, hf_name, gguf_name, codes):
        self.safetensors.append((hf_name, "BF16", codes.shape, codes.tobytes()))
        if gguf_name:
            self.add_gguf(gguf_name, codes)

    def add_gguf(self, name, codes):
        values = (codes.astype(np.uint32) << 16).view(np.float32)
        is_matrix = codes.ndim == 2 and "bias" not in name and "ffn_gate_inp" not in name
        if is_matrix:
            self.gguf.append((name, codes.shape, codes.tobytes(), BF16, q8_0(values), Q8_0))
        else:
            data = values.astype("<f4").tobytes()
            self.gguf.append((name, codes.shape, data, F32, data, F32))

    def matrix(self, hf_name, gguf_name, rows, columns):
        self.add(hf_name + ".weight", gguf_name + ".weight", self.bf16((rows, columns), columns**-0.5))

    def norm(self, hf_name, gguf_name, size):
        self.add(hf_name + ".weight", gguf_name + ".weight", self.bf16((size,), 0.1, 1.0))

    def vector(self, hf_name, gguf_name, size):
        self.add(hf_name, gguf_name, self.bf16((size,), 0.1))

    def mxfp4(self, rows, columns):
        experts = self.config["num_local_experts"]
        codes = self.random.integers(0, 256, (experts, rows, columns // 32, 16), dtype=np.uint8)
        scales = self.random.integers(119, 121, (experts, rows, columns // 32), dtype=np.uint8)
        return codes, scales

    def write(self):
        path = os.path.join(self.folder, self.name)
        os.makedirs(path, exist_ok=True)
        with open(path + "/config.json", "w") as file:
            json.dump(self.config, file, indent=1)
        header, offset = {}, 0
        for name, dtype, shape, data in self.safetensors:
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
            offset += len(data)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(path + "/model.safetensors", "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for tensor in self.safetensors:
                file.write(tensor[3])
        for suffix, at in (("bf16", 2), ("q8_0", 4)):
            write_gguf(f"{path}-{suffix}.gguf", self.config,
                       [(t[0], t[1], t[at], t[at + 1]) for t in self.gguf])


def q8_0(values):
    blocks = values.reshape(-1, 32)
    scale = np.abs(blocks).max(1) / 127
    codes = np.rint(blocks / np.where(scale > 0, scale, 1)[:, None]).astype(np.int8)
    out = np.empty((len(blocks), 34), np.uint8)
    out[:, :2] = scale.astype("<f2").view(np.uint8).reshape(-1, 2)
    out[:, 2:] = codes.view(np.uint8)
    return out.tobytes()


def gguf_mxfp4(codes, scales):
    """Blocks of a scale and 16 bytes: columns i (low nibble) and i + 16."""
    nibbles = np.empty(codes.shape[:-1] + (32,), np.uint8)
    nibbles[..., 0::2] = codes & 15
    nibbles[..., 1::2] = codes >> 4
    out = np.empty(codes.shape[:-1] + (17,), np.uint8)
    out[..., 0] = scales
    out[..., 1:] = nibbles[..., :16] | nibbles[..., 16:] << 4
    return out.tobytes()


def write_gguf(path, config, tensors):
    def string(text):
        return struct.pack("<Q", len(text)) + text.encode()

    is_moe = config["model_type"] == "gpt_oss"
    arch = "gpt-oss" if is_moe else "qwen3"
    keys = [("general.architecture", arch), ("tokenizer.ggml.model", "none"),
            (arch + ".vocab_size", config["vocab_size"]),
            (arch + ".block_count", config["num_hidden_layers"]),
            (arch + ".context_length", config["max_position_embeddings"]),
            (arch + ".embedding_length", config["hidden_size"]),
            (arch + ".feed_forward_length", config["intermediate_size"]),
            (arch + ".attention.head_count", config["num_attention_heads"]),
            (arch + ".attention.head_count_kv", config["num_key_value_heads"]),
            (arch + ".attention.key_length", config["head_dim"]),
            (arch + ".attention.value_length", config["head_dim"]),
            (arch + ".attention.layer_norm_rms_epsilon", float(config["rms_norm_eps"])),
            (arch + ".rope.freq_base", float(config["rope_theta"]))]
    if is_moe:
        keys += [(arch + ".attention.sliding_window", config["sliding_window"]),
                 (arch + ".expert_count", config["num_local_experts"]),
                 (arch + ".expert_used_count", config["num_experts_per_tok"]),
                 (arch + ".expert_feed_forward_length", config["intermediate_size"]),
                 (arch + ".rope.scaling.type", "yarn"), (arch + ".rope.scaling.factor", 32.0),
                 (arch + ".rope.scaling.original_context_length", 4096)]
    with open(path, "wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)))
        for key, value in keys:
            kind = {int: (4, "<I"), float: (6, "<f")}.get(type(value))
            file.write(string(key) + (struct.pack("<I", 8) + string(value) if kind is None else
                                      struct.pack("<I", kind[0]) + struct.pack(kind[1], value)))
        offset = 0
        for name, shape, data, kind in tensors:
            file.write(string(name) + struct.pack("<I", len(shape)) +
                       struct.pack(f"<{len(shape)}Q", *reversed(shape)) + struct.pack("<IQ", kind, offset))
            offset += len(data) + -len(data) % 32
        file.write(b"\0" * (-file.tell() % 32))
        for _, _, data, _ in tensors:
            file.write(data + b"\0" * (-len(data) % 32))


def add_attention(weights, layer, bias):
    config = weights.config
    hf, gguf = f"model.layers.{layer}.", f"blk.{layer}."
    hidden, head_dim = config["hidden_size"], config["head_dim"]
    q, kv = config["num_attention_heads"] * head_dim, config["num_key_value_heads"] * head_dim
    weights.norm(hf + "input_layernorm", gguf + "attn_norm", hidden)
    for part, rows, columns in (("q", q, hidden), ("k", kv, hidden), ("v", kv, hidden), ("o", hidden, q)):
        names = (hf + f"self_attn.{part}_proj", gguf + ("attn_output" if part == "o" else "attn_" + part))
        weights.matrix(*names, rows, columns)
        if bias:
            weights.vector(names[0] + ".bias", names[1] + ".bias", rows)


def make_qwen3(weights):
    config = weights.config
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    weights.matrix("model.embed_tokens", "token_embd", config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        hf, gguf = f"model.layers.{layer}.", f"blk.{layer}."
        add_attention(weights, layer, bias=False)
        for part in "qk":
            weights.norm(hf + f"self_attn.{part}_norm", gguf + f"attn_{part}_norm", config["head_dim"])
        weights.norm(hf + "post_attention_layernorm", gguf + "ffn_norm", hidden)
        for part, rows, columns in (("gate", inner, hidden), ("up", inner, hidden), ("down", hidden, inner)):
            weights.matrix(hf + f"mlp.{part}_proj", gguf + f"ffn_{part}", rows, columns)
    weights.norm("model.norm", "output_norm", hidden)


def add_experts(weights, layer):
    config = weights.config
    hidden, inner, experts = config["hidden_size"], config["intermediate_size"], config["num_local_experts"]
    hf, gguf = f"model.layers.{layer}.mlp.", f"blk.{layer}."
    weights.add(hf + "router.weight", gguf + "ffn_gate_inp.weight", weights.bf16((experts, hidden), hidden**-0.5))
    weights.vector(hf + "router.bias", gguf + "ffn_gate_inp.bias", experts)
    for part, rows, columns in (("gate_up", 2 * inner, hidden), ("down", hidden, inner)):
        codes, scales = weights.mxfp4(rows, columns)
        bias = weights.bf16((experts, rows), 0.1)
        name = hf + f"experts.{part}_proj"
        weights.safetensors += [(name + "_blocks", "U8", codes.shape, codes.tobytes()),
                                (name + "_scales", "U8", scales.shape, scales.tobytes())]
        weights.add(name + "_bias", None, bias)
        split = {"gate": slice(0, None, 2), "up": slice(1, None, 2)} if part == "gate_up" else {"down": slice(None)}
        for to, pick in split.items():
            data = gguf_mxfp4(codes[:, pick], scales[:, pick])
            shape = (experts, rows // len(split), columns)
            weights.gguf.append((f"{gguf}ffn_{to}_exps.weight", shape, data, MXFP4, data, MXFP4))
            weights.add_gguf(f"{gguf}ffn_{to}_exps.bias", np.ascontiguousarray(bias[:, pick]))


def make_gpt_oss(weights):
    config = weights.config
    hidden = config["hidden_size"]
    weights.matrix("model.embed_tokens", "token_embd", config["vocab_size"], hidden)
    weights.matrix("lm_head", "output", config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        hf, gguf = f"model.layers.{layer}.", f"blk.{layer}."
        add_attention(weights, layer, bias=True)
        weights.vector(hf + "self_attn.sinks", gguf + "attn_sinks.weight", config["num_attention_heads"])
        weights.norm(hf + "post_attention_layernorm", gguf + "post_attention_norm", hidden)
        add_experts(weights, layer)
    weights.norm("model.norm", "output_norm", hidden)


def main():
    folder = sys.argv[1]
    for name, config in SHAPES.items():
        weights = Weights(folder, name, config)
        make_gpt_oss(weights) if config["model_type"] == "gpt_oss" else make_qwen3(weights)
        weights.write()
        print(name, flush=True)


if __name__ == "__main__":
    main()
