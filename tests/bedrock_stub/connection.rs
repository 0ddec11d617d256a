//! Connections: what is received on them, who may ask it, and who answers.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::access;
use super::counters::InFlight;
use super::deliver::{Exchange, Outcome};
use super::failure::Failure;
use super::rules;
use super::script::Step;
use super::service_model::validation_message;
use super::signature::decoded;
use super::state::{Seen, Shared};
use super::wire::{self, Request};

/// Accepts connections without end. Dropping it closes them all.
pub async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((socket, _)) = accepted else { continue };
                shared.counters.send_modify(|counters| counters.connections += 1);
                connections.spawn(serve(socket, Arc::clone(&shared)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves one connection until either side closes it.
async fn serve(socket: TcpStream, shared: Arc<Shared>) {
    let _ = socket.set_nodelay(true);
    let (mut reader, mut writer) = socket.into_split();
    let mut buffer = Vec::with_capacity(16 << 10);
    loop {
        let Some(lengths) = wire::receive(&mut reader, &mut buffer).await else { return };
        let Some(request) = wire::parse(&mut buffer, lengths) else { return };
        let Some((model_id, is_stream)) = operation(&request) else {
            let (status, body) = other_path(&request, &shared).await;
            if send(&mut writer, status, &body).await.is_err() {
                return;
            }
            continue;
        };
        let in_flight = InFlight::new(&shared, is_stream);
        let mut began = false;
        let mut exchange = Exchange { shared: &shared, in_flight: &in_flight, writer: &mut writer, began: &mut began };
        let outcome = tokio::select! {
            biased;
            outcome = answer(request, model_id, is_stream, &mut exchange) => outcome.ok(),
            () = wire::closed(&mut reader, &mut buffer) => None,
        };
        match outcome {
            Some(Outcome::Next) => in_flight.answered(),
            Some(Outcome::Close) => return,
            Some(Outcome::Reset) => {
                // Without a lingering close the system sends a reset; the half that writes must not end its side first.
                let _ = writer.as_ref().set_zero_linger();
                writer.forget();
                return;
            }
            None => {
                in_flight.left(began);
                return;
            }
        }
    }
}

/// The model that is asked and whether for a stream: `…/model/{modelId}/converse`, whatever comes before.
fn operation(request: &Request) -> Option<(String, bool)> {
    let mut segments = request.path().rsplit('/');
    let is_stream = match segments.next()? {
        "converse" => false,
        "converse-stream" => true,
        _ => return None,
    };
    let model_id = String::from_utf8(decoded(segments.next()?)).ok()?;
    (request.method == "POST" && segments.next()? == "model").then_some((model_id, is_stream))
}

/// Answers a request for a model.
async fn answer(
    request: Request,
    model_id: String,
    is_stream: bool,
    exchange: &mut Exchange<'_>,
) -> std::io::Result<Outcome> {
    let body = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
    let (step, refusal) = {
        let mut state = exchange.shared.state();
        let known = state.callers.check(&request, state.now());
        let fits = known.and_then(|()| check_body(exchange.shared, &model_id, &body, is_stream));
        let fits = fits.and_then(|()| rules::check(&body, &state.rules_of(&model_id), is_stream));
        let refusal = fits.err();
        let seen = Seen {
            number: exchange.in_flight.number,
            model_id,
            is_stream,
            key_id: access::key_id(&request),
            refused: refusal.as_ref().map(|refusal| refusal.kind.clone()),
            request,
        };
        // A request that is refused takes no step.
        let step = if refusal.is_none() { state.step(&seen) } else { Step::default() };
        state.seen.push(seen);
        (step, refusal)
    };
    match refusal {
        Some(refusal) => {
            exchange.in_flight.count(|counters| counters.refused += 1);
            let step = Step { error: Some(refusal), ..Step::default() };
            exchange.answer(&step, &body, is_stream).await
        }
        None => exchange.answer(&step, &body, is_stream).await,
    }
}

fn check_body(shared: &Shared, model_id: &str, body: &Value, is_stream: bool) -> Result<(), Failure> {
    if !body.is_object() {
        return Err(Failure::saying("SerializationException", "The body of the request is not a JSON object."));
    }
    let shape = if is_stream { "ConverseStreamRequest" } else { "ConverseRequest" };
    let problems = shared.model.problems(shape, body, &[("modelId", model_id)]);
    if problems.is_empty() { Ok(()) } else { Err(Failure::validation(validation_message(&problems))) }
}

async fn other_path(request: &Request, shared: &Shared) -> (u16, Value) {
    match (request.method.as_str(), request.path()) {
        ("GET", "/control") => {
            let status = if shared.reached(request.query()).await { 200 } else { 504 };
            (status, shared.report())
        }
        ("POST", "/control") => match serde_json::from_slice(&request.body) {
            Ok(control) => {
                shared.control(control);
                (200, json!({}))
            }
            Err(error) => (400, json!({"message": error.to_string()})),
        },
        ("GET", "/_stub/requests") => (200, shared.requests()),
        // So the service answers what it does not know.
        _ => {
            (404, json!({"Output": {"__type": "com.amazon.coral.service#UnknownOperationException"}, "Version": "1.0"}))
        }
    }
}

async fn send(writer: &mut OwnedWriteHalf, status: u16, body: &Value) -> std::io::Result<()> {
    let text = body.to_string();
    let headers = [("content-type".to_owned(), "application/json".to_owned())];
    wire::send_head(writer, status, &headers, Some(text.len())).await?;
    writer.write_all(text.as_bytes()).await
}

/// The date header of the stub's own clock, from which clients learn that theirs is wrong.
pub fn date_header(now: i64) -> (String, String) {
    let seconds = u64::try_from(now).unwrap_or_default();
    ("date".to_owned(), httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)))
}
