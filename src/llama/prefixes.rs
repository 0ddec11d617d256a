//! Texts that are in the cache, or on their way there, so that no prompt is evaluated that was before.
//!
//! Each text has a sequence of the cache. A new one shares with the text that it has most in common with, evaluates only
//! what is its own, and where that common part is still being evaluated it waits for it. Together they are a tree of
//! prefixes; the cells of each branching are counted once (see [`super::cells`]). A text that nobody holds any more
//! stays as long as there is room, the one that was used last the longest.
//!
//! Nothing here touches llama.cpp: it is told what to share, to evaluate and to remove.

use std::collections::HashSet;
use std::sync::Arc;

use llama_cpp_2::token::LlamaToken;

use super::cells::{Cells, Span};
use super::context::SequenceId;

/// The texts of one cache.
#[derive(Debug)]
pub(super) struct Prefixes {
    texts: Vec<Text>,
    /// Cells that texts may keep which nobody holds.
    kept_cells: u32,
    /// Texts at the same time beyond which none is kept that nobody holds.
    most: usize,
    clock: u64,
}

/// A text, of which the first `evaluated` tokens are in the cache.
#[derive(Debug)]
struct Text {
    sequence: SequenceId,
    tokens: Arc<[LlamaToken]>,
    evaluated: usize,
    /// The logits after the last token.
    row: Option<Arc<[f32]>>,
    /// Whether the logits after every token are wanted, so that it shares nothing.
    wants_rows: bool,
    /// Whose tokens come first, and how many of them, until they are there to be shared.
    waits_for: Option<(SequenceId, usize)>,
    span: Span,
    holders: usize,
    last_used: u64,
}

/// A text that was removed. Its sequence is to be emptied.
#[derive(Debug)]
pub(super) struct Evicted {
    pub(super) sequence: SequenceId,
    /// What the sequence holds.
    pub(super) tokens: Arc<[LlamaToken]>,
    /// The logits after the last token, where they are known.
    pub(super) row: Option<Arc<[f32]>>,
    /// Whether another text here begins with all of it.
    pub(super) is_contained: bool,
}

/// How a text comes into the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) sequence: SequenceId,
    /// Tokens that need not be evaluated for it.
    pub(super) shared: usize,
}

/// What a text has in common with those that are here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Match {
    /// It is here, or will be, as a whole.
    Whole(usize),
    /// Its first tokens are those of this text.
    Part(usize, usize),
    Nothing,
}

/// Sharing that can be done now: the first `length` tokens of `from` are those of `to`, which is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sharing {
    pub(super) from: SequenceId,
    pub(super) to: SequenceId,
    pub(super) length: u32,
}

impl Prefixes {
    pub(super) fn new(most: usize, kept_cells: u32) -> Self {
        Self { texts: Vec::new(), kept_cells, most, clock: 0 }
    }

    /// Cells that a text would take beside those that are held, at least.
    pub(super) fn cells_for(&self, tokens: &[LlamaToken]) -> u32 {
        match self.find(tokens) {
            Match::Whole(_) => 0,
            Match::Part(_, shared) => count(tokens.len() - shared),
            Match::Nothing => count(tokens.len()),
        }
    }

    /// Holds a text, which becomes one of those here if it is not. `None`: there is no room for it, in cells or in
    /// texts, even when all that nobody holds is evicted; `free` takes what then is.
    ///
    /// `tokens` has at least one.
    pub(super) fn hold(
        &mut self,
        tokens: &Arc<[LlamaToken]>,
        cells: &Cells,
        sequences: &mut Vec<SequenceId>,
        free: impl FnMut(Evicted),
    ) -> Option<Held> {
        let found = self.find(tokens);
        self.hold_as(found, tokens, cells, sequences, free)
    }

    /// The same for a text of which the logits after every token are wanted, and which therefore shares nothing with those
    /// that are here. They may share with it.
    pub(super) fn hold_to_score(
        &mut self,
        tokens: &Arc<[LlamaToken]>,
        cells: &Cells,
        sequences: &mut Vec<SequenceId>,
        free: impl FnMut(Evicted),
    ) -> Option<Held> {
        let held = self.hold_as(Match::Nothing, tokens, cells, sequences, free)?;
        self.text_mut(held.sequence).wants_rows = true;
        Some(held)
    }

    fn hold_as(
        &mut self,
        found: Match,
        tokens: &Arc<[LlamaToken]>,
        cells: &Cells,
        sequences: &mut Vec<SequenceId>,
        mut free: impl FnMut(Evicted),
    ) -> Option<Held> {
        self.clock += 1;
        if let Match::Whole(position) = found {
            let text = &mut self.texts[position];
            text.holders += 1;
            text.last_used = self.clock;
            return Some(Held { sequence: text.sequence, shared: text.tokens.len() });
        }
        let source = match found {
            Match::Part(position, shared) => Some((self.texts[position].sequence, shared)),
            _ => None,
        };
        // The source must not be evicted to make room for what shares with it.
        if let Some((source, _)) = source {
            self.text_mut(source).holders += 1;
        }
        let span = self.make(tokens, source, cells, sequences, &mut free);
        let Some((span, sequence)) = span else {
            if let Some((source, _)) = source {
                self.text_mut(source).holders -= 1;
            }
            return None;
        };
        let shared = source.map_or(0, |(_, shared)| shared);
        if let Some((source, _)) = source {
            let clock = self.clock;
            self.text_mut(source).last_used = clock;
        }
        self.texts.push(Text {
            sequence,
            tokens: Arc::clone(tokens),
            evaluated: 0,
            row: None,
            wants_rows: false,
            waits_for: source,
            span,
            holders: 1,
            last_used: self.clock,
        });
        Some(Held { sequence, shared })
    }

    fn make(
        &mut self,
        tokens: &[LlamaToken],
        source: Option<(SequenceId, usize)>,
        cells: &Cells,
        sequences: &mut Vec<SequenceId>,
        free: &mut impl FnMut(Evicted),
    ) -> Option<(Span, SequenceId)> {
        let own = count(tokens.len() - source.map_or(0, |(_, shared)| shared));
        while cells.free() < own || sequences.is_empty() {
            let evicted = self.evict()?;
            sequences.push(evicted.sequence);
            free(evicted);
        }
        // Of those that somebody holds there may be more.
        while self.texts.len() >= self.most
            && let Some(evicted) = self.evict()
        {
            sequences.push(evicted.sequence);
            free(evicted);
        }
        let below = source.and_then(|(source, shared)| {
            let text = self.text(source);
            text.span.ending_at(count(text.tokens.len()), count(shared))
        });
        Some((cells.take(own, below)?, sequences.pop()?))
    }

    /// What is to be shared before anything more is evaluated, and the sequences that are to be emptied after that.
    pub(super) fn shareable(&mut self) -> (Vec<Sharing>, Vec<SequenceId>) {
        let (mut shared, mut emptied) = (Vec::new(), Vec::new());
        let is_due = |prefixes: &Self, text: &Text| {
            text.waits_for.is_some_and(|(source, shared)| prefixes.text(source).evaluated >= shared)
        };
        while let Some(position) = self.texts.iter().position(|text| is_due(self, text)) {
            let text = &mut self.texts[position];
            let (from, length) = text.waits_for.take().expect("it is due");
            text.evaluated = length;
            shared.push(Sharing { from, to: text.sequence, length: count(length) });
            emptied.extend(self.release(from));
        }
        (shared, emptied)
    }

    /// Gives up a text. One that was not evaluated to its end is kept as far as it was. The sequences that are returned are
    /// to be emptied.
    pub(super) fn release(&mut self, sequence: SequenceId) -> Vec<SequenceId> {
        let mut emptied = Vec::new();
        let mut next = Some(sequence);
        while let Some(sequence) = next.take() {
            let position = self.position(sequence);
            let text = &mut self.texts[position];
            text.holders -= 1;
            let unevaluated = text.tokens.len() - text.evaluated;
            if text.holders > 0 || unevaluated == 0 {
                continue;
            }
            if text.evaluated == 0 {
                // Whom it waited for is held by one fewer.
                next = text.waits_for.map(|(source, _)| source);
                emptied.push(sequence);
                self.texts.remove(position);
                continue;
            }
            // What follows may be in pieces, where others were to share more of it than there is.
            if let Some(span) = text.span.ending_at(count(text.tokens.len()), count(text.evaluated)) {
                text.span = span;
            }
            text.tokens = text.tokens[..text.evaluated].into();
        }
        emptied
    }

    /// The texts that nobody holds, the one that was used least lately first.
    pub(super) fn unheld(&self) -> Vec<SequenceId> {
        let mut unheld: Vec<&Text> = self.texts.iter().filter(|text| text.holders == 0).collect();
        unheld.sort_by_key(|text| text.last_used);
        unheld.into_iter().map(|text| text.sequence).collect()
    }

    /// Removes the text that was used least lately of those that nobody holds.
    pub(super) fn evict(&mut self) -> Option<Evicted> {
        let sequence = *self.unheld().first()?;
        Some(self.remove(sequence))
    }

    /// Removes a text that nobody holds.
    pub(super) fn remove(&mut self, sequence: SequenceId) -> Evicted {
        let is_contained = self.is_contained(sequence);
        let position = self.position(sequence);
        let Text { sequence, tokens, row, holders, .. } = self.texts.remove(position);
        debug_assert_eq!(holders, 0, "a text that somebody holds stays");
        Evicted { sequence, tokens, row, is_contained }
    }

    /// Removes texts that nobody holds until the rest takes no more than may be kept.
    pub(super) fn evict_surplus(&mut self) -> Vec<Evicted> {
        let mut evicted = Vec::new();
        while self.kept_cells() > self.kept_cells || self.texts.len() > self.most {
            let Some(text) = self.evict() else { break };
            evicted.push(text);
        }
        evicted
    }

    /// Cells of texts that nobody holds, and that nobody's text stands on.
    pub(super) fn kept_cells(&self) -> u32 {
        self.cells_kept_but(None)
    }

    /// Cells that would be free if all texts were evicted that nobody holds and that this one does not share with.
    pub(super) fn evictable_for(&self, tokens: &[LlamaToken]) -> u32 {
        match self.find(tokens) {
            Match::Whole(position) | Match::Part(position, _) => self.cells_kept_but(Some(position)),
            Match::Nothing => self.cells_kept_but(None),
        }
    }

    fn cells_kept_but(&self, but: Option<usize>) -> u32 {
        let mut held = HashSet::new();
        let is_kept = |(position, text): &(usize, &Text)| text.holders == 0 && Some(*position) != but;
        for (_, text) in self.texts.iter().enumerate().filter(|text| !is_kept(text)) {
            text.span.walk(|span| {
                held.insert(span.identity());
            });
        }
        let mut sum = 0;
        for (_, text) in self.texts.iter().enumerate().filter(is_kept) {
            text.span.walk(|span| {
                if held.insert(span.identity()) {
                    sum += span.cells();
                }
            });
        }
        sum
    }

    /// How many of a text's tokens a text here begins with.
    pub(super) fn common(&self, tokens: &[LlamaToken]) -> usize {
        match self.find(tokens) {
            Match::Whole(_) => tokens.len(),
            Match::Part(_, shared) => shared,
            Match::Nothing => 0,
        }
    }

    /// The text here that has the most in common with this one of what is evaluated, and how much that is.
    pub(super) fn begins_like(&self, tokens: &[LlamaToken]) -> Option<(SequenceId, usize)> {
        let common = |text: &Text| {
            let evaluated = &text.tokens[..text.evaluated];
            evaluated.iter().zip(tokens).take_while(|(one, other)| one == other).count()
        };
        let best = self.texts.iter().map(|text| (text.sequence, common(text))).max_by_key(|(_, common)| *common)?;
        (best.1 > 0).then_some(best)
    }

    /// Whether another text here begins with all of a text.
    pub(super) fn is_contained(&self, sequence: SequenceId) -> bool {
        let tokens = &self.text(sequence).tokens;
        self.texts.iter().any(|text| text.sequence != sequence && text.tokens[..text.evaluated].starts_with(tokens))
    }

    /// The cells of so many of a text's first tokens.
    pub(super) fn span_of_beginning(&self, sequence: SequenceId, tokens: usize) -> Option<Span> {
        let text = self.text(sequence);
        text.span.ending_at(count(text.tokens.len()), count(tokens))
    }

    /// Cells that no other text has than this one, and the tokens that it has.
    pub(super) fn own_cells(&self, sequence: SequenceId) -> (usize, usize) {
        let mut of_others = HashSet::new();
        for text in self.texts.iter().filter(|text| text.sequence != sequence) {
            text.span.walk(|span| {
                of_others.insert(span.identity());
            });
        }
        let text = self.text(sequence);
        let mut own = 0;
        text.span.walk(|span| {
            if !of_others.contains(&span.identity()) {
                own += span.cells() as usize;
            }
        });
        (own, text.tokens.len())
    }

    /// Keeps a text that is in the cache already, as an answer is that has come to its end, with the logits after it if
    /// they are known. False: it is not needed, since it is here; its sequence is to be emptied.
    pub(super) fn keep(
        &mut self,
        sequence: SequenceId,
        tokens: Arc<[LlamaToken]>,
        row: Option<Arc<[f32]>>,
        span: Span,
    ) -> bool {
        if tokens.is_empty() || matches!(self.find(&tokens), Match::Whole(_)) {
            return false;
        }
        self.clock += 1;
        let evaluated = tokens.len();
        let last_used = self.clock;
        self.texts.push(Text {
            sequence,
            tokens,
            evaluated,
            row,
            wants_rows: false,
            waits_for: None,
            span,
            holders: 0,
            last_used,
        });
        true
    }

    /// The texts that are to be evaluated now, in the order in which they came: how many tokens each still needs.
    pub(super) fn unread(&self) -> Vec<(SequenceId, usize)> {
        let readable = self.texts.iter().filter(|text| text.waits_for.is_none());
        let unread = readable.map(|text| (text.sequence, text.tokens.len() - text.evaluated));
        unread.filter(|(_, count)| *count > 0).collect()
    }

    /// The token of a text at this distance behind those that are evaluated, and whether the logits after it are wanted.
    pub(super) fn next_token(&self, sequence: SequenceId, ahead: usize) -> Option<(LlamaToken, bool)> {
        let text = self.text(sequence);
        let position = text.evaluated + ahead;
        Some((*text.tokens.get(position)?, text.wants_rows || position + 1 == text.tokens.len()))
    }

    /// Whether the logits after every token of a text are wanted.
    pub(super) fn wants_rows(&self, sequence: SequenceId) -> bool {
        self.text(sequence).wants_rows
    }

    /// The logits of a text are not wanted any more but for the last ones.
    pub(super) fn is_scored(&mut self, sequence: SequenceId) {
        self.text_mut(sequence).wants_rows = false;
    }

    /// So many more tokens of a text are in the cache; `row` are the logits after its last one.
    pub(super) fn evaluated(&mut self, sequence: SequenceId, count: usize, row: Option<Arc<[f32]>>) {
        let text = self.text_mut(sequence);
        text.evaluated += count;
        debug_assert!(text.evaluated <= text.tokens.len());
        if row.is_some() {
            text.row = row;
        }
    }

    /// The logits after a text, once all of it is evaluated.
    pub(super) fn row(&self, sequence: SequenceId) -> Option<&Arc<[f32]>> {
        self.text(sequence).row.as_ref()
    }

    /// How many tokens of a text are in the cache.
    pub(super) fn evaluated_of(&self, sequence: SequenceId) -> usize {
        self.text(sequence).evaluated
    }

    /// The cells of a text.
    pub(super) fn span(&self, sequence: SequenceId) -> &Span {
        &self.text(sequence).span
    }

    fn find(&self, tokens: &[LlamaToken]) -> Match {
        let mut best = Match::Nothing;
        let mut most = 0;
        for (position, text) in self.texts.iter().enumerate() {
            let common = text.tokens.iter().zip(tokens).take_while(|(one, other)| one == other).count();
            let is_whole = common == tokens.len() && common == text.tokens.len();
            // Whoever holds a text sees to it that its logits are worked out; a text that was kept for its beginning has
            // none, and its last token is evaluated anew.
            if is_whole && (text.row.is_some() || text.evaluated < text.tokens.len()) {
                return Match::Whole(position);
            }
            let shared = common.min(tokens.len() - 1);
            if shared > most {
                most = shared;
                best = Match::Part(position, shared);
            }
        }
        best
    }

    fn text(&self, sequence: SequenceId) -> &Text {
        &self.texts[self.position(sequence)]
    }

    fn text_mut(&mut self, sequence: SequenceId) -> &mut Text {
        let position = self.position(sequence);
        &mut self.texts[position]
    }

    fn position(&self, sequence: SequenceId) -> usize {
        self.texts.iter().position(|text| text.sequence == sequence).expect("only texts that are here are asked about")
    }
}

fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
