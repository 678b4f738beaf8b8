"""Decoding with transformers: a greedy step of one column over a static cache, as a CUDA graph."""

import torch
import transformers
from transformers.cache_utils import StaticLayer

import timing

MAX_LENGTH = 512
STEPS = 128
REPEATS = 7


class Decoder:
    """All that a step reads and writes are tensors, its position too, so that a recorded step goes
    on from the one before. Sliding layers keep all positions and mask what lies before their
    window: transformers' own ring copies a number from the host, which no graph can hold."""

    def __init__(self, model, prompt):
        self.model = model
        self.window = getattr(model.config, "sliding_window", None)
        self.kinds = sorted(set(getattr(model.config, "layer_types", None) or ["full_attention"]))
        self.prompt = torch.tensor([prompt], device="cuda")
        self.token = torch.zeros((1, 1), dtype=torch.long, device="cuda")
        self.position = torch.zeros((1, 1), dtype=torch.long, device="cuda")
        self.written = torch.zeros(MAX_LENGTH, dtype=torch.long, device="cuda")
        self.keys = torch.arange(MAX_LENGTH, device="cuda")
        self.cache = transformers.StaticCache(config=model.config, max_cache_len=MAX_LENGTH)
        self.cache.layers = [StaticLayer(MAX_LENGTH) for _ in self.cache.layers]
        self.forward = model.forward
        self.prefill()

    def masks(self, positions):
        """[1, 1, queries, MAX_LENGTH] for positions [queries], added to logits."""
        distance = positions[:, None] - self.keys[None, :]
        masks = {}
        for kind in self.kinds:
            is_seen = distance >= 0
            if kind == "sliding_attention":
                is_seen = is_seen & (distance < self.window)
            mask = torch.zeros(is_seen.shape, dtype=self.model.dtype, device="cuda")
            masks[kind] = mask.masked_fill(~is_seen, torch.finfo(mask.dtype).min)[None, None]
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def run(self, forward, ids, positions):
        result = forward(
            input_ids=ids,
            position_ids=positions,
            attention_mask=self.masks(positions[0]),
            past_key_values=self.cache,
            use_cache=True,
        )
        self.token.copy_(result.logits[:, -1:].argmax(-1))

    def prefill(self):
        length = self.prompt.shape[1]
        for layer in self.cache.layers:
            layer.cumulative_length.zero_()
        with torch.no_grad():
            self.run(self.model.forward, self.prompt, self.keys[None, :length])
        self.position.fill_(length)

    def step(self):
        self.written.index_copy_(0, self.position[0], self.token[0])
        with torch.no_grad():
            self.run(self.forward, self.token, self.position)
        self.position.add_(1)

    def measure(self, step):
        """Median microseconds a step over REPEATS texts, and the ids of the last."""
        samples = []
        for _ in range(REPEATS):
            self.prefill()
            torch.cuda.synchronize()
            samples.append(timing.elapsed_us(lambda: [step() for _ in range(STEPS)]) / STEPS)
        length = self.prompt.shape[1]
        return timing.median(samples), self.written[length : length + STEPS].tolist()


def set_experts(model, implementation):
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation(implementation)
    else:
        model.config._experts_implementation = implementation


def measure_form(decoder, is_graph, is_compiled):
    decoder.forward = decoder.model.forward
    if is_compiled:
        torch._dynamo.reset()
        decoder.forward = torch.compile(decoder.model.forward, dynamic=False)
    decoder.prefill()
    if not is_graph:
        return decoder.measure(decoder.step)
    graph = timing.captured(decoder.step)
    return decoder.measure(graph.replay)


def measure_forms(model, prompt, experts, with_compiled):
    """A row for each way to run a step; one that fails has the reason instead."""
    decoder = Decoder(model, prompt)
    forms = [("eager", False, False), ("CUDA graph", True, False)]
    if with_compiled:
        forms.append(("torch.compile, CUDA graph", True, True))
    rows = []
    for implementation in experts:
        if implementation is not None:
            set_experts(model, implementation)
        for form, is_graph, is_compiled in forms:
            row = {"form": form, "experts": implementation}
            try:
                row["us"], row["ids"] = measure_form(decoder, is_graph, is_compiled)
            except Exception as error:  # whatever a library refuses with: it is the result
                row["refusal"] = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
            rows.append(row)
    return rows


def llama_1b():
    """Random weights in the shape of Llama-3.2-1B."""
    config = transformers.LlamaConfig(
        hidden_size=2048,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        intermediate_size=8192,
        vocab_size=128256,
        max_position_embeddings=131072,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        tie_word_embeddings=True,
    )
    with torch.device("cuda"):
        model = transformers.AutoModelForCausalLM.from_config(
            config, dtype=torch.bfloat16, attn_implementation="sdpa"
        )
    return model.eval()


def bytes_of(model):
    """Of all parameters, a tied one once: what a step of a dense model reads."""
    unique = {p.data_ptr(): p.numel() * p.element_size() for p in model.parameters()}
    return sum(unique.values())
