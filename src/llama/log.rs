//! llama.cpp's log lines as `tracing` events.
//!
//! The callback that the binding offers panics, and so ends the process, on a line without a level; hence
//! our own. Levels are shifted down by one step, because what llama.cpp calls information (some hundred
//! lines a load) is of interest to whoever debugs a model and to nobody else.

use std::cell::RefCell;

use llama_cpp_sys_2::{
    GGML_LOG_LEVEL_CONT, GGML_LOG_LEVEL_ERROR, GGML_LOG_LEVEL_INFO, GGML_LOG_LEVEL_WARN, ggml_log_level,
};

use super::ffi;

thread_local! {
    /// A line that has begun and waits for its continuation.
    static BEGUN: RefCell<(ggml_log_level, String)> = const { RefCell::new((0, String::new())) };
    /// The errors heard by [`listening`], where one listens.
    static ERRORS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Sends what llama.cpp has to say to `tracing` from now on. Further calls do nothing.
pub(super) fn install() {
    ffi::listen(hear);
}

/// Runs `work` and gives beside its result the errors that llama.cpp logged on this thread meanwhile,
/// which is the only place where it says why a model did not load.
pub(super) fn listening<T>(work: impl FnOnce() -> T) -> (T, String) {
    ERRORS.with_borrow_mut(|errors| *errors = Some(Vec::new()));
    let result = work();
    let errors = ERRORS.with_borrow_mut(Option::take).unwrap_or_default();
    (result, errors.join("; "))
}

fn hear(level: ggml_log_level, text: &str) {
    // A thread that is ending has no thread locals any more: its last words are dropped.
    let _ = BEGUN.try_with(|begun| {
        let Ok(mut begun) = begun.try_borrow_mut() else { return };
        if level != GGML_LOG_LEVEL_CONT {
            begun.0 = level;
        }
        begun.1.push_str(text);
        if begun.1.ends_with('\n') {
            let line = std::mem::take(&mut begun.1);
            emit(begun.0, line.trim_end());
        }
    });
}

fn emit(level: ggml_log_level, line: &str) {
    // The cache is larger than one context because sequences share it; no sequence outgrows its context. And what is
    // taken from the cache after an evaluation that was interrupted was given up.
    let expected =
        line.contains("possible training context overflow") || line.contains("removing memory module entries");
    match level {
        GGML_LOG_LEVEL_ERROR => {
            let heard = ERRORS.try_with(|errors| match errors.try_borrow_mut() {
                Ok(mut errors) => errors.as_mut().map(|errors| errors.push(line.to_owned())).is_some(),
                Err(_) => false,
            });
            // An error that is listened for is told by whoever listens.
            if heard != Ok(true) {
                tracing::error!(target: "llama_cpp", "{line}");
            }
        }
        GGML_LOG_LEVEL_WARN if !expected => tracing::warn!(target: "llama_cpp", "{line}"),
        GGML_LOG_LEVEL_WARN | GGML_LOG_LEVEL_INFO => tracing::debug!(target: "llama_cpp", "{line}"),
        _ => tracing::trace!(target: "llama_cpp", "{line}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_heard_and_put_together_from_their_pieces() {
        let ((), errors) = listening(|| {
            hear(GGML_LOG_LEVEL_ERROR, "no ");
            hear(GGML_LOG_LEVEL_CONT, "such tensor\n");
            hear(GGML_LOG_LEVEL_INFO, "loading\n");
            hear(GGML_LOG_LEVEL_ERROR, "giving up\n");
        });
        assert_eq!(errors, "no such tensor; giving up");
    }

    #[test]
    fn lines_of_no_known_level_do_no_harm() {
        hear(0, "plain\n");
        hear(77, "unknown\n");
        hear(GGML_LOG_LEVEL_CONT, "continues nothing\n");
    }
}
