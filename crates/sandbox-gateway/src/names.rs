//! Which addresses this sandbox got from the gateway's DNS for which name, and until when.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use sandbox_spec::domain::DomainName;

/// An address counts as the name's at least so long, whatever the answer's TTL says: programs
/// resolve, do something else, and connect.
pub const TTL_FLOOR: Duration = Duration::from_secs(60);
/// And at most so long, unless it is asked for again. Longer TTLs are shortened in answers, so
/// that the guest asks again in time.
pub const TTL_CEILING: Duration = Duration::from_secs(3600);

/// The most pairs of address and name that are remembered; the oldest make room.
const MOST_PAIRS: usize = 16 * 1024;
/// The most names of one address: each new flow looks at all of them.
const MOST_NAMES: usize = 64;

/// The memory of what DNS answered. Bounded; nothing in it is ever older than [`TTL_CEILING`] for
/// those who ask.
#[derive(Debug, Default)]
pub struct Names {
    by_address: HashMap<IpAddr, Vec<Learned>>,
    /// Every pair once, in the order in which they came.
    order: VecDeque<(IpAddr, DomainName)>,
}

#[derive(Debug)]
struct Learned {
    name: DomainName,
    until: Instant,
}

impl Names {
    /// Remembers that `name` has `address` for the next `ttl`, within floor and ceiling.
    pub fn learn(&mut self, name: &DomainName, address: IpAddr, ttl: Duration) {
        let until = Instant::now() + ttl.clamp(TTL_FLOOR, TTL_CEILING);
        let names = self.by_address.entry(address).or_default();
        // The newest stands last.
        if let Some(index) = names.iter().position(|learned| learned.name == *name) {
            let mut learned = names.remove(index);
            learned.until = learned.until.max(until);
            names.push(learned);
            return;
        }
        names.push(Learned {
            name: name.clone(),
            until,
        });
        self.order.push_back((address, name.clone()));
        if names.len() > MOST_NAMES {
            let oldest = names.remove(0).name;
            self.order
                .retain(|(other, name)| *other != address || *name != oldest);
        }
        if self.order.len() > MOST_PAIRS
            && let Some((address, name)) = self.order.pop_front()
        {
            self.forget(address, &name);
        }
    }

    fn forget(&mut self, address: IpAddr, name: &DomainName) {
        if let Some(names) = self.by_address.get_mut(&address) {
            names.retain(|learned| learned.name != *name);
            if names.is_empty() {
                self.by_address.remove(&address);
            }
        }
    }

    /// The names that the address stands for now, the newest first.
    pub fn of(&self, address: IpAddr) -> impl Iterator<Item = &DomainName> {
        let now = Instant::now();
        self.by_address
            .get(&address)
            .into_iter()
            .flatten()
            .rev()
            .filter(move |learned| learned.until > now)
            .map(|learned| &learned.name)
    }

    /// Whether `address` was given for `name` and is still valid.
    pub fn contains(&self, name: &DomainName, address: IpAddr) -> bool {
        self.of(address).any(|known| known == name)
    }

    /// How many pairs are remembered, expired ones included.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn name(text: &str) -> DomainName {
        text.parse().unwrap()
    }

    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    #[tokio::test(start_paused = true)]
    async fn the_time_to_live_has_a_floor_and_a_ceiling() {
        for (ttl, lives) in [(0, 60), (59, 60), (300, 300), (86_400, 3600)] {
            let mut names = Names::default();
            names.learn(&name("a.example"), ADDRESS, Duration::from_secs(ttl));
            tokio::time::advance(Duration::from_secs(lives - 1)).await;
            assert!(names.contains(&name("a.example"), ADDRESS), "{ttl}");
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(!names.contains(&name("a.example"), ADDRESS), "{ttl}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_answer_prolongs_and_never_shortens() {
        let mut names = Names::default();
        names.learn(&name("a.example"), ADDRESS, Duration::from_secs(600));
        names.learn(&name("b.example"), ADDRESS, Duration::from_secs(600));
        names.learn(&name("a.example"), ADDRESS, Duration::from_secs(60));
        assert_eq!(names.len(), 2);
        let known: Vec<_> = names.of(ADDRESS).map(DomainName::as_str).collect();
        assert_eq!(known, ["a.example", "b.example"]);
        tokio::time::advance(Duration::from_secs(599)).await;
        assert!(names.contains(&name("a.example"), ADDRESS));
        assert!(!names.contains(&name("c.example"), ADDRESS));
        assert!(!names.contains(&name("a.example"), Ipv4Addr::new(192, 0, 2, 2).into()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_that_asks_for_everything_fills_no_memory() {
        let mut names = Names::default();
        for number in 0..20_000_u32 {
            let address = IpAddr::V4(Ipv4Addr::from(0x0100_0000 + number));
            names.learn(&name("a.example"), address, TTL_FLOOR);
        }
        assert_eq!(names.len(), MOST_PAIRS);
        assert_eq!(names.by_address.len(), MOST_PAIRS);
        assert!(!names.contains(&name("a.example"), Ipv4Addr::new(1, 0, 0, 0).into()));
        for number in 0..1000 {
            names.learn(&name(&format!("h{number}.example")), ADDRESS, TTL_FLOOR);
        }
        assert_eq!(names.of(ADDRESS).count(), MOST_NAMES);
        assert!(names.contains(&name("h999.example"), ADDRESS));
        assert!(names.len() <= MOST_PAIRS);
    }
}
