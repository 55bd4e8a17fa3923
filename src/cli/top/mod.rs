//! `weir top`: what a running sensor does, live.

mod sample;
mod screen;

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use super::Failure;
use super::args::Top;
use sample::{Sample, View};

/// Size of the picture that `--once` prints.
const ONCE: (u16, u16) = (120, 44);

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
    let mut terminal = ratatui::init();
    let ended = watch(&mut terminal, address, interval, first);
    ratatui::restore();
    ended
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

fn watch(
    terminal: &mut ratatui::DefaultTerminal,
    address: SocketAddr,
    interval: Duration,
    first: Sample,
) -> Result<(), Failure> {
    let mut before = first;
    let mut view = View::of(&before, &before);
    let mut taken = Instant::now();
    loop {
        terminal.draw(|frame| screen::draw(frame, &view))?;
        let left = interval.saturating_sub(taken.elapsed());
        if event::poll(left)? {
            let Event::Key(key) = event::read()? else { continue };
            let control_c =
                key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
            let quits = control_c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc);
            if key.kind == KeyEventKind::Press && quits {
                return Ok(());
            }
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
