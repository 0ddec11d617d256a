//! Text to tokens and back, with what llama.cpp would end the process on checked at load.
//!
//! Control tokens (`<|im_end|>` and the like) are recognised where the chat template wrote them, never where
//! a message merely quotes them: [`Vocabulary::defuse`] marks the quoted ones before rendering, and
//! [`Vocabulary::tokenize`] cuts the text at the marks.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;

use super::cutting::{self, PIECE_CHARS};
use super::{reasoning, tool_calls};

/// Stands inside a quoted control token. A noncharacter: Unicode reserves it for such internal use.
const MARK: char = '\u{FDD0}';

/// A model's vocabulary.
#[derive(Debug)]
pub(super) struct Vocabulary {
    model: Arc<LlamaModel>,
    size: i32,
    /// The token that must begin every prompt, where the model wants one.
    begin: Option<LlamaToken>,
    bos_text: String,
    eos_text: String,
    /// The texts of control tokens by their first character, longest first.
    controls: HashMap<char, Vec<String>>,
    tool_marks: HashSet<i32>,
    thought_marks: HashSet<i32>,
    longest_token_bytes: usize,
    /// Whether llama.cpp splits texts by regular expressions: see [`cutting`].
    splits_by_expressions: bool,
}

impl Vocabulary {
    /// # Errors
    ///
    /// In words, when the model has no vocabulary or one that cannot spell every text.
    pub(super) fn new(model: Arc<LlamaModel>) -> Result<Self, String> {
        let kind = model.meta_val_str("tokenizer.ggml.model").unwrap_or_default();
        let size = model.n_vocab();
        if size <= 0 || matches!(kind.as_str(), "" | "none" | "no_vocab") {
            return Err("the model has no vocabulary".into());
        }
        let mut controls: HashMap<char, Vec<String>> = HashMap::new();
        let mut tool_marks = HashSet::new();
        let mut thought_marks = HashSet::new();
        let mut single_bytes = HashSet::new();
        let mut longest_token_bytes = 1;
        let vocab = model.vocab();
        for token in (0..size).map(LlamaToken) {
            let Some(text) = vocab.text(token).and_then(|text| text.to_str().ok()) else { continue };
            longest_token_bytes = longest_token_bytes.max(text.len());
            if vocab.is_control(token)
                && let Some(first) = text.chars().next()
            {
                controls.entry(first).or_default().push(text.to_owned());
            }
            if tool_calls::MARKS.contains(&text) {
                tool_marks.insert(token.0);
            }
            if reasoning::MARKS.contains(&text) {
                thought_marks.insert(token.0);
            }
            if text.len() == 6 && text.starts_with("<0x") && text.ends_with('>') {
                single_bytes.extend(u8::from_str_radix(&text[3..5], 16));
            } else if let [byte] = text.as_bytes() {
                single_bytes.insert(*byte);
            }
        }
        // llama.cpp spells what is not in the vocabulary byte by byte and ends the process when it cannot.
        if kind == "llama" && single_bytes.len() < 256 {
            return Err("the model's vocabulary cannot spell every byte".into());
        }
        for texts in controls.values_mut() {
            texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
        }
        let token = |token: LlamaToken| (0..size).contains(&token.0).then_some(token);
        let text = |token: Option<LlamaToken>| {
            let text = token.and_then(|token| vocab.text(token));
            text.map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
        };
        let (bos, eos) = (token(vocab.bos()), token(vocab.eos()));
        let (bos_text, eos_text) = (text(bos), text(eos));
        let begin = bos.filter(|_| vocab.should_add_bos());
        // The others do not split at all, and would take what follows a cut for the beginning of a text.
        let splits_by_expressions = !matches!(kind.as_str(), "llama" | "bert" | "t5" | "rwkv" | "plamo2");
        Ok(Self {
            model,
            size,
            begin,
            bos_text,
            eos_text,
            controls,
            tool_marks,
            thought_marks,
            longest_token_bytes,
            splits_by_expressions,
        })
    }

    pub(super) fn size(&self) -> u32 {
        self.size.unsigned_abs()
    }

    pub(super) fn bos_text(&self) -> &str {
        &self.bos_text
    }

    pub(super) fn eos_text(&self) -> &str {
        &self.eos_text
    }

    /// Whether the token ends the model's turn.
    pub(super) fn ends_turn(&self, token: u32) -> bool {
        token < self.size() && self.model.vocab().is_eog(LlamaToken(token.cast_signed()))
    }

    /// The bytes that a generated token adds to the text: none for a control token, except that the marks of a
    /// thought are text, and those of a tool call when tools were offered.
    pub(super) fn piece(&self, token: u32, tools_offered: bool) -> Vec<u8> {
        let id = token.cast_signed();
        self.bytes(token, self.thought_marks.contains(&id) || (tools_offered && self.tool_marks.contains(&id)))
    }

    /// The token written out, control tokens too.
    pub(super) fn spelling(&self, token: u32) -> Vec<u8> {
        self.bytes(token, true)
    }

    fn bytes(&self, token: u32, control_too: bool) -> Vec<u8> {
        if token >= self.size() {
            return Vec::new();
        }
        self.model.vocab().token_to_piece(LlamaToken(token.cast_signed()), control_too, None)
    }

    /// The text that each token adds to an answer, and the tokens that end one.
    pub(super) fn texts(&self) -> (Vec<Vec<u8>>, Vec<u32>) {
        let texts =
            (0..self.size()).map(|token| if self.ends_turn(token) { Vec::new() } else { self.piece(token, false) });
        (texts.collect(), (0..self.size()).filter(|token| self.ends_turn(*token)).collect())
    }

    /// Fewest tokens that a text of this many bytes can have.
    pub(super) fn fewest_tokens(&self, text_bytes: usize) -> usize {
        text_bytes / self.longest_token_bytes
    }

    /// Marks control tokens that a message quotes, so that they stay text.
    pub(super) fn defuse(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            // A mark of the client's own would otherwise vanish, and could take the engine's place.
            out.push(if first == MARK { char::REPLACEMENT_CHARACTER } else { first });
            if self.control_length(rest).is_some() {
                out.push(MARK);
            }
            rest = &rest[first.len_utf8()..];
        }
        out
    }

    /// Tokens of a rendered prompt. The token that must begin a prompt is put there if it is missing, and
    /// never twice.
    pub(super) fn tokenize(&self, rendered: &str) -> Vec<LlamaToken> {
        let vocab = self.model.vocab();
        let mut tokens = Vec::new();
        for piece in rendered.split(MARK).filter(|piece| !piece.is_empty()) {
            let pieces = match self.splits_by_expressions {
                true => cutting::cut(piece, PIECE_CHARS, &|text| self.control_length(text)),
                false => vec![piece],
            };
            for piece in pieces {
                tokens.extend(vocab.tokenize(piece.as_bytes(), false, true));
            }
        }
        if let Some(begin) = self.begin
            && tokens.first() != Some(&begin)
        {
            tokens.insert(0, begin);
        }
        tokens
    }

    /// Bytes of the control token with which the text begins, if it does.
    fn control_length(&self, text: &str) -> Option<usize> {
        let controls = self.controls.get(&text.chars().next()?)?;
        controls.iter().find(|control| text.starts_with(control.as_str())).map(String::len)
    }
}
