//! Leaving everything running for a person to look at.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    time::Duration,
};

use crate::{
    daemon::{Daemon, METRICS},
    lab::{Lab, LabError, Namespace, Result, wait_until},
};

/// Makes the metrics reachable from outside of the namespace, says where they are, and stays until
/// Ctrl-C takes the process down or the daemon ends.
pub(super) fn until_interrupted(lab: &Lab, daemon: &mut Daemon) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, METRICS.port()))
        .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .map_err(LabError::new)?;
    let address = listener.local_addr().map_err(LabError::new)?;
    println!("demo: metrics: http://{address}/metrics");
    println!("demo: admin socket: {}", daemon.socket().display());
    println!("demo: running until Ctrl-C");
    let _ = io::stdout().flush();
    listener.set_nonblocking(true).map_err(LabError::new)?;
    while daemon.is_running() {
        let mut visitor = None;
        wait_until(Duration::from_secs(1), || {
            visitor = listener.accept().ok();
            visitor.is_some()
        });
        if let Some((stream, _)) = visitor {
            // A visitor who leaves early is no concern of ours.
            let _ = forward(lab.sbc(), stream);
        }
    }
    Err(LabError::new("trunkline has ended"))
}

/// Passes one request in and its answer out; one at a time is enough for a person or a scraper.
fn forward(namespace: &Namespace, mut outside: TcpStream) -> Result<()> {
    outside.set_nonblocking(false).map_err(LabError::new)?;
    let connected = namespace.enter(|| TcpStream::connect(METRICS))?;
    let mut inside = connected.map_err(LabError::new)?;
    let mut octets = [0; 16_384];
    outside
        .set_read_timeout(Some(Duration::from_secs(5)))
        .map_err(LabError::new)?;
    inside
        .set_read_timeout(Some(Duration::from_secs(1)))
        .map_err(LabError::new)?;
    loop {
        let read = outside.read(&mut octets).map_err(LabError::new)?;
        if read == 0 {
            return Ok(());
        }
        inside.write_all(&octets[..read]).map_err(LabError::new)?;
        // The answer ends when the server closes or has nothing more to say.
        while let Ok(read) = inside.read(&mut octets) {
            if read == 0 {
                return Ok(());
            }
            outside.write_all(&octets[..read]).map_err(LabError::new)?;
        }
    }
}
