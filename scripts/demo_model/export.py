"""Writes a checkpoint as a GGUF file that llama.cpp loads, tokeniser and chat template inside."""

import argparse
from pathlib import Path

import gguf
import jinja2
import numpy as np

import model
import train
import vocabulary as v

HERE = Path(__file__).resolve().parent
TARGET = HERE.parents[1] / "models" / "arithmetic-demo.gguf"


def chat_template():
    """The chat template, once it is sure that it renders the very prompts that the model was trained on."""
    source = (HERE / "template.jinja").read_text(encoding="utf-8").rstrip("\n")
    template = jinja2.Environment().from_string(source)
    question = {"role": "user", "content": [{"type": "text", "text": " What is 1 + 2?\n"}]}
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "calculator"}}]}
    result = {"role": "tool", "content": "3"}
    tools = [{"type": "function", "function": {"name": "calculator"}}]
    for messages, offered, wanted in [
        ([{"role": "system", "content": "x"}, question], None, "<s><|user|>What is 1 + 2?<|assistant|>"),
        ([question], tools, "<s><|tools|><|user|>What is 1 + 2?<|assistant|>"),
        ([question, call, result], tools, "<s><|tool|>3<|assistant|>"),
        ([question, call, result, question], [], "<s><|user|>What is 1 + 2?<|assistant|>"),
        ([question, {"role": "assistant", "content": "1 +"}], None, "<s><|user|>What is 1 + 2?<|assistant|>1 +"),
        ([{"role": "user", "content": None}], None, "<s><|user|><|assistant|>"),
    ]:
        got = template.render(messages=messages, tools=offered, add_generation_prompt=True)
        assert got == wanted, f"the template renders {got!r}, not {wanted!r}"
    return source


def write(params, path):
    out = gguf.GGUFWriter(path, "llama")
    out.add_name("arithmetic-demo")
    out.add_description("A tiny demonstration model: sums worked out step by step, and calculator calls")
    out.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    out.add_context_length(model.CONTEXT)
    out.add_embedding_length(model.WIDTH)
    out.add_block_count(model.LAYERS)
    out.add_feed_forward_length(model.HIDDEN)
    out.add_head_count(model.HEADS)
    out.add_head_count_kv(model.HEADS)
    out.add_layer_norm_rms_eps(model.EPSILON)
    out.add_rope_freq_base(model.ROPE_BASE)
    out.add_rope_dimension_count(model.HEAD)
    out.add_vocab_size(v.SIZE)

    out.add_tokenizer_model("llama")
    out.add_token_list([text for text, _ in v.TOKENS])
    out.add_token_scores([-1.0] * v.SIZE)
    out.add_token_types([kind for _, kind in v.TOKENS])
    out.add_bos_token_id(v.BOS)
    out.add_eos_token_id(v.EOS)
    out.add_unk_token_id(v.UNK)
    out.add_pad_token_id(v.PAD)
    out.add_add_bos_token(False)  # the template writes it
    out.add_add_eos_token(False)
    out.add_add_space_prefix(False)
    out.add_chat_template(chat_template())

    def matrix(name, value):
        out.add_tensor(name, np.ascontiguousarray(value, np.float16))

    def vector(name, value):
        out.add_tensor(name, np.ascontiguousarray(value, np.float32))

    matrix("token_embd.weight", params["embed"])
    matrix("output.weight", params["head"])
    vector("output_norm.weight", params["norm"])
    names = {"q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output",
             "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down"}  # fmt: skip
    for n, layer in enumerate(params["layers"]):
        for ours, theirs in names.items():
            matrix(f"blk.{n}.{theirs}.weight", layer[ours].T)
        vector(f"blk.{n}.attn_norm.weight", layer["attn_norm"])
        vector(f"blk.{n}.ffn_norm.weight", layer["ffn_norm"])
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=HERE / "work" / "noisy.pkl")
    parser.add_argument("--out", type=Path, default=TARGET)
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    temporary = options.out.with_suffix(".part")
    write(train.load(options.checkpoint)["params"], temporary)
    temporary.replace(options.out)
    print(f"{options.out.name}: {options.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
