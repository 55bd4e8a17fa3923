//! The picture.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Borders, Paragraph, Row, Table};

use super::sample::View;

pub(super) fn draw(frame: &mut Frame<'_>, view: &View) {
    let rows = Layout::vertical(heights(frame.area().height).map(Constraint::Length));
    let [head, first, second, third] = rows.areas(frame.area());
    let halves = Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]);
    let halves = halves.spacing(1);
    header(frame, head, view);
    let [left, right] = halves.areas(first);
    rates(frame, left, view);
    given_up(frame, right, view);
    let [left, right] = halves.areas(second);
    exporters(frame, left, view);
    let [upper, lower] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(9)]).areas(right);
    threads(frame, upper, view);
    stages(frame, lower, view);
    let [left, right] = halves.areas(third);
    talkers(frame, left, view);
    rules(frame, right, view);
}

/// Lines of the head and the three rows below it, of so many: rates and losses keep theirs longest.
fn heights(lines: u16) -> [u16; 4] {
    const RATES: u16 = 11;
    const PARTS: u16 = 14;
    let head = lines.min(1);
    let first = (lines - head).min(RATES);
    let left = lines - head - first;
    let second = if left > PARTS + 6 { left / 2 + PARTS / 4 } else { left }.max(left.min(PARTS));
    [head, first, second, left - second]
}

fn header(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let state = if view.lost { "  no answer" } else { "" };
    let text = format!(
        "weir {}   {} flows   {} exporters   q quits{state}",
        view.version,
        number(view.flows),
        number(view.exporters_known),
    );
    let style = if view.lost { Style::new().fg(Color::Red) } else { Style::new() };
    frame.render_widget(Paragraph::new(Line::from(text).style(style.bold())), area);
}

fn rates(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let rows = view.rates.iter().map(|&(word, per_second, total)| {
        Row::new([word.to_owned(), number(per_second), number(total)])
    });
    table(frame, area, ["in and out", "per second", "total"], rows.collect());
}

fn given_up(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let row = |(what, per_second, total): &(String, f64, f64)| {
        let style = if *per_second > 0.0 { Style::new().fg(Color::Red) } else { Style::default() };
        Row::new([what.clone(), number(*per_second), number(*total)]).style(style)
    };
    // Below the border and the titles.
    let (fits, losses) = (usize::from(area.height.saturating_sub(2)), view.given_up.len());
    let shown = if losses <= fits { losses } else { fits.saturating_sub(1) };
    let mut rows: Vec<Row<'_>> = view.given_up.iter().take(shown).map(row).collect();
    if shown < losses {
        let more = format!("and {} more", losses - shown);
        rows.push(
            Row::new([more, String::new(), String::new()]).style(Style::new().fg(Color::Red)),
        );
    }
    if rows.is_empty() {
        rows.push(Row::new(["nothing", "", ""]).style(Style::new().fg(Color::Green)));
    }
    table(frame, area, ["given up", "per second", "total"], rows);
}

fn exporters(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let row = |(who, rate, lost, waiting): &(String, f64, u64, u64)| {
        let trouble = if *waiting > 0 { format!("{lost} / {waiting}") } else { lost.to_string() };
        Row::new([who.clone(), number(*rate), trouble])
    };
    let rows = view.exporters.iter().map(row).collect();
    table(frame, area, ["exporters", "records/s", "lost / wait"], rows);
}

fn threads(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let row = |(name, share): &(String, f64)| {
        let bar = "|".repeat((share * 20.0).round() as usize);
        Row::new([name.clone(), format!("{:.0} %", share * 100.0), bar])
    };
    let mut rows: Vec<Row<'_>> = view.threads.iter().map(row).collect();
    if let Some((least, mean, most)) = view.shards {
        let spread = format!("{least} / {mean:.0} / {most}");
        rows.push(Row::new(["shards".to_owned(), String::new(), spread]));
    }
    table(frame, area, ["threads", "busy", "flows: least / mean / most"], rows);
}

/// What each stage takes of a core and of a record's time.
fn stages(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let row = |(stage, share, each): &(String, f64, f64)| {
        Row::new([stage.clone(), format!("{:.1} %", share * 100.0), format!("{each:.3} us")])
    };
    let mut rows: Vec<Row<'_>> = view.stages.iter().map(row).collect();
    let (median, late) = view.latency_us;
    let latency = format!("{median:.0} / {late:.0} us");
    rows.insert(0, Row::new(["latency: 50 / 99 %".to_owned(), String::new(), latency]));
    table(frame, area, ["stages", "of a core", "a record"], rows);
}

fn talkers(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let row = |(who, octets): &(String, f64)| {
        Row::new([who.clone(), format!("{}bit/s", number(octets * 8.0)), String::new()])
    };
    let rows = view.talkers.iter().map(row).collect();
    table(frame, area, ["top talkers", "slices cut", ""], rows);
}

fn rules(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let row = |(title, matched, verified): &(String, u64, u64)| {
        Row::new([title.clone(), number(*matched as f64), number(*verified as f64)])
    };
    table(frame, area, ["rules", "matched", "verified"], view.rules.iter().map(row).collect());
}

fn table(frame: &mut Frame<'_>, area: Rect, titles: [&'static str; 3], rows: Vec<Row<'_>>) {
    let widths = [Constraint::Fill(2), Constraint::Fill(1), Constraint::Fill(1)];
    let titles = Row::new(titles).style(Style::new().add_modifier(Modifier::BOLD));
    let block = Block::new().borders(Borders::TOP);
    frame.render_widget(Table::new(rows, widths).header(titles).block(block), area);
}

/// Three digits or so, with a unit prefix.
fn number(value: f64) -> String {
    const PREFIXES: [(f64, &str); 4] = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    match PREFIXES.iter().find(|(unit, _)| value >= *unit) {
        Some((unit, prefix)) => format!("{:.1} {prefix}", value / unit),
        None => format!("{value:.0} ").trim_end().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{heights, number};

    #[test]
    fn rates_and_losses_keep_their_lines_longest() {
        for (lines, want) in [
            (0, [0, 0, 0, 0]),
            (1, [1, 0, 0, 0]),
            (10, [1, 9, 0, 0]),
            (24, [1, 11, 12, 0]),
            (26, [1, 11, 14, 0]),
            (40, [1, 11, 17, 11]),
            (60, [1, 11, 27, 21]),
        ] {
            assert_eq!(heights(lines), want, "{lines} lines");
            assert_eq!(want.iter().sum::<u16>(), lines);
        }
    }

    #[test]
    fn numbers_are_short() {
        for (value, want) in
            [(0.0, "0"), (999.0, "999"), (1_000.0, "1.0 k"), (2_345_678.0, "2.3 M"), (1e9, "1.0 G")]
        {
            assert_eq!(number(value), want);
        }
    }
}
