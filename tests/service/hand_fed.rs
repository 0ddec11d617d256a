//! An upstream whose every chunk a test writes itself, and a client that reads only when it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::app::{PATIENCE, TestApp};

/// The letter that answers here are made of; nothing else that is sent has it.
pub const LETTER: char = 'Q';

/// A server that does nothing by itself.
pub struct HandFed {
    listener: TcpListener,
}

/// A call that waits for the chunks of its answer.
pub struct Call {
    socket: TcpStream,
    /// Whether it asks for raw text.
    is_text: bool,
}

/// An answer that is written as fast as it is read.
pub struct Flood {
    sent_bytes: Arc<AtomicUsize>,
    /// Ends when the answer is out or its reader has gone; whether it is out.
    pub ended: JoinHandle<bool>,
}

impl HandFed {
    pub async fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // What its own side holds shall be little of what is sent.
        socket.set_send_buffer_size(64 << 10).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self { listener: socket.listen(64).unwrap() }
    }

    /// A document of a configuration that leads here.
    pub fn document(&self) -> Value {
        let endpoint = format!("http://{}/v1", self.listener.local_addr().unwrap());
        json!({
            "provider": "openai-compatible", "endpoint": endpoint, "model": "scripted", "budget": 1, "max_retries": 0,
        })
    }

    /// The next call, of which the head of the answer is out.
    pub async fn call(&self) -> Call {
        let (mut socket, _) = timeout(PATIENCE, self.listener.accept()).await.expect("a call").unwrap();
        socket.set_nodelay(true).unwrap();
        let request = receive(&mut socket).await.expect("a whole request");
        let is_text = !request.starts_with(b"POST /v1/chat/");
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        socket.write_all(head.as_bytes()).await.unwrap();
        Call { socket, is_text }
    }
}

impl Call {
    pub async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.socket.write_all(bytes).await
    }

    /// The event of a chunk that says this; with a reason, of the last.
    pub fn event(&self, text: &str, finish_reason: Option<&str>) -> String {
        let choice = match self.is_text {
            true => json!({"index": 0, "text": text, "finish_reason": finish_reason}),
            false => json!({"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}),
        };
        format!("data: {}\n\n", json!({"id": "1", "choices": [choice]}))
    }

    /// Answers with so many pieces of so many letters.
    pub fn flood(mut self, pieces: usize, piece_bytes: usize) -> Flood {
        let sent_bytes = Arc::new(AtomicUsize::new(0));
        let ended = tokio::spawn({
            let sent_bytes = Arc::clone(&sent_bytes);
            async move {
                let piece = self.event(&LETTER.to_string().repeat(piece_bytes), None);
                for _ in 0..pieces {
                    if self.write(piece.as_bytes()).await.is_err() {
                        return false;
                    }
                    sent_bytes.fetch_add(piece_bytes, Ordering::Relaxed);
                }
                let end = self.event("", Some("stop")) + "data: [DONE]\n\n";
                self.write(end.as_bytes()).await.is_ok()
            }
        });
        Flood { sent_bytes, ended }
    }
}

impl Flood {
    pub fn sent_bytes(&self) -> usize {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    /// Waits until the upstream has no part in it any more; whether all of it went out.
    pub async fn end(self) -> bool {
        timeout(PATIENCE, self.ended).await.expect("the answer is read, or its connection closed").unwrap()
    }
}

/// A client that has sent a request, and reads the response as it likes.
pub struct Client {
    socket: TcpStream,
    received: Vec<u8>,
}

impl Client {
    /// Sends `body` to `path` under a request id.
    pub async fn ask(app: &TestApp, path: &str, id: &str, body: &Value) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // What is not read shall be held by the daemon.
        socket.set_recv_buffer_size(8 << 10).unwrap();
        let mut socket = socket.connect(app.address).await.unwrap();
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx-request-id: {id}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        socket.write_all((head + &body).as_bytes()).await.unwrap();
        Self { socket, received: Vec::new() }
    }

    /// Reads until `text` is there.
    pub async fn read_until(&mut self, text: &str) {
        let found = async {
            while !self.received.windows(text.len()).any(|window| window == text.as_bytes()) {
                assert!(self.socket.read_buf(&mut self.received).await.unwrap() > 0, "{text} comes before the end");
            }
        };
        timeout(PATIENCE, found).await.expect("what is waited for");
    }

    /// Reads to the end: the head, and the chunks of the body as they were cut.
    pub async fn read_rest(mut self) -> (String, Vec<Vec<u8>>) {
        // A long answer may take its time on a busy machine, as long as it comes.
        while timeout(PATIENCE, self.socket.read_buf(&mut self.received)).await.expect("more, or the end").unwrap() > 0
        {
        }
        let at = find(&self.received, b"\r\n\r\n").expect("a whole head");
        let head = String::from_utf8(self.received[..at].to_vec()).unwrap();
        (head, chunks(&self.received[at + 4..]))
    }
}

/// How many letters of an answer there are in it.
pub fn letters(body: &[u8]) -> usize {
    body.iter().filter(|&&byte| byte == LETTER as u8).count()
}

/// The chunks of a body that must be whole.
fn chunks(mut body: &[u8]) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    loop {
        let at = find(body, b"\r\n").expect("the size of a chunk");
        let size = usize::from_str_radix(std::str::from_utf8(&body[..at]).unwrap(), 16).unwrap();
        let (chunk, rest) = body[at + 2..].split_at(size);
        body = rest.strip_prefix(b"\r\n").expect("the end of a chunk");
        if size == 0 {
            assert!(body.is_empty(), "nothing follows the body");
            return chunks;
        }
        chunks.push(chunk.to_vec());
    }
}

/// Reads a request; `None` when the connection is closed instead.
pub async fn receive(socket: &mut TcpStream) -> Option<Vec<u8>> {
    let mut request = Vec::new();
    while !is_whole(&request) {
        if !matches!(socket.read_buf(&mut request).await, Ok(count) if count > 0) {
            return None;
        }
    }
    Some(request)
}

fn is_whole(request: &[u8]) -> bool {
    let Some(at) = find(request, b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&request[..at]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    request.len() - at - 4 >= length.map_or(0, |length| length.trim().parse().unwrap())
}

fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    text.windows(pattern.len()).position(|window| window == pattern)
}
