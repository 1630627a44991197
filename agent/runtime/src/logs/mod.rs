//! Reading container logs.
