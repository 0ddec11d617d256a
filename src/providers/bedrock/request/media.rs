//! Images and documents: what a client writes as a URL goes to Bedrock as bytes, for it fetches nothing.

use std::borrow::Cow;
use std::collections::HashSet;

use base64::engine::general_purpose::STANDARD;
use base64::{DecodeError, DecodeSliceError, Engine};

use super::body::{Document, Image, Source};
use crate::failure::Failure;

/// The formats of images by their types, and by the ends of their names.
const IMAGES: [(&str, &[&str], &str); 4] = [
    ("image/png", &["png"], "png"),
    ("image/jpeg", &["jpg", "jpeg"], "jpeg"),
    ("image/gif", &["gif"], "gif"),
    ("image/webp", &["webp"], "webp"),
];

const DOCUMENTS: [(&str, &[&str], &str); 9] = [
    ("application/pdf", &["pdf"], "pdf"),
    ("text/csv", &["csv"], "csv"),
    ("application/msword", &["doc"], "doc"),
    ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", &["docx"], "docx"),
    ("application/vnd.ms-excel", &["xls"], "xls"),
    ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", &["xlsx"], "xlsx"),
    ("text/html", &["html", "htm"], "html"),
    ("text/plain", &["txt"], "txt"),
    ("text/markdown", &["md", "markdown"], "md"),
];

/// The longest name of a document that Bedrock takes, in characters.
const LONGEST_NAME: usize = 200;

/// The image of a URL that stands at `place`.
///
/// # Errors
///
/// An address that would have to be fetched, a format that Bedrock does not take, and what is not base64.
pub(super) fn image<'a>(place: &str, url: Cow<'a, str>) -> Result<Image<'a>, Failure> {
    let (format, source) = source(place, url, None, &IMAGES, "an image as `data:image/png;base64,…`")?;
    Ok(Image { format, source })
}

/// The names of a request's documents, of which no two may be the same.
#[derive(Default)]
pub(super) struct Names(HashSet<String>);

impl Names {
    /// The document of a file that stands at `place`, by the name that it has there.
    ///
    /// # Errors
    ///
    /// As of an image.
    pub fn document<'a>(
        &mut self,
        place: &str,
        data: Cow<'a, str>,
        file_name: Option<&str>,
    ) -> Result<Document<'a>, Failure> {
        let wanted = "a document as `data:application/pdf;base64,…`";
        let end = file_name.and_then(|name| name.rsplit_once('.')).map(|(_, end)| end);
        let (format, source) = source(place, data, end, &DOCUMENTS, wanted)?;
        Ok(Document { format, name: self.take(file_name), source })
    }

    /// A name that Bedrock takes, as like that of the file as may be.
    fn take(&mut self, file_name: Option<&str>) -> String {
        let whole = file_name.unwrap_or_default();
        let stem = whole.rsplit_once('.').map_or(whole, |(stem, _)| stem);
        let mut name = String::new();
        for char in stem.chars().take(LONGEST_NAME - 10) {
            match char {
                _ if char.is_ascii_alphanumeric() || "-()[]".contains(char) => name.push(char),
                _ if char.is_whitespace() && name.ends_with(' ') => {}
                _ if char.is_whitespace() => name.push(' '),
                _ => name.push('-'),
            }
        }
        let name = match name.trim() {
            "" => "document",
            name => name,
        };
        let numbered = (2..).map(|number| format!("{name} ({number})"));
        let unused = std::iter::once(name.to_owned()).chain(numbered).find(|name| self.0.insert(name.clone()));
        unused.expect("numbers do not end")
    }
}

type Formats = [(&'static str, &'static [&'static str], &'static str)];

/// The format and the bytes behind a URL. `end` is that of the file's name, where it has one.
fn source<'a>(
    place: &str,
    url: Cow<'a, str>,
    end: Option<&str>,
    formats: &Formats,
    wanted: &str,
) -> Result<(&'static str, Source<'a>), Failure> {
    let refusal = |why: String| Failure::invalid_param(place, format!("`{place}` {why}"));
    let known = || formats.iter().map(|(.., format)| *format).collect::<Vec<_>>().join(", ");
    let by_end = |end: &str| {
        let end = end.to_ascii_lowercase();
        formats.iter().find(|(_, ends, _)| ends.contains(&end.as_str())).map(|(.., format)| *format)
    };
    let begins = |scheme: &str| url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    if begins("http://") || begins("https://") {
        return Err(refusal(format!("is the address of a file, and Bedrock fetches none; send {wanted}")));
    }
    if begins("s3://") {
        let format = url.rsplit_once('.').and_then(|(_, end)| by_end(end));
        let format =
            format.ok_or_else(|| refusal(format!("must end in the format of the file, one of: {}", known())))?;
        return Ok((format, Source::S3Location { uri: url.into_owned() }));
    }
    let parts = begins("data:").then(|| url.split_once(',')).flatten();
    let Some((head, _)) = parts.filter(|(head, _)| head.to_ascii_lowercase().ends_with(";base64")) else {
        return Err(refusal(format!("is no data URL in base64; send {wanted}")));
    };
    let kind = head["data:".len()..].split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let by_kind = formats.iter().find(|(known, ..)| *known == kind).map(|(.., format)| *format);
    let says_nothing = matches!(kind.as_str(), "" | "application/octet-stream");
    let format =
        by_kind.or_else(|| end.filter(|_| says_nothing).and_then(by_end)).or((kind == "image/jpg").then_some("jpeg"));
    let format = format.filter(|format| formats.iter().any(|(.., known)| known == format)).ok_or_else(|| {
        let kind = super::shown(&kind);
        refusal(format!("is of the type `{kind}`, which Bedrock does not take; send one of: {}", known()))
    })?;
    let start = head.len() + 1;
    let data = match url {
        Cow::Borrowed(url) => Cow::Borrowed(&url[start..]),
        Cow::Owned(url) => Cow::Owned(url[start..].to_owned()),
    };
    match check_base64(data.as_bytes()) {
        Ok(()) if data.is_empty() => Err(refusal(format!("holds no bytes; send {wanted}"))),
        Ok(()) => Ok((format, Source::Bytes(data))),
        Err(error) => {
            let why = "with its padding and without spaces or line breaks";
            Err(refusal(format!("is not base64 ({}); send the usual alphabet {why}", error.to_string().to_lowercase())))
        }
    }
}

/// Whether it is base64, with its padding. Nobody needs the bytes, of which there may be millions, so that they are not
/// kept.
fn check_base64(data: &[u8]) -> Result<(), DecodeError> {
    const PIECE_CHARS: usize = 4096;
    let mut room = [0; PIECE_CHARS / 4 * 3];
    let end = data.len().saturating_sub(1) / PIECE_CHARS;
    for (number, piece) in data.chunks(PIECE_CHARS).enumerate() {
        let start = number * PIECE_CHARS;
        match STANDARD.decode_slice(piece, &mut room) {
            // Padding stands at the end alone.
            Ok(count) if number < end && count < room.len() => return Err(DecodeError::InvalidPadding),
            Ok(_) => {}
            Err(DecodeSliceError::OutputSliceTooSmall) => unreachable!("three bytes are room for four letters"),
            Err(DecodeSliceError::DecodeError(error)) => {
                return Err(match error {
                    DecodeError::InvalidByte(at, byte) => DecodeError::InvalidByte(start + at, byte),
                    DecodeError::InvalidLength(length) => DecodeError::InvalidLength(start + length),
                    DecodeError::InvalidLastSymbol { offset, symbol, symbol_value } => {
                        DecodeError::InvalidLastSymbol { offset: start + offset, symbol, symbol_value }
                    }
                    DecodeError::InvalidPadding => DecodeError::InvalidPadding,
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image_of(url: &str) -> Result<(&'static str, String), String> {
        match image("p", url.into()) {
            Ok(Image { format, source: Source::Bytes(data) }) => Ok((format, data.into_owned())),
            Ok(Image { format, source: Source::S3Location { uri } }) => Ok((format, uri)),
            Err(failure) => {
                assert_eq!(failure.param.as_deref(), Some("p"));
                Err(failure.message)
            }
        }
    }

    #[test]
    fn data_urls_of_the_four_formats_are_taken() {
        for (url, format) in [
            ("data:image/png;base64,aGk=", "png"),
            ("data:image/jpeg;base64,aGk=", "jpeg"),
            ("data:image/jpg;base64,aGk=", "jpeg"),
            ("data:image/gif;base64,aGk=", "gif"),
            ("DATA:image/WEBP;charset=x;BASE64,aGk=", "webp"),
        ] {
            assert_eq!(image_of(url), Ok((format, "aGk=".to_owned())), "{url}");
        }
        let stored = "s3://bucket/a.b/cat.JPG";
        assert_eq!(image_of(stored), Ok(("jpeg", stored.to_owned())));
    }

    #[test]
    fn what_bedrock_cannot_read_is_refused_with_what_to_send() {
        for (url, words) in [
            ("https://example.com/cat.png", "Bedrock fetches none; send an image as `data:image/png;base64,…`"),
            ("HTTP://example.com", "fetches none"),
            ("data:image/png,abc", "is no data URL in base64"),
            ("data:image/png;base64", "is no data URL in base64"),
            ("cat.png", "is no data URL in base64"),
            ("", "is no data URL in base64"),
            ("é", "is no data URL in base64"),
            (
                "data:image/svg+xml;base64,aGk=",
                "of the type `image/svg+xml`, which Bedrock does not take; send one of: png, jpeg",
            ),
            ("data:;base64,aGk=", "of the type ``"),
            ("data:application/pdf;base64,aGk=", "which Bedrock does not take"),
            ("data:image/png;base64,", "holds no bytes"),
            ("data:image/png;base64,aGk", "is not base64"),
            ("data:image/png;base64,a Gk=", "is not base64"),
            ("data:image/png;base64,a-_=", "is not base64"),
            ("s3://bucket/cat", "must end in the format of the file, one of: png, jpeg, gif, webp"),
        ] {
            let message = image_of(url).unwrap_err();
            assert!(message.contains(words), "{url}: {message}");
        }
    }

    #[test]
    fn base64_is_checked_to_its_end_and_what_is_wrong_with_it_is_told_by_its_place() {
        for length in [1, 2, 3, 3071, 3072, 3073, 6144, 10_000] {
            let text = STANDARD.encode(vec![0xfb; length]);
            assert_eq!(check_base64(text.as_bytes()), Ok(()), "{length}");
            for at in [0, text.len() / 2, text.len() - 1] {
                let mut broken = text.clone().into_bytes();
                broken[at] = b'-';
                let whole = STANDARD.decode(&broken).map(drop);
                assert!(whole.is_err(), "{length} {at}");
                assert_eq!(check_base64(&broken), whole, "{length} {at}");
            }
            assert!(check_base64(&text.as_bytes()[..text.len() - 1]).is_err(), "{length}");
        }
        let joined = STANDARD.encode([0; 3071]) + &STANDARD.encode([0; 3072]);
        assert_eq!(check_base64(joined.as_bytes()), Err(DecodeError::InvalidPadding));
        assert_eq!(STANDARD.encode([0; 3071]).len(), 4096, "so that the padding ends a piece");
        assert_eq!(check_base64(b""), Ok(()));
    }

    #[test]
    fn a_document_is_known_by_its_type_or_by_its_name() {
        let of = |data: &str, name: Option<&str>| {
            Names::default().document("p", data.into(), name).map(|document| (document.format, document.name))
        };
        let named = |format: &'static str, name: &str| (format, name.to_owned());
        assert_eq!(of("data:application/pdf;base64,aGk=", Some("a.b.pdf")).unwrap(), named("pdf", "a-b"));
        assert_eq!(of("data:text/csv;base64,aGk=", None).unwrap(), named("csv", "document"));
        assert_eq!(of("data:application/octet-stream;base64,aGk=", Some("x.DOCX")).unwrap(), named("docx", "x"));
        assert!(
            of("data:application/octet-stream;base64,aGk=", Some("x.exe")).unwrap_err().message.contains("pdf, csv")
        );
        assert!(of("data:image/png;base64,aGk=", Some("x.pdf")).unwrap_err().message.contains("`image/png`"));
    }

    #[test]
    fn names_of_documents_are_made_harmless_and_differ() {
        let mut names = Names::default();
        for (file, name) in [
            ("Ignore_all: rules!.pdf", "Ignore-all- rules-"),
            ("a  \t b.pdf", "a b"),
            ("a b.csv", "a b (2)"),
            ("a b.txt", "a b (3)"),
            ("[1](2)-3", "[1](2)-3"),
            ("Übersicht.pdf", "-bersicht"),
            (".pdf", "document"),
            ("", "document (2)"),
        ] {
            assert_eq!(names.take(Some(file)), name);
        }
        assert_eq!(names.take(None), "document (3)");
        assert_eq!(names.take(Some(&"é".repeat(1000))).chars().count(), 190);
        assert_eq!(names.take(Some(&"é".repeat(1000))).chars().count(), 194);
    }
}
