//! `/metrics`, `/healthz` and `/readyz`.

use std::{fmt, io, net::SocketAddr};

use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    http::{StatusCode, header::CONTENT_TYPE},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;

use super::{
    connection::{Bounded, Unserved},
    exposition,
    figures::Figures,
};
use crate::daemon::{Handle, Phase};

/// What OpenMetrics 1.0 asks for.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

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
            .layer(middleware::from_fn(served))
            .with_state(handle.clone());
        let listener = Bounded::new(self.listener, handle.discards());
        let service = router.into_make_service_with_connect_info::<Unserved>();
        if let Err(error) = axum::serve(listener, service).await {
            tracing::error!(%error, "metrics are served no more");
        }
    }
}

/// Notes that a connection's octets were a request that is served here.
async fn served(
    ConnectInfo(unserved): ConnectInfo<Unserved>,
    request: Request,
    next: Next,
) -> Response {
    let response = next.run(request).await;
    if !response.status().is_client_error() {
        unserved.clear();
    }
    response
}

async fn metrics(State(handle): State<Handle>) -> Response {
    let (Some(core), Some(calls), Some(trunks), Some(media)) = (
        handle.statistics().await,
        handle.calls().await,
        handle.trunks().await,
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
        trunks: &trunks,
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
