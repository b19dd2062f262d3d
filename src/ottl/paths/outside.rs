//! Paths to what stands in no field of telemetry: the kind of a metric, the cache, what is known of the client.

use super::form::{Form, Told};
use super::{Path, nested, put_map};
use crate::otlp::views::metrics::DataType;
use crate::ottl::scene::Scene;
use crate::ottl::value::{Fault, Value, put_entry, put_item};
use crate::telemetry::Client;

impl Path {
    pub(super) fn get_outside<'a>(&'a self, scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
        let keys = self.keys(scene)?;
        match self.row.form {
            Form::Cache => nested::get(Value::Map(scene.cache), &keys),
            Form::Client(known) => nested::get(client(scene, known)?, &keys),
            // As the Go collector, which never sets it.
            Form::EventIndex => Err(Fault::new("no 'event_index' property has been set")),
            _ => Ok(Value::Int(DataType::of(scene.sight.data_number) as i64)),
        }
    }

    pub(super) fn set_outside<'a>(&'a self, scene: &mut Scene<'_, 'a>, value: Value<'a>) -> Result<(), Fault> {
        match self.row.form {
            Form::Cache => {
                let keys = self.keys(scene)?;
                scene.cache = put_map(scene.cache, &keys, value, scene.arena)?;
                Ok(())
            }
            Form::Client(_) => {
                let name = self.row.name;
                Err(Fault::new(format!("\"otelcol.{name}\" is read-only and cannot be modified")))
            }
            Form::EventIndex => Err(Fault::new("the 'event_index' path cannot be modified")),
            _ => Ok(()),
        }
    }
}

/// What is known of the client: its address, what its authenticator tells, or metadata: a map of lists of texts.
fn client<'a>(scene: &Scene<'_, 'a>, told: Told) -> Result<Value<'a>, Fault> {
    let (none, arena) = (Client::default(), scene.arena);
    let client = scene.client.unwrap_or(&none);
    let mut map = Vec::new();
    let metadata = match told {
        Told::Address => {
            let address = client.address().map(|address| arena.keep(address.as_bytes())).transpose()?;
            return Ok(address.map_or(Value::Nil, Value::String));
        }
        Told::Auth => {
            client.auth.iter().for_each(|(name, value)| {
                put_entry(&mut map, name.as_bytes(), &Value::String(value.as_bytes()));
            });
            return Ok(Value::Map(arena.keep(&map)?));
        }
        Told::Metadata => &client.metadata,
        Told::Call => &client.grpc,
    };
    for (index, (name, _)) in metadata.iter().enumerate() {
        if metadata.iter().take(index).any(|(earlier, _)| earlier == name) {
            continue;
        }
        let mut values = Vec::new();
        for (_, value) in metadata.iter().filter(|(other, _)| other == name) {
            put_item(&mut values, &Value::String(value.as_bytes()));
        }
        put_entry(&mut map, name.as_bytes(), &Value::List(&values));
    }
    Ok(Value::Map(arena.keep(&map)?))
}
