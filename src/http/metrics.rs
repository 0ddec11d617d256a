//! `GET /metrics`: what the daemon counts, as Prometheus and its kin read it.

use actix_web::http::header::{Accept, Header};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};

use crate::metrics::Format;

use super::AppState;

/// The counters as they stand, in OpenMetrics where the scraper prefers that, else in Prometheus' older text.
pub async fn expose(state: Data<AppState>, request: HttpRequest) -> HttpResponse {
    let format = preferred(&request);
    let text = state.metrics.expose(&state.runtime.moment(), format);
    HttpResponse::Ok().content_type(format.content_type()).body(text)
}

fn preferred(request: &HttpRequest) -> Format {
    let accepted = Accept::parse(request).map(|accept| accept.ranked()).unwrap_or_default();
    // The first that is either of the two decides; whoever takes anything gets what everything reads.
    let by_name = accepted.iter().find_map(|kind| match kind.essence_str() {
        "application/openmetrics-text" => Some(Format::OpenMetrics),
        "text/plain" | "text/*" | "*/*" => Some(Format::Prometheus),
        _ => None,
    });
    by_name.unwrap_or(Format::Prometheus)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::ACCEPT;
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn the_scraper_chooses_between_the_two_texts() {
        // What Prometheus 2.42 and 3.0 send, a browser, and curl.
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, format) in [
            (prometheus, Format::OpenMetrics),
            ("text/plain;version=0.0.4;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5", Format::Prometheus),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("application/json", Format::Prometheus),
            ("nonsense", Format::Prometheus),
            ("", Format::Prometheus),
        ] {
            let request = TestRequest::default().insert_header((ACCEPT, accept)).to_http_request();
            assert_eq!(preferred(&request), format, "{accept}");
        }
        assert_eq!(preferred(&TestRequest::default().to_http_request()), Format::Prometheus);
    }
}
