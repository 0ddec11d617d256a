"""Writes a GGUF file of random weights in the shape of Qwen2.5-0.5B, for measuring how fast a model of that size runs.

It says nothing that makes sense, and that is all right: how long a token takes is a matter of shapes and types alone.
Its vocabulary is made up, since a real one would have to be downloaded: bytes, and words of two to four letters. A digit
is one token, so that a prompt of digits has as many tokens as digits. The same file comes out every time.
"""

import argparse
import itertools
import string
from pathlib import Path

import gguf
import numpy as np

LAYERS = 24
WIDTH = 896
HEADS = 14
KEY_HEADS = 2
HEAD = WIDTH // HEADS
HIDDEN = 4864
CONTEXT = 32768
VOCABULARY = 151_936
ROPE_BASE = 1e6
EPSILON = 1e-6

SEED = 20_240_919
# Q8_0: blocks of 32 numbers of one byte, before each block what they are multiplied by, as a float of two bytes.
BLOCK = 32
# Small enough for 24 layers, large enough that the most probable tokens stand out.
DEVIATION = 0.05

CONTROLS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""


def byte_characters():
    """The character that stands for each byte in vocabularies of GPT-2's kind: printable ones for themselves."""
    itself = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte if byte in itself else next(others)) for byte in range(256)]


def vocabulary(size):
    """Tokens, their types, and the merges that make the words: of two letters, of three, then of four."""
    tokens, merges = byte_characters(), []
    room = size - len(tokens) - len(CONTROLS)
    letters = string.ascii_lowercase
    pairs = [first + second for first, second in itertools.product(letters, repeat=2)]
    parts = itertools.chain(
        itertools.product(letters, repeat=2), itertools.product(pairs, letters), itertools.product(pairs, repeat=2)
    )
    for left, right in itertools.islice(parts, room):
        merges.append(f"{left} {right}")
        tokens.append(left + right)
    types = [gguf.TokenType.NORMAL] * len(tokens) + [gguf.TokenType.CONTROL] * len(CONTROLS)
    tokens += CONTROLS
    assert len(tokens) == size, f"there are words for {len(tokens)} tokens only"
    return tokens, types, merges


def drawable(tokens):
    """Which tokens the model may say: not those that end an answer, and of the bytes only what is a character alone.

    Every answer then has the length that was asked for, and every token of a stream is there to be seen at once.
    """
    allowed = np.ones(len(tokens), bool)
    allowed[:256] = [byte < 128 and chr(byte).isprintable() for byte in range(256)]
    allowed[-len(CONTROLS) :] = False
    return allowed


class Weights:
    """Random matrices, drawn as the bytes that they are stored as."""

    def __init__(self, out):
        self.out = out
        self.random = np.random.default_rng(SEED)

    def matrix(self, name, rows, columns, kept=None):
        blocks = np.empty((rows, columns // BLOCK, 2 + BLOCK), np.uint8)
        # Whole numbers from -127 to 127 that are as probable have a deviation of 73.6.
        scale = np.float16(DEVIATION / 73.6)
        blocks[:, :, :2] = np.frombuffer(scale.tobytes(), np.uint8)
        blocks[:, :, 2:] = self.random.integers(-127, 128, (rows, columns // BLOCK, BLOCK), np.int8).view(np.uint8)
        if kept is not None:
            blocks[~kept] = 0
        self.out.add_tensor(name, blocks.reshape(rows, -1), raw_dtype=gguf.GGMLQuantizationType.Q8_0)

    def ones(self, name, size):
        self.out.add_tensor(name, np.ones(size, np.float32))

    def vector(self, name, size):
        self.out.add_tensor(name, self.random.normal(0, DEVIATION, size).astype(np.float32))


def write(path, size):
    out = gguf.GGUFWriter(path, "qwen2")
    out.add_name("random-0.5b")
    out.add_description("Random weights in the shape of Qwen2.5-0.5B, to measure speed with")
    out.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    out.add_context_length(CONTEXT)
    out.add_embedding_length(WIDTH)
    out.add_block_count(LAYERS)
    out.add_feed_forward_length(HIDDEN)
    out.add_head_count(HEADS)
    out.add_head_count_kv(KEY_HEADS)
    out.add_layer_norm_rms_eps(EPSILON)
    out.add_rope_freq_base(ROPE_BASE)
    out.add_vocab_size(size)

    tokens, types, merges = vocabulary(size)
    end_of_text, _, end_of_turn = range(size - len(CONTROLS), size)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("qwen2")
    out.add_token_list(tokens)
    out.add_token_types(types)
    out.add_token_merges(merges)
    out.add_bos_token_id(end_of_text)
    out.add_eos_token_id(end_of_turn)
    out.add_pad_token_id(end_of_text)
    out.add_add_bos_token(False)
    out.add_chat_template(TEMPLATE)

    weights = Weights(out)
    # Tokens become vectors by the matrix that also gives the logits. One whose row is zero has the logit zero, far
    # below the most probable ones of so many, and is never drawn under top-k.
    weights.matrix("token_embd.weight", size, WIDTH, drawable(tokens))
    weights.ones("output_norm.weight", WIDTH)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        weights.ones(f"{block}.attn_norm.weight", WIDTH)
        weights.matrix(f"{block}.attn_q.weight", WIDTH, WIDTH)
        weights.matrix(f"{block}.attn_k.weight", KEY_HEADS * HEAD, WIDTH)
        weights.matrix(f"{block}.attn_v.weight", KEY_HEADS * HEAD, WIDTH)
        weights.vector(f"{block}.attn_q.bias", WIDTH)
        weights.vector(f"{block}.attn_k.bias", KEY_HEADS * HEAD)
        weights.vector(f"{block}.attn_v.bias", KEY_HEADS * HEAD)
        weights.matrix(f"{block}.attn_output.weight", WIDTH, WIDTH)
        weights.ones(f"{block}.ffn_norm.weight", WIDTH)
        weights.matrix(f"{block}.ffn_gate.weight", HIDDEN, WIDTH)
        weights.matrix(f"{block}.ffn_up.weight", HIDDEN, WIDTH)
        weights.matrix(f"{block}.ffn_down.weight", WIDTH, HIDDEN)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--vocabulary", type=int, default=VOCABULARY, help="tokens (default %(default)s)")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    temporary = options.out.with_suffix(".part")
    write(temporary, options.vocabulary)
    temporary.replace(options.out)


if __name__ == "__main__":
    main()
