//! `event_count` up to [`EXACT_MAX`]: the times of the last matches.

use super::groups::allocated;
use super::plan::Plan;
use super::ring::Ring;
use super::state::{Error, Item, Measure, State, remembered_from};
use crate::time::Micros;

/// The times of the newest matches, as many as can matter: beyond [`Range::enough`] one more
/// changes nothing, so the condition is exact whatever the traffic.
///
/// [`Range::enough`]: super::condition::Range::enough
#[derive(Debug, Default)]
pub(super) struct Times(Ring<Micros>);

impl State for Times {
    fn expire(&mut self, edge: Micros, plan: &Plan) -> bool {
        let mut was_false = false;
        while let Some(time) = self.0.front().filter(|&time| time <= edge) {
            self.0.pop();
            let more = self.0.front() == Some(time);
            was_false |= !more && !plan.range.only_grows() && !self.holds(plan);
        }
        was_false || !self.holds(plan)
    }

    fn add(&mut self, time: Micros, _: &Item, plan: &Plan) -> bool {
        if self.0.len() as u128 >= plan.range.enough() {
            self.0.pop();
        }
        self.0.push(time);
        self.0.len() as u128 >= remembered_from(plan)
    }

    fn holds(&self, plan: &Plan) -> bool {
        !self.is_empty() && plan.range.holds(self.0.len() as u128)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn first(&self) -> Option<Micros> {
        self.0.front()
    }

    fn measure(&self, _: &Plan) -> Measure {
        Measure::Count { number: self.0.len() as u128, error: Error::None }
    }

    fn heap(&self) -> usize {
        allocated(self.0.octets())
    }
}
