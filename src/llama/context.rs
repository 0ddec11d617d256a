//! The validating layer around the binding's context.
//!
//! llama.cpp ends the process on ids, sizes and positions that it does not expect. Everything that the
//! engine hands it goes through here: positions are kept here and never passed in, ids and sizes are
//! checked against what the context was made with, and logits are read only where they were asked for.

use std::num::NonZeroU32;

use llama_cpp_2::DecodeError;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;

/// A sequence in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SequenceId(pub(super) u32);

/// llama.cpp's `LLAMA_MAX_SEQ`.
pub(super) const MAX_SEQUENCE_IDS: u32 = 256;

/// llama.cpp makes caches of a multiple of this many cells.
const CELLS_MULTIPLE: u32 = 256;

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
#[derive(Debug, thiserror::Error)]
pub(super) enum ContextError {
    #[error("sequence {0} does not exist")]
    NoSuchSequence(u32),
    #[error("sequence {0} is not empty")]
    NotEmpty(u32),
    #[error("sequence {0} is empty")]
    Empty(u32),
    #[error("token {0} is not in the vocabulary")]
    NoSuchToken(i32),
    #[error("the batch of {0} tokens is full")]
    BatchFull(u32),
    #[error("the cache has no room left for the batch")]
    NoRoom,
    #[error("row {0} has no logits")]
    NoLogits(i32),
    #[error("llama.cpp could not evaluate the batch ({0})")]
    Decode(DecodeError),
}

/// A context with one unified cache, and the batch that is being put together for it.
pub(super) struct CheckedContext<'model> {
    context: LlamaContext<'model>,
    batch: LlamaBatch<'static>,
    shape: ContextShape,
    vocabulary_size: i32,
    /// Tokens in each sequence, those of the batch included.
    lengths: Vec<u32>,
    /// For each token of the batch: whether its logits were asked for.
    flagged: Vec<bool>,
    /// Whether the batch was evaluated, so that its logits can be read.
    evaluated: bool,
}

impl<'model> CheckedContext<'model> {
    /// Makes the context. Contexts of one model must not be made at the same time.
    ///
    /// # Errors
    ///
    /// When llama.cpp refuses, which nearly always means that memory is short.
    pub(super) fn new(
        backend: &LlamaBackend,
        model: &'model LlamaModel,
        shape: ContextShape,
    ) -> Result<Self, llama_cpp_2::LlamaContextLoadError> {
        assert!(shape.sequences <= MAX_SEQUENCE_IDS, "the caller bounds the number of sequences");
        // llama.cpp rounds the cells up, but bounds the batch by what it was given before that, and ends the
        // process when a batch cannot give every sequence a row of logits.
        let cells = shape.cells.max(shape.sequences).next_multiple_of(CELLS_MULTIPLE);
        let shape = ContextShape { cells, batch_tokens: shape.batch_tokens.max(shape.sequences), ..shape };
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(shape.cells))
            .with_n_batch(shape.batch_tokens)
            .with_n_ubatch(shape.batch_tokens)
            .with_n_seq_max(shape.sequences)
            .with_n_threads(shape.threads)
            .with_n_threads_batch(shape.threads)
            .with_kv_unified(true)
            .with_no_perf(true);
        let context = model.new_context(backend, params)?;
        // llama.cpp may settle for less than was asked.
        let shape =
            ContextShape { cells: context.n_ctx(), batch_tokens: context.n_batch().min(shape.batch_tokens), ..shape };
        Ok(Self {
            context,
            batch: LlamaBatch::new(shape.batch_tokens as usize, 1),
            shape,
            vocabulary_size: model.n_vocab(),
            lengths: vec![0; shape.sequences as usize],
            flagged: Vec::new(),
            evaluated: false,
        })
    }

    pub(super) fn shape(&self) -> ContextShape {
        self.shape
    }

    /// Tokens that the batch can still take.
    pub(super) fn batch_room(&self) -> usize {
        self.shape.batch_tokens as usize - self.flagged.len()
    }

    pub(super) fn clear_batch(&mut self) {
        debug_assert!(self.evaluated || self.flagged.is_empty(), "a batch is evaluated or the context reset");
        self.batch.clear();
        self.flagged.clear();
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
        if self.evaluated || self.batch_room() == 0 {
            return Err(ContextError::BatchFull(self.shape.batch_tokens));
        }
        if position >= self.shape.cells {
            return Err(ContextError::NoRoom);
        }
        let row = self.batch.n_tokens();
        let id = i32::try_from(sequence.0).expect("ids are below 256");
        let at = i32::try_from(position).map_err(|_| ContextError::NoRoom)?;
        self.batch.add(token, at, &[id], wants_logits).map_err(|_| ContextError::BatchFull(self.shape.batch_tokens))?;
        self.lengths[sequence.0 as usize] += 1;
        self.flagged.push(wants_logits);
        Ok(row)
    }

    /// Evaluates the batch. After an error the cache is of no use until [`CheckedContext::reset`].
    pub(super) fn evaluate(&mut self) -> Result<(), ContextError> {
        if self.flagged.is_empty() || self.evaluated {
            return Ok(());
        }
        self.context.decode(&mut self.batch).map_err(|error| match error {
            DecodeError::NoKvCacheSlot => ContextError::NoRoom,
            other => ContextError::Decode(other),
        })?;
        self.evaluated = true;
        Ok(())
    }

    /// The logits of a row of the batch just evaluated, one for each token of the vocabulary.
    pub(super) fn logits(&self, row: i32) -> Result<&[f32], ContextError> {
        let flagged = usize::try_from(row).ok().and_then(|row| self.flagged.get(row)).copied().unwrap_or(false);
        if !self.evaluated || !flagged {
            return Err(ContextError::NoLogits(row));
        }
        Ok(self.context.get_logits_ith(row))
    }

    /// Lets an empty sequence share everything that another one holds. No data moves.
    pub(super) fn share(&mut self, from: SequenceId, to: SequenceId) -> Result<(), ContextError> {
        let length = self.length(from)?;
        if length == 0 {
            return Err(ContextError::Empty(from.0));
        }
        if self.length(to)? != 0 {
            return Err(ContextError::NotEmpty(to.0));
        }
        self.context
            .kv_cache_seq_cp(from.0.cast_signed(), to.0.cast_signed(), None, None)
            .expect("no positions are converted");
        self.lengths[to.0 as usize] = length;
        Ok(())
    }

    /// Empties a sequence; cells that no other sequence shares become free.
    pub(super) fn remove(&mut self, sequence: SequenceId) -> Result<(), ContextError> {
        if self.length(sequence)? > 0 {
            self.context
                .kv_cache_seq_rm(sequence.0.cast_signed(), None, None)
                .expect("whole sequences can always be removed");
            self.lengths[sequence.0 as usize] = 0;
        }
        Ok(())
    }

    /// Empties everything, the batch too.
    pub(super) fn reset(&mut self) {
        self.context.clear_kv_cache();
        self.lengths.fill(0);
        self.batch.clear();
        self.flagged.clear();
        self.evaluated = false;
    }

    fn length(&self, sequence: SequenceId) -> Result<u32, ContextError> {
        self.lengths.get(sequence.0 as usize).copied().ok_or(ContextError::NoSuchSequence(sequence.0))
    }
}
