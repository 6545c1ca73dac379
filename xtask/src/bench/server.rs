//! A server under measure: started on its core, waited for, and ended when dropped.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::peers::{Certificate, Peer, Place};

const START_WITHIN: Duration = Duration::from_secs(10);

/// A running server.
pub(super) struct Server {
    child: Child,
    peer: &'static Peer,
    public: u16,
    internal: u16,
    /// What it shows, if clients come over TLS.
    certificate: Option<Certificate>,
    folder: PathBuf,
}

impl Server {
    pub(super) fn start(root: &Path, peer: &'static Peer, installed: &Path, core: &str, over_tls: bool) -> Result<Self, String> {
        let (public, internal) = (free_port()?, free_port()?);
        let folder = root.join(format!("target/bench/run-{public}"));
        fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let certificate = over_tls.then(|| Certificate::find(root));
        let words = (peer.start)(Place { root, installed, folder: &folder, public, internal, certificate: certificate.as_ref() })?;
        let mut command = Command::new("taskset");
        command.args(["-c", core]).args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|e| format!("{command:?}: {e}"))?;
        let mut server = Self { child, peer, public, internal, certificate, folder };
        server.wait()?;
        Ok(server)
    }

    fn wait(&mut self) -> Result<(), String> {
        let started = Instant::now();
        while started.elapsed() < START_WITHIN {
            if TcpStream::connect(("127.0.0.1", self.public)).is_ok() {
                // What listens on a second port does so within the same moment.
                std::thread::sleep(Duration::from_millis(200));
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("did not start: {status}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err("did not listen within 10 s".to_owned())
    }

    /// The process whose CPU and memory count.
    pub(super) fn measured_pid(&self) -> Result<u32, String> {
        let pid = self.child.id();
        if !self.peer.is_child_measured {
            return Ok(pid);
        }
        let path = format!("/proc/{pid}/task/{pid}/children");
        let children = fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
        children.split_whitespace().next().and_then(|child| child.parse().ok()).ok_or(format!("{path} names no child"))
    }

    /// The process that ends the server when it is told to, if it is another: a worker that is killed is only replaced.
    pub(super) fn signalled_pid(&self) -> Option<u32> {
        self.peer.is_child_measured.then(|| self.child.id())
    }

    /// What the load client has to know.
    pub(super) fn load_arguments(&self) -> Vec<String> {
        let scheme = if self.certificate.is_some() { "wss://" } else { "ws://" };
        let ports = [(":WS/", format!(":{}/", self.public)), (":API/", format!(":{}/", self.internal)), ("ws://", scheme.to_owned())];
        let replace = |word: &&str| ports.iter().fold((*word).to_owned(), |word, (name, value)| word.replace(name, value));
        let certificate = self.certificate.iter().flat_map(|own| ["--certificate".to_owned(), own.chain.clone()]);
        self.peer.load_arguments().iter().map(replace).chain(certificate).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has children takes them with it if it may.
        drop(Command::new("kill").args(["-TERM", &self.child.id().to_string()]).stderr(Stdio::null()).status());
        let asked = Instant::now();
        let patience = if self.peer.is_child_measured { Duration::from_secs(3) } else { Duration::ZERO };
        while asked.elapsed() < patience && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(self.child.kill());
        drop(self.child.wait());
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| format!("no free port: {e}"))?;
    listener.local_addr().map(|address| address.port()).map_err(|e| format!("no free port: {e}"))
}
