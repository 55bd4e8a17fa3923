//! What a disk or a person takes of a spool while no sensor runs: known by number, for each sink.

use std::fs::File;

use super::*;

/// What is done to the files of the segments, of which each has three frames of twelve slices (and four alerts,
/// all of them tagged slices' own), and which are numbered from 0.
#[derive(Clone, Copy, Debug)]
enum Taken {
    Nothing,
    /// Cut at the end of so many frames of records, and so many octets more.
    Cut(u64, usize, u64),
    /// The octet that stands so far behind the end of so many frames is another.
    Flipped(u64, usize, u64),
    Removed(u64),
    /// Nothing is left in the file.
    Emptied(u64),
    /// The head is none.
    Beheaded(u64),
}

const SEGMENTS: u64 = 3;
const FRAMES: u128 = 3;
const SLICES: u128 = 12;
/// How many records each sink takes of a frame.
const TAKEN: [u64; 3] = [12, 4, 4];

/// Sealed segments of three frames of slices and three of alerts, in turn.
fn fill(config: &config::Spool, sinks: &[(&str, Select, As, &Side)]) {
    for segment in 0..u128::from(SEGMENTS) {
        let spool = open(config, sinks);
        for frame in 0..FRAMES {
            let first = (segment * FRAMES + frame) * SLICES;
            spool.offer(&batch(first..first + SLICES));
            wait_for("the append", || spool.log.book().queued == 0);
        }
        spool.close();
    }
}

/// Where each frame of records of the segment `number` ends, with what it holds.
fn frames(directory: &Path, number: u64) -> Vec<(u64, Sums)> {
    let place = directory.join("segments");
    let found = segment::Segment::open(&place, number, u64::MAX).expect("a segment");
    let (mut at, mut ends) = (found.start, Vec::new());
    while let Some(frame) = found.next(at, u64::MAX) {
        at = frame.end();
        ends.push((at, Sums::of(&frame.header)));
    }
    ends
}

/// Does it; what is gone, by selection: slices, tagged, alerts.
fn take(directory: &Path, taken: Taken) -> [u64; 3] {
    let path = |number| segment::sealed_path(&directory.join("segments"), number);
    let (number, from, to) = match taken {
        Taken::Nothing => return [0; 3],
        Taken::Cut(number, frames, _) => (number, frames, 2 * FRAMES as usize),
        Taken::Flipped(number, frames, _) => (number, frames, frames + 1),
        Taken::Removed(number) | Taken::Emptied(number) | Taken::Beheaded(number) => {
            (number, 0, 2 * FRAMES as usize)
        }
    };
    let ends = frames(directory, number);
    assert_eq!(ends.len() as u128, 2 * FRAMES);
    let mut gone = Sums::default();
    ends[from..to].iter().for_each(|&(_, sums)| gone.add(sums));
    let path = path(number);
    let mut octets = std::fs::read(&path).expect("sealed");
    let start = |frames: usize| {
        let place = directory.join("segments");
        let start = segment::Segment::open(&place, number, u64::MAX).expect("a segment").start;
        usize::try_from(frames.checked_sub(1).map_or(start, |last| ends[last].0)).expect("small")
    };
    match taken {
        Taken::Cut(_, frames, more) => octets.truncate(start(frames) + more as usize),
        Taken::Flipped(_, frames, at) => octets[start(frames) + at as usize] ^= 1,
        Taken::Beheaded(_) => octets[0] ^= 1,
        _ => octets.clear(),
    }
    if matches!(taken, Taken::Removed(_)) {
        std::fs::remove_file(path).expect("there");
    } else {
        std::fs::write(path, octets).expect("room");
    }
    [gone.slices, gone.tagged, gone.alerts]
}

#[test]
fn what_is_taken_of_segments_is_counted_for_each_sink_once() {
    for taken in [
        Taken::Nothing,
        // At the very end of a frame, within its header and within its payload.
        Taken::Cut(1, 4, 0),
        Taken::Cut(1, 4, 7),
        Taken::Cut(1, 3, 50),
        Taken::Cut(1, 0, 0),
        Taken::Cut(2, 5, 0),
        Taken::Cut(0, 1, 0),
        // A header, and a payload.
        Taken::Flipped(0, 2, 3),
        Taken::Flipped(1, 3, 60),
        Taken::Flipped(2, 5, 1),
        Taken::Emptied(1),
        Taken::Emptied(2),
        Taken::Beheaded(0),
        Taken::Removed(0),
        Taken::Removed(1),
        Taken::Removed(2),
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        let config =
            config::Spool { segment_bytes: 1 << 20, stop_s: 0, ..settings(directory.path()) };
        let sides: [Side; 3] = Default::default();
        sides.iter().for_each(|side| side.away(true));
        let sinks: &[_] = &[
            ("slices", Select::Slices, As::Stream, &sides[0]),
            ("tagged", Select::Tagged, As::Objects, &sides[1]),
            ("alerts", Select::Alerts, As::Stream, &sides[2]),
        ];
        fill(&config, sinks);
        let all = TAKEN.map(|records| records * FRAMES as u64 * SEGMENTS);
        let gone = take(directory.path(), taken);
        let survey = operator::survey(directory.path(), true).expect("a spool");
        sides.iter().for_each(|side| side.away(false));
        sides[1].objects.lock().expect("no panic").clear();
        let config = config::Spool { stop_s: 20, ..config };
        let spool = open(&config, sinks);
        let ledgers = spool.close();
        let told = |name: &str| survey.sinks.iter().find(|sink| sink.sink == name).expect(name);
        for (place, (name, ..)) in sinks.iter().enumerate() {
            let (ledger, what) = (&ledgers[*name], format!("{taken:?} {name}"));
            balanced(ledger);
            assert_eq!(ledger.shed.of(DAMAGED), gone[place], "{what}");
            assert_eq!(ledger.shed.total(), gone[place], "{what}");
            assert_eq!(ledger.acknowledged, all[place] - gone[place], "{what}");
            assert_eq!(sides[place].got().len() as u64, all[place] - gone[place], "{what}");
            let reported = told(name).lost + told(name).waiting;
            let flipped = matches!(taken, Taken::Flipped(..));
            assert!(reported == all[place] || flipped, "{what}: {:?}", told(name));
        }
        let state = Sink::spool(&spool).expect("a spool");
        assert_eq!(state.damaged_octets > 0, gone[0] + gone[2] > 0, "{taken:?}");
        drop(spool);
        // What was told of is over; what comes is a segment of its own.
        let spool = open(&config, sinks);
        spool.offer(&batch(10_000..10_001));
        for (name, ledger) in spool.close() {
            let one = u64::from(name == "slices");
            assert_eq!((ledger.selected, ledger.acknowledged), (one, one), "{taken:?} {name}");
        }
    }
}

/// What a sink has delivered of a segment is not lost with it, be it cut before the cursor or behind it.
#[test]
fn what_was_delivered_of_a_segment_is_not_lost_with_it() {
    for (cut, lost) in [(1, 48), (3, 48), (4, 36), (6, 12), (7, 0)] {
        let directory = tempfile::tempdir().expect("a directory");
        let config =
            config::Spool { segment_bytes: 1 << 20, stop_s: 0, ..settings(directory.path()) };
        let (side, dead) = (Side::default(), Side::default());
        dead.away(true);
        let sinks: &[_] = &[
            ("a", Select::Slices, As::Stream, &side),
            ("dead", Select::Slices, As::Stream, &dead),
        ];
        let spool = open(&config, sinks);
        for frame in 0..7 {
            side.away(frame >= 3);
            // Without alerts: the ids are none that 3 divides.
            let ids = (0..SLICES).map(|n| (frame * SLICES + n) * 3 + 1);
            let mut frame = Batch::default();
            ids.for_each(|id| frame.slices.extend(batch(id..id + 1).slices.clone()));
            spool.offer(&Arc::new(frame));
            wait_for("the append", || spool.log.book().queued == 0);
            wait_for("delivery", || {
                let ledger = &spool.ledgers()["a"];
                ledger.acknowledged == ledger.selected.min(36)
            });
        }
        spool.close();
        let place = directory.path().join("segments");
        let found = segment::Segment::open(&place, 0, u64::MAX).expect("a segment");
        let mut at = found.start;
        for _ in 0..cut {
            at = found.next(at, u64::MAX).expect("a frame").end();
        }
        let file = File::options().write(true).open(segment::sealed_path(&place, 0));
        file.expect("sealed").set_len(at).expect("shorter");
        let survey = operator::survey(directory.path(), false).expect("a spool");
        assert_eq!(survey.sinks[0].lost, lost, "cut after frame {cut}: {:?}", survey.sinks[0]);
        side.away(false);
        let config = config::Spool { stop_s: 20, ..config };
        let spool = open(&config, sinks);
        let ledgers = spool.ledgers();
        assert_eq!(ledgers["a"].shed.of(DAMAGED), lost, "cut after frame {cut}");
        assert_eq!(ledgers["dead"].shed.of(DAMAGED), 84 - 12 * cut, "cut after frame {cut}");
        dead.away(false);
        let ledgers = spool.close();
        ledgers.values().for_each(balanced);
        assert_eq!(side.got().len() as u64, 84 - lost, "cut after frame {cut}");
    }
}

/// A segment that is cut short while the sensor runs: what stands before the cut is delivered.
#[test]
fn what_is_cut_off_while_a_sink_waits_is_counted_and_the_rest_delivered() {
    for how in [As::Stream, As::Objects] {
        let directory = tempfile::tempdir().expect("a directory");
        let config = config::Spool { segment_bytes: 1 << 20, ..settings(directory.path()) };
        let side = Side::default();
        side.away(true);
        side.torn.store(true, Ordering::Relaxed);
        let sinks: &[_] = &[("a", Select::Slices, how, &side)];
        let spool = open(&config, sinks);
        for frame in 0..FRAMES {
            spool.offer(&batch(frame * SLICES..(frame + 1) * SLICES));
            wait_for("the append", || spool.log.book().queued == 0);
        }
        wait_for("the seal", || spool.log.book().segments[0].sealed);
        spool.close();
        let spool = open(&config, sinks);
        let ends = frames(directory.path(), 0);
        let keep = ends.iter().filter(|(_, sums)| sums.slices > 0).nth(1).expect("two frames").0;
        let path = segment::sealed_path(&directory.path().join("segments"), 0);
        File::options().write(true).open(path).expect("sealed").set_len(keep).expect("cut");
        side.away(false);
        wait_for("the end", || spool.ledgers()["a"].spooled == 0);
        let ledger = spool.close()["a"].clone();
        balanced(&ledger);
        // A unit that was read before the cut is whole.
        let (lost, got) = (ledger.shed.of(DAMAGED), side.got().len() as u64);
        assert!((lost == 12 && got == 24) || (lost == 0 && got == 36), "{lost} {got}");
    }
}

/// A sink that lags, catches up and dies again: what it passes over is counted, and what came after is there,
/// whatever its file said when the gap began.
#[test]
fn what_comes_after_a_gap_is_neither_missed_nor_uncounted() {
    for how in [As::Stream, As::Objects] {
        let directory = tempfile::tempdir().expect("a directory");
        let config = config::Spool {
            segment_bytes: 16_000,
            bytes_max: 160_000,
            full: Full::Newest,
            stop_s: 0,
            ..settings(directory.path())
        };
        let (late, alive) = (Side::default(), Side::default());
        late.away(true);
        let sinks: &[_] =
            &[("late", Select::Slices, how, &late), ("alive", Select::Slices, As::Stream, &alive)];
        let spool = open(&config, sinks);
        let mut sent = 0_u128;
        let mut send = |spool: &Spool| {
            spool.offer(&batch(sent..sent + 50));
            sent += 50;
            wait_for("whoever keeps up", || {
                let book = spool.log.book();
                book.queued == 0 && book.takers[1].cursor.segment + 1 >= book.next
            });
        };
        let ledger = |spool: &Spool| spool.ledgers()["late"].clone();
        while ledger(&spool).shed.of(SPOOL_FULL) < 500 {
            send(&spool);
        }
        late.away(false);
        wait_for("who lagged", || ledger(&spool).spooled == 0);
        late.away(true);
        // Until a segment is begun that it takes again, and more of them.
        let shed = ledger(&spool).shed.total();
        while ledger(&spool).spooled < 500 {
            send(&spool);
            assert!(ledger(&spool).shed.total() < shed + 5_000, "it never takes part again");
        }
        let first = spool.close()["late"].clone();
        balanced(&first);
        late.away(false);
        let spool = open(&config, sinks);
        assert_eq!(ledger(&spool).selected, first.spooled, "what waited, waits");
        wait_for("the rest", || ledger(&spool).spooled == 0);
        let last = spool.close()["late"].clone();
        assert_eq!((last.acknowledged, last.shed.total()), (first.spooled, 0));
        let all = u64::try_from(sent).expect("few");
        assert_eq!(late.got().len() as u64 + first.shed.total(), all);
    }
}

#[test]
fn what_is_lost_is_told_by_one_start_and_no_other() {
    for taken in
        [Taken::Cut(1, 4, 7), Taken::Cut(1, 4, 0), Taken::Flipped(1, 3, 3), Taken::Removed(1)]
    {
        let directory = tempfile::tempdir().expect("a directory");
        let config =
            config::Spool { segment_bytes: 1 << 20, stop_s: 0, ..settings(directory.path()) };
        let dead = Side::default();
        dead.away(true);
        let both: &[_] = &[
            ("dead", Select::Slices, As::Stream, &dead),
            ("alerts", Select::Alerts, As::Stream, &dead),
        ];
        fill(&config, both);
        let gone = take(directory.path(), taken);
        for start in 0..3 {
            let spool = open(&config, both);
            let damaged = Sink::spool(&spool).expect("a spool").damaged_octets;
            let shed = [("dead", gone[0]), ("alerts", gone[2])].map(|(name, gone)| {
                let shed = spool.ledgers()[name].shed.of(DAMAGED);
                assert_eq!(
                    shed,
                    if start == 0 { gone } else { 0 },
                    "{taken:?} {name} start {start}"
                );
                shed
            });
            assert_eq!(damaged > 0, shed != [0; 2], "{taken:?} start {start}");
            spool.close();
        }
    }
}

/// The file that is written, or the whole spool, is taken away while the sensor runs: what sinks had not read is
/// counted, and what comes then is kept and delivered.
#[test]
fn what_is_taken_away_while_it_is_written_is_counted_and_what_follows_is_kept() {
    for whole_spool in [false, true] {
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path().join("spool");
        let config =
            config::Spool { segment_idle_s: 60, segment_bytes: 1 << 20, ..settings(&place) };
        let sides: [Side; 3] = Default::default();
        let sinks: &[_] = &[
            ("away", Select::Slices, As::Stream, &sides[0]),
            ("there", Select::Slices, As::Stream, &sides[1]),
            ("objects", Select::Tagged, As::Objects, &sides[2]),
        ];
        sides[0].away(true);
        let spool = open(&config, sinks);
        spool.offer(&batch(0..12));
        wait_for("the delivery", || spool.ledgers()["there"].acknowledged == 12);
        if whole_spool {
            std::fs::remove_dir_all(&place).expect("there");
        } else {
            std::fs::remove_file(segment::open_path(&place.join("segments"), 0)).expect("there");
        }
        wait_for("the look", || spool.ledgers()["objects"].shed.of(DAMAGED) == 4);
        spool.offer(&batch(12..24));
        wait_for("what follows", || spool.ledgers()["there"].acknowledged == 24);
        let ledgers = spool.close();
        ledgers.values().for_each(balanced);
        assert_eq!(ledgers["there"].shed.total(), 0, "{whole_spool}");
        assert_eq!(ledgers["objects"].acknowledged, 4, "{whole_spool}");
        // The unit that was under way was tried until the stop.
        let away = &ledgers["away"];
        assert_eq!((away.shed.of(DAMAGED), away.spooled), (12, 12), "{whole_spool}: {away:?}");
        assert_eq!(sides[1].got(), (0..24).collect::<Vec<_>>());
        // The next start has what followed, and tells of no loss again.
        sides[0].away(false);
        let spool = open(&config, sinks);
        wait_for("the rest", || spool.ledgers()["away"].spooled == 0);
        let ledgers = spool.close();
        assert!(ledgers.values().all(|ledger| ledger.shed.total() == 0), "{ledgers:?}");
        assert_eq!(sides[0].got(), (12..24).collect::<Vec<_>>(), "{whole_spool}");
    }
}

/// Where all is read and gone, there is nothing to set a cursor back to.
#[test]
fn a_cursor_is_not_set_back_to_what_is_gone() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = settings(directory.path());
    let side = Side::default();
    let sinks: &[_] = &[("a", Select::Slices, As::Stream, &side)];
    fill(&config, sinks);
    assert_eq!(segments(directory.path()), 0, "nothing is kept");
    let before =
        operator::survey(directory.path(), false).expect("a spool").sinks[0].cursor.clone();
    assert_eq!(before.segment, SEGMENTS);
    let goal = operator::Goal::Time(Micros::default());
    let error = operator::replay(directory.path(), "a", goal).expect_err("nothing").to_string();
    assert!(error.contains("nothing would be delivered again"), "{error}");
    let dropped = operator::discard(directory.path(), "a", goal).expect("nothing to do");
    assert_eq!((dropped.records, &dropped.to), (0, &before));
    let after = operator::survey(directory.path(), false).expect("a spool");
    assert_eq!((&after.sinks[0].cursor, after.sinks[0].lost), (&before, 0));
    let ledger = open(&config, sinks).close()["a"].clone();
    assert_eq!((ledger.selected, ledger.shed.total()), (0, 0));
}

/// Whoever looks at a spool that is not as it should be is told which file it is.
#[test]
fn what_cannot_be_looked_at_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let side = Side::default();
    let config = settings(directory.path());
    open(&config, &[("a", Select::Slices, As::Stream, &side)]).close();
    let place = directory.path().join("segments");
    let tell = |path: &Path| {
        let goal = operator::Goal::End;
        let errors = [
            operator::survey(directory.path(), false).map(drop).expect_err("cannot be read"),
            operator::discard(directory.path(), "a", goal).map(drop).expect_err("nor moved"),
        ];
        for error in errors.map(|error| error.to_string()) {
            assert!(error.starts_with(&format!("{}: ", path.display())), "{error}");
        }
    };
    let segment = segment::sealed_path(&place, 7);
    std::fs::create_dir(&segment).expect("made");
    tell(&segment);
    std::fs::remove_dir_all(&place).expect("there");
    tell(&place);
    std::fs::write(&place, "").expect("written");
    tell(&place);
}
