//! The page, its parts compiled in and compressed once, and the headers that keep it to itself.

use std::io::Write as _;
use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use crate::ApiError;

/// Scripts, styles and pictures from here and nowhere else, and the API of this server alone.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Sent with each part of the page.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    // Asked for anew each time, and not sent again if it is the same.
    (header::CACHE_CONTROL, "no-cache"),
    (header::VARY, "accept-encoding"),
];

/// A file of the page.
struct Asset {
    name: &'static str,
    bytes: &'static [u8],
    gzip: Bytes,
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
        // Hexadecimal digits between quotes are a header's value. A weak tag: it is that of two representations.
        let etag = HeaderValue::from_str(&format!("W/\"{hex}\"")).unwrap_or(HeaderValue::from_static("W/\"\""));
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        // Into memory, which takes all of it.
        let gzip = gzip.write_all(bytes).and_then(|()| gzip.finish()).unwrap_or_default().into();
        Self { name, bytes, gzip, etag }
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
            let etag = self.etag.to_str().unwrap_or_default();
            // Weak or not, the content is the same.
            tags.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag.trim_start_matches("W/"))
        });
        let kind = (header::CONTENT_TYPE, self.content_type());
        let mut response = if known {
            StatusCode::NOT_MODIFIED.into_response()
        } else if takes_gzip(headers) && !self.gzip.is_empty() {
            ([kind, (header::CONTENT_ENCODING, "gzip")], self.gzip.clone()).into_response()
        } else {
            ([kind], self.bytes).into_response()
        };
        let headers = response.headers_mut();
        for (name, value) in HEADERS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(header::ETAG, self.etag.clone());
        response
    }
}

/// Whether the client says that it takes gzip. (One that takes anything may say so and mean it: it gets what all take.)
fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|coding| {
        let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = parameters.trim().strip_prefix("q=").and_then(|weight| weight.trim().parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case("gzip") && weight.is_none_or(|weight| weight > 0.0)
    })
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
    use std::io::Read as _;

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
        let strong = etag.trim_start_matches("W/");
        assert_eq!((ask(etag), ask(&format!("\"x\", {etag}")), ask(strong), ask("\"x\"")), (304, 304, 304, 200));
    }

    #[test]
    fn it_is_compressed_for_who_takes_that() {
        let ask = |accepted: &str| {
            let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_str(accepted).unwrap())]);
            let response = ASSETS[0].answer(&headers);
            assert_eq!(response.headers()[header::VARY], "accept-encoding");
            response.headers().get(header::CONTENT_ENCODING).map(|coding| coding.to_str().unwrap().to_owned())
        };
        for taken in ["gzip", "gzip, deflate, br", "br;q=1.0, GZIP;q=0.5"] {
            assert_eq!(ask(taken).as_deref(), Some("gzip"), "{taken}");
        }
        for not in ["", "br", "gzip;q=0", "identity", "*", "xgzip"] {
            assert_eq!(ask(not), None, "{not}");
        }
        for asset in &*ASSETS {
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(&*asset.gzip).read_to_end(&mut plain).unwrap();
            assert_eq!(plain, asset.bytes, "{}", asset.name);
        }
    }

    /// On its way: what a browser loads before anybody can do anything.
    #[test]
    fn it_is_small() {
        let bytes: usize = ASSETS.iter().map(|asset| asset.gzip.len()).sum();
        assert!(bytes < 50_000, "the page has {bytes} bytes, compressed");
    }
}
