use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::time::SECOND;

const PARAMS: StitchParams = StitchParams {
    flows_max: 100,
    silence_us: 100 * SECOND,
    idle_us: 20 * SECOND,
    skew_us: SECOND,
    dedup: Dedup::Owner,
    vlan_in_key: false,
};

/// What comes out: identity and number, whether it is the last, packets both ways.
type Out = (u128, u32, bool, u64, u64);

#[derive(Default)]
struct Outs {
    slices: Vec<Out>,
    /// Flows that grew or ended, by their packets then.
    told: Vec<(u128, &'static str, u64)>,
}

impl StitchSink for Outs {
    fn grew(&mut self, flow: &mut StitchedFlow<'_>, first: bool) {
        let what = if first { "opened" } else { "grew" };
        self.told.push((flow.id.0, what, flow.view.fwd.packets + flow.view.bwd.packets));
    }

    fn ended(&mut self, flow: &mut StitchedFlow<'_>) -> bool {
        self.told.push((flow.id.0, "ended", flow.view.fwd.packets + flow.view.bwd.packets));
        false
    }

    fn slice(&mut self, _: &mut StitchedFlow<'_>, slice: Slice, _: &Arc<str>) {
        let (fwd, bwd) = (slice.flow.fwd.packets, slice.flow.bwd.packets);
        self.slices.push((slice.flow_id.0, slice.number, slice.last, fwd, bwd));
    }
}

/// A slice as a sensor cuts it.
#[derive(Clone, Copy, Debug)]
struct Cut {
    sensor: &'static str,
    id: u128,
    number: u32,
    last: bool,
    /// Start and end in seconds.
    at: (i64, i64),
    /// Packets there and back.
    packets: (u64, u64),
    /// Whether the sensor takes the responder for the initiator.
    turned: bool,
}

impl Cut {
    fn slice(&self) -> Slice {
        let side = |packets| Side { packets, octets: 100 * packets, ..Side::default() };
        let mut flow = Biflow {
            src: Addr::v4(1),
            dst: Addr::v4(2),
            src_port: 40_000,
            dst_port: 443,
            protocol: 6,
            first: Micros(self.at.0 * SECOND),
            last: Micros(self.at.1 * SECOND),
            fwd: side(self.packets.0),
            bwd: side(self.packets.1),
            ..Biflow::default()
        };
        if self.turned {
            turn(&mut flow);
        }
        let (flow_id, number, last) = (FlowId(self.id), self.number, self.last);
        Slice { flow_id, number, last, flow, records: 1, ..Slice::default() }
    }
}

const A: Cut =
    Cut { sensor: "a", id: 10, number: 0, last: true, at: (0, 5), packets: (3, 2), turned: false };

fn run(stitch: &mut Stitch, cuts: &[Cut], ledgers: &mut Ledgers) -> Outs {
    let mut outs = Outs::default();
    for cut in cuts {
        stitch.slice(&Arc::from(cut.sensor), cut.slice(), ledgers, &mut outs);
    }
    outs
}

#[track_caller]
fn check(cuts: &[Cut], want: &[Out], duplicates: u64) {
    let (mut stitch, mut ledgers) = (Stitch::new(PARAMS), Ledgers::default());
    let outs = run(&mut stitch, cuts, &mut ledgers);
    assert_eq!(outs.slices, want);
    assert_eq!(ledgers.records.duplicate, duplicates);
    assert_eq!(ledgers.records.decoded, ledgers.records.merged + ledgers.records.duplicate);
    assert_eq!(ledgers.slices.opened, ledgers.slices.shipped);
}

#[test]
fn one_sensor_counts_where_two_see_the_same() {
    let b = Cut { sensor: "b", id: 77, ..A };
    check(&[A, b], &[(10, 0, true, 3, 2)], 1);
    check(&[b, A], &[(77, 0, true, 3, 2)], 1);
}

#[test]
fn halves_become_one_flow_whichever_end_each_takes_for_the_initiator() {
    let there = Cut { packets: (3, 0), last: false, ..A };
    for turned in [false, true] {
        let back = Cut { sensor: "b", id: 77, packets: (0, 2), turned, ..A };
        let end = Cut { number: 1, packets: (1, 0), at: (5, 6), ..A };
        let want = [(10, 0, false, 3, 0), (10, 1, false, 0, 2), (10, 2, true, 1, 0)];
        check(&[there, back, end], &want, 0);
        // The half that comes after the end of the other counts all the same.
        let whole = Cut { packets: (3, 0), ..A };
        check(&[whole, back], &[(10, 0, true, 3, 0), (10, 1, true, 0, 2)], 0);
    }
}

#[test]
fn what_is_sent_again_counts_once() {
    let first = Cut { last: false, ..A };
    let second = Cut { number: 1, at: (5, 9), ..A };
    let want = [(10, 0, false, 3, 2), (10, 1, true, 3, 2)];
    check(&[first, second, first, second], &want, 2);
    check(&[first, first, second, second], &want, 2);
}

#[test]
fn a_silent_owner_is_replaced() {
    let a = Cut { last: false, ..A };
    let b = Cut { sensor: "b", id: 77, last: false, ..A };
    let soon = Cut { number: 1, at: (10, 20), ..b };
    let late = Cut { number: 2, at: (20, 40), ..b };
    let want = [(10, 0, false, 3, 2), (10, 1, false, 3, 2)];
    check(&[a, b, soon, late], &want, 2);
}

#[test]
fn endpoints_that_meet_again_are_another_flow() {
    let again = Cut { id: 11, at: (6, 8), ..A };
    check(&[A, again], &[(10, 0, true, 3, 2), (11, 0, true, 3, 2)], 0);
    // Another sensor's copy, later than clocks differ.
    let other = Cut { sensor: "b", id: 77, at: (7, 8), ..A };
    check(&[A, other], &[(10, 0, true, 3, 2), (77, 0, true, 3, 2)], 0);
    // A former flow that is sent again is none.
    check(&[A, again, A], &[(10, 0, true, 3, 2), (11, 0, true, 3, 2)], 1);
}

#[test]
fn silence_ends_what_nobody_ended_once() {
    let mut stitch = Stitch::new(PARAMS);
    let mut ledgers = Ledgers::default();
    run(&mut stitch, &[Cut { last: false, ..A }], &mut ledgers);
    let mut outs = Outs::default();
    stitch.advance(Micros(104 * SECOND), &mut ledgers, &mut outs);
    assert_eq!((outs.told.len(), stitch.len()), (0, 1));
    stitch.advance(Micros(105 * SECOND), &mut ledgers, &mut outs);
    assert_eq!((outs.told, stitch.len()), (vec![(10, "ended", 5)], 0));
    let mut gone = Vec::new();
    stitch.take_changes(|key, flow| gone.push((key.octets(), flow.is_none())));
    assert_eq!(gone, [(StitchKey::of(&A.slice().flow, false).octets(), true)]);
}

/// Slices of three sensors on few flows, in any order.
fn cuts() -> impl Strategy<Value = Vec<Cut>> {
    let cut = (0..3_usize, 0..3_u128, 0..4_u32, any::<bool>(), 0..30_i64, 0..3_u64, any::<bool>());
    let cut = cut.prop_map(|(sensor, id, number, last, start, packets, turned)| Cut {
        sensor: ["a", "b", "c"][sensor],
        id: id + 10 * sensor as u128,
        number,
        last,
        at: (start * 5, start * 5 + 4),
        packets: (packets, 2 - packets),
        turned,
    });
    proptest::collection::vec(cut, 0..40)
}

proptest! {
    /// A stitch that is put back from the changes it told of goes on as if it had never stopped.
    #[test]
    fn what_is_put_back_goes_on_as_before(cuts in cuts(), at in 0..40_usize) {
        let at = at.min(cuts.len());
        let mut ledgers = Ledgers::default();
        let mut whole = Stitch::new(PARAMS);
        let want = run(&mut whole, &cuts, &mut ledgers);

        let mut kept: HashMap<Vec<u8>, Stitched> = HashMap::new();
        let mut before = Stitch::new(PARAMS);
        let mut outs = Outs::default();
        for cut in &cuts[..at] {
            before.slice(&Arc::from(cut.sensor), cut.slice(), &mut ledgers, &mut outs);
            before.take_changes(|key, flow| {
                match flow {
                    Some(flow) => drop(kept.insert(key.octets(), flow.clone())),
                    None => drop(kept.remove(&key.octets())),
                }
            });
        }
        let mut after = Stitch::new(PARAMS);
        kept.into_values().for_each(|flow| after.restore(flow));
        after.restore_clock(before.clock());
        for cut in &cuts[at..] {
            after.slice(&Arc::from(cut.sensor), cut.slice(), &mut ledgers, &mut outs);
        }
        prop_assert_eq!(outs.slices, want.slices);
        prop_assert_eq!(outs.told, want.told);
    }
}
