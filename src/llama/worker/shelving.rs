//! How texts that nobody holds make way in the cache, and come back.
//!
//! What is copied is large, so that it happens between turns, with nobody waiting for a lock, and beside streams a little at
//! a time.

use std::sync::Arc;

use llama_cpp_2::token::LlamaToken;

use super::{Running, Worker, count};
use crate::llama::context::{CheckedContext, Saved};
use crate::llama::prefixes::Evicted;
use crate::llama::shelf::{Found, Shelf};

/// Fewer tokens than these are read as soon as they are fetched, and so is a small part of the text that has them.
const LEAST_GAIN: usize = 16;
const LEAST_PART: usize = 8;

/// Beside streams no more bytes are copied between two turns: some tens of milliseconds.
const MOST_BESIDE: usize = 128 << 20;

/// A text whose beginning is to be brought back, and the tokens that are expected behind it.
pub(super) type Wanted = (Arc<[LlamaToken]>, u32);

impl Worker<'_> {
    /// Moves texts between cache and shelf as those want it who have come. Whether there was anything to do.
    pub(super) fn move_texts(&mut self) -> bool {
        let makes_way = std::mem::take(&mut self.somebody_came);
        if makes_way {
            self.make_way();
        }
        let wanted = self.wanted.take();
        if let Some((tokens, expected)) = &wanted {
            self.fetch(tokens, *expected);
        }
        makes_way || wanted.is_some()
    }

    /// Lets texts that nobody holds make way for who begins to work: attention looks at all cells up to the last one that is
    /// used, for every head of every layer, and passing over a thousand of them was measured to cost a tenth of the time in
    /// which a prompt is read. One that is too large to be put on the shelf stays, since it would have to be read again, and
    /// so does one that shares most of its cells with others, since little would be gained.
    fn make_way(&mut self) {
        if !self.shelf.takes(1) {
            return;
        }
        // What another one begins with goes with that, and is no text of its own.
        for sequence in self.prefixes.unheld() {
            if self.prefixes.is_contained(sequence) {
                let evicted = self.prefixes.remove(sequence);
                self.put_away(evicted);
            }
        }
        let most = self.most_copied();
        for sequence in self.prefixes.unheld() {
            let (own, length) = self.prefixes.own_cells(sequence);
            let bytes = self.context.saved_bytes(sequence).unwrap_or(usize::MAX);
            if own * 2 < length || bytes > most || !self.shelf.takes(bytes) {
                continue;
            }
            let evicted = self.prefixes.remove(sequence);
            self.put_away(evicted);
            if most < usize::MAX {
                // The others follow in the next turns.
                self.somebody_came = true;
                return;
            }
        }
    }

    /// Bytes that may be copied now.
    fn most_copied(&self) -> usize {
        if self.running.iter().all(Running::is_resting) { usize::MAX } else { MOST_BESIDE }
    }

    /// Empties the sequence of a text that was removed, which is free then.
    pub(super) fn put_away(&mut self, evicted: Evicted) {
        let sequence = evicted.sequence;
        shelve(&mut self.context, &mut self.shelf, evicted);
        self.free_sequences.push(sequence);
    }

    /// What the shelf has of the beginning of a text, where that is more than the cache has by enough to be worth a copy,
    /// and there is room for it, for the rest of the text and for `expected` tokens behind it.
    pub(super) fn on_shelf(&self, tokens: &[LlamaToken], expected: u32) -> Option<Found> {
        let found = self.shelf.find(tokens)?;
        let gain = found.common.saturating_sub(self.prefixes.common(tokens));
        let needed = count(found.length + tokens.len() - found.common).saturating_add(expected);
        let room = self.cells.free().saturating_add(self.prefixes.kept_cells());
        let is_worth_it = gain >= LEAST_GAIN.max(found.length / LEAST_PART);
        (is_worth_it && needed <= room && self.shelf.get(found.position).state.bytes() <= self.most_copied())
            .then_some(found)
    }

    /// Brings back what the shelf has of the beginning of a text.
    fn fetch(&mut self, tokens: &[LlamaToken], expected: u32) {
        let Some(wanted) = self.on_shelf(tokens, expected) else { return };
        self.shelf.touch(wanted.position);
        if !self.has_sequence() {
            return;
        }
        let Some(span) = self.take_cells(count(wanted.length), None) else { return };
        // Others may have been put on the shelf to make room, and this one may have made way for them.
        let is_same = |found: &Found| (found.common, found.length) == (wanted.common, wanted.length);
        let Some(found) = self.shelf.find(tokens).filter(is_same) else { return };
        let sequence = self.free_sequences.pop().expect("it was seen to");
        let shelved = self.shelf.get(found.position);
        let is_fetched = self.context.restore(&shelved.state, sequence).is_ok();
        // What is needed as a whole need not be in both places; what begins otherwise stays there, too.
        let (text, row): (Arc<[LlamaToken]>, _) = if found.common == found.length || !is_fetched {
            let shelved = self.shelf.take(found.position);
            (shelved.tokens, shelved.row)
        } else {
            (tokens[..found.common].into(), None)
        };
        span.shrink(count(text.len()));
        let mut is_kept = is_fetched && self.context.truncate(sequence, count(text.len())).is_ok();
        if is_kept && let Some((source, shared)) = self.prefixes.begins_like(&text) {
            // What the cache has of it already need not be there twice.
            is_kept = self.context.replace_beginning(source, sequence, count(shared)).is_ok();
            span.shrink(count(text.len() - shared));
            if let Some(below) = self.prefixes.span_of_beginning(source, shared) {
                span.stand_on(below);
            }
        }
        if !(is_kept && self.prefixes.keep(sequence, text, row, span)) {
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
        && let Ok(bytes) = context.saved_bytes(sequence)
        && shelf.takes(bytes)
    {
        let row_bytes = row.as_ref().map_or(0, |row| size_of_val::<[f32]>(row));
        let (row, bytes) = if shelf.takes(bytes + row_bytes) { (row, bytes + row_bytes) } else { (None, bytes) };
        shelf.make_room(&tokens, bytes);
        if let Ok(saved) = context.save(sequence) {
            shelf.put(tokens, row, saved, bytes);
        }
    }
    context.remove(sequence).expect("the sequence exists, and no batch is pending");
}
