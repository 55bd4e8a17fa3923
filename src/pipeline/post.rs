//! Datagrams that came to another reader than their exporter's.
//!
//! The kernel gives each datagram to the reader of its exporter ([`crate::input::steer`]). What a
//! socket held before it was told so, over a restart with another number of readers, goes on
//! from here: an exporter's templates are with its reader only.

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::input::steer::reader_of;
use crate::net::Addr;
use crate::time::Micros;

/// A datagram on its way to its reader.
#[derive(Debug)]
pub struct Parcel {
    /// Who sent it: address and port.
    pub source: (Addr, u16),
    /// When the kernel received it.
    pub arrived: Micros,
    /// What it holds.
    pub payload: Vec<u8>,
}

/// The post of one reader.
#[derive(Debug)]
pub struct Post {
    reader: usize,
    readers: usize,
    /// To each reader; empty once this one sends no more.
    out: Vec<Sender<Parcel>>,
    inbox: Receiver<Parcel>,
}

/// The post of each of `readers`.
#[must_use]
pub fn offices(readers: usize) -> Vec<Post> {
    // Without a bound, so that no two readers wait for each other: it carries little, and seldom.
    let (out, inboxes): (Vec<_>, Vec<_>) = (0..readers).map(|_| unbounded()).unzip();
    let post = |(reader, inbox)| Post { reader, readers, out: out.clone(), inbox };
    inboxes.into_iter().enumerate().map(post).collect()
}

impl Post {
    /// Sends a datagram to the reader of its exporter; false if that is this one, or has ended.
    pub fn send(&self, source: (Addr, u16), arrived: Micros, payload: &[u8]) -> bool {
        let reader = reader_of(source.0, self.readers);
        reader != self.reader
            && self.out.get(reader).is_some_and(|out| {
                out.send(Parcel { source, arrived, payload: payload.to_vec() }).is_ok()
            })
    }

    /// The next datagram that another reader sent here, if there is one.
    #[must_use]
    pub fn take(&self) -> Option<Parcel> {
        self.inbox.try_recv().ok()
    }

    /// Sends no more, and gives what others still send until they all say so, too.
    pub fn close(&mut self) -> impl Iterator<Item = Parcel> {
        self.out.clear();
        self.inbox.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_datagram_comes_to_the_reader_of_its_exporter_also_at_the_end() {
        const READERS: usize = 3;
        let threads = offices(READERS).into_iter().map(|mut post| {
            std::thread::spawn(move || {
                let mut kept = Vec::new();
                for host in 0..300_u32 {
                    let source = (Addr::v4(host), post.reader as u16);
                    if !post.send(source, Micros(0), b"datagram") {
                        kept.push(source);
                    }
                    kept.extend(post.take().map(|parcel| parcel.source));
                }
                let reader = post.reader;
                kept.extend(post.close().map(|parcel| parcel.source));
                let mine = |&(address, _): &(Addr, u16)| reader_of(address, READERS) == reader;
                assert!(kept.iter().all(mine), "{kept:?}");
                kept.len()
            })
        });
        let threads: Vec<_> = threads.collect();
        let kept = threads.into_iter().map(|thread| thread.join().expect("no panic"));
        assert_eq!(kept.sum::<usize>(), 300 * READERS);
    }

    #[test]
    fn what_a_reader_that_ended_should_have_stays() {
        let mut offices = offices(2);
        offices.truncate(1);
        let host = (0..).map(Addr::v4).find(|&host| reader_of(host, 2) == 1).expect("endless");
        assert!(!offices[0].send((host, 1), Micros(0), b"datagram"));
    }
}
