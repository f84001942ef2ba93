//! The table of the guest's TCP connections. Each connection is a byte stream to its user.

mod connection;
mod stream;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::rc::Rc;

use smoltcp::time::{Duration, Instant};
use smoltcp::wire::TcpPacket;
use tokio::time;

pub(super) use self::connection::Ends;
use self::connection::{Connection, Needs};
pub(super) use self::stream::GuestStream;
use super::link::Link;
use super::packet::{self, Packet};

/// The shortest time until a connection's timer fires.
const SHORTEST_TIMER: Duration = Duration::from_millis(1);

/// The state of a pair of ends.
enum Entry {
    /// The guest sent a SYN, and the gateway has not answered it yet.
    Offered,
    Open(Rc<RefCell<Open>>),
}

/// A connection, and its place in the table's queues.
struct Open {
    connection: Connection,
    timer: Option<Instant>,
    waits_for_room: bool,
    heard: bool,
    /// Whether the host opened the connection.
    is_hosts: bool,
}

/// The outcome of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The table handled the segment.
    Taken,
    /// The guest opens a connection between these ends. The caller accepts, offers or refuses it.
    New(Ends),
}

/// All connections of the guest.
pub(super) struct Table {
    link: Rc<Link>,
    entries: RefCell<HashMap<Ends, Entry>>,
    timers: RefCell<BTreeSet<(Instant, Ends)>>,
    /// Connections that wait for room to send, oldest first.
    waiting: RefCell<VecDeque<Ends>>,
    /// Connections that received a segment since they last sent.
    heard: RefCell<Vec<Ends>>,
    /// The number of entries that the host opened.
    hosts: Cell<usize>,
    limit: usize,
}

impl Table {
    /// Creates a table for at most `limit` connections that the guest opens, and as many that the
    /// host opens.
    pub(super) fn new(link: Rc<Link>, limit: usize) -> Self {
        Self {
            link,
            entries: RefCell::default(),
            timers: RefCell::default(),
            waiting: RefCell::default(),
            heard: RefCell::default(),
            hosts: Cell::default(),
            limit,
        }
    }

    /// Returns whether the guest has opened as many connections as it may.
    pub(super) fn is_full(&self) -> bool {
        self.entries.borrow().len().saturating_sub(self.hosts.get()) >= self.limit
    }

    /// Returns whether the host has opened as many connections as it may. The host has a limit of
    /// its own, so that the guest cannot lock it out.
    pub(super) fn is_full_for_the_host(&self) -> bool {
        self.hosts.get() >= self.limit
    }

    /// Handles a segment from the guest.
    pub(super) fn segment(&self, packet: &Packet<'_>, segment: &TcpPacket<&[u8]>) -> Arrival {
        let ends = Ends {
            guest: (packet.source, segment.src_port()).into(),
            remote: (packet.destination, segment.dst_port()).into(),
        };
        let open = match self.entries.borrow().get(&ends) {
            Some(Entry::Open(open)) => Some(open.clone()),
            // The guest retransmits its SYN, since it has got no answer.
            Some(Entry::Offered) => return Arrival::Taken,
            None => None,
        };
        let Some(open) = open else {
            if segment.syn() && !segment.ack() && !segment.rst() && !segment.fin() {
                return Arrival::New(ends);
            }
            self.link
                .write(|outgoing| packet::reset(outgoing, packet, segment));
            return Arrival::Taken;
        };
        let mut open = open.borrow_mut();
        let now = self.link.now();
        self.link
            .write(|outgoing| open.connection.receive(now, packet.whole, outgoing));
        if !open.heard {
            open.heard = true;
            self.heard.borrow_mut().push(ends);
        }
        Arrival::Taken
    }

    /// Marks a connection as offered: the gateway decides later how to answer its SYN.
    pub(super) fn offer(&self, ends: Ends) {
        self.entries.borrow_mut().insert(ends, Entry::Offered);
    }

    /// Removes an offered connection that the gateway does not accept.
    pub(super) fn withdraw(&self, ends: Ends) {
        self.entries.borrow_mut().remove(&ends);
    }

    /// Accepts a connection with the guest's SYN, a whole IP packet.
    pub(super) fn accept(self: &Rc<Self>, ends: Ends, syn: &[u8]) -> GuestStream {
        let now = self.link.now();
        let mut connection = Connection::accepting(ends, self.link.next_seed(), now);
        self.link
            .write(|outgoing| connection.receive(now, syn, outgoing));
        self.insert(ends, connection, false)
    }

    /// Opens a connection to the guest. [`GuestStream::established`] waits for its handshake.
    pub(super) fn open(self: &Rc<Self>, ends: Ends) -> GuestStream {
        let connection = Connection::opening(ends, self.link.next_seed(), self.link.now());
        self.hosts.set(self.hosts.get() + 1);
        self.insert(ends, connection, true)
    }

    /// Returns whether these ends are in use.
    pub(super) fn has(&self, ends: Ends) -> bool {
        self.entries.borrow().contains_key(&ends)
    }

    fn insert(self: &Rc<Self>, ends: Ends, connection: Connection, is_hosts: bool) -> GuestStream {
        let open = Rc::new(RefCell::new(Open {
            connection,
            timer: None,
            waits_for_room: false,
            heard: false,
            is_hosts,
        }));
        let entry = Entry::Open(open.clone());
        self.entries.borrow_mut().insert(ends, entry);
        self.speak(ends, &open);
        GuestStream::new(self.clone(), ends, open)
    }

    /// Lets all connections send that have received a segment.
    pub(super) fn speak_all_that_heard(&self) {
        let heard = std::mem::take(&mut *self.heard.borrow_mut());
        for ends in heard {
            self.speak_by_name(ends);
        }
    }

    /// Lets the connections send that waited for room, as long as there is room.
    pub(super) fn speak_all_that_waited(&self) {
        let waiting = self.waiting.borrow().len();
        for _ in 0..waiting {
            if !self.link.write(|outgoing| outgoing.has_room()) {
                return;
            }
            let Some(ends) = self.waiting.borrow_mut().pop_front() else {
                return;
            };
            if let Some(Entry::Open(open)) = self.entries.borrow().get(&ends) {
                open.borrow_mut().waits_for_room = false;
            }
            self.speak_by_name(ends);
        }
    }

    /// Lets all connections send whose timer is due.
    pub(super) fn speak_all_that_are_due(&self) {
        let now = self.link.now();
        loop {
            let ends = match self.timers.borrow_mut() {
                mut timers if timers.first().is_some_and(|(at, _)| *at <= now) => {
                    timers.pop_first().map(|(_, ends)| ends)
                }
                _ => None,
            };
            let Some(ends) = ends else { return };
            if let Some(Entry::Open(open)) = self.entries.borrow().get(&ends) {
                open.borrow_mut().timer = None;
            }
            self.speak_by_name(ends);
        }
    }

    /// Returns the time of the earliest timer.
    pub(super) fn next_timer(&self) -> Option<time::Instant> {
        let first = self.timers.borrow().first().map(|(at, _)| *at);
        first.map(|at| self.link.moment(at))
    }

    fn speak_by_name(&self, ends: Ends) {
        let open = match self.entries.borrow().get(&ends) {
            Some(Entry::Open(open)) => open.clone(),
            _ => return,
        };
        self.speak(ends, &open);
    }

    /// Removes an ended connection, but not a new one that already has its ends.
    fn forget(&self, ends: Ends, over: &RefCell<Open>) {
        let mut entries = self.entries.borrow_mut();
        let is_same = match entries.get(&ends) {
            Some(Entry::Open(open)) => std::ptr::eq(Rc::as_ptr(open), over),
            _ => false,
        };
        if is_same {
            entries.remove(&ends);
        }
    }

    /// Lets one connection send its segments, and queues it for its next need.
    fn speak(&self, ends: Ends, cell: &RefCell<Open>) {
        let mut open = cell.borrow_mut();
        open.heard = false;
        let now = self.link.now();
        let Needs { room, timer, over } = self
            .link
            .write(|outgoing| open.connection.send(now, outgoing));
        let timer = timer.map(|at| at.max(now + SHORTEST_TIMER));
        let timer = if over { None } else { timer };
        if timer != open.timer {
            let mut timers = self.timers.borrow_mut();
            if let Some(old) = open.timer {
                timers.remove(&(old, ends));
            }
            if let Some(new) = timer {
                timers.insert((new, ends));
            }
            open.timer = timer;
        }
        if room && !open.waits_for_room {
            open.waits_for_room = true;
            self.waiting.borrow_mut().push_back(ends);
        }
        if over {
            if open.is_hosts {
                open.is_hosts = false;
                self.hosts.set(self.hosts.get() - 1);
            }
            self.forget(ends, cell);
        }
    }
}
