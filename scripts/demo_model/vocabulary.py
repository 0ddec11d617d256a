"""The model's alphabet: one token a character, a few control tokens, bytes for everything else.

The list is laid out as llama.cpp's `llama` (SentencePiece) tokeniser wants it, where a space is
written as U+2581. Single characters never merge, so tokenising is a table look-up here and there.
"""

SPACE = "\u2581"

# GGUF token types.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6

CONTROLS = ["<unk>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|tool|>", "<|tools|>"]

# Fixed parts of a tool call, one token each: they are plain text to a reader, and half the length
# of a call to the model.
CALL_OPEN = "<tool_call>"
CALL_CLOSE = "</tool_call>"
CALL_HEAD = '{"name": "calculator", "arguments": {"expression": "'
PIECES = [CALL_OPEN, CALL_CLOSE, CALL_HEAD]

CHARACTERS = ["\n"] + [chr(code) for code in range(0x20, 0x7F)] + ["\u00d7", "\u00f7", "\u2212"]

TOKENS = (
    [(text, UNKNOWN if text == "<unk>" else CONTROL) for text in CONTROLS]
    + [(f"<0x{byte:02X}>", BYTE) for byte in range(256)]
    + [(text, USER_DEFINED) for text in PIECES]
    + [(SPACE if text == " " else text, NORMAL) for text in CHARACTERS]
)
TOKENS += [(f"<unused{n}>", CONTROL) for n in range(-len(TOKENS) % 16)]

_ID = {text: index for index, (text, _) in enumerate(TOKENS)}
_ID[" "] = _ID[SPACE]
BOS, EOS = _ID["<s>"], _ID["</s>"]
USER, ASSISTANT, TOOL, TOOLS = (_ID[f"<|{name}|>"] for name in ("user", "assistant", "tool", "tools"))
PAD, UNK = EOS, _ID["<unk>"]
SIZE = len(TOKENS)


def encode(text, pieces=True):
    """Token ids of plain text; `pieces` says whether the parts of a tool call count as one token."""
    if pieces:
        for piece in PIECES:
            before, found, after = text.partition(piece)
            if found:
                return encode(before) + [_ID[piece]] + encode(after)
    ids = []
    for character in text:
        if character in _ID:
            ids.append(_ID[character])
        else:
            ids += [_ID[f"<0x{byte:02X}>"] for byte in character.encode()]
    return ids


def decode(ids):
    """Plain text of token ids; control tokens leave nothing."""
    out = bytearray()
    for index in ids:
        text, kind = TOKENS[index]
        if kind == BYTE:
            out.append(int(text[3:5], 16))
        elif kind in (NORMAL, USER_DEFINED):
            out += text.replace(SPACE, " ").encode()
    return out.decode(errors="replace")
