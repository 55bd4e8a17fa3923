//! Records under way: which of a unit's are acknowledged, refused, or still out.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaErrorCode;

use super::client::{self, Told};
use crate::config::output::Secret;

/// The records of one unit that were handed to librdkafka. Shared with its thread.
#[derive(Clone, Debug, Default)]
pub struct Flight(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Of which unit: reports of former ones are passed over.
    number: usize,
    /// Records that are out.
    out: usize,
    /// Records acknowledged, and octets of their keys and values.
    acknowledged: u64,
    octets: u64,
    /// Records that came back, each with its place in the unit and the reason.
    failed: Vec<(usize, RDKafkaErrorCode)>,
    /// Reports so far: whether anything happens.
    reports: u64,
}

/// Places in a unit have so many bits of what travels with a record; the unit's number has the rest.
const PLACE_BITS: u32 = 32;

impl Flight {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins another unit.
    pub fn begin(&self) {
        let mut state = self.state();
        let number = (state.number + 1) & ((1 << PLACE_BITS) - 1);
        *state = State { number, ..State::default() };
    }

    /// The record at `place` is handed over; what travels with it.
    pub fn leaves(&self, place: usize) -> usize {
        let mut state = self.state();
        state.out += 1;
        (state.number << PLACE_BITS) | place
    }

    /// It was not taken after all.
    pub fn stays(&self) {
        self.state().out -= 1;
    }

    fn came_back(&self, opaque: usize, octets: usize, failure: Option<RDKafkaErrorCode>) {
        let mut state = self.state();
        if opaque >> PLACE_BITS != state.number {
            return;
        }
        state.out -= 1;
        state.reports += 1;
        match failure {
            None => {
                state.acknowledged += 1;
                state.octets += octets as u64;
            }
            Some(code) => state.failed.push((opaque & ((1 << PLACE_BITS) - 1), code)),
        }
        if state.out == 0 {
            self.0.changed.notify_all();
        }
    }

    /// Waits until none is out, or for `patience`. Whether none is.
    pub fn wait(&self, patience: Duration) -> bool {
        let state = self.state();
        let waited = self.0.changed.wait_timeout_while(state, patience, |state| state.out > 0);
        waited.unwrap_or_else(PoisonError::into_inner).0.out == 0
    }

    /// Reports so far.
    pub fn reports(&self) -> u64 {
        self.state().reports
    }

    /// Octets acknowledged so far.
    pub fn octets(&self) -> u64 {
        self.state().octets
    }

    /// The records that came back, sorted by their places, and forgotten.
    pub fn take_failed(&self) -> Vec<(usize, RDKafkaErrorCode)> {
        let mut failed = std::mem::take(&mut self.state().failed);
        failed.sort_unstable_by_key(|&(place, _)| place);
        failed
    }
}

/// What librdkafka's threads of a producer call.
#[derive(Debug)]
pub struct Context {
    pub(super) flight: Flight,
    pub(super) told: Told,
    pub(super) token: Option<Secret>,
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Told::log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.told.take(&statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.told.error(&error, reason);
    }

    fn generate_oauth_token(
        &self,
        _: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        client::token(self.token.as_ref())
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        match result {
            Ok(message) => {
                self.told.well();
                let octets = message.payload_len() + message.key_len();
                self.flight.came_back(opaque, octets, None);
            }
            Err((error, _)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
                self.flight.came_back(opaque, 0, Some(code));
            }
        }
    }
}
