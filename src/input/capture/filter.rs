//! BPF filters in pcap-filter(7) syntax.

use super::CaptureError;
use crate::decode::packet::LinkType;
use crate::input::pcap::Packet;

/// A BPF filter for packets that do not come from a live capture, compiled per link type.
///
/// The filter sees the captured octets only: `len`, `greater` and `less` mean the captured length.
pub struct Filter {
    expression: String,
    programs: Vec<(LinkType, pcap::BpfProgram)>,
}

impl Filter {
    /// The filter `expression` in pcap-filter(7) syntax, compiled for Ethernet to begin with.
    ///
    /// # Errors
    /// [`CaptureError::Filter`] if it does not compile.
    pub fn new(expression: &str) -> Result<Self, CaptureError> {
        Self::for_link(expression, LinkType::ETHERNET)
    }

    /// As [`Self::new`], compiled for `link` to begin with.
    ///
    /// # Errors
    /// [`CaptureError::Filter`] if it does not compile.
    pub(super) fn for_link(expression: &str, link: LinkType) -> Result<Self, CaptureError> {
        let mut filter = Self { expression: expression.to_owned(), programs: Vec::new() };
        filter.program(link)?;
        Ok(filter)
    }

    /// The program for `link`, which was compiled, as the kernel takes it: `snaplen` octets of a
    /// packet that passes.
    pub(super) fn code(&self, link: LinkType, snaplen: u32) -> Vec<libc::sock_filter> {
        const RETURN_K: u16 = 0x06;
        let program = self.programs.iter().find(|&&(l, _)| l == link);
        let code = program.map_or(&[][..], |(_, program)| program.get_instructions());
        // An instruction shows itself as "code jt jf k".
        let numbers = code.iter().map(|op| {
            let text = op.to_string();
            let mut parts = text.split(' ').map(|part| part.parse::<u32>().unwrap_or(0));
            [(); 4].map(|()| parts.next().unwrap_or(0))
        });
        let instruction = |[code, jt, jf, k]: [u32; 4]| {
            let code = code as u16;
            let k = if code == RETURN_K && k > 0 { snaplen } else { k };
            libc::sock_filter { code, jt: jt as u8, jf: jf as u8, k }
        };
        numbers.map(instruction).collect()
    }

    /// Whether `packet` passes.
    ///
    /// # Errors
    /// [`CaptureError::Filter`] if the expression means nothing on the packet's link type.
    pub fn matches(&mut self, packet: &Packet<'_>) -> Result<bool, CaptureError> {
        Ok(self.program(packet.link)?.filter(packet.data))
    }

    fn program(&mut self, link: LinkType) -> Result<&pcap::BpfProgram, CaptureError> {
        let known = self.programs.iter().position(|&(l, _)| l == link);
        let index = match known {
            Some(index) => index,
            None => {
                let dead = pcap::Capture::dead(dlt(link));
                let program = dead.and_then(|dead| dead.compile(&self.expression, true));
                let program =
                    program.map_err(|error| filter_error(&self.expression, link, &error))?;
                self.programs.push((link, program));
                self.programs.len() - 1
            }
        };
        Ok(&self.programs[index].1)
    }
}

/// The number in files as libpcap's on this system: raw IP is the one that differs.
fn dlt(link: LinkType) -> pcap::Linktype {
    match link {
        LinkType::RAW => pcap::Linktype(i32::from(LinkType::RAW_12.0)),
        LinkType(number) => pcap::Linktype(i32::from(number)),
    }
}

pub(super) fn filter_error(filter: &str, link: LinkType, error: &pcap::Error) -> CaptureError {
    let detail = error.to_string();
    CaptureError::Filter { filter: filter.to_owned(), link: link.0, detail }
}
