//! The names of addresses, from the DNS answers that the gateway gave to this sandbox.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use sandbox_spec::domain::DomainName;

/// The shortest time for which an address belongs to a name, even if the TTL is shorter. Programs
/// can connect some time after they resolved the name.
pub const TTL_FLOOR: Duration = Duration::from_secs(60);
/// The longest time for which an address belongs to a name without a new query. Answers contain no
/// longer TTL, so that the guest asks again in time.
pub const TTL_CEILING: Duration = Duration::from_secs(3600);

/// The most pairs of an address and a name. A new pair replaces the oldest.
const MOST_PAIRS: usize = 16 * 1024;
/// The most names of one address. Each new flow checks all of them.
const MOST_NAMES: usize = 64;

/// The names of addresses, in bounded memory. An entry expires after at most [`TTL_CEILING`].
#[derive(Debug, Default)]
pub struct Names {
    by_address: HashMap<IpAddr, Vec<Learned>>,
    /// All pairs, the oldest first.
    order: VecDeque<(IpAddr, DomainName)>,
}

#[derive(Debug)]
struct Learned {
    name: DomainName,
    until: Instant,
}

impl Names {
    /// Records that `name` has `address` for `ttl`, which is clamped to [`TTL_FLOOR`] and
    /// [`TTL_CEILING`].
    pub fn learn(&mut self, name: &DomainName, address: IpAddr, ttl: Duration) {
        let until = Instant::now() + ttl.clamp(TTL_FLOOR, TTL_CEILING);
        let names = self.by_address.entry(address).or_default();
        // The newest is last.
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

    /// Returns the current names of the address, the newest first.
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

    /// Returns whether `address` currently belongs to `name`.
    pub fn contains(&self, name: &DomainName, address: IpAddr) -> bool {
        self.of(address).any(|known| known == name)
    }

    /// Returns the number of pairs, including expired ones.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Returns whether it contains no pair.
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
    async fn ttl_is_clamped_to_floor_and_ceiling() {
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
    async fn second_answer_never_shortens_lifetime() {
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
    async fn number_of_pairs_is_bounded() {
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
