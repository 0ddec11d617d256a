//! A call that is given up while its answer is all but here is read to its end, so that its connection serves again.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use itsd::generator::{self, Delivery, Phase, Run, Until};
use itsd::providers::Shared;
use itsd::providers::openai::Provider;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::hand_fed::receive;
use crate::provider::{prompt, spec};

/// The machine may be busy with something else for longer than such a call is waited for.
const ROUNDS: usize = 20;

const ANSWER: &str = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"42"},"finish_reason":"stop"}],
"usage":{"prompt_tokens":1,"completion_tokens":1}}"#;

async fn answer(socket: &mut TcpStream) {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", ANSWER.len());
    socket.write_all((head + ANSWER).as_bytes()).await.unwrap();
}

/// Waits until what was begun is paid for, as it is when its answer has been read.
async fn settled(run: &Run) {
    while run.ledger.total().unknown_calls > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn an_answer_that_is_there_when_its_call_is_given_up_leaves_the_connection_open() {
    let mut kept = 0;
    for _ in 0..ROUNDS {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let spec = spec(&format!("http://{}/v1", listener.local_addr().unwrap()));
        let generator = generator::remote(Arc::new(Provider::new(spec, &Shared::default()).unwrap()));
        let (prompt, run) = (Arc::new(prompt()), Arc::new(Run::new(None)));
        let paths = |numbers| generator::open(&prompt, numbers, Phase::Generate, &run);

        let mut calls = generator.extend(paths(0..1), Until::End, Delivery::Whole).await;
        let mut socket = tokio::select! {
            _ = calls.next() => panic!("nothing was answered"),
            (mut socket, _) = async { listener.accept().await.unwrap() } => {
                tokio::select! {
                    _ = calls.next() => panic!("nothing was answered"),
                    request = receive(&mut socket) => assert!(request.is_some()),
                }
                socket
            }
        };
        // From here to the end of the call nobody hears it.
        answer(&mut socket).await;
        drop(calls.cancel().await);
        tokio::select! {
            () = settled(&run) => {}
            _ = receive(&mut socket) => continue,
        }
        let mut again = generator.extend(paths(1..2), Until::End, Delivery::Whole).await;
        let is_kept = tokio::select! {
            _ = again.next() => panic!("nothing was answered"),
            request = receive(&mut socket) => request.is_some(),
            _ = listener.accept() => false,
        };
        kept += usize::from(is_kept);
    }
    assert!(kept > 0, "not one connection of {ROUNDS} was kept");
}
