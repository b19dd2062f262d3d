//! One item as it came: its record, and the headers around it, which it shares with its neighbours.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::exporters::debug::line;
use crate::inspect::wanted::Wanted;
use crate::otlp::schema::{REQUEST_RESOURCES, resource_group, scope_group};
use crate::otlp::views::{Repeated, ResourceGroup, ScopeGroup};
use crate::otlp::wire::{Fields, put_bytes};
use crate::telemetry::{Now, Signal};

/// Headers that are compared with new ones.
const KNOWN: usize = 4096;

pub(in crate::cli::ui) struct Kept {
    pub(in crate::cli::ui) signal: Signal,
    pub(in crate::cli::ui) headers: Arc<Header>,
    /// A log record or a span, encoded.
    pub(in crate::cli::ui) record: Box<[u8]>,
}

/// The resource and the scope of an item.
pub(in crate::cli::ui) struct Header {
    pub(in crate::cli::ui) service: Arc<str>,
    /// The fields of the resource group beside its scopes.
    resource: Box<[u8]>,
    /// The fields of the scope group beside its records.
    scope: Box<[u8]>,
    all: Arc<Sums>,
}

/// The bytes of all headers, and by service.
#[derive(Default)]
struct Sums {
    all: AtomicUsize,
    services: Mutex<Services>,
}

#[derive(Default)]
struct Services {
    bytes: HashMap<Arc<str>, usize>,
    /// The same, the largest last.
    sizes: BTreeSet<(usize, Arc<str>)>,
}

impl Sums {
    fn add(&self, header: &Header) {
        self.all.fetch_add(header.bytes(), Relaxed);
        self.services.lock().change(&header.service, |sum| sum + header.bytes());
    }

    fn take(&self, header: &Header) {
        self.all.fetch_sub(header.bytes(), Relaxed);
        self.services.lock().change(&header.service, |sum| sum - header.bytes());
    }
}

impl Services {
    fn change(&mut self, service: &Arc<str>, change: impl FnOnce(usize) -> usize) {
        let before = self.bytes.remove(service).unwrap_or_default();
        self.sizes.remove(&(before, service.clone()));
        let after = change(before);
        if after > 0 {
            self.bytes.insert(service.clone(), after);
            self.sizes.insert((after, service.clone()));
        }
    }
}

impl Header {
    pub(super) fn bytes(&self) -> usize {
        self.resource.len() + self.scope.len() + 160
    }

    pub(in crate::cli::ui) fn resource(&self) -> ResourceGroup<'_> {
        ResourceGroup::read(&self.resource)
    }

    pub(in crate::cli::ui) fn scope(&self) -> ScopeGroup<'_> {
        ScopeGroup::read(&self.scope)
    }
}

/// Headers are known by what they hold.
impl Hash for Header {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.resource, &self.scope).hash(state);
    }
}

impl Drop for Header {
    fn drop(&mut self) {
        self.all.take(self);
    }
}

impl Kept {
    /// The item alone, as a request.
    pub(in crate::cli::ui) fn request(&self) -> Vec<u8> {
        Kept::together(&[self])
    }

    /// Items of a signal as one request, in which neighbours share their headers.
    pub(in crate::cli::ui) fn together(items: &[&Kept]) -> Vec<u8> {
        let mut request = Vec::new();
        for items in items.chunk_by(|one, next| Arc::ptr_eq(&one.headers, &next.headers)) {
            let Some(headers) = items.first().map(|item| &item.headers) else { continue };
            let (mut scope, mut resource) = (headers.scope.to_vec(), headers.resource.to_vec());
            items.iter().for_each(|item| put_bytes(&mut scope, scope_group::RECORDS, &item.record));
            put_bytes(&mut resource, resource_group::SCOPES, &scope);
            put_bytes(&mut request, REQUEST_RESOURCES, &resource);
        }
        request
    }

    /// Whether a query asks for it.
    pub(in crate::cli::ui) fn is_wanted(&self, wanted: &Wanted, now: Now) -> bool {
        wanted.keep(self.signal, &[(Bytes::from(self.request()), 1)], now).1 > 0
    }
}

/// The headers that items share.
#[derive(Default)]
pub(super) struct Headers {
    known: HashMap<u64, Weak<Header>>,
    hasher: RandomState,
    sums: Arc<Sums>,
}

impl Headers {
    pub(super) fn used(&self) -> usize {
        self.sums.all.load(Relaxed)
    }

    /// The service whose headers take most.
    pub(super) fn largest(&self) -> Option<Arc<str>> {
        self.sums.services.lock().sizes.last().map(|(_, service)| service.clone())
    }

    /// Gives each item of a request.
    pub(super) fn each(&mut self, signal: Signal, wire: &[u8], mut take: impl FnMut(Arc<Kept>)) {
        for resource in Repeated::of(wire, REQUEST_RESOURCES) {
            let group = ResourceGroup::read(resource);
            let beside = without(resource, resource_group::SCOPES);
            for scope in group.scopes.clone() {
                let headers = self.header(&group, &beside, without(scope, scope_group::RECORDS));
                for record in ScopeGroup::read(scope).records {
                    take(Arc::new(Kept { signal, headers: headers.clone(), record: record.into() }));
                }
            }
        }
    }

    fn header(&mut self, group: &ResourceGroup<'_>, resource: &[u8], scope: Vec<u8>) -> Arc<Header> {
        let hash = self.hasher.hash_one((resource, &scope));
        let is_same = |known: &Arc<Header>| *known.resource == *resource && *known.scope == *scope;
        if let Some(known) = self.known.get(&hash).and_then(Weak::upgrade).filter(is_same) {
            return known;
        }
        if self.known.len() >= KNOWN {
            self.known.clear();
        }
        let (resource, scope, all) = (resource.into(), scope.into(), self.sums.clone());
        let header = Arc::new(Header { service: line::service(group), resource, scope, all });
        self.sums.add(&header);
        self.known.insert(hash, Arc::downgrade(&header));
        header
    }
}

/// A message without one of its fields.
fn without(message: &[u8], number: u32) -> Vec<u8> {
    Fields::new(message).filter(|field| field.number != number).flat_map(|field| field.raw).copied().collect()
}
