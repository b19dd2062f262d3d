//! From a request to the store: each data point finds its series by a hash of what identifies it, without text being
//! made for it. Only a new series has its names translated and its labels written.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};

use crate::otlp::schema::REQUEST_RESOURCES;
use crate::otlp::views::metrics::{DataPoints, DataType, Metric, Point};
use crate::otlp::views::{AnyValue, KeyValue, Repeated, Resource, ResourceGroup, Scope, ScopeGroup};
use crate::ottl::value::Value as AsText;

use super::Config;
use super::labels::{Labels, Unfit};
use super::store::{Kind, MOST_TEXT, Named, NoPlace, Store};
use super::value::{DELTA, Last, Untaken};

/// The bit of a point without a value: its series has ended.
const NO_RECORDED_VALUE: u32 = 1;
/// Points that are taken before others may use the store.
const TURN: u32 = 64;
/// Maximum labels of a series.
const MOST_LABELS: usize = 256;

/// How many points were not taken, and why.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Refused {
    pub(super) late: u64,
    pub(super) foreign: u64,
    pub(super) beyond: u64,
    /// The name of a metric with foreign points.
    pub(super) example: Option<String>,
}

pub(super) struct Intake {
    pub(super) config: Config,
    pub(super) store: Mutex<Store>,
    hasher: RandomState,
    target_info: Arc<str>,
}

/// What the points of a resource have in common.
struct OfResource<'a> {
    attributes: Repeated<'a>,
    /// Those that become labels of its series, at most one more than are allowed.
    labels: Vec<KeyValue<'a>>,
    job: Option<Vec<u8>>,
    instance: Option<Vec<u8>>,
    /// A hash of what it contributes to the identity of its series.
    identity: u64,
    /// The sum of the hashes of `labels`.
    label_sum: u64,
    /// A hash of job and instance, if it has both, and of all attributes.
    target: Option<(u64, u64)>,
    /// Whether that is shown already.
    is_shown: Cell<bool>,
}

struct OfScope<'a> {
    scope: &'a Scope<'a>,
    schema_url: &'a [u8],
    identity: u64,
}

/// A metric, and its name once a series needed it.
struct OfMetric<'a> {
    metric: Metric<'a>,
    data: DataPoints<'a>,
    identity: u64,
    form: u64,
    named: Option<Option<Named>>,
}

impl Intake {
    pub(super) fn new(config: Config, most_bytes: usize) -> Intake {
        let store = Mutex::new(Store::new(config.expiration, most_bytes));
        let target_info = config.namer.target_info().into();
        Intake { config, store, hasher: RandomState::new(), target_info }
    }

    /// Takes the points of a request; returns those that it refused.
    pub(super) fn take(&self, request: &[u8], now: Instant, refused: &mut Refused) {
        for group in Repeated::of(request, REQUEST_RESOURCES) {
            let group = ResourceGroup::read(group);
            let resource = self.resource(&group.resource);
            for scope_group in group.scopes {
                let scope_group = ScopeGroup::read(scope_group);
                let scope = Scope::read(&scope_group.scope);
                let identity = self.hash(&[
                    scope.name,
                    scope.version,
                    scope_group.schema_url,
                    &self.sum(scope.attributes.clone().map(KeyValue::read)).to_le_bytes(),
                ]);
                let scope = OfScope { scope: &scope, schema_url: scope_group.schema_url, identity };
                for metric in scope_group.records {
                    self.metric(metric, &resource, &scope, now, refused);
                }
            }
        }
    }

    fn metric<'a>(
        &self,
        message: &'a [u8],
        resource: &OfResource<'a>,
        scope: &OfScope<'_>,
        now: Instant,
        refused: &mut Refused,
    ) {
        let metric = Metric::read(message);
        let (data_type, data) = (metric.data.0, metric.data.read());
        let points = data.points.clone();
        // Which names another form of the same metric would have.
        let form = self.hash(&[metric.unit, &[u8::from(data.is_monotonic)]]);
        let identity = self.hash(&[
            metric.name,
            &[data_type as u8],
            &resource.identity.to_le_bytes(),
            &scope.identity.to_le_bytes(),
        ]);
        let is_foreign =
            data_type == DataType::Sum && (data.temporality == 0 || data.temporality == DELTA && !data.is_monotonic);
        let mut metric = OfMetric { metric, data, identity, form, named: None };
        let mut store = self.store.lock();
        let mut turn = 0;
        for point in points {
            let point = Point::read(data_type, point);
            let taken = match is_foreign {
                true => Err(NotTaken::Foreign),
                false => self.point(&mut store, &point, &mut metric, resource, scope, now),
            };
            match taken {
                Ok(()) => {}
                Err(NotTaken::Late) => refused.late += 1,
                Err(NotTaken::Beyond) => refused.beyond += 1,
                Err(NotTaken::Foreign) => {
                    refused.foreign += 1;
                    let name = || String::from_utf8_lossy(metric.metric.name).chars().take(100).collect();
                    refused.example.get_or_insert_with(name);
                }
            }
            turn += 1;
            if turn % TURN == 0 {
                MutexGuard::bump(&mut store);
            }
        }
    }

    fn point<'a>(
        &self,
        store: &mut Store,
        point: &Point<'a>,
        metric: &mut OfMetric<'_>,
        resource: &OfResource<'a>,
        scope: &OfScope<'_>,
        now: Instant,
    ) -> Result<(), NotTaken> {
        if resource.labels.len() > MOST_LABELS {
            return Err(NotTaken::Beyond);
        }
        let is_own = |pair: &KeyValue<'_>| resource.labels.iter().all(|label| label.key != pair.key);
        let own = point.attributes.clone().map(KeyValue::read).filter(is_own);
        let labels = self.sum(own.clone()).wrapping_add(resource.label_sum);
        // Never 0, which identifies nothing.
        let identity = self.hash(&[&metric.identity.to_le_bytes(), &labels.to_le_bytes()]) | 1;
        let is_end = point.flags & NO_RECORDED_VALUE != 0;
        let next = || Last::of(point, metric.metric.data.0, self.config.is_open_metrics);
        match store.find(identity) {
            Some((slot, series)) if series.form == metric.form && !is_end => {
                let next = series.last.then(point, metric.data.temporality, next()?)?;
                store.update(slot, next, now)?;
                self.show_target(store, resource, now);
                return Ok(());
            }
            Some((slot, _)) => store.remove(slot),
            None => {}
        }
        if is_end {
            return Ok(());
        }
        if store.is_full(now) {
            return Err(NotTaken::Beyond);
        }
        let next = next()?;
        let labels = Labels::new(self.pairs(own, resource, scope)?, MOST_TEXT)?;
        // A bucket's bound is a label too.
        let reserved = match metric.metric.data.0 {
            DataType::Histogram | DataType::ExponentialHistogram => "le",
            DataType::Summary => "quantile",
            _ => "__name__",
        };
        let (data_type, is_monotonic) = (metric.metric.data.0, metric.data.is_monotonic);
        let named = metric.named.get_or_insert_with(|| {
            let (name, unit) = (text_of(metric.metric.name), text_of(metric.metric.unit));
            let name = self.config.namer.metric(&name, &unit, data_type, is_monotonic)?;
            Some(Named { name: name.into(), kind: Kind::of(data_type, is_monotonic) })
        });
        let named = named.as_ref().filter(|_| !labels.has(reserved)).ok_or(NotTaken::Foreign)?;
        let identity = (identity, metric.form);
        let slot = store.insert(identity, named, metric.metric.description, labels, next, now)?;
        if let Some((target, _)) = resource.target {
            store.attach(slot, target);
            resource.is_shown.set(false);
        }
        self.show_target(store, resource, now);
        Ok(())
    }

    /// The labels of a new series.
    fn pairs<'a>(
        &self,
        own: impl Iterator<Item = KeyValue<'a>>,
        resource: &OfResource<'a>,
        scope: &OfScope<'_>,
    ) -> Result<Vec<(String, Vec<u8>)>, NotTaken> {
        let namer = &self.config.namer;
        let mut pairs = self.config.const_labels.clone();
        for pair in own.chain(resource.labels.iter().copied()) {
            if pairs.len() > MOST_LABELS {
                return Err(NotTaken::Beyond);
            }
            pairs.push((namer.label(&text_of(pair.key)).ok_or(NotTaken::Foreign)?, as_text(pair.value)));
        }
        if self.config.has_scope_info {
            for pair in scope.scope.attributes.clone().map(KeyValue::read) {
                if [b"name".as_slice(), b"version", b"schema_url"].contains(&pair.key) {
                    continue;
                }
                if pairs.len() > MOST_LABELS {
                    return Err(NotTaken::Beyond);
                }
                let name = format!("otel_scope_{}", text_of(pair.key));
                pairs.push((namer.label(&name).ok_or(NotTaken::Foreign)?, as_text(pair.value)));
            }
            let own = [("name", scope.scope.name), ("version", scope.scope.version), ("schema_url", scope.schema_url)];
            pairs.extend(own.map(|(name, value)| (format!("otel_scope_{name}"), value.to_vec())));
        }
        let named = [("job", &resource.job), ("instance", &resource.instance)];
        pairs.extend(named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))));
        Ok(pairs)
    }

    /// What the points of a resource have in common.
    fn resource<'a>(&self, message: &'a [u8]) -> OfResource<'a> {
        let attributes = Resource::read(message).attributes;
        let pairs = || attributes.clone().map(KeyValue::read);
        let find = |key: &[u8]| pairs().find(|pair| pair.key == key).map(|pair| as_text(pair.value));
        let name = find(SERVICE_NAME);
        let job = name.map(|name| match find(SERVICE_NAMESPACE) {
            Some(namespace) => [namespace.as_slice(), b"/", &name].concat(),
            None => name,
        });
        let instance = find(SERVICE_INSTANCE_ID);
        let labels = pairs().filter(|pair| self.config.resource_labels.takes(pair.key)).take(MOST_LABELS + 1);
        let labels: Vec<_> = labels.collect();
        let both = [&job, &instance].map(|text| text.as_deref().unwrap_or_default());
        let has = [&job, &instance].map(|text| u8::from(text.is_some()));
        let [of_job, of_instance] = both;
        let identity = self.hash(&[of_job, of_instance, &has]);
        let is_shown = both.iter().all(|text| !text.is_empty());
        let target = is_shown.then(|| (identity | 1, self.sum(pairs())));
        let label_sum = self.sum(labels.iter().copied());
        OfResource { attributes, labels, job, instance, identity, label_sum, target, is_shown: Cell::new(false) }
    }

    /// Shows the attributes of a resource that has a series.
    fn show_target(&self, store: &mut Store, resource: &OfResource<'_>, now: Instant) {
        let Some((target, attributes)) = resource.target.filter(|_| !resource.is_shown.get()) else { return };
        resource.is_shown.set(true);
        if store.shows(target, attributes) {
            return;
        }
        let mut pairs: Vec<(String, Vec<u8>)> = Vec::new();
        let named = [("job", &resource.job), ("instance", &resource.instance)];
        for (name, value) in named {
            pairs.push((name.to_owned(), value.clone().unwrap_or_default()));
        }
        for pair in resource.attributes.clone().map(KeyValue::read) {
            if pairs.len() > MOST_LABELS {
                return store.show(target, attributes, &self.target_info, None, now);
            }
            let name = self.config.namer.label(&text_of(pair.key)).filter(|name| !name.starts_with("__"));
            let Some(name) = name.filter(|_| !OF_SERVICE.contains(&pair.key)) else { continue };
            match pairs.iter_mut().enumerate().find(|(_, (known, _))| *known == name) {
                // Job and instance are of the service.
                Some((0 | 1, _)) => {}
                Some((_, (_, value))) => {
                    value.push(b';');
                    value.extend_from_slice(&as_text(pair.value));
                }
                None => pairs.push((name, as_text(pair.value))),
            }
        }
        let labels = Labels::new(pairs, MOST_TEXT);
        store.show(target, attributes, &self.target_info, labels.ok(), now);
    }

    fn hash(&self, parts: &[&[u8]]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        for part in parts {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
        hasher.finish()
    }

    /// A hash of attributes in any order. Values with the same text are the same.
    fn sum<'a>(&self, pairs: impl Iterator<Item = KeyValue<'a>>) -> u64 {
        let hash = |pair: KeyValue<'_>| {
            let mut hasher = self.hasher.build_hasher();
            hasher.write_usize(pair.key.len());
            hasher.write(pair.key);
            match pair.value {
                AnyValue::String(text) => hasher.write(text),
                value => hasher.write(&as_text(value)),
            }
            hasher.finish()
        };
        pairs.map(hash).fold(0, u64::wrapping_add)
    }
}

const SERVICE_NAME: &[u8] = b"service.name";
const SERVICE_NAMESPACE: &[u8] = b"service.namespace";
const SERVICE_INSTANCE_ID: &[u8] = b"service.instance.id";
pub(super) const OF_SERVICE: [&[u8]; 3] = [SERVICE_NAME, SERVICE_NAMESPACE, SERVICE_INSTANCE_ID];

/// Why a point is not taken.
enum NotTaken {
    Late,
    Foreign,
    /// More than the store holds.
    Beyond,
}

impl From<Untaken> for NotTaken {
    fn from(untaken: Untaken) -> NotTaken {
        match untaken {
            Untaken::Late => NotTaken::Late,
            Untaken::Foreign => NotTaken::Foreign,
            Untaken::TooLarge => NotTaken::Beyond,
        }
    }
}

impl From<NoPlace> for NotTaken {
    fn from(why: NoPlace) -> NotTaken {
        match why {
            NoPlace::Full => NotTaken::Beyond,
            NoPlace::Taken => NotTaken::Foreign,
        }
    }
}

impl From<Unfit> for NotTaken {
    fn from(why: Unfit) -> NotTaken {
        match why {
            Unfit::Names => NotTaken::Foreign,
            Unfit::TooLong => NotTaken::Beyond,
        }
    }
}

fn as_text(value: AnyValue<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    AsText::from_any(value).put_as_string(&mut text);
    text
}

fn text_of(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
