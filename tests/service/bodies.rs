//! Bodies of requests that do not come as they should.

use std::time::Duration;

use crate::app::{PATIENCE, spawn_app_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn a_body_that_stands_still_is_given_up() {
    let app = spawn_app_with(|settings| settings.server.body_idle_timeout = Duration::from_millis(20)).await;
    let framings = ["content-length: 100\r\n\r\n{\"model\":", "transfer-encoding: chunked\r\n\r\n9\r\n{\"model\":\r\n"];
    for path in [CHAT, "/configure"] {
        for framing in framings {
            let request =
                format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{framing}");
            // The daemon closes the connection: what comes after would be taken for a request of its own.
            let response = app.raw(&request).await;
            assert!(response.starts_with("HTTP/1.1 408 "), "{path}: {response}");
            assert!(
                response.contains("\"code\":\"request_timeout\"") && response.contains("x-request-id: "),
                "{response}"
            );
        }
    }
}

#[tokio::test]
async fn a_body_that_comes_in_pieces_is_read_to_its_end() {
    let app = spawn_app_with(|settings| settings.server.body_idle_timeout = PATIENCE).await;
    let mut socket = TcpStream::connect(app.address).await.unwrap();
    let head = "POST /configure HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n";
    for piece in [head, "content-length: 12\r\n\r\n", "{\"mo", "del\"", ":4}", " "] {
        socket.write_all(piece.as_bytes()).await.unwrap();
        socket.flush().await.unwrap();
    }
    let mut response = String::new();
    tokio::time::timeout(PATIENCE, socket.read_to_string(&mut response)).await.unwrap().unwrap();
    assert!(response.starts_with("HTTP/1.1 400 ") && response.contains("\"param\":\"model\""), "{response}");
}
