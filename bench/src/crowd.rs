//! Connections in a process of their own that runs only when nobody else on its core wants to: what they do must not be taken for
//! the server's doing.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use crate::measure::subscribed;
use crate::target::Target;

/// What the process says when all are subscribed.
const READY: &str = "ready";

/// The process; it ends with this value.
pub struct Crowd {
    child: Child,
    orders: ChildStdin,
}

impl Crowd {
    /// Subscribes so many connections to the target's channel, and waits until all are.
    ///
    /// # Errors
    /// When they are not, or there is no `chrt`.
    pub fn start(target: &Target, connections: usize) -> io::Result<Self> {
        let mut command = Command::new("chrt");
        command.args(["--idle", "0"]).arg(std::env::current_exe()?);
        command.args(target.arguments()).args(["crowd", "--connections", &connections.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("the crowd has no pipes"));
        };
        let mut crowd = Self { child, orders };
        let mut answer = String::new();
        BufReader::new(answers).read_line(&mut answer)?;
        if answer.trim_end() == READY {
            return Ok(crowd);
        }
        Err(io::Error::other(format!("the crowd did not come together: {}", crowd.child.wait()?)))
    }

    /// Resets all connections, without a close frame. Returns before they are.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn leave(&mut self) -> io::Result<()> {
        writeln!(self.orders, "leave")
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The other process: subscribes, reads, and leaves when it is told to.
///
/// # Errors
/// When connections fail.
pub fn serve(target: &Target, connections: usize) -> io::Result<()> {
    let mut swarm = subscribed(target, connections, &mut ())?;
    println!("{READY}");
    let orders = orders();
    loop {
        swarm.turn(Duration::from_millis(5), &mut ())?;
        match orders.try_recv() {
            Ok(()) => (0..connections).for_each(|peer| swarm.abort(peer)),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
    }
}

/// A value for each line of standard input; disconnected at its end.
fn orders() -> Receiver<()> {
    let (sender, receiver) = channel();
    thread::spawn(move || io::stdin().lines().map_while(Result::ok).try_for_each(|_| sender.send(())));
    receiver
}
