//! Who holds how many cells of the cache, counted without touching llama.cpp.
//!
//! A [`Span`] is a run of cells that belong to one piece of a text. Spans form trees as texts do: what two texts begin
//! with in common is one span that both stand on, and it is counted once. Cells are free again when nobody holds their
//! span and no other span stands on it. A span may hold cells that are only expected to be filled.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// The ledger of one cache.
#[derive(Debug, Clone)]
pub(super) struct Cells(Rc<Ledger>);

#[derive(Debug)]
struct Ledger {
    total: u32,
    held: Cell<u32>,
}

/// A run of cells, on top of those of another span. Its clones are the same run, held by others too.
#[derive(Debug, Clone)]
pub(super) struct Span(Rc<Node>);

#[derive(Debug)]
struct Node {
    cells: Cell<u32>,
    below: RefCell<Option<Span>>,
    ledger: Cells,
}

impl Cells {
    pub(super) fn new(total: u32) -> Self {
        Self(Rc::new(Ledger { total, held: Cell::new(0) }))
    }

    pub(super) fn total(&self) -> u32 {
        self.0.total
    }

    pub(super) fn held(&self) -> u32 {
        self.0.held.get()
    }

    pub(super) fn free(&self) -> u32 {
        self.0.total - self.0.held.get()
    }

    /// Takes cells that stand on `below`, or on nothing. `None`: so many are not free.
    pub(super) fn take(&self, cells: u32, below: Option<Span>) -> Option<Span> {
        if cells > self.free() {
            return None;
        }
        self.0.held.set(self.0.held.get() + cells);
        Some(Span(Rc::new(Node { cells: Cell::new(cells), below: RefCell::new(below), ledger: self.clone() })))
    }
}

impl Span {
    /// Cells of this run alone.
    pub(super) fn cells(&self) -> u32 {
        self.0.cells.get()
    }

    /// An empty run on top of this one.
    pub(super) fn branch(&self) -> Self {
        self.0.ledger.take(0, Some(self.clone())).expect("no cells are always free")
    }

    /// Puts this run on top of another one.
    pub(super) fn stand_on(&self, below: Self) {
        *self.0.below.borrow_mut() = Some(below);
    }

    /// Lets the run have this many cells, if those that it lacks are free.
    pub(super) fn grow(&self, cells: u32) -> bool {
        let more = cells.saturating_sub(self.cells());
        let ledger = &self.0.ledger.0;
        if more > self.0.ledger.free() {
            return false;
        }
        ledger.held.set(ledger.held.get() + more);
        self.0.cells.set(self.cells() + more);
        true
    }

    /// Gives back all but this many cells of the run.
    pub(super) fn shrink(&self, cells: u32) {
        let fewer = self.cells().saturating_sub(cells);
        let ledger = &self.0.ledger.0;
        ledger.held.set(ledger.held.get() - fewer);
        self.0.cells.set(self.cells() - fewer);
    }

    /// The span that ends after the first `position` cells of the `length` that end with this one. Where that is in the
    /// middle of a run, the run is cut in two, and whoever held it holds both.
    ///
    /// `None` where the position is at the beginning of everything.
    pub(super) fn ending_at(&self, length: u32, position: u32) -> Option<Self> {
        let mut span = self.clone();
        let mut end = length;
        loop {
            if position >= end {
                return Some(span);
            }
            let start = end.saturating_sub(span.cells());
            let below = span.0.below.borrow().clone();
            if position > start {
                let upper = end - position;
                let lower = span.cells() - upper;
                // The ledger counts the same cells before and after.
                let cut = Self(Rc::new(Node {
                    cells: Cell::new(lower),
                    below: RefCell::new(below),
                    ledger: span.0.ledger.clone(),
                }));
                span.0.cells.set(upper);
                span.stand_on(cut.clone());
                return Some(cut);
            }
            span = below?;
            end = start;
        }
    }

    /// Visits this run and all that it stands on.
    pub(super) fn walk(&self, mut visit: impl FnMut(&Self)) {
        let mut next = Some(self.clone());
        while let Some(span) = next {
            visit(&span);
            next = span.0.below.borrow().clone();
        }
    }

    /// Tells runs apart.
    pub(super) fn identity(&self) -> usize {
        Rc::as_ptr(&self.0).addr()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let ledger = &self.ledger.0;
        ledger.held.set(ledger.held.get() - self.cells.get());
        // One after the other and not within each other: a long path has a run for each of its forks.
        let mut next = self.below.take();
        while let Some(span) = next {
            next = Rc::into_inner(span.0).and_then(|node| {
                let below = node.below.take();
                drop(node);
                below
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_come_back_when_the_last_holder_goes() {
        let cells = Cells::new(100);
        let prompt = cells.take(40, None).unwrap();
        let (one, other) = (prompt.branch(), prompt.branch());
        assert!(one.grow(30) && other.grow(30) && !other.grow(31));
        assert_eq!(cells.free(), 0);
        drop(prompt);
        assert_eq!(cells.held(), 100, "both stand on it");
        drop(one);
        assert_eq!(cells.held(), 70);
        other.shrink(10);
        assert_eq!(cells.held(), 50);
        drop(other);
        assert_eq!(cells.held(), 0);
    }

    #[test]
    fn a_run_is_cut_where_texts_part_and_counted_once() {
        let cells = Cells::new(100);
        let first = cells.take(50, None).unwrap();
        assert!(first.ending_at(50, 0).is_none());
        assert_eq!(first.ending_at(50, 50).unwrap().identity(), first.identity());
        let common = first.ending_at(50, 20).unwrap();
        assert_eq!((common.cells(), first.cells(), cells.held()), (20, 30, 50));
        let second = cells.take(10, Some(common.clone())).unwrap();
        drop(common);
        // The second text is 30 long; what it shares is found from there, too.
        let shorter = second.ending_at(30, 15).unwrap();
        assert_eq!((shorter.cells(), cells.held()), (15, 60));
        assert_eq!(first.ending_at(50, 15).unwrap().identity(), shorter.identity());
        drop(first);
        assert_eq!(cells.held(), 30);
        drop(second);
        assert_eq!(cells.held(), 15);
        drop(shorter);
        assert_eq!(cells.held(), 0);
    }

    #[test]
    fn a_path_of_many_forks_is_dropped_without_recursion() {
        let cells = Cells::new(1);
        let mut path = cells.take(1, None).unwrap();
        for _ in 0..1_000_000 {
            path = path.branch();
        }
        drop(path);
        assert_eq!(cells.held(), 0);
    }
}
