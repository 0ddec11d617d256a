//! What a search has tried: every step of every path, and what became of it.

use super::path::Path;

/// The steps of a search. Each goes on from a step of a lower number, or from the prompt.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tree {
    pub nodes: Vec<Node>,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The step that it goes on from; `None` for a first one.
    pub parent: Option<usize>,
    /// What it adds to the text of its path.
    pub text: String,
    /// The score of the path up to here, from 0 to 1; `None` where it could not be scored.
    pub score: Option<f64>,
    pub fate: Fate,
    /// The first of the candidates that ends here, where one does.
    pub candidate: Option<usize>,
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The search went on from it, or would have.
    Kept,
    /// It was given up, whether its path had ended or not.
    Pruned,
    /// Its path has ended with it, and is an answer.
    Finished,
}

impl Fate {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Pruned => "pruned",
            Self::Finished => "finished",
        }
    }
}

impl Tree {
    /// Adds the steps that these paths have just taken, in their order.
    pub(super) fn grow<'a>(&mut self, paths: impl Iterator<Item = &'a mut Path>) {
        for path in paths {
            if let Some(text) = path.latest.take() {
                let fate = if path.has_ended() { Fate::Finished } else { Fate::Kept };
                self.nodes.push(Node { parent: path.node, text, score: path.score, fate, candidate: None });
                path.node = Some(self.nodes.len() - 1);
            }
        }
    }

    /// Notes that a path was given up with its latest step.
    pub(super) fn prune(&mut self, node: Option<usize>) {
        if let Some(node) = node {
            self.nodes[node].fate = Fate::Pruned;
        }
    }

    /// Notes that a path goes on from its latest step after all, or is an answer with it: of copies that share it only some
    /// were given up.
    pub(super) fn keep(&mut self, node: Option<usize>, has_ended: bool) {
        if let Some(node) = node {
            self.nodes[node].fate = if has_ended { Fate::Finished } else { Fate::Kept };
        }
    }

    /// Notes which candidate ends with this step.
    pub(super) fn name(&mut self, node: Option<usize>, candidate: usize) {
        if let Some(node) = node {
            self.nodes[node].candidate.get_or_insert(candidate);
        }
    }
}
