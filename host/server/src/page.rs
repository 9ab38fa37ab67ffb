//! The page, its parts compiled in, and the headers that keep it to itself.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::ApiError;

/// Scripts, styles and pictures from here and nowhere else, and the API of this server alone.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Sent with each part of the page.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    // Asked for anew each time, and not sent again if it is the same.
    (header::CACHE_CONTROL, "no-cache"),
];

/// A file of the page.
struct Asset {
    name: &'static str,
    bytes: &'static [u8],
    etag: HeaderValue,
}

macro_rules! assets {
    ($($name:literal),+ $(,)?) => {
        vec![$(Asset::new($name, include_bytes!(concat!("../page/", $name)))),+]
    };
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    assets![
        "index.html",
        "style.css",
        "api.js",
        "app.js",
        "dom.js",
        "form.js",
        "gauges.js",
        "key.js",
        "programs.js",
        "run_session.js",
        "run_state.js",
        "run_view.js",
        "runs.js",
        "sse.js",
        "text.js",
        "timeline.js",
        "transcript.js",
        "upload.js",
    ]
});

impl Asset {
    fn new(name: &'static str, bytes: &'static [u8]) -> Self {
        let digest = Sha256::digest(bytes);
        let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        // Hexadecimal digits between quotes are a header's value.
        let etag = HeaderValue::from_str(&format!("\"{hex}\"")).unwrap_or(HeaderValue::from_static("\"\""));
        Self { name, bytes, etag }
    }

    fn content_type(&self) -> &'static str {
        match self.name.rsplit_once('.').map(|(_, extension)| extension) {
            Some("html") => "text/html; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("svg") => "image/svg+xml",
            Some("woff2") => "font/woff2",
            _ => "application/octet-stream",
        }
    }

    fn answer(&self, headers: &HeaderMap) -> Response {
        let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).is_some_and(|tags| {
            // Proxies that compress make an entity tag a weak one; the content is the same.
            tags.split(',').any(|tag| tag.trim().trim_start_matches("W/").as_bytes() == self.etag.as_bytes())
        });
        let mut response = if known {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            ([(header::CONTENT_TYPE, self.content_type())], self.bytes).into_response()
        };
        let headers = response.headers_mut();
        for (name, value) in HEADERS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(header::ETAG, self.etag.clone());
        response
    }
}

/// `GET /`.
pub(crate) async fn index(headers: HeaderMap) -> Result<Response, ApiError> {
    answer("index.html", &headers)
}

/// `GET /assets/{file}`.
pub(crate) async fn asset(Path(file): Path<String>, headers: HeaderMap) -> Result<Response, ApiError> {
    answer(&file, &headers)
}

fn answer(name: &str, headers: &HeaderMap) -> Result<Response, ApiError> {
    let asset = ASSETS.iter().find(|asset| asset.name == name);
    Ok(asset.ok_or_else(|| ApiError::not_found("the page has no such part"))?.answer(headers))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_file_of_the_page_is_served() {
        let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/page")).unwrap();
        let files = folder.map(|file| file.unwrap().file_name().into_string().unwrap());
        let files: BTreeSet<String> = files.filter(|name| !name.ends_with(".md")).collect();
        assert_eq!(ASSETS.iter().map(|asset| asset.name.to_owned()).collect::<BTreeSet<_>>(), files);
        assert!(ASSETS.iter().all(|asset| asset.content_type() != "application/octet-stream"));
    }

    #[test]
    fn a_part_that_is_known_is_not_sent_again() {
        let etag = ASSETS[0].etag.clone();
        let ask = |tags: &str| {
            let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_str(tags).unwrap())]);
            ASSETS[0].answer(&headers).status().as_u16()
        };
        let etag = etag.to_str().unwrap();
        assert_eq!((ask(etag), ask(&format!("\"x\", W/{etag}")), ask("\"x\"")), (304, 304, 200));
    }
}
