//! What this machine can do at all: a bare loop that writes ready frames to sockets, without any server around it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use crate::process::Process;
use crate::report::Report;

/// What is written.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    /// To so many sockets in turn.
    pub sockets: usize,
    /// So many frames at once.
    pub per_write: usize,
    /// Of so many bytes each; a message of 128 bytes has 132 with its header.
    pub frame_bytes: usize,
    /// The next round over all sockets begins once the reader has all of the last one, as with one message on its way.
    pub in_rounds: bool,
    /// The reader sleeps while nothing comes, so that a write has to wake it.
    pub sleeps: bool,
    /// For so long.
    pub time: Duration,
}

/// Writes frames to sockets. The reader is a process of its own, on `reader_core`.
///
/// # Errors
/// When the system lacks something.
pub fn run(floor: Floor, reader_core: Option<usize>) -> io::Result<Report> {
    let Floor { sockets, per_write, frame_bytes, in_rounds, sleeps, time } = floor;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let frames = vec![b'x'; frame_bytes * per_write];
    let round_bytes = if in_rounds { frames.len() * sockets } else { 0 };
    let reading = Reading { address: listener.local_addr()?, sockets, round_bytes, sleeps };
    let mut reader = start_reader(reading, reader_core)?;
    let mut streams = Vec::with_capacity(sockets);
    for _ in 0..sockets {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        stream.write_all(b"!")?;
        stream.set_nonblocking(true)?;
        streams.push(stream);
    }
    let rounds = reader.stdout.take().filter(|_| in_rounds);
    let written = write_all(&mut streams, &frames, rounds, time);
    drop(streams);
    reader.wait()?;
    let (writes, full, cpu) = written?;
    let how = [(in_rounds, " in rounds"), (sleeps, " asleep")].map(|(does, words)| if does { words } else { "" }).concat();
    Ok(Report::new(format!("floor {sockets} x{per_write} of {frame_bytes} B{how}"))
        .number("writes_per_cpu_second", writes as f64 / cpu)
        .number("messages_per_cpu_second", (writes * per_write as u64) as f64 / cpu)
        .number("full_sockets", full as f64))
}

/// The loop that is measured: `(writes, full sockets met, CPU seconds)`.
fn write_all(streams: &mut [TcpStream], frames: &[u8], mut rounds: Option<ChildStdout>, time: Duration) -> io::Result<(u64, u64, f64)> {
    let process = Process::new(std::process::id());
    let (mut writes, mut full) = (0_u64, 0_u64);
    let (cpu, started) = (process.cpu_seconds()?, Instant::now());
    while started.elapsed() < time {
        for stream in &mut *streams {
            match stream.write(frames) {
                Ok(length) if length == frames.len() => writes += 1,
                // A socket that takes a part is as full as one that takes nothing; what it took is the floor's loss.
                Ok(_) => full += 1,
                Err(e) if e.kind() == ErrorKind::WouldBlock => full += 1,
                Err(e) => return Err(e),
            }
        }
        if let Some(rounds) = &mut rounds {
            if full > 0 {
                return Err(io::Error::other("a socket was full, so that the reader would wait for this round for ever"));
            }
            rounds.read_exact(&mut [0])?;
        }
    }
    Ok((writes, full, process.cpu_seconds()? - cpu))
}

fn start_reader(reading: Reading, core: Option<usize>) -> io::Result<Child> {
    let own = std::env::current_exe()?;
    let mut command = match core {
        Some(core) => {
            let mut taskset = Command::new("taskset");
            taskset.args(["-c", &core.to_string()]).arg(own);
            taskset
        }
        None => Command::new(own),
    };
    let Reading { address, sockets, round_bytes, sleeps } = reading;
    command.args(["floor-reader", "--address", &address.to_string(), "--sockets", &sockets.to_string()]);
    command.args(["--round-bytes", &round_bytes.to_string()]).args(sleeps.then_some("--sleeps"));
    command.stdout(Stdio::piped()).spawn()
}

/// What the other process does.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Where it connects.
    pub address: SocketAddr,
    /// So many times.
    pub sockets: usize,
    /// After every so many bytes, if that is not zero, it writes a byte to its standard output.
    pub round_bytes: usize,
    /// It sleeps while nothing comes.
    pub sleeps: bool,
}

/// The other process: opens its connections and reads until all are ended.
///
/// # Errors
/// When the system lacks something.
pub fn read_all(reading: Reading) -> io::Result<()> {
    let Reading { address, sockets, round_bytes, sleeps } = reading;
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(4096);
    let mut scratch = vec![0; 256 * 1024];
    let mut streams = Vec::with_capacity(sockets);
    for number in 0..sockets {
        // One after the other, each once it is accepted: a full backlog would lose some without a word.
        let mut accepted = TcpStream::connect(address)?;
        accepted.read_exact(&mut [0])?;
        accepted.set_nonblocking(true)?;
        let mut stream = mio::net::TcpStream::from_std(accepted);
        poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
        streams.push(Some(stream));
    }
    let (mut open, mut read) = (sockets, 0);
    while open > 0 {
        poll.poll(&mut events, (!sleeps).then_some(Duration::ZERO))?;
        for event in &events {
            let slot = &mut streams[event.token().0];
            if slot.as_mut().is_some_and(|stream| is_over(stream, &mut scratch, event.is_read_closed(), &mut read)) {
                *slot = None;
                open -= 1;
            }
        }
        if round_bytes > 0 && read >= round_bytes {
            read -= round_bytes;
            io::stdout().write_all(b"!")?;
            io::stdout().flush()?;
        }
    }
    Ok(())
}

/// Reads what is there and counts it; whether that was the last. A short read means that no more bytes are there, but an end may be.
fn is_over(stream: &mut mio::net::TcpStream, scratch: &mut [u8], ends: bool, read: &mut usize) -> bool {
    loop {
        let outcome = stream.read(scratch);
        *read += outcome.as_ref().map_or(0, |length| *length);
        match outcome {
            Ok(0) => return true,
            Ok(length) if length < scratch.len() && !ends => return false,
            Ok(_) => {}
            Err(e) => return e.kind() != ErrorKind::WouldBlock,
        }
    }
}
