//! The manual page: one page with every command.

use std::io;

use clap::Command;
use clap_mangen::Man;

/// What clap does not know.
const REST: &str = r#".SH "EXIT STATUS"
.TP
0
Done. A reader that closes its pipe is no failure.
.TP
1
Findings: \fBreplay \-\-fail\-on\-alert\fR, and a rule fired; \fBhealth\fR, and the sensor is not well.
.TP
2
Usage.
.TP
3
Configuration, rules, input or output are not usable; the message says what, where and why.
.TP
70
A fault of Weir.
.SH SIGNALS
.TP
SIGTERM, SIGINT
Stop with everything flushed; a second one stops at once.
.TP
SIGHUP
Load rules and configuration again. If anything is wrong, nothing is changed.
.SH FILES
.TP
/etc/weir/weir.toml
The configuration; \fBweir config default\fR shows every key.
.TP
/var/lib/weir
State, slices and alerts.
"#;

/// The page in roff.
pub(super) fn page(command: &Command) -> io::Result<Vec<u8>> {
    let mut command = command.clone();
    command.build();
    let mut page = Vec::new();
    let man = Man::new(command.clone()).section("8");
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    page.extend_from_slice(b".SH COMMANDS\n");
    for below in command.get_subcommands() {
        section(below, "weir", &mut page)?;
    }
    page.extend_from_slice(REST.as_bytes());
    Ok(page)
}

/// A subsection for `command`, or for each command below it.
fn section(command: &Command, path: &str, page: &mut Vec<u8>) -> io::Result<()> {
    let path = format!("{path} {}", command.get_name());
    if command.get_name() == "help" {
        return Ok(());
    }
    if command.has_subcommands() {
        return command.get_subcommands().try_for_each(|below| section(below, &path, page));
    }
    // What all commands share stands at the top.
    let mut command = command.clone().disable_help_flag(true);
    for global in ["verbose", "quiet", "log_format"] {
        command = command.mut_arg(global, |arg| arg.hide(true));
    }
    let mut options = Vec::new();
    let man = Man::new(command);
    man.render_synopsis_section(&mut options)?;
    man.render_description_section(&mut options)?;
    man.render_options_section(&mut options)?;
    let options = String::from_utf8_lossy(&options);
    let body = options.lines().filter(|line| !line.starts_with(".ie") && !line.starts_with(".el"));
    page.extend_from_slice(format!(".SS \"{}\"\n", path.replace('-', "\\-")).as_bytes());
    for line in body {
        // Sections of a page of its own become paragraphs of this one.
        let line = if line.starts_with(".SH") { ".PP" } else { line };
        page.extend_from_slice(line.as_bytes());
        page.push(b'\n');
    }
    Ok(())
}
