//! nginx and HAProxy in front of the gateway, with the snippets that the project gives to its users.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::{free_port, repository, wait_until};

/// A running proxy; ended when dropped.
pub struct Proxy {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    folder: TempDir,
}

impl Proxy {
    /// What nginx has written about requests.
    pub fn access_log(&self) -> String {
        fs::read_to_string(self.folder.path().join(ACCESS_LOG)).unwrap_or_default()
    }
}

const ACCESS_LOG: &str = "access.log";

/// nginx by `deploy/nginx/tidegate.conf`, with `idle` as its limit for silence.
///
/// # Panics
/// When the snippet lacks what is replaced, or nginx does not come up.
pub fn nginx(gateway: SocketAddr, idle: &str) -> Proxy {
    let snippet =
        snippet("nginx/tidegate.conf", &[("server 127.0.0.1:8000;", &format!("server {gateway};")), ("60s;", &format!("{idle};"))]);
    start(
        &snippet,
        "listen 80;",
        |address| format!("listen {address};"),
        |folder, snippet| {
            let path = folder.path().display().to_string();
            let log = "/var/log/nginx/access.log ";
            assert!(snippet.contains(log), "the snippet has no `{log}`");
            let snippet = snippet.replace(log, &format!("{path}/{ACCESS_LOG} "));
            let main = format!(
                "daemon off;\nerror_log {path}/error.log;\npid {path}/nginx.pid;\nevents {{ worker_connections 2048; }}\nhttp {{\n\
             client_body_temp_path {path}/b;\nproxy_temp_path {path}/p;\nfastcgi_temp_path {path}/f;\nuwsgi_temp_path {path}/u;\nscgi_temp_path {path}/s;\n{snippet}\n}}\n"
            );
            fs::write(folder.path().join("nginx.conf"), main).expect("nginx.conf");
            let mut command = Command::new("nginx");
            command.args(["-c", &format!("{path}/nginx.conf"), "-e", &format!("{path}/error.log")]);
            command
        },
    )
}

/// HAProxy by `deploy/haproxy/tidegate.cfg`, with `idle` as its limit for silence. It asks the gateway's internal listener whether it is
/// ready.
///
/// # Panics
/// When the snippet lacks what is replaced, or HAProxy does not come up.
pub fn haproxy(gateway: SocketAddr, internal: SocketAddr, idle: &str) -> Proxy {
    let snippet = snippet(
        "haproxy/tidegate.cfg",
        &[
            ("server node1 127.0.0.1:8000 ", &format!("server node1 {gateway} ")),
            ("check port 8001 ", &format!("check port {} ", internal.port())),
            ("timeout tunnel 60s", &format!("timeout tunnel {idle}")),
        ],
    );
    start(
        &snippet,
        "bind :80",
        |address| format!("bind {address}"),
        |folder, snippet| {
            let path = folder.path().join("haproxy.cfg");
            fs::write(&path, snippet).expect("haproxy.cfg");
            let mut command = Command::new("haproxy");
            command.args(["-db", "-f"]).arg(path);
            command
        },
    )
}

fn snippet(file: &str, replacements: &[(&str, &str)]) -> String {
    let path = repository().join("deploy").join(file);
    let mut text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    for (from, to) in replacements {
        assert!(text.contains(from), "{} has no `{from}`", path.display());
        text = text.replace(from, to);
    }
    text
}

fn start(snippet: &str, listen: &str, listening: impl Fn(SocketAddr) -> String, command: impl Fn(&TempDir, &str) -> Command) -> Proxy {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    assert!(snippet.contains(listen), "the snippet has no `{listen}`");
    let mut command = command(&folder, &snippet.replace(listen, &listening(address)));
    let log = fs::File::create(folder.path().join("log.txt")).expect("a log file");
    let child = command
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log file"))
        .stderr(log)
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let up = wait_until(Duration::from_secs(10), || TcpStream::connect(address).is_ok());
    assert!(up.is_some(), "{command:?}: {}", fs::read_to_string(folder.path().join("log.txt")).unwrap_or_default());
    Proxy { child, address, folder }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // SIGTERM first: nginx ends its workers itself.
        drop(Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status());
        if wait_until(Duration::from_secs(3), || matches!(self.child.try_wait(), Ok(Some(_)))).is_none() {
            drop(self.child.kill());
        }
        drop(self.child.wait());
    }
}
