//! How texts that nobody holds make way in the cache, and come back.

use std::sync::Arc;

use llama_cpp_2::token::LlamaToken;

use super::{Worker, count};
use crate::llama::context::{CheckedContext, Saved};
use crate::llama::prefixes::Evicted;
use crate::llama::shelf::Shelf;

/// Fewer tokens than these are read as soon as they are fetched.
const LEAST_GAIN: usize = 16;

impl Worker<'_> {
    /// Lets texts that nobody holds make way for who begins to work, until no more cells are left of them than cost little.
    /// One that is too large to be put on the shelf stays: it would have to be read again.
    pub(super) fn make_way(&mut self) {
        for sequence in self.prefixes.unheld() {
            if self.prefixes.kept_cells() <= self.limits.idle_cells {
                return;
            }
            if self.context.saved_bytes(sequence).is_ok_and(|bytes| self.shelf.takes(bytes)) {
                let evicted = self.prefixes.remove(sequence);
                self.put_away(evicted);
            }
        }
    }

    /// Empties the sequence of a text that was removed, which is free then.
    pub(super) fn put_away(&mut self, evicted: Evicted) {
        let sequence = evicted.sequence;
        shelve(&mut self.context, &mut self.shelf, evicted);
        self.free_sequences.push(sequence);
    }

    /// Brings back what the shelf has of the beginning of a text, where that is more than the cache has and there is room
    /// for it, for the rest of the text and for `expected` tokens behind it.
    pub(super) fn fetch(&mut self, tokens: &[LlamaToken], expected: u32) {
        let Some(found) = self.shelf.find(tokens) else { return };
        if found.common < self.prefixes.common(tokens) + LEAST_GAIN {
            return;
        }
        let needed = count(found.length + tokens.len() - found.common).saturating_add(expected);
        if needed > self.cells.free().saturating_add(self.prefixes.kept_cells()) || !self.has_sequence() {
            return;
        }
        let Some(span) = self.take_cells(count(found.length), None) else { return };
        // Others may have been put on the shelf to make room.
        let Some(found) = self.shelf.find(tokens).filter(|found| found.length <= span.cells() as usize) else { return };
        let sequence = self.free_sequences.pop().expect("it was seen to");
        let shelved = self.shelf.get(found.position);
        let is_fetched = self.context.restore(&shelved.state, sequence).is_ok();
        // What is needed as a whole need not be in both places; what begins otherwise stays there, too.
        let is_whole = found.common == found.length;
        let (text, row): (Arc<[LlamaToken]>, _) = if is_whole || !is_fetched {
            let shelved = self.shelf.take(found.position);
            (shelved.tokens, shelved.row)
        } else {
            (tokens[..found.common].into(), None)
        };
        span.shrink(count(text.len()));
        let is_kept = is_fetched
            && self.context.truncate(sequence, count(text.len())).is_ok()
            && self.prefixes.keep(sequence, text, row, span);
        if !is_kept {
            self.empty([sequence]);
        }
    }
}

/// Empties the sequence of a text that was removed, and puts on the shelf what it held, unless that is here or there
/// otherwise.
pub(super) fn shelve(context: &mut CheckedContext<'_>, shelf: &mut Shelf<Saved>, evicted: Evicted) {
    let Evicted { sequence, tokens, row, is_contained } = evicted;
    let is_whole = context.length(sequence) == Ok(count(tokens.len()));
    if is_whole
        && !(is_contained || shelf.has(&tokens))
        && context.saved_bytes(sequence).is_ok_and(|bytes| shelf.takes(bytes))
        && let Ok(saved) = context.save(sequence)
    {
        let bytes = saved.bytes() + row.as_ref().map_or(0, |row| size_of_val::<[f32]>(row));
        shelf.put(tokens, row, saved, bytes);
    }
    context.remove(sequence).expect("the sequence exists, and no batch is pending");
}
