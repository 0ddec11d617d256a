//! Texts that nobody needs at the moment, in memory outside of the cache.
//!
//! Attention looks at every cell of the cache that is used, whoever uses it, so that texts which are kept there for
//! nobody slow everybody down. Those that would cost more than they are worth make way: what the cache holds of them is
//! copied to here, and back when somebody begins with the same. That takes milliseconds where reading them again would
//! take seconds.
//!
//! Nothing here touches llama.cpp: what the cache held is whatever the caller says it is.

use std::sync::Arc;

use llama_cpp_2::token::LlamaToken;

/// The texts of one engine, within a bound of memory. What was used last stays the longest.
#[derive(Debug)]
pub(super) struct Shelf<S> {
    texts: Vec<Shelved<S>>,
    /// Bytes that they may have altogether.
    most: usize,
    bytes: usize,
    clock: u64,
}

/// A text that was in the cache as a whole.
#[derive(Debug)]
pub(super) struct Shelved<S> {
    pub(super) tokens: Arc<[LlamaToken]>,
    /// The logits after the last token, where they are known.
    pub(super) row: Option<Arc<[f32]>>,
    /// What the cache held of it.
    pub(super) state: S,
    bytes: usize,
    last_used: u64,
}

/// The text that has the most in common with another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) position: usize,
    /// Tokens that both begin with.
    pub(super) common: usize,
    /// Tokens of the text.
    pub(super) length: usize,
}

impl<S> Shelf<S> {
    /// A shelf for so many bytes; 0: nothing is ever put on it.
    pub(super) fn new(most: usize) -> Self {
        Self { texts: Vec::new(), most, bytes: 0, clock: 0 }
    }

    /// Bytes of what is here.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a text of so many bytes has room when all others make way.
    pub(super) fn takes(&self, bytes: usize) -> bool {
        bytes <= self.most
    }

    /// Whether a text is here, alone or as the beginning of another.
    pub(super) fn has(&self, tokens: &[LlamaToken]) -> bool {
        self.texts.iter().any(|text| text.tokens.starts_with(tokens))
    }

    /// Makes room for a text of so many bytes, of those that it [takes](Self::takes). Those that it begins with are not
    /// needed beside it; those that were used least lately make way for it.
    pub(super) fn make_room(&mut self, tokens: &[LlamaToken], bytes: usize) {
        self.texts.retain(|text| !tokens.starts_with(&text.tokens));
        self.bytes = self.texts.iter().map(|text| text.bytes).sum();
        while self.bytes.saturating_add(bytes) > self.most
            && let Some(oldest) = (0..self.texts.len()).min_by_key(|position| self.texts[*position].last_used)
        {
            self.take(oldest);
        }
    }

    /// Puts a text here, which takes so many bytes, for which there is room.
    pub(super) fn put(&mut self, tokens: Arc<[LlamaToken]>, row: Option<Arc<[f32]>>, state: S, bytes: usize) {
        debug_assert!(self.bytes + bytes <= self.most, "room was made");
        self.clock += 1;
        self.bytes += bytes;
        self.texts.push(Shelved { tokens, row, state, bytes, last_used: self.clock });
    }

    /// The text that has the most in common with this one, and the shortest of those.
    pub(super) fn find(&self, tokens: &[LlamaToken]) -> Option<Found> {
        let common = |text: &Shelved<S>| text.tokens.iter().zip(tokens).take_while(|(one, other)| one == other).count();
        let found = self.texts.iter().enumerate().map(|(position, text)| Found {
            position,
            common: common(text),
            length: text.tokens.len(),
        });
        let best = found.max_by_key(|found| (found.common, std::cmp::Reverse(found.length)))?;
        (best.common > 0).then_some(best)
    }

    /// A text was used.
    pub(super) fn touch(&mut self, position: usize) {
        self.clock += 1;
        self.texts[position].last_used = self.clock;
    }

    pub(super) fn get(&self, position: usize) -> &Shelved<S> {
        &self.texts[position]
    }

    /// Takes a text from here.
    pub(super) fn take(&mut self, position: usize) -> Shelved<S> {
        let text = self.texts.remove(position);
        self.bytes -= text.bytes;
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Arc<[LlamaToken]> {
        text.bytes().map(|byte| LlamaToken(byte.into())).collect()
    }

    fn put(shelf: &mut Shelf<&'static str>, text: &'static str) {
        if shelf.takes(text.len()) {
            shelf.make_room(&tokens(text), text.len());
            shelf.put(tokens(text), None, text, text.len());
        }
    }

    fn all(shelf: &Shelf<&'static str>) -> Vec<&'static str> {
        assert_eq!(shelf.bytes(), shelf.texts.iter().map(|text| text.bytes).sum::<usize>());
        shelf.texts.iter().map(|text| text.state).collect()
    }

    fn find(shelf: &Shelf<&'static str>, text: &str) -> Option<(&'static str, usize)> {
        let found = shelf.find(&tokens(text))?;
        assert_eq!(found.length, shelf.get(found.position).tokens.len());
        Some((shelf.get(found.position).state, found.common))
    }

    #[test]
    fn what_was_used_least_lately_makes_way() {
        let mut shelf = Shelf::new(10);
        for text in ["abcd", "efg", "hij"] {
            put(&mut shelf, text);
        }
        assert_eq!(all(&shelf), ["abcd", "efg", "hij"]);
        assert_eq!(find(&shelf, "abx"), Some(("abcd", 2)));
        shelf.touch(0);
        put(&mut shelf, "k");
        assert_eq!(all(&shelf), ["abcd", "hij", "k"]);
        put(&mut shelf, "0123456789");
        assert_eq!(all(&shelf), ["0123456789"]);
        put(&mut shelf, "0987654321x");
        assert_eq!(all(&shelf), ["0123456789"], "one that is too large leaves the others alone");
    }

    #[test]
    fn what_a_longer_one_begins_with_is_not_needed_beside_it() {
        let mut shelf = Shelf::new(100);
        for text in ["abc", "ax", "abcdef", "abc"] {
            put(&mut shelf, text);
        }
        assert_eq!(all(&shelf), ["ax", "abcdef", "abc"], "whoever puts it asks whether it is here");
        assert!(shelf.has(&tokens("abcde")) && shelf.has(&tokens("ax")) && !shelf.has(&tokens("axe")));
    }

    #[test]
    fn the_longest_beginning_is_found_and_of_equals_the_shortest_text() {
        let mut shelf = Shelf::new(100);
        assert_eq!(find(&shelf, "abc"), None);
        for text in ["abcdefgh", "abcd", "abxy"] {
            put(&mut shelf, text);
        }
        assert_eq!(find(&shelf, "abcq"), Some(("abcd", 3)));
        assert_eq!(find(&shelf, "abcdefq"), Some(("abcdefgh", 6)));
        assert_eq!(find(&shelf, "abx"), Some(("abxy", 3)));
        assert_eq!(find(&shelf, "q"), None);
        let position = shelf.find(&tokens("abcd")).unwrap().position;
        assert_eq!(shelf.take(position).state, "abcd");
        assert_eq!(all(&shelf), ["abcdefgh", "abxy"]);
    }

    #[test]
    fn a_shelf_without_room_takes_nothing() {
        let mut shelf = Shelf::new(0);
        assert!(!shelf.takes(1));
        put(&mut shelf, "a");
        assert!(all(&shelf).is_empty());
    }
}
