//! The line to whoever started this process, where that is to be survived by nothing: a pipe at standard
//! input that nobody writes to, and that the kernel closes when the other side is gone, also after a
//! SIGKILL. Must not know what is ended by it.

use std::io;
use std::os::fd::AsFd;

use tokio::net::unix::pipe::Receiver;

/// The line.
#[derive(Debug)]
pub struct Tether(Receiver);

impl Tether {
    /// The one at standard input.
    pub fn of_stdin() -> io::Result<Self> {
        let end = io::stdin().as_fd().try_clone_to_owned()?;
        Receiver::from_owned_fd(end).map(Self)
    }

    /// Waits until nobody holds the other end; without a tether for ever.
    pub async fn cut(tether: Option<Self>) {
        let Some(Self(end)) = tether else { return std::future::pending().await };
        let mut nothing = [0; 16];
        while end.readable().await.is_ok() {
            match end.try_read(&mut nothing) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}
