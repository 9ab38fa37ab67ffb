"""A GGUF file as transformers sees the same model, its weights dequantized to f32 by the `gguf` package."""

import re

import numpy as np
import torch
from gguf import GGUFReader, dequantize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
TOP_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}


FAMILIES = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}


class Gguf:
    """A GGUF file as transformers objects."""

    def __init__(self, path):
        self.reader = GGUFReader(path)
        self.fields = {name: field.contents() for name, field in self.reader.fields.items() if not name.startswith("GGUF.")}
        self.family = self.fields["general.architecture"]
        if self.family not in FAMILIES:
            raise SystemExit(f"{path}: architecture {self.family}, want one of {', '.join(FAMILIES)}")

    def get(self, key, default=None):
        return self.fields.get(f"{self.family}.{key}", default)

    def rope(self):
        rope = {"rope_type": "default", "rope_theta": self.get("rope.freq_base")}
        if kind := self.get("rope.scaling.type"):
            rope |= {"rope_type": kind, "factor": self.get("rope.scaling.factor")}
        if kind == "yarn":
            rope["original_max_position_embeddings"] = self.get("rope.scaling.original_context_length")
        return rope

    def config(self):
        get = self.get
        return FAMILIES[self.family][0](
            hidden_size=get("embedding_length"),
            intermediate_size=get("feed_forward_length"),
            num_hidden_layers=get("block_count"),
            num_attention_heads=get("attention.head_count"),
            num_key_value_heads=get("attention.head_count_kv"),
            vocab_size=len(self.fields["tokenizer.ggml.tokens"]),
            max_position_embeddings=get("context_length"),
            rms_norm_eps=get("attention.layer_norm_rms_epsilon"),
            head_dim=get("attention.key_length", get("embedding_length") // get("attention.head_count")),
            rope_parameters=self.rope(),
            tie_word_embeddings=not any(tensor.name == "output.weight" for tensor in self.reader.tensors),
            attn_implementation="eager",
        )

    def state(self, config):
        state = {}
        for tensor in self.reader.tensors:
            shape = [int(length) for length in tensor.shape][::-1]
            values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(shape)
            name, kind = tensor.name.rsplit(".", 1)
            if name == "rope_freqs":
                continue
            if match := re.fullmatch(r"blk\.(\d+)\.(\w+)", name):
                layer, part = match.groups()
                if part == "attn_q" and self.family == "llama":
                    values = natural_rows(values, config.num_attention_heads)
                if part == "attn_k" and self.family == "llama":
                    values = natural_rows(values, config.num_key_value_heads)
                name = f"model.layers.{layer}.{LAYER_NAMES[part]}"
            else:
                name = TOP_NAMES[name]
            state[f"{name}.{kind}"] = torch.from_numpy(np.ascontiguousarray(values))
        if config.tie_word_embeddings:
            state["lm_head.weight"] = state["model.embed_tokens.weight"]
        return state

    def model(self):
        config = self.config()
        model = FAMILIES[self.family][1](config).eval()
        model.load_state_dict(self.state(config), strict=True)
        for tensor in self.reader.tensors:
            if tensor.name == "rope_freqs.weight":
                model.model.rotary_emb.inv_freq /= torch.from_numpy(tensor.data.copy())
        return model

    def tokenizer(self):
        if (self.fields["tokenizer.ggml.model"], self.fields["tokenizer.ggml.pre"]) != ("gpt2", "smollm"):
            raise SystemExit("only SmolLM2's tokenizer is known here")
        tokens = self.fields["tokenizer.ggml.tokens"]
        merges = [tuple(merge.split(" ")) for merge in self.fields["tokenizer.ggml.merges"]]
        tokenizer = Tokenizer(models.BPE(vocab={token: id for id, token in enumerate(tokens)}, merges=merges))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
        )
        tokenizer.decoder = decoders.ByteLevel()
        types = self.fields["tokenizer.ggml.token_type"]
        special = [token for token, kind in zip(tokens, types) if kind == 3]
        tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
        return tokenizer


def natural_rows(values, heads):
    """Undoes llama.cpp's order of Q and K rows (neighbouring pairs rotate) for transformers' (halves rotate)."""
    return values.reshape(heads, values.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(values.shape)
