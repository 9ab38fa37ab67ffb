#!/usr/bin/env python3
"""Makes the golden files of the conformance tests with Hugging Face transformers, in f32 on the CPU.

    pip install torch transformers tokenizers gguf safetensors numpy
    python tests/conformance/golden/make.py smollm2 PATH/SmolLM2-135M-Instruct.Q4_1.gguf
    python tests/conformance/golden/make.py tiny

`smollm2` writes smollm2.json (ids, greedy tokens, tokenizer cases) and smollm2.safetensors (numbers). The weights are
the GGUF's own values, dequantized to f32 by the `gguf` package, so any difference from them is the host's.

`tiny` writes two Hugging Face folders of random weights (tiny-f32: untied, sharded, new-style config; tiny-bf16: tied,
biases, sharded, old-style config) and their logits in tiny.safetensors.
"""

import json
import pathlib
import re
import sys

import numpy as np
import torch
from gguf import GGUFReader, dequantize
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import prompts

HERE = pathlib.Path(__file__).parent
GREEDY_TOKENS = 64
LOGIT_STRIDE = 16  # every 16th logit is kept
LOGIT_TOP = 64  # and the largest ones
DISTRIBUTION_EVERY = 8  # continuation positions between two recorded distributions
DISTRIBUTION_TOP = 256
ID_BYTES_MAX = 1 << 16

LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
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


class Gguf:
    """A llama-architecture GGUF file as transformers objects."""

    def __init__(self, path):
        self.reader = GGUFReader(path)
        self.fields = {name: field.contents() for name, field in self.reader.fields.items() if not name.startswith("GGUF.")}
        if self.fields["general.architecture"] != "llama":
            raise SystemExit(f"{path}: architecture {self.fields['general.architecture']}, want llama")

    def config(self):
        get = lambda key: self.fields[f"llama.{key}"]
        return LlamaConfig(
            hidden_size=get("embedding_length"),
            intermediate_size=get("feed_forward_length"),
            num_hidden_layers=get("block_count"),
            num_attention_heads=get("attention.head_count"),
            num_key_value_heads=get("attention.head_count_kv"),
            vocab_size=len(self.fields["tokenizer.ggml.tokens"]),
            max_position_embeddings=get("context_length"),
            rms_norm_eps=get("attention.layer_norm_rms_epsilon"),
            rope_parameters={"rope_type": "default", "rope_theta": get("rope.freq_base")},
            tie_word_embeddings=not any(tensor.name == "output.weight" for tensor in self.reader.tensors),
            attn_implementation="eager",
        )

    def state(self, config):
        state = {}
        for tensor in self.reader.tensors:
            shape = [int(length) for length in tensor.shape][::-1]
            values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(shape)
            name, _ = tensor.name.rsplit(".", 1)
            if match := re.fullmatch(r"blk\.(\d+)\.(\w+)", name):
                layer, part = match.groups()
                if part == "attn_q":
                    values = natural_rows(values, config.num_attention_heads)
                if part == "attn_k":
                    values = natural_rows(values, config.num_key_value_heads)
                name = f"model.layers.{layer}.{LAYER_NAMES[part]}"
            else:
                name = TOP_NAMES[name]
            state[f"{name}.weight"] = torch.from_numpy(np.ascontiguousarray(values))
        if config.tie_word_embeddings:
            state["lm_head.weight"] = state["model.embed_tokens.weight"]
        return state

    def model(self):
        config = self.config()
        model = LlamaForCausalLM(config).eval()
        model.load_state_dict(self.state(config), strict=True)
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


def top(values, count):
    """Indices and values of the largest entries of the last axis, largest first."""
    values, indices = torch.topk(values, count, dim=-1)
    return indices.numpy().astype(np.uint16), values.numpy()


def smollm2(path):
    gguf = Gguf(path)
    tokenizer, model = gguf.tokenizer(), gguf.model()
    chat = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    chat.chat_template = gguf.fields["tokenizer.chat_template"]
    if model.config.vocab_size > ID_BYTES_MAX:
        raise SystemExit("ids are kept as u16")

    texts = {}
    for name, turns in prompts.CHATS.items():
        turns = [{"role": role, "content": content} for role, content in turns]
        texts[name] = chat.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    texts |= prompts.PLAIN

    cases, arrays = [], {}
    for name, text in texts.items():
        ids = tokenizer.encode(text).ids
        continuation = greedy(model, ids, GREEDY_TOKENS) if name in prompts.GREEDY else []
        with torch.no_grad():
            logits = model(torch.tensor([ids + continuation])).logits[0].float()
        logprobs = torch.log_softmax(logits.double(), -1).float()
        last = len(ids) - 1

        targets = torch.tensor((ids + continuation)[1:])
        nll = -logprobs[:-1].gather(1, targets[:, None])[:, 0]
        arrays[f"{name}/nll"] = nll[:last].numpy()
        arrays[f"{name}/logits.stride"] = logits[last, ::LOGIT_STRIDE].numpy().copy()
        arrays[f"{name}/logits.top.ids"], arrays[f"{name}/logits.top.values"] = top(logits[last], LOGIT_TOP)
        rows = [last] + [last + step for step in range(DISTRIBUTION_EVERY, len(continuation), DISTRIBUTION_EVERY)]
        arrays[f"{name}/distribution.ids"], arrays[f"{name}/distribution.logprobs"] = top(logprobs[rows], DISTRIBUTION_TOP)
        if continuation:
            values = torch.topk(logits[last : last + GREEDY_TOKENS], 2, dim=-1).values
            arrays[f"{name}/greedy.gap"] = (values[:, 0] - values[:, 1]).numpy()
        cases.append({"name": name, "text": text, "ids": ids, "greedy": continuation})
        print(f"{name}: {len(ids)} tokens, nll {arrays[f'{name}/nll'].mean():.3f}", tokenizer.decode(continuation)[:60].encode(), flush=True)

    document = {
        "model": pathlib.Path(path).name,
        "logit_stride": LOGIT_STRIDE,
        "distribution_every": DISTRIBUTION_EVERY,
        "cases": cases,
        "tokenizer": [tokenizer_case(tokenizer, text) for text in prompts.TOKENIZER + list(texts.values())],
    }
    (HERE / "smollm2.json").write_text(json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n")
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, HERE / "smollm2.safetensors")


def tokenizer_case(tokenizer, text):
    """Ids with special tokens recognised (`markup`) and with their spelling kept as plain text (`plain`)."""
    markup = tokenizer.encode(text).ids
    tokenizer.encode_special_tokens = True
    plain = tokenizer.encode(text).ids
    tokenizer.encode_special_tokens = False
    return {"text": text, "markup": markup, "plain": plain}


def greedy(model, ids, count):
    """The likeliest tokens one after the other; text may go on past an end-of-text token."""
    output, cache, step = [], None, torch.tensor([ids])
    with torch.no_grad():
        for _ in range(count):
            result = model(step, past_key_values=cache, use_cache=True)
            cache = result.past_key_values
            output.append(int(result.logits[0, -1].argmax()))
            step = torch.tensor([[output[-1]]])
    return output


TINY = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,  # not hidden / heads
    "vocab_size": 288,  # more rows than the tokenizer has tokens
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-6,
    "attn_implementation": "eager",
}


def tiny():
    tokens = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={token: id for id, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    template = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"

    arrays, documents = {}, {}
    variants = {
        "tiny-f32": (torch.float32, dict(tie_word_embeddings=False, rope_parameters={"rope_type": "default", "rope_theta": 50000.0})),
        "tiny-bf16": (
            torch.bfloat16,
            dict(tie_word_embeddings=True, attention_bias=True, mlp_bias=True, rope_parameters={"rope_type": "default", "rope_theta": 10000.0}),
        ),
    }
    for seed, (name, (dtype, options)) in enumerate(variants.items()):
        torch.manual_seed(seed)
        config = LlamaConfig(**TINY, **options, bos_token_id=None, eos_token_id=257)
        model = LlamaForCausalLM(config).eval()
        for parameter_name, parameter in model.named_parameters():
            scale = 0.1 if "bias" in parameter_name or "norm" in parameter_name else 0.15
            torch.nn.init.normal_(parameter, 1.0 if "norm" in parameter_name else 0.0, scale)
        model = model.to(dtype)
        folder = HERE / name
        model.save_pretrained(folder, max_shard_size="80KB")
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [257, 0]}) + "\n")
        if dtype == torch.bfloat16:
            old_style(folder / "config.json")
        tokenizer.save(str(folder / "tokenizer.json"))
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "chat_template": template}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")

        # Loaded anew: a model that was narrowed has narrowed its rotation's frequencies for good.
        model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        sequences = [torch.randint(0, 258, (length,), generator=torch.Generator().manual_seed(length)).tolist() for length in (1, 7, 40)]
        for index, ids in enumerate(sequences):
            with torch.no_grad():
                arrays[f"{name}/{index}/logits"] = model(torch.tensor([ids])).logits[0, -8:].numpy()
            arrays[f"{name}/{index}/ids"] = np.array(ids, dtype=np.uint32)
        print(name, sorted(path.name for path in folder.iterdir()))
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, HERE / "tiny.safetensors")


def old_style(path):
    """Rewrites a config as transformers before version 5 did: rope_theta at the top, dtype as torch_dtype."""
    config = json.loads(path.read_text())
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    config["torch_dtype"] = config.pop("dtype")
    config["rope_scaling"] = None
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["smollm2", path]:
            smollm2(path)
        case ["tiny"]:
            tiny()
        case _:
            raise SystemExit(__doc__)
