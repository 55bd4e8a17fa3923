//! `weir top`: what a running sensor does, live.

mod sample;
mod screen;

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use super::args::Top;
use sample::{Sample, View};

/// Size of the picture that `--once` prints.
const ONCE: (u16, u16) = (120, 44);
/// How often it is looked whether a signal came.
const SIGNAL_LOOK: Duration = Duration::from_millis(100);

pub(super) fn run(args: &Top) -> Result<(), Failure> {
    let address = super::admin_address(args.admin, &args.config)?;
    let interval = Duration::from_secs(u64::from(args.interval.max(1)));
    if args.once {
        return once(address, interval);
    }
    if !std::io::stdout().is_terminal() {
        let message = "standard output is not a terminal: `weir top --once` prints one picture";
        return Err(Failure::Invalid(message.to_owned()));
    }
    // Before the screen is taken, so that an error is seen.
    let first = Sample::take(address)?;
    let ended = ended_by_signal()?;
    let mut terminal = ratatui::init();
    let result = watch(&mut terminal, address, interval, first, &ended);
    ratatui::restore();
    result
}

fn once(address: SocketAddr, interval: Duration) -> Result<(), Failure> {
    let before = Sample::take(address)?;
    std::thread::sleep(interval);
    let view = View::of(&before, &Sample::take(address)?);
    let backend = TestBackend::new(ONCE.0, ONCE.1);
    let Ok(mut terminal) = Terminal::new(backend);
    let Ok(_) = terminal.draw(|frame| screen::draw(frame, &view));
    super::print(text(terminal.backend().buffer()).as_bytes())
}

/// The picture as lines of text, without the blanks at their ends and the blank lines at its end.
fn text(buffer: &Buffer) -> String {
    let area = buffer.area;
    let line = |y| {
        let cells = (0..area.width).map(|x| buffer[(x, y)].symbol());
        cells.collect::<String>().trim_end().to_owned()
    };
    let lines: Vec<String> = (0..area.height).map(line).collect();
    lines.join("\n").trim_end().to_owned() + "\n"
}

/// Becomes true when a signal asks for the end: the screen is to be given back first.
fn ended_by_signal() -> Result<Arc<AtomicBool>, Failure> {
    let ended = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&ended);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut term, mut hup) = {
        let _entered = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?)
    };
    std::thread::Builder::new().name("weir-signals".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! { _ = term.recv() => {}, _ = hup.recv() => {} }
        });
        set.store(true, Ordering::Relaxed);
    })?;
    Ok(ended)
}

fn watch(
    terminal: &mut ratatui::DefaultTerminal,
    address: SocketAddr,
    interval: Duration,
    first: Sample,
    ended: &AtomicBool,
) -> Result<(), Failure> {
    let mut before = first;
    let mut view = View::of(&before, &before);
    let mut taken = Instant::now();
    loop {
        terminal.draw(|frame| screen::draw(frame, &view))?;
        if ended.load(Ordering::Relaxed) {
            return Ok(());
        }
        let left = interval.saturating_sub(taken.elapsed());
        if event::poll(left.min(SIGNAL_LOOK))? {
            let Event::Key(key) = event::read()? else { continue };
            let control_c =
                key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
            let quits = control_c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc);
            if key.kind == KeyEventKind::Press && quits {
                return Ok(());
            }
            continue;
        }
        if taken.elapsed() < interval {
            continue;
        }
        taken = Instant::now();
        match Sample::take(address) {
            Ok(sample) => {
                view = View::of(&before, &sample);
                before = sample;
            }
            // It may be restarting: the picture stays, and says so.
            Err(_) => view.lost = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seconds: u64, metrics: &str) -> Sample {
        let exporters = serde_json::json!([{
            "address": "192.0.2.1", "name": "edge-1", "records_per_s": 1_234.5,
            "sequence": {"lost": 7}, "waiting": [{"sets": 3}],
        }]);
        let activity = serde_json::json!({
            "talkers": [{"address": "10.0.0.9", "octets_per_s": 125_000_000.0}],
            "shards": [10, 30, 20],
        });
        let at = Duration::from_secs(seconds);
        Sample { at, metrics: sample::parse(metrics), exporters, rules: None, activity }
    }

    #[test]
    fn exporters_have_the_rate_between_two_pictures_and_ports_where_there_are_several() {
        let of = |seconds, records: [u64; 3]| {
            let mut sample = sample(seconds, "");
            let report = |address: &str, port: u16, records: u64| {
                serde_json::json!({"address": address, "port": port, "site": "default",
                    "records": records, "records_per_s": 0.0})
            };
            sample.exporters = serde_json::json!([
                report("192.0.2.1", 5, records[0]),
                report("192.0.2.1", 6, records[1]),
                report("192.0.2.2", 5, records[2]),
            ]);
            sample
        };
        let view = View::of(&of(10, [100, 0, 7]), &of(12, [300, 20, 7]));
        let shown: Vec<_> =
            view.exporters.iter().map(|(name, rate, ..)| (name.as_str(), *rate)).collect();
        let want = [("192.0.2.1 port 5", 100.0), ("192.0.2.1 port 6", 10.0), ("192.0.2.2", 0.0)];
        assert_eq!(shown, want);
    }

    #[test]
    fn a_picture_tells_rates_losses_and_who() {
        let before = sample(10, "weir_flow_records_total 1000\nweir_flow_table_entries 5\n");
        let after = sample(
            12,
            "# TYPE weir_flow_records counter\nweir_flow_records_total 5000\n\
             weir_flow_table_entries 60\n\
             weir_output_records_shed_total{sink=\"flows\",reason=\"queue_full\"} 8\n\
             weir_input_kernel_drops_total{input=\"netflow\"} 0\n\
             weir_thread_busy_microseconds_total{thread=\"worker-0\"} 1500000\n\
             weir_build_info{version=\"9.9.9\"} 1\n# EOF\n",
        );
        let view = View::of(&before, &after);
        let Ok(mut terminal) = Terminal::new(TestBackend::new(100, 40));
        let Ok(_) = terminal.draw(|frame| screen::draw(frame, &view));
        let text = text(terminal.backend().buffer());
        for words in [
            &["weir 9.9.9", "60 flows"][..],
            &["records", "2.0 k"],
            &["flows: queue_full", "4"],
            &["192.0.2.1", "edge-1", "1.2 k", "7"],
            &["worker-0", "75 %"],
            &["10.0.0.9", "1.0 Gbit/s"],
            &["shards", "10", "20", "30"],
        ] {
            let found = text.lines().any(|line| words.iter().all(|word| line.contains(word)));
            assert!(found, "{words:?} in\n{text}");
        }
        assert!(!text.contains("kernel"), "what lost nothing has no line\n{text}");
    }
}
