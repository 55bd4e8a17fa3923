//! A sample of the flows that a worker opens, for the index over rules to learn the traffic from.

use crate::flow::Biflow;

/// One of so many opened flows is taken,
const EVERY: u32 = 64;
/// until so many wait to be handed over.
const FLOWS: usize = 1_024;

/// Takes some of the flows that a worker opens.
#[derive(Debug, Default)]
pub struct Sampler {
    seen: u32,
    flows: Vec<Biflow>,
}

impl Sampler {
    /// A flow was opened. Costs a count, and a copy of one flow in 64.
    pub fn opened(&mut self, flow: &Biflow) {
        self.seen = self.seen.wrapping_add(1);
        if self.seen.is_multiple_of(EVERY) && self.flows.len() < FLOWS {
            self.flows.push(flow.clone());
        }
    }

    /// The sample, once it is full; then the next one begins.
    pub fn full(&mut self) -> Option<Vec<Biflow>> {
        (self.flows.len() == FLOWS)
            .then(|| std::mem::replace(&mut self.flows, Vec::with_capacity(FLOWS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_flow_in_sixty_four_is_taken() {
        let mut sampler = Sampler::default();
        for port in 0..60_000_u16 {
            sampler.opened(&Biflow { dst_port: port, ..Biflow::default() });
        }
        assert_eq!(sampler.full(), None, "937 are no full sample");
        for port in 0..60_000_u16 {
            sampler.opened(&Biflow { dst_port: port, ..Biflow::default() });
        }
        let sample = sampler.full().expect("full");
        assert_eq!((sample.len(), sample[1].dst_port), (FLOWS, 127));
        assert_eq!(sampler.full(), None);
    }
}
