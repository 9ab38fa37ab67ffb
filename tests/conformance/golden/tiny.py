"""Small models of random weights, one for each way in which a family or a file format differs from the others.

Folders: three plain Llamas (shards, F32, F16 and BF16, tied and not, biases, both styles of configuration), and one of
each other family, with a window or a scaling of the rotation that the longest sequence goes beyond.

GGUF files: one of each architecture. Their quantized blocks are random bits under scales of a fitting size, so that
every bit of a format counts, in the mixes of formats that llama.cpp's own files have. Their logits are those of
transformers on the weights that the `gguf` package reads from them.
"""

import json
import pathlib

import numpy as np
import torch
from gguf import GGMLQuantizationType as Type, GGUFWriter, RopeScalingType, TokenType, quants
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from gguf_file import Gguf

HERE = pathlib.Path(__file__).parent
END = 257
ROWS = 4  # logits are kept of the last ones
TEMPLATE = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"

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
SMALLER = TINY | {"intermediate_size": 48, "head_dim": 16, "max_position_embeddings": 64}
DEFAULT = {"rope_type": "default", "rope_theta": 10000.0}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}

# Folder, element type, configuration, whether it is rewritten in the old style.
FOLDERS = [
    ("tiny-f32", torch.float32, LlamaConfig, TINY | {"tie_word_embeddings": False, "rope_parameters": DEFAULT | {"rope_theta": 50000.0}}, False),
    (
        "tiny-bf16",
        torch.bfloat16,
        LlamaConfig,
        TINY | {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True, "rope_parameters": DEFAULT},
        True,
    ),
    ("tiny-f16", torch.float16, LlamaConfig, TINY | {"tie_word_embeddings": True, "rope_parameters": DEFAULT}, False),
    ("tiny-llama3", torch.bfloat16, LlamaConfig, SMALLER | {"tie_word_embeddings": True, "rope_parameters": LLAMA3}, True),
    (
        "tiny-mistral",
        torch.float16,
        MistralConfig,
        SMALLER | {"tie_word_embeddings": False, "sliding_window": 9, "rope_parameters": DEFAULT},
        False,
    ),
    (
        "tiny-qwen2",
        torch.bfloat16,
        Qwen2Config,
        SMALLER
        | {
            "head_dim": 8,  # hidden / heads: this family has no other
            "tie_word_embeddings": True,
            "use_sliding_window": True,
            "sliding_window": 7,
            "max_window_layers": 1,
            "rope_parameters": DEFAULT | {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
        },
        False,
    ),
    (
        "tiny-qwen3",
        torch.bfloat16,
        Qwen3Config,
        SMALLER
        | {
            "tie_word_embeddings": True,
            "use_sliding_window": True,
            "sliding_window": 11,
            "layer_types": ["sliding_attention", "full_attention"],
            "rope_parameters": DEFAULT | {"rope_type": "linear", "factor": 2.0},
        },
        True,
    ),
]


def tiny():
    arrays = {}
    for seed, (name, dtype, make_config, options, old) in enumerate(FOLDERS):
        torch.manual_seed(seed)
        folder = HERE / name
        if not folder.exists():
            write_folder(folder, dtype, make_config(**options, bos_token_id=None, eos_token_id=END), old)
        # Loaded anew: a model that was narrowed has narrowed its rotation's frequencies for good.
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        record(arrays, name, model)
    for seed, (name, write) in enumerate(GGUF_FILES.items()):
        path = HERE / f"{name}.gguf"
        if not path.exists():
            write(GgufModel(path, np.random.default_rng(seed)))
        record(arrays, name, Gguf(path).model())
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, HERE / "tiny.safetensors")


def record(arrays, name, model):
    """Logits after the last tokens of three sequences."""
    for index, length in enumerate((1, 7, 40)):
        ids = torch.randint(0, 258, (length,), generator=torch.Generator().manual_seed(length)).tolist()
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -ROWS:].numpy()
        arrays[f"{name}/{index}/logits"] = logits
        arrays[f"{name}/{index}/ids"] = np.array(ids, dtype=np.uint32)
    print(f"{name}: logits of {logits.std():.2f} standard deviation")


def byte_tokenizer():
    tokens = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={token: id for id, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    return tokenizer


def write_folder(folder, dtype, config, old):
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for parameter_name, parameter in model.named_parameters():
        scale = 0.1 if "bias" in parameter_name or "norm" in parameter_name else 0.15
        torch.nn.init.normal_(parameter, 1.0 if "norm" in parameter_name else 0.0, scale)
    model.to(dtype).save_pretrained(folder, max_shard_size="80KB")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [END, 0]}) + "\n")
    if old:
        old_style(folder / "config.json")
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")


def old_style(path):
    """Rewrites a config as transformers before version 5 did: rope_theta at the top, dtype as torch_dtype."""
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["torch_dtype"] = config.pop("dtype")
    config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def halves(values):
    """As bytes of f16, a last axis of two."""
    return np.asarray(values, dtype=np.float16)[..., None].view(np.uint8)


def random_blocks(random, kind, count, size):
    """`count` blocks of `kind`: random bits, but scales (and minima) that keep values around zero and near `size`."""
    elements, length = quants.GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (count, length), dtype=np.uint8)
    scale = random.uniform(0.7, 1.3, count) * size
    match kind:
        case Type.Q8_0:
            blocks[:, :2] = halves(scale / 74)
        case Type.Q5_0:
            blocks[:, :2] = halves(scale / 9.2)
        case Type.Q5_1:
            blocks[:, :2], blocks[:, 2:4] = halves(scale / 9.2), halves(-15.5 * scale / 9.2)
        case Type.Q4_0:
            blocks[:, :2] = halves(scale / 4.6)
        case Type.Q4_K | Type.Q5_K:
            middle, spread = (7.5, 4.6) if kind == Type.Q4_K else (15.5, 9.2)
            step = scale / 36 / spread
            blocks[:, :2], blocks[:, 2:4] = halves(step), halves(step * middle)
            scales = random.integers(0, 64, (count, 8))
            minima = (scales + random.integers(-3, 4, (count, 8))).clip(0, 63)
            blocks[:, 4:8] = (scales[:, :4] | (scales[:, 4:] >> 4) << 6).astype(np.uint8)
            blocks[:, 8:12] = (minima[:, :4] | (minima[:, 4:] >> 4) << 6).astype(np.uint8)
            blocks[:, 12:16] = (scales[:, 4:] & 15 | (minima[:, 4:] & 15) << 4).astype(np.uint8)
        case Type.Q6_K:
            blocks[:, 208:] = halves(scale / 74 / 18.5)
    return blocks


class GgufModel:
    """A model of 256 columns being written; heads are narrow, so that not every matrix has rows of whole K blocks."""

    HIDDEN, INTERMEDIATE, HEADS, KV_HEADS, HEAD_DIM, VOCABULARY = 256, 64, 4, 2, 16, 264

    def __init__(self, path, random):
        self.path, self.random = path, random

    def begin(self, architecture, pre, theta):
        self.writer = writer = GGUFWriter(self.path, architecture)
        writer.add_context_length(64)
        writer.add_embedding_length(self.HIDDEN)
        writer.add_feed_forward_length(self.INTERMEDIATE)
        writer.add_head_count(self.HEADS)
        writer.add_head_count_kv(self.KV_HEADS)
        writer.add_key_length(self.HEAD_DIM)
        writer.add_value_length(self.HEAD_DIM)
        writer.add_rope_dimension_count(self.HEAD_DIM)
        writer.add_rope_freq_base(theta)
        writer.add_layer_norm_rms_eps(1e-6)
        tokens = sorted(pre_tokenizers.ByteLevel.alphabet()) + ["<|im_start|>", "<|im_end|>"]
        tokens += [f"[PAD{id}]" for id in range(len(tokens), self.VOCABULARY)]
        kinds = [TokenType.NORMAL] * 256 + [TokenType.CONTROL] * 2 + [TokenType.UNUSED] * (self.VOCABULARY - 258)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(tokens)
        writer.add_token_types(kinds)
        writer.add_token_merges([])
        writer.add_eos_token_id(END)
        return writer

    def vector(self, name, length, mean=1.0):
        values = self.random.normal(mean, 0.1, length).astype(np.float32)
        self.writer.add_tensor(name, values)

    def matrix(self, name, rows, columns, kind):
        size = 1.5 / np.sqrt(columns)
        if kind in (Type.F32, Type.F16, Type.BF16):
            values = self.random.normal(0.0, size, (rows, columns)).astype(np.float32)
            self.writer.add_tensor(name, quants.quantize(values, kind), raw_dtype=kind)
        else:
            elements, length = quants.GGML_QUANT_SIZES[kind]
            blocks = random_blocks(self.random, kind, rows * columns // elements, size)
            self.writer.add_tensor(name, blocks.reshape(rows, columns // elements * length), raw_dtype=kind)

    def layers(self, kinds, biases=False, head_norms=False):
        """`kinds`: of q, k, v, output, gate, up and down, in each layer."""
        self.writer.add_block_count(len(kinds))
        query, kv = self.HEADS * self.HEAD_DIM, self.KV_HEADS * self.HEAD_DIM
        for layer, (q, k, v, output, gate, up, down) in enumerate(kinds):
            block = f"blk.{layer}"
            self.vector(f"{block}.attn_norm.weight", self.HIDDEN)
            for name, rows, kind in (("q", query, q), ("k", kv, k), ("v", kv, v)):
                self.matrix(f"{block}.attn_{name}.weight", rows, self.HIDDEN, kind)
                if biases:
                    self.vector(f"{block}.attn_{name}.bias", rows, 0.0)
                if head_norms and name != "v":
                    self.vector(f"{block}.attn_{name}_norm.weight", self.HEAD_DIM)
            self.matrix(f"{block}.attn_output.weight", self.HIDDEN, query, output)
            self.vector(f"{block}.ffn_norm.weight", self.HIDDEN)
            self.matrix(f"{block}.ffn_gate.weight", self.INTERMEDIATE, self.HIDDEN, gate)
            self.matrix(f"{block}.ffn_up.weight", self.INTERMEDIATE, self.HIDDEN, up)
            self.matrix(f"{block}.ffn_down.weight", self.HIDDEN, self.INTERMEDIATE, down)

    def finish(self, embedding, head=None):
        self.matrix("token_embd.weight", self.VOCABULARY, self.HIDDEN, embedding)
        self.vector("output_norm.weight", self.HIDDEN)
        if head is not None:
            self.matrix("output.weight", self.VOCABULARY, self.HIDDEN, head)
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()


def gguf_llama(model):
    """As a Q4_K_M file of Llama 3: divisors of frequencies, an untied head."""
    model.begin("llama", "llama-bpe", 500.0)
    model.writer.add_tensor("rope_freqs.weight", np.array([1, 1, 1.3, 2.5, 8, 8, 8, 8], dtype=np.float32))
    k4, k6 = Type.Q4_K, Type.Q6_K
    model.layers([(k4, k4, k6, Type.Q5_0, k4, k4, Type.Q8_0), (k4, k4, k4, Type.Q5_0, k4, k4, Type.Q5_0)])
    model.finish(k4, k6)


def gguf_qwen2(model):
    """Biases, YaRN, a tied head."""
    writer = model.begin("qwen2", "qwen2", 10000.0)
    writer.add_rope_scaling_type(RopeScalingType.YARN)
    writer.add_rope_scaling_factor(4.0)
    writer.add_rope_scaling_orig_ctx_len(16)
    k5, k6 = Type.Q5_K, Type.Q6_K
    model.layers([(k5, k5, k6, Type.Q5_1, k5, k5, Type.Q8_0)], biases=True)
    model.finish(k6)


def gguf_qwen3(model):
    """Norms of heads, linear scaling, formats of every kind side by side, a tied head."""
    writer = model.begin("qwen3", "qwen2", 10000.0)
    writer.add_rope_scaling_type(RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(2.0)
    k4, k5, k6, half, brain = Type.Q4_K, Type.Q5_K, Type.Q6_K, Type.F16, Type.BF16
    model.layers([(k6, half, k4, brain, k6, k5, Type.Q4_0)], head_norms=True)
    model.finish(k5)


GGUF_FILES = {"tiny-llama-q4_k": gguf_llama, "tiny-qwen2-q5_k": gguf_qwen2, "tiny-qwen3-q6_k": gguf_qwen3}
