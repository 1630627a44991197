//! CustomResourceDefinitions as entries of the registry.

use objects::FieldErrors;
use serde_json::Value;

use crate::call::Call;
use crate::server::Server;

/// Takes in a definition by its store key; `None` for one that is gone.
pub(crate) fn apply(_server: &Server, _key: &str, _definition: Option<&Value>) {}

/// Reports where a custom resource does not fit its schema.
pub(crate) fn validate(_call: &Call, _object: &Value, _errors: &mut FieldErrors) {}
