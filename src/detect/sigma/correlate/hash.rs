//! SipHash-1-3 with 128 bits of output and fixed keys (Aumasson and Bernstein, 2012): the same
//! groups and samples in every run, and no two that anybody could make collide by design.

/// A running hash over 64-bit words and texts.
#[derive(Clone, Debug)]
pub(super) struct Sip<const C: usize = 1, const D: usize = 3> {
    v: [u64; 4],
    octets: u64,
}

impl<const C: usize, const D: usize> Sip<C, D> {
    /// A hash with the given key; `0, 0` wherever a key need not be secret.
    pub const fn new(k0: u64, k1: u64) -> Self {
        let v = [
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ];
        Self { v, octets: 0 }
    }

    const fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.v;
        a = a.wrapping_add(b);
        b = b.rotate_left(13) ^ a;
        a = a.rotate_left(32);
        c = c.wrapping_add(d);
        d = d.rotate_left(16) ^ c;
        a = a.wrapping_add(d);
        d = d.rotate_left(21) ^ a;
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        c = c.rotate_left(32);
        self.v = [a, b, c, d];
    }

    fn rounds(&mut self, count: usize) {
        (0..count).for_each(|_| self.round());
    }

    fn absorb(&mut self, word: u64) {
        self.v[3] ^= word;
        self.rounds(C);
        self.v[0] ^= word;
    }

    /// Adds a word.
    pub fn word(&mut self, word: u64) {
        self.absorb(word);
        self.octets = self.octets.wrapping_add(8);
    }

    /// Adds an integer.
    #[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
    pub fn wide(&mut self, value: u128) {
        self.word(value as u64);
        self.word((value >> 64) as u64);
    }

    /// Adds a text, with its length, so that texts in a row stay apart.
    pub fn text(&mut self, text: &str) {
        self.word(text.len() as u64);
        for chunk in text.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
    }

    /// The hash of what was added.
    pub fn finish(mut self) -> [u64; 2] {
        self.absorb(self.octets << 56);
        self.v[2] ^= 0xee;
        self.rounds(D);
        let low = self.v.iter().fold(0, |sum, v| sum ^ v);
        self.v[1] ^= 0xdd;
        self.rounds(D);
        [low, self.v.iter().fold(0, |sum, v| sum ^ v)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first vector of the reference implementation of SipHash-2-4-128: key 00 01 .. 0f, no
    /// input.
    #[test]
    fn it_is_siphash() {
        let (k0, k1) = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        let octets = |[low, high]: [u64; 2]| [low.to_le_bytes(), high.to_le_bytes()].concat();
        let empty = Sip::<2, 4>::new(k0, k1);
        let want = [
            0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55,
            0x02, 0x93,
        ];
        assert_eq!(octets(empty.finish()), want);
    }

    #[test]
    fn what_is_added_tells_hashes_apart() {
        let hash = |texts: &[&str]| {
            let mut sip = Sip::<1, 3>::new(0, 0);
            texts.iter().for_each(|text| sip.text(text));
            sip.finish()
        };
        let all = [hash(&[]), hash(&[""]), hash(&["a", "b"]), hash(&["ab", ""]), hash(&["ab"])];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[..at].contains(one), "{at}");
        }
        assert_eq!(hash(&["x", "y"]), hash(&["x", "y"]));
    }
}
