//! Where the calls of a provider go.

use url::Url;

use super::ProviderError;

/// The address of one server that answers.
#[derive(Debug, Clone)]
pub(super) struct Address {
    chat: Url,
    text: Url,
}

impl Address {
    /// Takes the address that the paths are appended to, usually ending in `/v1`. A query stays.
    ///
    /// # Errors
    ///
    /// When it is no address over http, or holds a user or password.
    pub fn new(base_url: &Url) -> Result<Self, ProviderError> {
        let chat = url_under(base_url, &["chat", "completions"])?;
        let text = url_under(base_url, &["completions"])?;
        Ok(Self { chat, text })
    }

    /// Where chat completions of a model are asked for.
    pub fn chat(&self, _model: &str) -> Url {
        self.chat.clone()
    }

    /// Where continuations of raw text are asked for.
    pub fn text(&self, _model: &str) -> Url {
        self.text.clone()
    }

    /// Scheme, host and port, which is all that is ever told of an address.
    pub fn origin(&self) -> String {
        self.chat.origin().ascii_serialization()
    }
}

/// `base_url` with a path appended to its own.
fn url_under(base_url: &Url, path: &[&str]) -> Result<Url, ProviderError> {
    if !matches!(base_url.scheme(), "http" | "https") || !base_url.has_host() {
        return Err(ProviderError::NotHttp);
    }
    if !base_url.username().is_empty() || base_url.password().is_some() {
        return Err(ProviderError::Credentials);
    }
    let mut url = base_url.clone();
    url.set_fragment(None);
    url.path_segments_mut().expect("an http address has a path").pop_if_empty().extend(path);
    Ok(url)
}
