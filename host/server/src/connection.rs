//! Connections: lets them in, times them, serves HTTP/1.1 on each, and ends them in good order.
//!
//! The loop is ours, and not a framework's, for its limits: a place for each connection, a pace for each peer, heads that
//! are small. What is asked on a connection is the router's business.
//!
//! # Invariants
//! - A connection has a place from its acceptance to its end.
//! - Nobody waits for a peer without a deadline: for a head ([`Pace`]), a body (`body.rs`), the next request (hyper), or
//!   for it to read ([`Pace`]).

mod paced;
mod places;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use hyper::Request;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use sglhost_core::limits::ServerLimits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::paced::{Answering, Pace, Paced, Phase};
use self::places::{Place, Places};

/// hyper reads a body in pieces of at most this.
const BUFFER_BYTES: usize = 64 << 10;
/// After a failure to accept, which is most often a want of file handles: until some are given back.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// What a connection without a place is told, before anything of it is read.
const NO_PLACE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
    content-type: application/json\r\ncontent-length: 84\r\n\r\n\
    {\"error\":{\"code\":\"unavailable\",\"message\":\"as many connections are open as may be\"}}\n";

/// Who is at the other end of a request's connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Serves the router on every connection until `closing`; then lets answers under way be written, for at most
/// [`ServerLimits::close_timeout`]. `opened` is told how many connections there are whenever there is one more.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: &ServerLimits,
    closing: CancellationToken,
    opened: impl Fn(usize),
) {
    let places = Places::new(limits.connections_max, limits.connections_per_address_max);
    let (connections, limits) = (TaskTracker::new(), Arc::new(limits.clone()));
    loop {
        let accepted = tokio::select! {
            biased;
            () = closing.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("a connection could not be accepted: {error}");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let Some(place) = places.take(peer.ip()) else {
            // Into the socket's own buffer, which is empty; whoever asks too much is not waited for.
            let _ = stream.try_write(NO_PLACE);
            continue;
        };
        let connection = Connection {
            peer,
            router: router.clone(),
            limits: Arc::clone(&limits),
            closing: closing.clone(),
            _place: place,
        };
        connections.spawn(connection.serve(stream));
        opened(connections.len());
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(limits.close_timeout, connections.wait()).await.is_err() {
        tracing::warn!("{} connections did not end in time", connections.len());
    }
}

/// One connection.
struct Connection {
    peer: SocketAddr,
    router: Router,
    limits: Arc<ServerLimits>,
    closing: CancellationToken,
    _place: Place,
}

impl Connection {
    async fn serve(self, stream: TcpStream) {
        // Without it small events wait for each other; a kernel that refuses only makes them late.
        let _ = stream.set_nodelay(true);
        let phase = Arc::new(Phase::default());
        let pace = Pace { head: self.limits.head_timeout, stall: self.limits.slow_reader };
        let io = TokioIo::new(Paced::new(stream, pace, Arc::clone(&phase)));
        let (router, peer) = (self.router, Peer(self.peer));
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            let answering = phase.begin();
            Box::pin(answer(router.clone(), request, answering))
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.limits.idle_timeout)
            .max_headers(self.limits.headers_max)
            .max_header_size(self.limits.head_bytes_max)
            .max_buf_size(BUFFER_BYTES);
        let mut connection = http.serve_connection(io, service);
        let mut told = false;
        loop {
            tokio::select! {
                // A peer that breaks the protocol, is too slow or goes away is no failure of the server.
                _ = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break,
                () = self.closing.cancelled(), if !told => {
                    told = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
            }
        }
        linger(connection.into_parts().io.into_inner().into_inner(), self.limits.linger).await;
    }
}

/// Ends a connection so that its last answer arrives: a stream that is closed with something unread is reset, and the
/// answer may be lost with it.
async fn linger(mut stream: TcpStream, time: Duration) {
    let rest = async {
        stream.shutdown().await?;
        let mut unread = [0; 4096];
        while stream.read(&mut unread).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    // Whatever happens here, the connection is over.
    let _ = tokio::time::timeout(time, rest).await;
}

async fn answer(
    router: Router,
    request: Request<Incoming>,
    answering: Answering,
) -> Result<Response<Written>, std::convert::Infallible> {
    let response = TowerToHyperService::new(router).call(request).await?;
    Ok(response.map(|body| Written { body, _answering: answering }))
}

/// A response's body, which says when it was written.
struct Written {
    body: Body,
    _answering: Answering,
}

impl hyper::body::Body for Written {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
