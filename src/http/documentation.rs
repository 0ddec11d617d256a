//! `GET /docs` and `GET /openapi.json`: what the daemon's interface is, for people and for programs.
//!
//! The page is Swagger UI, out of the archive that a crate carries, so that it works without the internet and
//! nothing is downloaded at build time either.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::sync::OnceLock;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, LOCATION};
use actix_web::web::Path;
use actix_web::{HttpRequest, HttpResponse};
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::ZipArchive;

use super::openapi;

/// The files of the archive that the page needs, with their media types.
const FILES: [(&str, &str); 4] = [
    ("swagger-ui.css", "text/css; charset=utf-8"),
    ("swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    ("favicon-32x32.png", "image/png"),
    ("favicon-16x16.png", "image/png"),
];

/// Addresses are relative, so that the page also works behind a path of a reverse proxy.
const PAGE: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>itsd</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" type="image/png" href="docs/favicon-32x32.png" sizes="32x32">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"#;

/// The page's own few lines. It fetches the document from beside itself and sends nothing anywhere else.
const START: &str = r##"SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  defaultModelsExpandDepth: 0,
  docExpansion: "list",
});
"##;

/// Nothing is loaded from elsewhere; Swagger UI sets styles on elements and has images in its style sheet.
const POLICY: &str =
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'";

/// The page.
pub async fn page(request: HttpRequest) -> HttpResponse {
    // A slash at the end would lead the page's relative addresses astray.
    if request.path().ends_with('/') {
        return HttpResponse::PermanentRedirect().insert_header((LOCATION, "../docs")).finish();
    }
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .body(PAGE)
}

/// One of the files that the page loads.
pub async fn file(request: HttpRequest, name: Path<String>) -> HttpResponse {
    if name.as_str() == "start.js" {
        return HttpResponse::Ok().content_type("text/javascript; charset=utf-8").body(START);
    }
    match files().get(name.as_str()) {
        Some((media_type, content)) => HttpResponse::Ok()
            .content_type(*media_type)
            .insert_header((CACHE_CONTROL, "max-age=86400"))
            .body(content.as_slice()),
        None => super::unknown_path(request).await,
    }
}

/// The OpenAPI document.
pub async fn document() -> HttpResponse {
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = TEXT.get_or_init(|| openapi::document().to_string());
    HttpResponse::Ok().content_type("application/json").insert_header((CACHE_CONTROL, "no-cache")).body(text.as_str())
}

/// The files by their names, unpacked when they are first asked for.
fn files() -> &'static BTreeMap<&'static str, (&'static str, Vec<u8>)> {
    static FILES_BY_NAME: OnceLock<BTreeMap<&str, (&str, Vec<u8>)>> = OnceLock::new();
    FILES_BY_NAME.get_or_init(|| {
        let mut archive = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED)).expect("the crate carries an archive");
        FILES
            .into_iter()
            .map(|(name, media_type)| {
                let wanted = format!("/dist/{name}");
                let mut paths = archive.file_names().filter_map(Result::ok).map(|path| path.into_owned());
                let path = paths.find(|path| path.ends_with(&wanted)).expect("a test looks for each");
                drop(paths);
                let mut content = Vec::new();
                archive
                    .by_name(&path)
                    .and_then(|mut file| Ok(file.read_to_end(&mut content)?))
                    .expect("a test unpacks each");
                (name, (media_type, content))
            })
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_page_is_in_the_archive() {
        let files = files();
        assert_eq!(files.len(), FILES.len());
        for (name, (_, content)) in files {
            assert!(content.len() > 500, "{name}");
        }
        let bundle = String::from_utf8_lossy(&files["swagger-ui-bundle.js"].1);
        assert!(bundle.contains("SwaggerUIBundle"));
    }
}
