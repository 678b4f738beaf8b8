"""The bundled model for transformers, which cannot read its files: FP8 and MXFP4 become BF16, the
experts of a layer one tensor."""

import json
import pathlib

import safetensors.torch
import torch
import transformers

E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
WHAT_WAS_DONE = (
    "FP8 (128 x 128 blocks) and MXFP4 weights dequantised to BF16, expert matrices stacked, "
    "router BF16"
)


def from_fp8(codes, scales):
    """[rows, columns] e4m3 with a scale for each 128 x 128."""
    rows, columns = codes.shape
    grid = scales.repeat_interleave(128, 0)[:rows].repeat_interleave(128, 1)[:, :columns]
    return codes.float() * grid


def from_mxfp4(codes, scales):
    """[rows, columns / 2] bytes, the low half is the even column, with an E8M0 scale for 32."""
    table = torch.tensor(E2M1 + tuple(-value for value in E2M1))
    halves = torch.stack((codes & 15, codes >> 4), dim=-1).flatten(-2)
    grid = torch.exp2(scales.float() - 127).repeat_interleave(32, -1)
    return table[halves.long()] * grid


def read_weights(folder):
    stored = {}
    for path in sorted(pathlib.Path(folder).glob("*.safetensors")):
        stored.update(safetensors.torch.load_file(path))
    weights = {}
    for name, tensor in stored.items():
        if name.endswith(("weight_scale", "weight_scale_inv")):
            continue
        if name + "_scale_inv" in stored:
            tensor = from_fp8(tensor, stored[name + "_scale_inv"])
        elif name + "_scale" in stored:
            tensor = from_mxfp4(tensor, stored[name + "_scale"])
        weights[name.replace("attention_sink_bias", "sinks")] = tensor
    return weights


def stack_experts(weights, num_layers, num_experts):
    """Names of the checkpoint to those of transformers."""
    for layer in range(num_layers):
        prefix = f"model.layers.{layer}.mlp.experts."
        if f"{prefix}0.down_proj.weight" not in weights:
            continue

        def take(part):
            return [weights.pop(f"{prefix}{e}.{part}.weight") for e in range(num_experts)]

        gate, up, down = take("gate_proj"), take("up_proj"), take("down_proj")
        pairs = [torch.cat(pair) for pair in zip(gate, up)]
        weights[prefix + "gate_up_proj"] = torch.stack(pairs)
        weights[prefix + "down_proj"] = torch.stack(down)
    return weights


def load(folder):
    config = transformers.AutoConfig.from_pretrained(folder)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = transformers.AutoModelForCausalLM.from_config(
        config, dtype=torch.bfloat16, attn_implementation="eager"
    )
    weights = stack_experts(read_weights(folder), config.num_hidden_layers, config.n_routed_experts)
    model.load_state_dict(weights)
    return model.cuda().eval()


def golden(folder):
    """A prompt and the ids that transformers wrote for it, in float32."""
    text = json.loads((pathlib.Path(folder) / "golden" / "04-math.json").read_text())
    return text["prompt_ids"], text["greedy_ids"]
