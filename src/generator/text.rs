//! Raw texts to be continued, as OpenAI's legacy API has them.

use futures_util::stream::BoxStream;

use crate::completion::{Logprobs, Sampling};
use crate::failure::Failure;
pub use crate::providers::openai::Members;

/// One request: the fields as the client wrote them, for whoever passes them on, and what they say, for whoever acts
/// on them.
#[derive(Debug, Clone)]
pub struct TextRequest {
    /// The model's name as the generator knows it.
    pub model: String,
    /// Every field but `model`.
    pub fields: Members,
    /// The texts, at least one; `None` where the client sent tokens.
    pub texts: Option<Vec<String>>,
    /// Continuations of each text, at least 1.
    pub n: usize,
    /// Whether each text is repeated before its continuation.
    pub echo: bool,
    pub stream: bool,
    /// Whether a stream ends with a chunk that tells the usage.
    pub include_usage: bool,
    pub sampling: Sampling,
    pub logprobs: Option<Logprobs>,
    /// The fields that nothing above is made of.
    pub others: Members,
}

/// The answer in the API's shape. Where `id`, `object`, `created` or `model` are missing they are the server's to
/// fill in.
pub enum TextAnswer {
    Whole(Members),
    /// Chunks, of which the last may be an error.
    Stream(BoxStream<'static, Result<Members, Failure>>),
}
