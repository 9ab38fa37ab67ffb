//! How many connections there may be, in all and from one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts connections.
#[derive(Debug)]
pub(crate) struct Places {
    max: usize,
    per_address_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection's place, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    pub(crate) fn new(max: usize, per_address_max: usize) -> Arc<Self> {
        Arc::new(Self { max, per_address_max, taken: Mutex::default() })
    }

    /// A place for a connection from this address, if there is one. This machine itself may have all there are: what
    /// forwards for others is often on it.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = network(address);
        let max = if address.is_loopback() { self.max } else { self.per_address_max };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.all >= self.max || taken.by_address.get(&address).is_some_and(|&count| count >= max) {
            return None;
        }
        taken.all += 1;
        *taken.by_address.entry(address).or_default() += 1;
        Some(Place { places: Arc::clone(self), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        if let Some(count) = taken.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

/// What one subscriber has: an IPv4 address, or the first 64 bits of an IPv6 address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    fn take(places: &Arc<Places>, address: &str) -> Option<Place> {
        places.take(address.parse().unwrap())
    }

    #[test]
    fn an_address_has_its_share_and_no_more() {
        let places = Places::new(4, 2);
        let held = [take(&places, "10.0.0.1"), take(&places, "::ffff:10.0.0.1"), take(&places, "2001:db8::1")];
        assert!(held.iter().all(Option::is_some));
        assert!(take(&places, "10.0.0.1").is_none(), "the address has its two");
        let other = take(&places, "2001:db8::2:1").unwrap();
        assert!(take(&places, "10.0.0.2").is_none(), "all four are taken");
        drop(other);
        assert!(take(&places, "2001:db8:0:1::1").is_some(), "another network");
        drop(held);
        assert!(places.taken.lock().unwrap().by_address.is_empty());
    }

    #[test]
    fn this_machine_may_have_all() {
        let places = Places::new(4, 1);
        let held: Vec<_> = (0..5).map(|_| take(&places, "127.0.0.1")).collect();
        assert_eq!(held.iter().flatten().count(), 4);
    }
}
