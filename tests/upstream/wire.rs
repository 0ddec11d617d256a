//! HTTP/1.1 by hand, so that an answer can break off at any byte and a client that leaves is noticed.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// A request as it came over the wire.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// The path with its query.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// What follows the path, without the question mark.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }
}

/// Waits until a whole request is in `buffer`; returns the lengths of its head and its body. `None` when the
/// client has left or does not speak HTTP, for example because it begins with a TLS handshake.
pub async fn receive(reader: &mut OwnedReadHalf, buffer: &mut Vec<u8>) -> Option<(usize, usize)> {
    let mut scanned = 0;
    let head = loop {
        if let Some(at) = find(&buffer[scanned..], b"\r\n\r\n") {
            break scanned + at + 4;
        }
        scanned = buffer.len().saturating_sub(3);
        if buffer.first().is_some_and(|byte| !byte.is_ascii_uppercase()) || buffer.len() > 1 << 20 {
            return None;
        }
        if reader.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let body = content_length(&buffer[..head])?;
    buffer.reserve((head + body).saturating_sub(buffer.len()));
    while buffer.len() < head + body {
        if reader.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    Some((head, body))
}

/// Takes a received request out of `buffer`.
pub fn parse(buffer: &mut Vec<u8>, (head, body): (usize, usize)) -> Option<Request> {
    let text = std::str::from_utf8(&buffer[..head]).ok()?;
    let mut lines = text.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let request = Request { method, target, headers, body: buffer[head..head + body].to_vec() };
    buffer.drain(..head + body);
    Some(request)
}

/// Returns when the client has closed its side. Bytes that it sends meanwhile are kept.
pub async fn closed(reader: &mut OwnedReadHalf, buffer: &mut Vec<u8>) {
    while buffer.len() < 1 << 20 {
        if !matches!(reader.read_buf(buffer).await, Ok(count) if count > 0) {
            return;
        }
    }
    std::future::pending().await
}

/// Status line and headers. Without a length the body is chunked.
pub async fn send_head(
    writer: &mut OwnedWriteHalf,
    status: u16,
    headers: &[(String, String)],
    length: Option<usize>,
) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    match length {
        Some(length) => head.push_str(&format!("content-length: {length}\r\n\r\n")),
        None => head.push_str("transfer-encoding: chunked\r\n\r\n"),
    }
    writer.write_all(head.as_bytes()).await
}

/// One chunk of a chunked body; an empty one ends the body.
pub async fn send_chunk(writer: &mut OwnedWriteHalf, data: &[u8]) -> std::io::Result<()> {
    writer.write_all(&chunk(data)).await
}

/// The same as it goes over the wire.
pub fn chunk(data: &[u8]) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", data.len()).into_bytes();
    chunk.extend_from_slice(data);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

fn content_length(head: &[u8]) -> Option<usize> {
    match header(head, b"content-length") {
        Some(value) => std::str::from_utf8(value).ok()?.trim().parse().ok(),
        None => Some(0),
    }
}

/// The value of the header `name` (in lower case), without parsing the others.
fn header<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    head.split(|&byte| byte == b'\n').find_map(|line| {
        let (known, value) = line.split_at_checked(name.len())?;
        known.eq_ignore_ascii_case(name).then_some(value)?.strip_prefix(b":").map(<[u8]>::trim_ascii)
    })
}

/// Where `pattern` is in `text` for the first time.
pub fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    let (&first, rest) = pattern.split_first()?;
    let mut from = 0;
    loop {
        // The library looks for one byte many at a time, and few texts are full of first bytes.
        from += text[from..].iter().position(|&byte| byte == first)? + 1;
        if text[from..].starts_with(rest) {
            return Some(from - 1);
        }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        404 => "Not Found",
        413 => "Payload Too Large",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Status",
    }
}
