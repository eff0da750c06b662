//! Connections to the metrics' address: so many at one time, none that asks nothing for long, and
//! each that ends with something else than a request that is served is counted.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};

use crate::transport::{Discard, Discards};

/// How many clients may be connected at one time; more wait in the kernel's queue.
const CLIENTS: usize = 64;
/// How long a client may take for a request, and for reading each part of its answer. Longer than
/// the usual pause between two scrapes.
const PATIENCE: Duration = Duration::from_secs(90);

/// A listener that has no more than so many connections open.
pub(super) struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
    discards: Arc<Discards>,
}

impl Bounded {
    pub(super) fn new(listener: TcpListener, discards: Arc<Discards>) -> Self {
        Self {
            listener,
            places: Arc::new(Semaphore::new(CLIENTS)),
            discards,
        }
    }
}

impl Listener for Bounded {
    type Io = Placed;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Placed, SocketAddr) {
        // The semaphore is never closed; without a place the connection would only be uncounted.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let placed = Placed {
            stream,
            patience: Box::pin(sleep(PATIENCE)),
            unserved: Unserved::default(),
            discards: Arc::clone(&self.discards),
            _place: place,
        };
        (placed, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Whether octets came on a connection since its last request that was served.
#[derive(Clone, Debug, Default)]
pub(super) struct Unserved(Arc<AtomicBool>);

impl Unserved {
    pub(super) fn clear(&self) {
        self.0.store(false, Relaxed);
    }
}

impl Connected<IncomingStream<'_, Bounded>> for Unserved {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        stream.io().unserved.clone()
    }
}

/// A connection with its place.
pub(super) struct Placed {
    stream: TcpStream,
    /// Ends with the connection, unless an answer moves it.
    patience: Pin<Box<Sleep>>,
    unserved: Unserved,
    discards: Arc<Discards>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Drop for Placed {
    fn drop(&mut self) {
        if self.unserved.0.load(Relaxed) {
            self.discards.count(Discard::MetricsRequest);
        }
    }
}

impl Placed {
    fn check_patience(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.patience.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_patience(context)?;
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.unserved.0.store(true, Relaxed);
        }
        read
    }
}

impl AsyncWrite for Placed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_patience(context)?;
        let written = Pin::new(&mut self.stream).poll_write(context, octets);
        if written.is_ready() {
            self.patience.as_mut().reset(Instant::now() + PATIENCE);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
