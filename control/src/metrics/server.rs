//! `/metrics`, `/healthz` and `/readyz`.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
    serve::Listener,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::{exposition, figures::Figures};
use crate::daemon::{Handle, Phase};

/// What OpenMetrics 1.0 asks for.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// How many clients may be connected at one time; more wait in the kernel's queue.
const CLIENTS: usize = 64;

/// Why the address could not be listened on.
#[derive(Debug)]
pub struct MetricsError {
    address: SocketAddr,
    error: io::Error,
}

impl fmt::Display for MetricsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "cannot listen on {} for metrics ({}): choose another [admin] metrics",
            self.address, self.error
        )
    }
}

impl std::error::Error for MetricsError {}

/// The listening server.
#[derive(Debug)]
pub struct MetricsServer {
    listener: TcpListener,
}

impl MetricsServer {
    /// Opens the address.
    ///
    /// # Errors
    /// What the system says.
    pub async fn bind(address: SocketAddr) -> Result<Self, MetricsError> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| MetricsError { address, error })?;
        Ok(Self { listener })
    }

    /// Where it listens: the port is real when 0 was asked for.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until it is dropped.
    pub async fn run(self, handle: Handle) {
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(health))
            .route("/readyz", get(readiness))
            .with_state(handle);
        let listener = Bounded {
            listener: self.listener,
            places: Arc::new(Semaphore::new(CLIENTS)),
        };
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "metrics are served no more");
        }
    }
}

async fn metrics(State(handle): State<Handle>) -> Response {
    let (Some(core), Some(calls), Some(media)) = (
        handle.statistics().await,
        handle.calls().await,
        handle.media().await,
    ) else {
        return (StatusCode::SERVICE_UNAVAILABLE, "ending\n").into_response();
    };
    let discards = handle.discards();
    let settings = handle.settings();
    let figures = Figures {
        phase: handle.phase(),
        settings: &settings,
        core: &core,
        calls: &calls,
        media: &media,
        discards: &discards,
        connections: handle.connections(),
    };
    match exposition::text(figures.metrics()) {
        Ok(text) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Well while the task that owns the calls answers.
async fn health(State(handle): State<Handle>) -> Response {
    match handle.statistics().await {
        Some(_) => "ok\n".into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "ending\n").into_response(),
    }
}

/// Ready while new calls are taken.
async fn readiness(State(handle): State<Handle>) -> Response {
    let phase = handle.phase();
    let status = if phase == Phase::Ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, format!("{}\n", phase.name())).into_response()
}

/// A listener that has no more than so many connections open.
struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl Listener for Bounded {
    type Io = Placed;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Placed, SocketAddr) {
        // The semaphore is never closed; without a place the connection would only be uncounted.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (
            Placed {
                stream,
                _place: place,
            },
            address,
        )
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection with its place.
struct Placed {
    stream: TcpStream,
    _place: Option<OwnedSemaphorePermit>,
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
