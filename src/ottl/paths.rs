//! What a path reads and writes, in every context.

use super::scene::Scene;
use super::value::{Fault, Value};

pub struct Path;

impl Path {
    pub fn get<'a>(&'a self, _scene: &mut Scene<'_, 'a>) -> Result<Value<'a>, Fault> {
        Ok(Value::Nil)
    }

    pub fn set<'a>(&'a self, _scene: &mut Scene<'_, 'a>, _value: Value<'a>) -> Result<(), Fault> {
        Ok(())
    }
}
