//! Connections: what is received on them, and who answers it.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::accept::{self, Route};
use super::chat::Chat;
use super::counters::InFlight;
use super::deliver::{Exchange, Outcome};
use super::instant::Wish;
use super::profile::Profile;
use super::refusal::{ErrorBody, Refusal};
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
        let Some(lengths) = wire::receive(&mut reader, &mut buffer).await else {
            if !buffer.is_empty() {
                let _ = writer.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await;
            }
            return;
        };
        if let Some(instant) = &shared.instant
            && buffer.starts_with(b"POST /v1/chat/completions ")
        {
            let in_flight = InFlight::new(&shared);
            let (head, body) = lengths;
            let wish = Wish::of(&buffer[head..head + body]);
            buffer.drain(..head + body);
            let goes_on = tokio::select! {
                biased;
                sent = instant.answer(wish, &in_flight, &mut writer) => match sent {
                    Ok(()) => in_flight.answered(),
                    Err(_) => in_flight.left(),
                },
                () = wire::closed(&mut reader, &mut buffer) => in_flight.left(),
            };
            if !goes_on {
                return;
            }
            continue;
        }
        let Some(request) = wire::parse(&mut buffer, lengths) else { return };
        let profile = shared.state().profile;
        let route = accept::route(profile, &request);
        let (deployment, is_text) = match route {
            Route::Chat { deployment } => (deployment, false),
            Route::Text { deployment } => (deployment, true),
            Route::Models | Route::Control | Route::Unknown => {
                let answer = other_route(&route, &request, profile, &shared).await;
                if send(&mut writer, &answer).await.is_err() {
                    return;
                }
                continue;
            }
        };
        let in_flight = InFlight::new(&shared);
        let mut exchange = Exchange { shared: &shared, in_flight: &in_flight, writer: &mut writer };
        let outcome = tokio::select! {
            biased;
            outcome = answer(request, profile, deployment, is_text, &mut exchange) => outcome.ok(),
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
            None => in_flight.left(),
        };
        if outcome.is_none() {
            return;
        }
    }
}

/// Answers a request for a completion.
async fn answer(
    request: Request,
    profile: Profile,
    deployment: Option<String>,
    is_text: bool,
    exchange: &mut Exchange<'_>,
) -> std::io::Result<Outcome> {
    let parse = if is_text { Chat::parse_text } else { Chat::parse };
    let chat = accept::check_head(profile, &request).and_then(|()| parse(profile, deployment, &request.body));
    let (number, step) = {
        let mut state = exchange.shared.state();
        let seen = Seen { number: state.seen.len() as u64, request };
        let step = chat.as_ref().ok().map(|chat| state.step(&seen, &chat.model));
        let number = seen.number;
        state.seen.push(seen);
        (number, step.unwrap_or_default())
    };
    match chat {
        Ok(chat) => exchange.answer(&chat, &step, number).await,
        Err(refusal) => exchange.refuse(&refusal, profile).await,
    }
}

async fn other_route(route: &Route, request: &Request, profile: Profile, shared: &Shared) -> ErrorBody {
    let json =
        |status: u16, body: Value| ErrorBody { status, content_type: "application/json", text: body.to_string() };
    match (route, request.method.as_str()) {
        (Route::Models, _) => match accept::check_head(profile, request) {
            Ok(()) => json(200, models(profile, shared)),
            Err(refusal) => refusal.body(profile),
        },
        (Route::Control, "GET") => {
            let status = if shared.reached(request.query()).await { 200 } else { 504 };
            json(status, shared.report(request.query()))
        }
        (Route::Control, "POST") => match serde_json::from_slice(&request.body) {
            Ok(control) => {
                shared.control(control);
                json(200, json!({}))
            }
            Err(error) => Refusal::invalid(None, None, &error.to_string()).body(Profile::Plain),
        },
        (_, method) if profile == Profile::LmStudio => {
            json(200, json!({"error": format!("Unexpected endpoint or method. ({method} {})", request.path())}))
        }
        (_, method) => {
            let message = format!("Invalid URL ({method} {})", request.target);
            let refusal = Refusal::invalid(None, Some("unknown_url"), &message);
            Refusal { status: 404, ..refusal }.body(profile)
        }
    }
}

fn models(profile: Profile, shared: &Shared) -> Value {
    let mut names: Vec<String> = shared.state().scripts.keys().flatten().cloned().collect();
    names.extend(["scripted".to_owned()]);
    names.sort_unstable();
    let models: Vec<Value> = names
        .iter()
        .map(|name| json!({"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "tests"}))
        .collect();
    match profile {
        Profile::Together => Value::Array(models),
        _ => json!({"object": "list", "data": models}),
    }
}

async fn send(writer: &mut OwnedWriteHalf, answer: &ErrorBody) -> std::io::Result<()> {
    let headers = [("content-type".to_owned(), answer.content_type.to_owned())];
    wire::send_head(writer, answer.status, &headers, Some(answer.text.len())).await?;
    writer.write_all(answer.text.as_bytes()).await
}
