use proptest::prelude::*;

use super::*;

/// A cache with all that belongs to it, as the engine's thread has it.
struct House {
    cells: Cells,
    free: Vec<SequenceId>,
    prefixes: Prefixes,
    /// What llama.cpp would hold: the tokens of each sequence.
    cache: Vec<Vec<LlamaToken>>,
}

fn tokens(text: &str) -> Arc<[LlamaToken]> {
    text.bytes().map(|byte| LlamaToken(byte.into())).collect()
}

impl House {
    fn new(cells: u32, most: usize, kept: u32) -> Self {
        Self {
            cells: Cells::new(cells),
            free: (0..10).rev().map(SequenceId).collect(),
            prefixes: Prefixes::new(most, kept),
            cache: vec![Vec::new(); 10],
        }
    }

    fn hold(&mut self, text: &str) -> Option<Held> {
        let cache = &mut self.cache;
        self.prefixes.hold(&tokens(text), &self.cells, &mut self.free, |evicted| {
            let held = std::mem::take(&mut cache[evicted.sequence.0 as usize]);
            assert_eq!(held, *evicted.tokens);
        })
    }

    fn release(&mut self, sequence: SequenceId) {
        let emptied = self.prefixes.release(sequence);
        let surplus = self.prefixes.evict_surplus();
        self.empty(emptied);
        for evicted in surplus {
            self.evicted(&evicted);
        }
    }

    fn evicted(&mut self, evicted: &Evicted) {
        assert_eq!(self.cache[evicted.sequence.0 as usize], *evicted.tokens);
        self.empty(vec![evicted.sequence]);
    }

    fn empty(&mut self, sequences: Vec<SequenceId>) {
        for sequence in sequences {
            self.cache[sequence.0 as usize].clear();
            self.free.push(sequence);
        }
    }

    fn share(&mut self) {
        let (shared, emptied) = self.prefixes.shareable();
        for Sharing { from, to, length } in shared {
            assert!(self.cache[to.0 as usize].is_empty());
            self.cache[to.0 as usize] = self.cache[from.0 as usize][..length as usize].to_vec();
        }
        self.empty(emptied);
    }

    /// Evaluates up to so many tokens of each text. How many that were.
    fn read(&mut self, most: usize) -> usize {
        self.share();
        let mut sum = 0;
        for (sequence, unread) in self.prefixes.unread() {
            let count = unread.min(most);
            let mut is_over = false;
            for ahead in 0..count {
                let (token, wants_row) = self.prefixes.next_token(sequence, ahead).unwrap();
                self.cache[sequence.0 as usize].push(token);
                is_over = wants_row;
            }
            self.prefixes.evaluated(sequence, count, is_over.then(|| Arc::from([0.5f32])));
            sum += count;
        }
        sum
    }

    fn read_all(&mut self) -> usize {
        std::iter::from_fn(|| Some(self.read(3)).filter(|read| *read > 0)).sum()
    }

    /// What is in the cache is what the texts say, and the ledger knows of every cell of it.
    fn check(&self) {
        let mut distinct = HashSet::new();
        let mut in_use = HashSet::new();
        for text in &self.prefixes.texts {
            let held = &self.cache[text.sequence.0 as usize];
            assert_eq!(held.len(), text.evaluated);
            assert_eq!(held[..], text.tokens[..text.evaluated]);
            assert!(in_use.insert(text.sequence) && !self.free.contains(&text.sequence));
            for length in 1..=text.tokens.len() {
                distinct.insert(text.tokens[..length].to_vec());
            }
            assert!(text.holders > 0 || text.evaluated == text.tokens.len());
            assert!(text.holders > 0 || text.waits_for.is_none());
        }
        assert_eq!(in_use.len() + self.free.len(), 10, "no sequence is lost");
        // Of a text whose end is somewhere else's beginning the last token is there twice.
        let twice = self.prefixes.texts.len();
        let held = self.cells.held() as usize;
        assert!((distinct.len()..=distinct.len() + twice).contains(&held), "{held} for {}", distinct.len());
    }
}

#[test]
fn a_text_is_held_once_by_all_who_want_it() {
    let mut house = House::new(100, 8, 100);
    let one = house.hold("abcdef").unwrap();
    let other = house.hold("abcdef").unwrap();
    assert_eq!((one.shared, other.shared, one.sequence), (0, 6, other.sequence));
    assert_eq!((house.read_all(), house.cells.held()), (6, 6));
    house.release(one.sequence);
    assert!(house.prefixes.row(other.sequence).is_some());
    house.release(other.sequence);
    assert_eq!(house.prefixes.kept_cells(), 6);
    assert_eq!(house.hold("abcdef").unwrap().shared, 6, "it was kept, and its logits with it");
}

#[test]
fn what_is_on_its_way_is_waited_for_and_shared() {
    let mut house = House::new(100, 8, 100);
    house.hold("abcdefgh").unwrap();
    let other = house.hold("abcdxy").unwrap();
    assert_eq!((other.shared, house.cells.held()), (4, 10));
    assert_eq!(house.read(3), 3, "the other waits");
    assert_eq!(house.read(1), 1);
    assert_eq!(house.read(9), 4 + 2);
    house.check();
    assert_eq!(house.read_all(), 0);
}

#[test]
fn the_last_token_of_a_text_is_always_its_own() {
    let mut house = House::new(100, 8, 100);
    let long = house.hold("abcdef").unwrap();
    house.read_all();
    assert_eq!(house.hold("abc").unwrap().shared, 2, "its logits are nowhere");
    assert_eq!(house.read_all(), 1);
    house.release(long.sequence);
    house.check();
}

#[test]
fn who_waits_is_not_lost_with_whom_it_waited_for() {
    let mut house = House::new(100, 8, 100);
    let first = house.hold("abcdefgh").unwrap();
    let second = house.hold("abcdxy").unwrap();
    let third = house.hold("abcdxyz").unwrap();
    // The first is wanted by nobody any more but by those that wait.
    house.release(first.sequence);
    house.read_all();
    house.check();
    assert!(house.prefixes.row(third.sequence).is_some());
    house.release(second.sequence);
    house.release(third.sequence);
    house.check();
}

#[test]
fn a_chain_that_never_began_leaves_nothing_behind() {
    let mut house = House::new(100, 8, 100);
    let all = ["abcd", "abcx", "abcxy"].map(|text| house.hold(text).unwrap().sequence);
    for sequence in all {
        house.release(sequence);
    }
    house.check();
    assert_eq!((house.cells.held(), house.free.len()), (0, 10));
}

#[test]
fn a_text_that_is_scored_shares_nothing_and_is_shared() {
    let mut house = House::new(100, 8, 100);
    house.hold("abc").unwrap();
    house.read_all();
    let scored = house.prefixes.hold_to_score(&tokens("abcd"), &house.cells, &mut house.free, |_| {}).unwrap();
    assert_eq!(scored.shared, 0);
    assert_eq!(house.prefixes.next_token(scored.sequence, 0).unwrap(), (LlamaToken(97), true));
    assert_eq!(house.read_all(), 4);
    assert_eq!(house.hold("abcd").unwrap().shared, 4);
    assert_eq!(house.cells.held(), 7);
}

#[test]
fn the_text_that_was_used_least_lately_makes_way() {
    let mut house = House::new(9, 8, 9);
    for text in ["aaa", "bbb", "ccc", "aaa"] {
        let held = house.hold(text).unwrap();
        house.read_all();
        house.release(held.sequence);
    }
    let new = house.hold("ddd").unwrap();
    house.read_all();
    assert_eq!(house.hold("aaa").unwrap().shared, 3);
    assert_eq!(house.hold("ccc").unwrap().shared, 3);
    assert!(house.hold("bbb").is_none(), "nothing is left that nobody holds");
    house.release(new.sequence);
    assert!(house.hold("bbb").is_some());
    house.check();
}

#[test]
fn a_text_that_was_given_up_half_way_keeps_the_cells_that_it_fills() {
    let mut house = House::new(100, 8, 100);
    let first = house.hold("abcdefgh").unwrap();
    let second = house.hold("abcdefxy").unwrap();
    house.read(2);
    house.release(second.sequence);
    house.release(first.sequence);
    assert_eq!(house.cells.held(), 2);
    house.check();
    assert_eq!(house.hold("abcd").unwrap().shared, 2);
}

#[test]
fn only_so_much_is_kept() {
    let mut house = House::new(100, 8, 5);
    for text in ["aaaa", "bbbb"] {
        let held = house.hold(text).unwrap();
        house.read_all();
        house.release(held.sequence);
    }
    assert_eq!(house.prefixes.kept_cells(), 4);
    house.check();
}

#[test]
fn an_answer_is_kept_behind_its_prompt() {
    let mut house = House::new(100, 8, 100);
    let prompt = house.hold("abc").unwrap();
    house.read_all();
    let span = house.prefixes.span(prompt.sequence).branch();
    assert!(span.grow(2));
    let sequence = house.free.pop().unwrap();
    house.cache[sequence.0 as usize] = tokens("abcde").to_vec();
    assert!(house.prefixes.keep(sequence, tokens("abcde"), None, span));
    house.release(prompt.sequence);
    let next = house.hold("abcdefg").unwrap();
    assert_eq!((next.shared, house.read_all()), (5, 2));
    assert_eq!(house.cells.held(), 7);
    house.check();
}

proptest! {
    #[test]
    fn whatever_comes_the_cache_holds_what_the_texts_say(
        actions in prop::collection::vec((0..3u8, "[ab]{1,7}", 0..8usize), 1..60),
        kept in 0..20u32,
    ) {
        let mut house = House::new(40, 6, kept);
        let mut held: Vec<SequenceId> = Vec::new();
        for (action, text, number) in actions {
            match action {
                0 => held.extend(house.hold(&text).map(|held| held.sequence)),
                1 if !held.is_empty() => {
                    let sequence = held.swap_remove(number % held.len());
                    house.release(sequence);
                }
                _ => drop(house.read(number)),
            }
            house.share();
            house.check();
        }
        house.read_all();
        for sequence in std::mem::take(&mut held) {
            prop_assert!(house.prefixes.row(sequence).is_some(), "everything comes to its end");
            house.release(sequence);
        }
        house.check();
        while let Some(evicted) = house.prefixes.evict() {
            house.evicted(&evicted);
        }
        prop_assert_eq!(house.cells.held(), 0);
    }
}
