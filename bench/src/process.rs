//! What a process and its connections cost, read from `/proc`.

use std::fs;
use std::io;
use std::net::SocketAddr;

/// Linux counts CPU time for user space in hundredths of a second on every architecture (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// A running process that is measured from outside.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    pid: u32,
}

impl Process {
    /// The process with this id.
    pub const fn new(pid: u32) -> Self {
        Self { pid }
    }

    /// Its id.
    pub const fn pid(self) -> u32 {
        self.pid
    }

    /// User and system time of all its threads, those that ended included, in seconds.
    ///
    /// # Errors
    /// When it is gone.
    pub fn cpu_seconds(self) -> io::Result<f64> {
        let (user, system) = self.user_and_system_seconds()?;
        Ok(user + system)
    }

    /// The two apart: what its own code took, and what the kernel took for it.
    ///
    /// # Errors
    /// When it is gone.
    pub fn user_and_system_seconds(self) -> io::Result<(f64, f64)> {
        let stat = self.stat()?;
        let mut seconds = stat.split_whitespace().skip(11).map(|word| word.parse::<f64>().unwrap_or(0.0) / TICKS_PER_SECOND);
        Ok((seconds.next().unwrap_or(0.0), seconds.next().unwrap_or(0.0)))
    }

    /// Resident memory in KiB.
    ///
    /// # Errors
    /// When it is gone.
    pub fn rss_kib(self) -> io::Result<u64> {
        self.status("VmRSS:")
    }

    /// The highest resident memory so far, in KiB.
    ///
    /// # Errors
    /// When it is gone.
    pub fn peak_rss_kib(self) -> io::Result<u64> {
        self.status("VmHWM:")
    }

    /// Its open files.
    ///
    /// # Errors
    /// When it is gone.
    pub fn open_files(self) -> io::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid))?.count())
    }

    /// Whether it is still running; one that ended and was not waited for is not.
    pub fn is_running(self) -> bool {
        self.stat().is_ok_and(|stat| !stat.starts_with(['Z', 'X']))
    }

    /// The fields of `/proc/PID/stat` from the third on: the second may hold spaces.
    fn stat(self) -> io::Result<String> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        Ok(text.rsplit_once(") ").map(|(_, rest)| rest.to_owned()).unwrap_or_default())
    }

    fn status(self, field: &str) -> io::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .ok_or_else(|| io::Error::other(format!("no {field} of {}", self.pid)))
    }
}

/// What the kernel holds for TCP on this machine, in KiB: the buffers of all sockets, both ends of each connection on loopback. Each core
/// accounts for its part in steps of up to a MiB.
///
/// # Errors
/// When `/proc/net/sockstat` can't be read.
pub fn tcp_memory_kib() -> io::Result<u64> {
    /// Linux' page on x86-64, and on arm64 as distributions build it.
    const PAGE_KIB: u64 = 4;
    pages_of_tcp(&fs::read_to_string("/proc/net/sockstat")?)
        .map(|pages| pages * PAGE_KIB)
        .ok_or_else(|| io::Error::other("/proc/net/sockstat says nothing about TCP's memory"))
}

fn pages_of_tcp(table: &str) -> Option<u64> {
    let mut words = table.lines().find_map(|line| line.strip_prefix("TCP:"))?.split_whitespace();
    words.find(|word| *word == "mem")?;
    words.next()?.parse().ok()
}

/// Bytes that one TCP connection holds in the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelBytes {
    /// Written by the server and not yet acknowledged by the peer.
    pub server_send: u64,
    /// Received for the client and not yet read by it.
    pub client_receive: u64,
}

/// What the kernel holds for the IPv4 connection between `client` and `server`, both on this machine.
///
/// # Errors
/// When `/proc/net/tcp` can't be read.
pub fn kernel_bytes(client: SocketAddr, server: SocketAddr) -> io::Result<KernelBytes> {
    Ok(queues(&fs::read_to_string("/proc/net/tcp")?, client, server))
}

fn queues(table: &str, client: SocketAddr, server: SocketAddr) -> KernelBytes {
    let (client, server) = (as_in_table(client), as_in_table(server));
    let mut found = KernelBytes::default();
    for line in table.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, local, remote, _, queues, ..] = words[..] else { continue };
        let (send, receive) = queues.split_once(':').unwrap_or_default();
        let number = |text| u64::from_str_radix(text, 16).unwrap_or(0);
        if local == server && remote == client {
            found.server_send = number(send);
        } else if local == client && remote == server {
            found.client_receive = number(receive);
        }
    }
    found
}

/// `127.0.0.1:8080` is `0100007F:1F90`.
fn as_in_table(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) => format!("{:08X}:{:04X}", u32::from_le_bytes(v4.ip().octets()), v4.port()),
        SocketAddr::V6(v6) => v6.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_can_be_read() {
        let process = Process::new(std::process::id());
        assert!(process.rss_kib().unwrap() > 100);
        assert!(process.peak_rss_kib().unwrap() >= process.rss_kib().unwrap() / 2);
        assert!(process.cpu_seconds().unwrap() < 3600.0);
        assert!(process.open_files().unwrap() >= 3);
        assert!(process.is_running());
        assert!(!Process::new(u32::MAX).is_running());
    }

    #[test]
    fn the_memory_of_tcp_is_the_one_of_its_line() {
        let table = "sockets: used 9\nTCP: inuse 3 orphan 0 tw 0 alloc 4 mem 17\nUDP: inuse 0 mem 5\n";
        assert_eq!((pages_of_tcp(table), pages_of_tcp("UDP: mem 5\n")), (Some(17), None));
        assert!(tcp_memory_kib().is_ok());
    }

    #[test]
    fn queues_are_found_on_their_sides() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr\n\
             0: 0100007F:1F90 0201007F:C001 01 0000ABCD:00000000 00:00000000\n\
             1: 0201007F:C001 0100007F:1F90 01 00000000:00000010 00:00000000\n\
             2: 0100007F:1F90 0100007F:C001 01 00000001:00000002 00:00000000\n";
        let found = queues(table, "127.0.1.2:49153".parse().unwrap(), "127.0.0.1:8080".parse().unwrap());
        assert_eq!(found, KernelBytes { server_send: 0xabcd, client_receive: 0x10 });
    }
}
