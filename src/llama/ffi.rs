//! The engine's one file with `unsafe`: what the binding does not offer of llama.cpp's C interface.
//!
//! The binding keeps its context's pointer to itself, and with it the callback that ends an evaluation half-way; so the
//! context is our own. Nothing here checks ids, sizes or positions, on which llama.cpp would end the process:
//! [`super::context`] does, and is the only one to call.

use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_sys_2 as sys;

/// Says whether the evaluation that is under way shall end. Asked from the computing threads, many times an evaluation.
pub(super) trait Interrupt: Send + Sync {
    fn is_wanted(&self) -> bool;
}

/// What a context is made with.
#[derive(Debug, Clone, Copy)]
pub(super) struct ContextParams {
    pub(super) cells: u32,
    pub(super) sequences: u32,
    pub(super) batch_tokens: u32,
    pub(super) threads: i32,
}

/// How an evaluation went that did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotEvaluated {
    /// The cache has no room for the batch, and is as before.
    NoRoom,
    /// It was interrupted, and the cache is as before: a batch is evaluated in one piece.
    Interrupted,
    /// llama.cpp's code for any other failure; nothing in the cache can be relied on.
    Failed(i32),
}

/// Tokens to be evaluated together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    tokens: Vec<sys::llama_token>,
    positions: Vec<sys::llama_pos>,
    sequences: Vec<sys::llama_seq_id>,
    wants_logits: Vec<i8>,
}

impl Batch {
    pub(super) fn push(&mut self, token: i32, position: i32, sequence: i32, wants_logits: bool) {
        self.tokens.push(token);
        self.positions.push(position);
        self.sequences.push(sequence);
        self.wants_logits.push(i8::from(wants_logits));
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(super) fn clear(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.sequences.clear();
        self.wants_logits.clear();
    }
}

/// A context with one cache for all sequences.
pub(super) struct Context<'model> {
    context: NonNull<sys::llama_context>,
    /// What llama.cpp is given a pointer to: a box of our own, freed after the context.
    interrupt: *mut Arc<dyn Interrupt>,
    vocabulary_size: usize,
    _model: PhantomData<&'model LlamaModel>,
}

// SAFETY: llama.cpp binds a context to no thread; it only must not be used by two at once, and every method that
// computes takes `&mut self`. It is not `Sync`, for the pointer is not.
unsafe impl Send for Context<'_> {}

impl<'model> Context<'model> {
    /// Makes the context; `None`: llama.cpp has logged why it cannot. Contexts of one model must not be made at the
    /// same time.
    pub(super) fn new(
        _: &LlamaBackend,
        model: &'model LlamaModel,
        params: ContextParams,
        interrupt: Arc<dyn Interrupt>,
    ) -> Option<Self> {
        // SAFETY: reads no memory of ours.
        let mut wanted = unsafe { sys::llama_context_default_params() };
        wanted.n_ctx = params.cells;
        wanted.n_batch = params.batch_tokens;
        // In one piece, so that an evaluation that is interrupted leaves nothing of its batch behind.
        wanted.n_ubatch = params.batch_tokens;
        wanted.n_seq_max = params.sequences;
        wanted.n_threads = params.threads;
        wanted.n_threads_batch = params.threads;
        wanted.kv_unified = true;
        wanted.no_perf = true;
        wanted.abort_callback = Some(is_interrupted);
        let interrupt = Box::into_raw(Box::new(interrupt));
        wanted.abort_callback_data = interrupt.cast();
        // SAFETY: `LlamaModel` is `repr(transparent)` over the pointer to the model, which lives as long as `model` is
        // borrowed, and so as the context. The interrupt outlives the context, which frees it last (see `drop`).
        let context = unsafe {
            let pointer: *mut sys::llama_model = *std::ptr::from_ref(model).cast();
            sys::llama_init_from_model(pointer, wanted)
        };
        let vocabulary_size = usize::try_from(model.n_vocab()).unwrap_or(0);
        let Some(context) = NonNull::new(context) else {
            // SAFETY: it was made above, and there is no context that could use it.
            drop(unsafe { Box::from_raw(interrupt) });
            return None;
        };
        Some(Self { context, interrupt, vocabulary_size, _model: PhantomData })
    }

    /// Cache cells, which may be more or fewer than were asked for.
    pub(super) fn cells(&self) -> u32 {
        // SAFETY: the context is alive.
        unsafe { sys::llama_n_ctx(self.context.as_ptr()) }
    }

    /// Tokens that a batch may hold.
    pub(super) fn batch_tokens(&self) -> u32 {
        // SAFETY: the context is alive.
        unsafe { sys::llama_n_batch(self.context.as_ptr()) }
    }

    /// Evaluates a batch that is not empty, with at most [`Context::batch_tokens`] tokens of the vocabulary, for
    /// sequences below the number that the context was made with, each at the position after its last.
    pub(super) fn evaluate(&mut self, batch: &mut Batch) -> Result<(), NotEvaluated> {
        let count = batch.len();
        let mut sequences_each = vec![1; count];
        let mut sequences: Vec<*mut sys::llama_seq_id> = batch.sequences.iter_mut().map(std::ptr::from_mut).collect();
        let raw = sys::llama_batch {
            n_tokens: i32::try_from(count).expect("a batch holds no more than the context says"),
            token: batch.tokens.as_mut_ptr(),
            embd: std::ptr::null_mut(),
            pos: batch.positions.as_mut_ptr(),
            n_seq_id: sequences_each.as_mut_ptr(),
            seq_id: sequences.as_mut_ptr(),
            logits: batch.wants_logits.as_mut_ptr(),
        };
        // SAFETY: the context is alive and nobody else computes with it. All arrays have `count` elements, as
        // `Batch::push` adds to each of them, and live until the call returns; llama.cpp keeps no pointer to them.
        let code = unsafe { sys::llama_decode(self.context.as_ptr(), raw) };
        match code {
            0 => Ok(()),
            1 => Err(NotEvaluated::NoRoom),
            2 => Err(NotEvaluated::Interrupted),
            code => Err(NotEvaluated::Failed(code)),
        }
    }

    /// The logits of a row of the batch that was just evaluated, for which they were wanted, one for each token of the
    /// vocabulary. `None`: llama.cpp has none.
    pub(super) fn logits(&self, row: i32) -> Option<&[f32]> {
        // SAFETY: the context is alive. llama.cpp answers a row without logits with null.
        let row = NonNull::new(unsafe { sys::llama_get_logits_ith(self.context.as_ptr(), row) })?;
        // SAFETY: a row has as many numbers as the vocabulary has tokens, and stays until the next evaluation, which
        // takes `&mut self`.
        Some(unsafe { std::slice::from_raw_parts(row.as_ptr(), self.vocabulary_size) })
    }

    /// Lets sequence `to` hold what `from` holds at positions below `end`.
    pub(super) fn copy(&mut self, from: i32, to: i32, end: i32) {
        // SAFETY: the context is alive, and has a memory since it decodes.
        unsafe { sys::llama_memory_seq_cp(sys::llama_get_memory(self.context.as_ptr()), from, to, 0, end) };
    }

    /// Takes what a sequence holds from position `start` on. False: the model cannot part with less than all.
    pub(super) fn remove(&mut self, sequence: i32, start: i32) -> bool {
        // SAFETY: as in `copy`.
        unsafe { sys::llama_memory_seq_rm(sys::llama_get_memory(self.context.as_ptr()), sequence, start, -1) }
    }

    /// Takes what a sequence holds at positions below `end`. False: the model cannot part with it.
    pub(super) fn remove_beginning(&mut self, sequence: i32, end: i32) -> bool {
        // SAFETY: as in `copy`.
        unsafe { sys::llama_memory_seq_rm(sys::llama_get_memory(self.context.as_ptr()), sequence, 0, end) }
    }

    /// Bytes that [`Context::save`] would give of a sequence.
    pub(super) fn saved_bytes(&self, sequence: i32) -> usize {
        // SAFETY: the context is alive; nothing is written but to memory of its own.
        unsafe { sys::llama_state_seq_get_size(self.context.as_ptr(), sequence) }
    }

    /// What the cache holds of a sequence. `None`: there is no memory for it, or llama.cpp cannot tell it.
    pub(super) fn save(&self, sequence: i32) -> Option<Vec<u8>> {
        let size = self.saved_bytes(sequence);
        let mut saved: Vec<u8> = Vec::new();
        saved.try_reserve_exact(size).ok()?;
        // SAFETY: the context is alive. llama.cpp writes no more than `size` bytes, for which there is room, and says how
        // many it wrote, which are initialised then.
        unsafe {
            let written = sys::llama_state_seq_get_data(self.context.as_ptr(), saved.as_mut_ptr(), size, sequence);
            saved.set_len(written.min(size));
        }
        (!saved.is_empty()).then_some(saved)
    }

    /// Puts into a sequence what a context made with the same parameters has saved of one. False: there is no room for it,
    /// and the sequence is empty.
    pub(super) fn restore(&mut self, sequence: i32, saved: &[u8]) -> bool {
        // SAFETY: the context is alive; llama.cpp reads no more than the bytes that there are, and keeps no pointer to
        // them.
        unsafe { sys::llama_state_seq_set_data(self.context.as_ptr(), saved.as_ptr(), saved.len(), sequence) != 0 }
    }

    /// Empties all sequences.
    pub(super) fn clear(&mut self) {
        // SAFETY: as in `copy`.
        unsafe { sys::llama_memory_clear(sys::llama_get_memory(self.context.as_ptr()), true) };
    }
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        // SAFETY: the context was made by llama.cpp, is freed once, and nothing of it is lent out any more. The interrupt was
        // made by `new`, is freed once, and nobody calls it after the context is gone.
        unsafe {
            sys::llama_free(self.context.as_ptr());
            drop(Box::from_raw(self.interrupt));
        }
    }
}

unsafe extern "C" fn is_interrupted(data: *mut c_void) -> bool {
    // SAFETY: `data` points to the box that the context owns, which is there while the context computes.
    let interrupt: &Arc<dyn Interrupt> = unsafe { &*data.cast_const().cast() };
    interrupt.is_wanted()
}

/// Whether a model generates by itself: those that first have to encode what they are asked end the process otherwise.
pub(super) fn is_decoder_only(model: &LlamaModel) -> bool {
    // SAFETY: `LlamaModel` is `repr(transparent)` over the pointer to the model, which is alive; both calls only read.
    unsafe {
        let pointer: *const sys::llama_model = *std::ptr::from_ref(model).cast();
        sys::llama_model_has_decoder(pointer) && !sys::llama_model_has_encoder(pointer)
    }
}

/// Whether a model attends to nothing farther back than so many tokens, in some of its layers.
pub(super) fn has_window(model: &LlamaModel) -> bool {
    // SAFETY: as above.
    unsafe { sys::llama_model_n_swa(*std::ptr::from_ref(model).cast::<*const sys::llama_model>()) > 0 }
}

/// A line of llama.cpp's log, or a piece of one, with its level.
pub(super) type Listener = fn(sys::ggml_log_level, &str);

static LISTENER: OnceLock<Listener> = OnceLock::new();

/// Sends what llama.cpp has to say to `listener` from now on, which must not panic. Further calls do nothing.
pub(super) fn listen(listener: Listener) {
    if LISTENER.set(listener).is_ok() {
        // SAFETY: `forward` has the signature that llama.cpp calls and lives as long as the program; it needs no user
        // data, so the null pointer is never read.
        unsafe { sys::llama_log_set(Some(forward), std::ptr::null_mut()) };
    }
}

unsafe extern "C" fn forward(level: sys::ggml_log_level, text: *const c_char, _user_data: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: llama.cpp passes a string that ends in NUL and stays valid during the call; null was excluded above.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    if let Some(listener) = LISTENER.get() {
        listener(level, &text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_text_does_no_harm() {
        // SAFETY: `forward` takes null for no text.
        unsafe { forward(sys::GGML_LOG_LEVEL_ERROR, std::ptr::null(), std::ptr::null_mut()) };
    }
}
