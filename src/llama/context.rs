//! The validating layer before llama.cpp's context.
//!
//! llama.cpp ends the process on ids, sizes and positions that it does not expect. Everything that the engine hands it
//! goes through here: positions are kept here and never passed in, ids and sizes are checked against what the context
//! was made with, and logits are read only where they were asked for. No sequence of calls, sensible or not, ends the
//! process; what must not be is an error.

use std::sync::Arc;

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;

use super::ffi::{self, Batch, Interrupt, NotEvaluated};

/// A sequence in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SequenceId(pub(super) u32);

/// llama.cpp's `LLAMA_MAX_SEQ`.
pub(super) const MAX_SEQUENCE_IDS: u32 = 256;

/// llama.cpp makes caches of a multiple of this many cells.
const CELLS_MULTIPLE: u32 = 256;

/// What the cache held of a sequence, outside of it.
#[derive(Debug)]
pub(super) struct Saved {
    data: Vec<u8>,
    length: u32,
}

impl Saved {
    pub(super) fn bytes(&self) -> usize {
        self.data.len()
    }
}

/// What a context is made with.
#[derive(Debug, Clone, Copy)]
pub(super) struct ContextShape {
    /// Cache cells shared by all sequences, rounded up by the context.
    pub(super) cells: u32,
    /// Sequence ids, at most [`MAX_SEQUENCE_IDS`].
    pub(super) sequences: u32,
    /// Tokens a batch may hold, raised to one for each sequence.
    pub(super) batch_tokens: u32,
    pub(super) threads: i32,
}

/// A call that must not be made, or one that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ContextError {
    #[error("sequence {0} does not exist")]
    NoSuchSequence(u32),
    #[error("sequence {0} is not empty")]
    NotEmpty(u32),
    #[error("sequence {0} has {1} tokens and not {2}")]
    TooShort(u32, u32, u32),
    #[error("token {0} is not in the vocabulary")]
    NoSuchToken(i32),
    #[error("the batch of {0} tokens is full")]
    BatchFull(u32),
    #[error("a batch is being put together: evaluate it first")]
    BatchPending,
    #[error("the batch was evaluated: clear it first")]
    BatchEvaluated,
    #[error("the cache has no room left for the batch")]
    NoRoom,
    #[error("the evaluation was interrupted")]
    Interrupted,
    #[error("row {0} has no logits")]
    NoLogits(i32),
    #[error("the model cannot part with the end of a sequence")]
    NotDivisible,
    #[error("sequence {0} cannot be saved")]
    NotSaved(u32),
    #[error("llama.cpp could not evaluate the batch (code {0})")]
    Failed(i32),
}

/// A context with one unified cache, and the batch that is being put together for it.
pub(super) struct CheckedContext<'model> {
    context: ffi::Context<'model>,
    batch: Batch,
    shape: ContextShape,
    vocabulary_size: i32,
    /// Tokens in each sequence, those of the batch included.
    lengths: Vec<u32>,
    /// For each token of the batch: its sequence, and whether its logits were asked for.
    pushed: Vec<(SequenceId, bool)>,
    /// Whether the batch was evaluated, so that its logits can be read.
    evaluated: bool,
    /// Tokens evaluated since the context was made.
    evaluated_tokens: u64,
    /// Whether the model has a sliding window: llama.cpp then saves of a sequence only what its continuation needs.
    has_window: bool,
}

impl<'model> CheckedContext<'model> {
    /// Makes the context. Contexts of one model must not be made at the same time. `interrupt` ends evaluations that
    /// nobody needs any more, where the model is computed by the processor.
    ///
    /// # Errors
    ///
    /// When llama.cpp refuses, which nearly always means that memory is short; it has logged why.
    pub(super) fn new(
        backend: &LlamaBackend,
        model: &'model LlamaModel,
        shape: ContextShape,
        interrupt: Arc<dyn Interrupt>,
    ) -> Result<Self, &'static str> {
        assert!(shape.sequences <= MAX_SEQUENCE_IDS, "the caller bounds the number of sequences");
        // llama.cpp rounds the cells up, but bounds the batch by what it was given before that, and ends the
        // process when a batch cannot give every sequence a row of logits.
        let cells = shape.cells.max(shape.sequences).next_multiple_of(CELLS_MULTIPLE);
        let batch_tokens = shape.batch_tokens.max(shape.sequences);
        let params = ffi::ContextParams { cells, sequences: shape.sequences, batch_tokens, threads: shape.threads };
        let context = ffi::Context::new(backend, model, params, interrupt).ok_or("llama.cpp made no context")?;
        // llama.cpp may settle for less than was asked.
        let batch_tokens = context.batch_tokens().min(batch_tokens);
        let shape = ContextShape { cells: context.cells(), batch_tokens, ..shape };
        Ok(Self {
            context,
            batch: Batch::default(),
            shape,
            vocabulary_size: model.n_vocab(),
            lengths: vec![0; shape.sequences as usize],
            pushed: Vec::new(),
            evaluated: false,
            evaluated_tokens: 0,
            has_window: ffi::has_window(model),
        })
    }

    pub(super) fn shape(&self) -> ContextShape {
        self.shape
    }

    /// Tokens evaluated since the context was made, each as often as it was.
    pub(super) fn evaluated_tokens(&self) -> u64 {
        self.evaluated_tokens
    }

    /// Tokens that the batch can still take.
    pub(super) fn batch_room(&self) -> usize {
        (self.shape.batch_tokens as usize).saturating_sub(self.batch.len())
    }

    /// Begins a new batch. Tokens that were pushed and not evaluated leave their sequences again.
    pub(super) fn clear_batch(&mut self) {
        if !self.evaluated {
            self.take_back();
        }
        self.batch.clear();
        self.pushed.clear();
        self.evaluated = false;
    }

    /// Puts a token at the end of a sequence. Gives the row under which its logits can be read after
    /// [`CheckedContext::evaluate`], where they are wanted.
    pub(super) fn push(
        &mut self,
        sequence: SequenceId,
        token: LlamaToken,
        wants_logits: bool,
    ) -> Result<i32, ContextError> {
        let position = self.length(sequence)?;
        if !(0..self.vocabulary_size).contains(&token.0) {
            return Err(ContextError::NoSuchToken(token.0));
        }
        if self.evaluated {
            return Err(ContextError::BatchEvaluated);
        }
        if self.batch_room() == 0 {
            return Err(ContextError::BatchFull(self.shape.batch_tokens));
        }
        if position >= self.shape.cells {
            return Err(ContextError::NoRoom);
        }
        let row = i32::try_from(self.batch.len()).map_err(|_| ContextError::BatchFull(self.shape.batch_tokens))?;
        let at = i32::try_from(position).map_err(|_| ContextError::NoRoom)?;
        self.batch.push(token.0, at, sequence.0.cast_signed(), wants_logits);
        self.lengths[sequence.0 as usize] += 1;
        self.pushed.push((sequence, wants_logits));
        Ok(row)
    }

    /// Evaluates the batch; an empty one is nothing to do.
    ///
    /// # Errors
    ///
    /// [`ContextError::NoRoom`] and [`ContextError::Interrupted`] leave every sequence as it was before the batch was
    /// begun. After any other error nothing can be relied on until [`CheckedContext::reset`].
    pub(super) fn evaluate(&mut self) -> Result<(), ContextError> {
        if self.evaluated || self.batch.len() == 0 {
            return Ok(());
        }
        match self.context.evaluate(&mut self.batch) {
            Ok(()) => {
                self.evaluated = true;
                self.evaluated_tokens += self.batch.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.clear_batch();
                Err(match error {
                    NotEvaluated::NoRoom => ContextError::NoRoom,
                    NotEvaluated::Interrupted => ContextError::Interrupted,
                    NotEvaluated::Failed(code) => ContextError::Failed(code),
                })
            }
        }
    }

    /// The logits of a row of the batch just evaluated, one for each token of the vocabulary.
    pub(super) fn logits(&self, row: i32) -> Result<&[f32], ContextError> {
        let wanted = usize::try_from(row).ok().and_then(|row| self.pushed.get(row)).is_some_and(|(_, wanted)| *wanted);
        if !self.evaluated || !wanted {
            return Err(ContextError::NoLogits(row));
        }
        self.context.logits(row).ok_or(ContextError::NoLogits(row))
    }

    /// Lets an empty sequence share the first `length` tokens that another one holds. No data moves.
    pub(super) fn share(&mut self, from: SequenceId, to: SequenceId, length: u32) -> Result<(), ContextError> {
        self.check_idle()?;
        let held = self.length(from)?;
        if length == 0 || held < length {
            return Err(ContextError::TooShort(from.0, held, length));
        }
        if self.length(to)? != 0 || from == to {
            return Err(ContextError::NotEmpty(to.0));
        }
        self.context.copy(from.0.cast_signed(), to.0.cast_signed(), length.cast_signed());
        self.lengths[to.0 as usize] = length;
        Ok(())
    }

    /// Lets a sequence share the first `length` tokens that another one holds in place of its own, which are the same. No
    /// data moves.
    pub(super) fn replace_beginning(
        &mut self,
        from: SequenceId,
        to: SequenceId,
        length: u32,
    ) -> Result<(), ContextError> {
        self.check_idle()?;
        for sequence in [from, to] {
            let held = self.length(sequence)?;
            if length == 0 || held < length {
                return Err(ContextError::TooShort(sequence.0, held, length));
            }
        }
        if from == to {
            return Err(ContextError::NotEmpty(to.0));
        }
        let (from, to, length) = (from.0.cast_signed(), to.0.cast_signed(), length.cast_signed());
        if !self.context.remove_beginning(to, length) {
            return Err(ContextError::NotDivisible);
        }
        self.context.copy(from, to, length);
        Ok(())
    }

    /// Takes all but the first `length` tokens from a sequence; cells that no other sequence shares become free.
    pub(super) fn truncate(&mut self, sequence: SequenceId, length: u32) -> Result<(), ContextError> {
        self.check_idle()?;
        let held = self.length(sequence)?;
        if held < length {
            return Err(ContextError::TooShort(sequence.0, held, length));
        }
        if held > length {
            if !self.context.remove(sequence.0.cast_signed(), length.cast_signed()) {
                return Err(ContextError::NotDivisible);
            }
            self.lengths[sequence.0 as usize] = length;
        }
        Ok(())
    }

    /// Empties a sequence.
    pub(super) fn remove(&mut self, sequence: SequenceId) -> Result<(), ContextError> {
        self.truncate(sequence, 0)
    }

    /// Bytes that a sequence takes when it is saved.
    ///
    /// # Errors
    ///
    /// [`ContextError::NotSaved`] where it is empty, or what llama.cpp would tell of the model's cache is not all that a
    /// beginning of the sequence needs.
    pub(super) fn saved_bytes(&self, sequence: SequenceId) -> Result<usize, ContextError> {
        self.check_idle()?;
        if self.length(sequence)? == 0 || self.has_window {
            return Err(ContextError::NotSaved(sequence.0));
        }
        Ok(self.context.saved_bytes(sequence.0.cast_signed()))
    }

    /// Copies what the cache holds of a sequence, which stays as it is.
    ///
    /// # Errors
    ///
    /// As [`CheckedContext::saved_bytes`], and where there is no memory for it.
    pub(super) fn save(&self, sequence: SequenceId) -> Result<Saved, ContextError> {
        self.saved_bytes(sequence)?;
        let length = self.length(sequence)?;
        let data = self.context.save(sequence.0.cast_signed()).ok_or(ContextError::NotSaved(sequence.0))?;
        Ok(Saved { data, length })
    }

    /// Puts into an empty sequence what was saved of one of this context's.
    ///
    /// # Errors
    ///
    /// [`ContextError::NoRoom`] leaves it empty.
    pub(super) fn restore(&mut self, saved: &Saved, sequence: SequenceId) -> Result<(), ContextError> {
        self.check_idle()?;
        if self.length(sequence)? != 0 {
            return Err(ContextError::NotEmpty(sequence.0));
        }
        if !self.context.restore(sequence.0.cast_signed(), &saved.data) {
            return Err(ContextError::NoRoom);
        }
        self.lengths[sequence.0 as usize] = saved.length;
        Ok(())
    }

    /// Empties everything, the batch too.
    pub(super) fn reset(&mut self) {
        self.context.clear();
        self.lengths.fill(0);
        self.batch.clear();
        self.pushed.clear();
        self.evaluated = false;
    }

    /// Tokens in a sequence, those of the batch included.
    pub(super) fn length(&self, sequence: SequenceId) -> Result<u32, ContextError> {
        self.lengths.get(sequence.0 as usize).copied().ok_or(ContextError::NoSuchSequence(sequence.0))
    }

    /// What is in the batch is not in the cache yet, so that it can neither be shared nor removed.
    fn check_idle(&self) -> Result<(), ContextError> {
        if self.evaluated || self.batch.len() == 0 { Ok(()) } else { Err(ContextError::BatchPending) }
    }

    fn take_back(&mut self) {
        for (sequence, _) in &self.pushed {
            self.lengths[sequence.0 as usize] -= 1;
        }
    }
}

#[cfg(test)]
mod tests;
