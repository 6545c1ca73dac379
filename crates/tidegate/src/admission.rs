//! Who gets a place: limits on connections, per address and per user, and on strangers. Places are given back on drop.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::address::counted_as;

/// How many may be connected at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdmissionSettings {
    /// Connections in all (`limits.connections`).
    pub connections: usize,
    /// Connections of one address, or of one IPv6 /64 (`limits.per_address`).
    pub per_address: usize,
    /// Connections of one user (`limits.per_user`).
    pub per_user: usize,
    /// Connections that have not authenticated yet. A tenth of the default for all: strangers can fill this, and nothing else.
    pub unauthenticated: usize,
}

impl Default for AdmissionSettings {
    fn default() -> Self {
        Self { connections: 100_000, per_address: 200, per_user: 50, unauthenticated: 10_000 }
    }
}

/// The limit that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The node's connections.
    Connections,
    /// The address's.
    Address,
    /// The user's.
    User,
    /// The strangers'.
    Unauthenticated,
}

/// The counts of who is connected.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    connections: AtomicUsize,
    unauthenticated: AtomicUsize,
    addresses: Mutex<HashMap<IpAddr, u32>>,
    users: Mutex<HashMap<Arc<str>, u32>>,
}

impl Admission {
    /// A place for a connection of this address; where it is not known, only the node's own limit counts.
    ///
    /// # Errors
    /// Says which limit is reached; nothing is held then.
    pub(crate) fn enter(self: &Arc<Self>, limits: &AdmissionSettings, address: Option<IpAddr>) -> Result<Place, Full> {
        if !take(&self.connections, limits.connections) {
            return Err(Full::Connections);
        }
        let address = address.map(counted_as);
        if let Some(address) = address
            && !take_keyed(&mut self.addresses.lock(), address, limits.per_address)
        {
            give(&self.connections);
            return Err(Full::Address);
        }
        Ok(Place { admission: Arc::clone(self), address, user: None, stranger: false })
    }

    /// How many hold a place.
    #[cfg(test)]
    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// A connection's place, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    admission: Arc<Admission>,
    address: Option<IpAddr>,
    user: Option<Arc<str>>,
    stranger: bool,
}

impl Place {
    /// Counts the connection among the strangers until it has a name.
    ///
    /// # Errors
    /// Their pool is full.
    pub(crate) fn await_authentication(&mut self, limits: &AdmissionSettings) -> Result<(), Full> {
        if !self.stranger && !take(&self.admission.unauthenticated, limits.unauthenticated) {
            return Err(Full::Unauthenticated);
        }
        self.stranger = true;
        Ok(())
    }

    /// Counts the connection for this user (and no longer among the strangers); anonymous sessions count for nobody.
    ///
    /// # Errors
    /// The user has as many as one may have; the place stays as it was.
    pub(crate) fn identify(&mut self, limits: &AdmissionSettings, user: Option<&Arc<str>>) -> Result<(), Full> {
        if self.user.as_ref() != user {
            if let Some(user) = user
                && !take_keyed(&mut self.admission.users.lock(), Arc::clone(user), limits.per_user)
            {
                return Err(Full::User);
            }
            self.leave_user();
            self.user = user.cloned();
        }
        if std::mem::take(&mut self.stranger) {
            give(&self.admission.unauthenticated);
        }
        Ok(())
    }

    fn leave_user(&mut self) {
        if let Some(user) = self.user.take() {
            give_keyed(&mut self.admission.users.lock(), &user);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave_user();
        if self.stranger {
            give(&self.admission.unauthenticated);
        }
        if let Some(address) = &self.address {
            give_keyed(&mut self.admission.addresses.lock(), address);
        }
        give(&self.admission.connections);
    }
}

fn take(count: &AtomicUsize, limit: usize) -> bool {
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| (taken < limit).then_some(taken + 1)).is_ok()
}

fn give(count: &AtomicUsize) {
    count.fetch_sub(1, Ordering::Relaxed);
}

fn take_keyed<K: Hash + Eq>(counts: &mut HashMap<K, u32>, key: K, limit: usize) -> bool {
    if limit == 0 {
        return false;
    }
    let count = counts.entry(key).or_insert(0);
    let fits = (*count as usize) < limit;
    *count += u32::from(fits);
    fits
}

fn give_keyed<K: Hash + Eq>(counts: &mut HashMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: AdmissionSettings = AdmissionSettings { connections: 4, per_address: 2, per_user: 2, unauthenticated: 1 };

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, last]))
    }

    #[test]
    fn limits_hold_and_places_come_back() {
        let admission = Arc::new(Admission::default());
        let mut places: Vec<_> = [1, 1, 2, 2].iter().map(|&last| admission.enter(&LIMITS, address(last)).unwrap()).collect();
        assert_eq!(admission.enter(&LIMITS, address(3)).unwrap_err(), Full::Connections);
        places.pop();
        assert_eq!(admission.enter(&LIMITS, address(1)).unwrap_err(), Full::Address);
        assert_eq!(admission.connections(), 3, "a refused one holds nothing");
        places.push(admission.enter(&LIMITS, address(2)).unwrap());
        drop(places);
        assert_eq!(admission.connections(), 0);
        assert!(admission.addresses.lock().is_empty());
    }

    #[test]
    fn a_user_is_counted_once_however_often_it_authenticates() {
        let admission = Arc::new(Admission::default());
        let user: Arc<str> = "u".into();
        let mut first = admission.enter(&LIMITS, address(1)).unwrap();
        first.identify(&LIMITS, Some(&user)).unwrap();
        first.identify(&LIMITS, Some(&user)).unwrap();
        let mut second = admission.enter(&LIMITS, address(2)).unwrap();
        second.identify(&LIMITS, Some(&user)).unwrap();
        let mut third = admission.enter(&LIMITS, address(3)).unwrap();
        assert_eq!(third.identify(&LIMITS, Some(&user)), Err(Full::User));
        drop((first, second, third));
        assert!(admission.users.lock().is_empty());
    }

    #[test]
    fn strangers_have_a_pool_of_their_own() {
        let admission = Arc::new(Admission::default());
        let mut first = admission.enter(&LIMITS, address(1)).unwrap();
        first.await_authentication(&LIMITS).unwrap();
        let mut second = admission.enter(&LIMITS, address(2)).unwrap();
        assert_eq!(second.await_authentication(&LIMITS), Err(Full::Unauthenticated));
        first.identify(&LIMITS, None).unwrap();
        second.await_authentication(&LIMITS).unwrap();
        drop(second);
        assert_eq!(admission.unauthenticated.load(Ordering::Relaxed), 0);
    }

    proptest::proptest! {
        /// Whatever comes and goes, the counts are those of a plain list.
        #[test]
        fn counts_follow_a_list_of_the_connected(steps in proptest::collection::vec((0u8..3, 0u8..4), 0..200)) {
            let admission = Arc::new(Admission::default());
            let mut places: Vec<(u8, Place)> = Vec::new();
            for (action, which) in steps {
                if action < 2 {
                    let of_address = places.iter().filter(|(last, _)| *last == which).count();
                    match admission.enter(&LIMITS, address(which)) {
                        Ok(place) => places.push((which, place)),
                        Err(full) if places.len() == LIMITS.connections => proptest::prop_assert_eq!(full, Full::Connections),
                        Err(full) => { proptest::prop_assert_eq!(full, Full::Address); proptest::prop_assert_eq!(of_address, LIMITS.per_address); }
                    }
                } else if !places.is_empty() {
                    places.swap_remove(usize::from(which) % places.len());
                }
                proptest::prop_assert_eq!(admission.connections(), places.len());
            }
        }
    }
}
