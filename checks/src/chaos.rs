//! A TCP proxy that is unkind: it delays, drips single bytes, or stops passing anything on for a while.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How it treats what passes, both ways.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unkindness {
    /// Every piece waits so long.
    pub delay: Duration,
    /// And up to so much longer, differently each time: pieces clump.
    pub jitter: Duration,
    /// One byte at a time.
    pub drip: bool,
}

/// A running proxy; it accepts until it is dropped.
pub struct Chaos {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stalled_until: Mutex<Option<Instant>>,
    ended: AtomicBool,
    seed: AtomicU64,
}

impl Chaos {
    /// A proxy to `target`.
    ///
    /// # Panics
    /// When it can't listen.
    pub fn start(target: SocketAddr, unkindness: Unkindness) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), false) = (client, of_thread.ended.load(Ordering::Relaxed)) else { return };
                pass_on(client, target, unkindness, &of_thread);
            }
        });
        Self { address, shared }
    }

    /// Passes nothing on for so long from now on: bytes and windows stand still, connections stay. It ends by itself, however late
    /// the test comes to its turn.
    pub fn stall_for(&self, duration: Duration) {
        *self.shared.stalled_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + duration);
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address)); // wakes the accept
    }
}

fn pass_on(client: TcpStream, target: SocketAddr, unkindness: Unkindness, shared: &Arc<Shared>) {
    let Ok(server) = TcpStream::connect(target) else { return };
    for (from, to) in [(&client, &server), (&server, &client)] {
        let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
        let shared = Arc::clone(shared);
        drop(to.set_nodelay(true));
        thread::spawn(move || pump(from, to, unkindness, &shared));
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, unkindness: Unkindness, shared: &Shared) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        thread::sleep(unkindness.delay + unkindness.jitter.mul_f64(shared.fraction()));
        let step = if unkindness.drip { 1 } else { length };
        for piece in bytes[..length].chunks(step) {
            while shared.is_stalled() {
                thread::sleep(Duration::from_millis(10));
            }
            if to.write_all(piece).is_err() {
                drop(from.shutdown(Shutdown::Both));
                return;
            }
        }
    }
    drop(to.shutdown(Shutdown::Write));
}

impl Shared {
    fn is_stalled(&self) -> bool {
        self.stalled_until.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| Instant::now() < until)
    }

    /// A number from 0 to 1, from a plain generator: the same run after run.
    fn fraction(&self) -> f64 {
        let seed = self.seed.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        f64::from((mixed >> 32) as u32) / f64::from(u32::MAX)
    }
}
