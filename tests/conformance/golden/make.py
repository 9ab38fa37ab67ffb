#!/usr/bin/env python3
"""Makes the golden files of the conformance tests with Hugging Face transformers, in f32 on the CPU.

    pip install torch transformers tokenizers gguf safetensors numpy
    python tests/conformance/golden/make.py smollm2 PATH/SmolLM2-135M-Instruct.Q4_1.gguf
    python tests/conformance/golden/make.py tiny
    python tests/conformance/golden/make.py bf16-distance

`smollm2` writes smollm2.json (ids, greedy tokens, tokenizer cases) and smollm2.safetensors (numbers). The weights are
the GGUF's own values, dequantized to f32 by the `gguf` package, so any difference from them is the host's.

`tiny` writes small models of random weights, Hugging Face folders and GGUF files, and their logits in
tiny.safetensors; see tiny.py.

`bf16-distance` writes nothing: it prints how far transformers themselves are from those logits in bf16, a measure of
what may be asked of a device that computes in it.
"""

import json
import pathlib
import sys

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

import prompts
from gguf_file import Gguf
from tiny import FOLDERS, GGUF_FILES, tiny

HERE = pathlib.Path(__file__).parent
GREEDY_TOKENS = 64
LOGIT_STRIDE = 16  # every 16th logit is kept
LOGIT_TOP = 64  # and the largest ones
DISTRIBUTION_EVERY = 8  # continuation positions between two recorded distributions
DISTRIBUTION_TOP = 256
ID_BYTES_MAX = 1 << 16

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


def bf16_distance():
    """Of each small model, the largest relative L2 over the sequences that tests/cuda_twin/forward.rs compares."""
    golden = load_file(HERE / "tiny.safetensors")
    bf16 = torch.bfloat16
    casts = {"f32": lambda x: x, "weights": lambda x: x.to(bf16).float(), "all": lambda x: x.to(bf16)}
    print("relative L2 from the golden logits; weights: only they are rounded to bf16; all: bf16 throughout")
    for name in [name for name, *_ in FOLDERS] + list(GGUF_FILES):
        distances = {}
        for kind, cast in casts.items():
            model = small_model(name)
            # Parameters alone: transformers keep the rotation's frequencies in f32.
            for parameter in model.parameters():
                parameter.data = cast(parameter.data)
            distances[kind] = max(distance(model, golden, f"{name}/{index}") for index in (1, 2))
        print(f"{name:16}", *(f"  {kind} {value:.1e}" for kind, value in distances.items()), flush=True)


def small_model(name):
    folder = HERE / name
    if folder.exists():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    return Gguf(HERE / f"{name}.gguf").model()


def distance(model, golden, sequence):
    expect = golden[f"{sequence}/logits"].astype(np.float64)
    ids = torch.from_numpy(golden[f"{sequence}/ids"].astype(np.int64))
    with torch.no_grad():
        logits = model(ids[None]).logits[0, -len(expect) :].double().numpy()
    return np.linalg.norm(logits - expect) / np.linalg.norm(expect)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["smollm2", path]:
            smollm2(path)
        case ["tiny"]:
            tiny()
        case ["bf16-distance"]:
            bf16_distance()
        case _:
            raise SystemExit(__doc__)
