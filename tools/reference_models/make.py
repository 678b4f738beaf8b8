#!/usr/bin/env python3
"""Random checkpoints of the families with outputs of transformers, for tests/data.

    tools/reference_models/make.py OUT [NAME...]     needs torch, transformers 5.17, safetensors

Writes OUT/NAME/{config.json, model.safetensors, golden.json}; `tar -cJf NAME.tar.xz NAME` in OUT
makes an archive. Weights take few values, so that archives stay small, and each of them is exact in
the stored type and in BF16. golden.json: what transformers computes in float32, eagerly: per case
the prompt's ids, the greedy ids behind it and the ten largest logits of each of their steps.
"""
import json
import pathlib
import sys

import torch
import transformers
from safetensors.torch import save_file

BLOCK = 128  # of FP8 scales, rows and columns
CASES = [(5, 200), (150, 80)]  # tokens of the prompt, greedy ids
LEAST_GAP = 0.002  # between the two largest logits of a step: float32 must not decide


def common(**more):
    return {"vocab_size": 256, "hidden_size": 160, "intermediate_size": 224,
            "num_hidden_layers": 3, "num_attention_heads": 5, "num_key_value_heads": 1,
            "head_dim": 32, "hidden_act": "silu", "attention_bias": False, "rms_norm_eps": 1e-6,
            "max_position_embeddings": 2048, "tie_word_embeddings": False, "bos_token_id": 1,
            "eos_token_id": 2, "pad_token_id": 0, "dtype": "bfloat16", **more}


LLAMA3_ROPE = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0,
               "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 64}
PLAIN_ROPE = {"rope_type": "default", "rope_theta": 1000000.0}
FP8 = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
       "weight_block_size": [BLOCK, BLOCK]}

MODELS = {
    "llama_rope_tied": common(
        model_type="llama", architectures=["LlamaForCausalLM"], mlp_bias=False, hidden_size=128,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True,
        rope_parameters=LLAMA3_ROPE),
    "qwen3_sliding_fp8": common(
        model_type="qwen3", architectures=["Qwen3ForCausalLM"], rope_parameters=PLAIN_ROPE,
        use_sliding_window=True, sliding_window=24, max_window_layers=1,
        layer_types=["full_attention", "sliding_attention", "sliding_attention"],
        quantization_config=FP8),
    "qwen3_moe_fp8": common(
        model_type="qwen3_moe", architectures=["Qwen3MoeForCausalLM"], rope_parameters=PLAIN_ROPE,
        use_sliding_window=False, num_experts=8, num_experts_per_tok=3, moe_intermediate_size=96,
        norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[0],
        quantization_config=FP8),
}


class Maker:
    """Tensors by their published names: of the checkpoint, and the same in BF16."""

    def __init__(self, config, seed):
        self.config = config
        self.random = torch.Generator().manual_seed(seed)
        self.stored, self.plain = {}, {}

    def levels(self, shape, most):
        return torch.randint(-most, most + 1, shape, generator=self.random).float()

    def put(self, name, values, scale_inv=None, codes=None):
        self.plain[name] = values.to(torch.bfloat16)
        assert torch.equal(self.plain[name].float(), values), name
        if codes is None:
            self.stored[name] = self.plain[name]
            return
        self.stored[name] = codes.to(torch.float8_e4m3fn)
        assert torch.equal(self.stored[name].float(), codes), name
        self.stored[name.replace(".weight", ".weight_scale_inv")] = scale_inv

    def norm(self, name, size):
        self.put(name + ".weight", 1 + self.levels((size,), 4) / 16)

    def plain_linear(self, name, rows, cols, unit=1 / 16):
        self.put(name + ".weight", self.levels((rows, cols), 3) * unit)

    def linear(self, name, rows, cols):
        if "quantization_config" not in self.config:
            return self.plain_linear(name, rows, cols)
        grid = (-(-rows // BLOCK), -(-cols // BLOCK))
        # Three bits times three of the code: exact in BF16.
        scales = (4 + torch.randint(0, 4, grid, generator=self.random).float()) / 64
        codes = self.levels((rows, cols), 3)
        whole = scales.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)[:rows, :cols]
        self.put(name + ".weight", codes * whole, scales, codes)

    def mlp(self, name, size):
        hidden = self.config["hidden_size"]
        self.linear(name + ".gate_proj", size, hidden)
        self.linear(name + ".up_proj", size, hidden)
        self.linear(name + ".down_proj", hidden, size)

    def layer(self, index):
        c, name = self.config, f"model.layers.{index}"
        hidden, head = c["hidden_size"], c["head_dim"]
        self.norm(name + ".input_layernorm", hidden)
        for which, heads in (("q", c["num_attention_heads"]), ("k", c["num_key_value_heads"]),
                             ("v", c["num_key_value_heads"])):
            self.linear(f"{name}.self_attn.{which}_proj", heads * head, hidden)
        self.linear(name + ".self_attn.o_proj", hidden, c["num_attention_heads"] * head)
        if c["model_type"].startswith("qwen3"):
            self.norm(name + ".self_attn.q_norm", head)
            self.norm(name + ".self_attn.k_norm", head)
        self.norm(name + ".post_attention_layernorm", hidden)
        if "num_experts" in c and index not in c["mlp_only_layers"]:
            self.plain_linear(name + ".mlp.gate", c["num_experts"], hidden)
            for expert in range(c["num_experts"]):
                self.mlp(f"{name}.mlp.experts.{expert}", c["moe_intermediate_size"])
        else:
            self.mlp(name + ".mlp", c["intermediate_size"])

    def run(self):
        c = self.config
        self.plain_linear("model.embed_tokens", c["vocab_size"], c["hidden_size"], 1 / 4)
        for index in range(c["num_hidden_layers"]):
            self.layer(index)
        self.norm("model.norm", c["hidden_size"])
        if not c["tie_word_embeddings"]:
            self.plain_linear("lm_head", c["vocab_size"], c["hidden_size"])


def write(folder, config, tensors):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    save_file({name: t.contiguous() for name, t in tensors.items()},
              folder / "model.safetensors", metadata={"format": "pt"})


@torch.inference_mode()
def golden_case(model, prompt, count):
    ids, steps = list(prompt), []
    for _ in range(count):
        logits = model(torch.tensor([ids]), use_cache=False).logits[0, -1]
        top = torch.topk(logits, 10)
        steps.append({"ids": top.indices.tolist(),
                      "logits": [round(x, 6) for x in top.values.tolist()]})
        ids.append(int(logits.argmax()))
    return {"prompt_ids": list(prompt), "greedy_ids": ids[len(prompt):], "top10": steps}


def golden(folder, vocab_size):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    missing = set(info["missing_keys"]) - {"lm_head.weight"}
    assert not missing and not info["unexpected_keys"] and not info["mismatched_keys"], info
    model.eval()
    random = torch.Generator().manual_seed(3)
    cases = [golden_case(model, torch.randint(3, vocab_size, (size,), generator=random).tolist(),
                         count) for size, count in CASES]
    return {"transformers": transformers.__version__, "dtype": "float32", "cases": cases}


def make(out, name, seed):
    """Returns the least gap."""
    config = MODELS[name]
    maker = Maker(config, seed)
    maker.run()
    write(out / name, config, maker.stored)
    plain = {key: value for key, value in config.items() if key != "quantization_config"}
    write(out / "plain" / name, plain, maker.plain)
    result = golden(out / "plain" / name, config["vocab_size"])
    (out / name / "golden.json").write_text(json.dumps(result, separators=(",", ":")))
    return min(s["logits"][0] - s["logits"][1] for c in result["cases"] for s in c["top10"])


def main():
    out = pathlib.Path(sys.argv[1])
    for name in sys.argv[2:] or MODELS:
        for seed in range(1, 100):
            gap = make(out, name, seed)
            print(f"{name}: seed {seed}, least gap {gap:.4f}", flush=True)
            if gap >= LEAST_GAP:
                break
        else:
            sys.exit(f"{name}: no seed leaves {LEAST_GAP} between the largest logits of all steps")


if __name__ == "__main__":
    main()
