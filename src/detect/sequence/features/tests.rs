use proptest::prelude::*;

use super::*;
use crate::detect::sequence::Record;
use crate::time::Micros;

fn record() -> impl Strategy<Value = Record> {
    let counts = (any::<u64>(), any::<u64>(), 0..1_u64 << 40, 0..300_u64);
    let small = (0..3_000_u64, 0..3_000_u64, 0..40_u64, 0..40_u64);
    let counts = prop_oneof![counts, small];
    let times =
        (prop_oneof![0..5_000_000_i64, any::<i64>()], prop_oneof![0..90_000_i64, 0..1_i64 << 50]);
    let ports =
        (prop_oneof![Just(443_u16), any::<u16>()], prop_oneof![Just(6_u8), Just(17), any::<u8>()]);
    (counts, times, ports, any::<(u8, bool, bool)>()).prop_map(|(counts, times, ports, rest)| {
        Record {
            first: Micros(times.0),
            last: Micros(times.0.saturating_add(times.1)),
            fwd_octets: counts.0,
            bwd_octets: counts.1,
            fwd_packets: counts.2,
            bwd_packets: counts.3,
            initiator_port: 40_000,
            responder_port: ports.0,
            protocol: ports.1,
            flags: rest.0,
            flags_known: rest.1,
            initiator_low: rest.2,
        }
    })
}

proptest! {
    /// Whatever records say, the model gets finite numbers, and shares are shares.
    #[test]
    fn features_are_finite(records in prop::collection::vec(record(), 1..=WINDOW)) {
        let events: Vec<Event> = records.iter().map(Event::of).collect();
        let columns = Columns::of(&events);
        let mut steps = [f32::NAN; STEPS];
        columns.steps(&mut steps);
        prop_assert!(steps.iter().all(|value| value.is_finite()));
        let stats = columns.stats();
        for (name, value) in STAT_NAMES.iter().zip(stats) {
            prop_assert!(value.is_finite(), "{name}: {value}");
            if name.ends_with("_share") || name.starts_with("rita_") {
                prop_assert!((0.0..=1.0).contains(&value), "{name}: {value}");
            }
        }
    }

    /// The pair's order decides nothing: seen from the other end, the window is the same.
    #[test]
    fn the_order_of_the_addresses_decides_nothing(
        records in prop::collection::vec(record(), 1..=WINDOW),
    ) {
        let turned = records.iter().map(|r| Record { initiator_low: !r.initiator_low, ..*r });
        let [a, b]: [Vec<Event>; 2] =
            [records.iter().map(Event::of).collect(), turned.map(|r| Event::of(&r)).collect()];
        prop_assert_eq!(Columns::of(&a).stats(), Columns::of(&b).stats());
    }
}

#[test]
fn empty_places_are_blank_and_the_newest_stands_last() {
    let record = Record { fwd_octets: 100, responder_port: 53, protocol: 17, ..Record::default() };
    let mut steps = [f32::NAN; STEPS];
    Columns::of(&[Event::of(&record)]).steps(&mut steps);
    assert!(steps[..STEPS - STEP].iter().all(|&value| value == 0.0));
    assert_eq!(steps[STEPS - STEP], 1.0);
    let dns = STEP_NAMES.iter().position(|name| *name == "service_dns").expect("a column");
    assert_eq!(steps[STEPS - STEP + dns], 1.0);
}
