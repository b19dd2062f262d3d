//! Text that leaves in pieces while it is written: of a text a thousand times its request, only one piece is held.

/// Takes a finished piece and the number of items that begin in it; empties the buffer. False when no more is wanted.
pub(crate) type Take<'a> = dyn FnMut(&mut Vec<u8>, u64) -> bool + 'a;

pub struct Pieces<'a> {
    pub out: &'a mut Vec<u8>,
    /// Items begun since the last piece.
    pub items: u64,
    piece_bytes: usize,
    take: &'a mut Take<'a>,
    wanted: bool,
}

impl<'a> Pieces<'a> {
    pub fn new(out: &'a mut Vec<u8>, piece_bytes: usize, take: &'a mut Take<'a>) -> Pieces<'a> {
        Pieces { out, items: 0, piece_bytes, take, wanted: true }
    }

    /// Hands on the buffer if it fills a piece; says whether to continue. Every loop over client-controlled elements
    /// calls this, and long values call it while they are written.
    #[inline(always)]
    pub fn breathe(&mut self) -> bool {
        if self.out.len() >= self.piece_bytes {
            self.hand_on();
        }
        self.wanted
    }

    /// Whether to continue. Further text is discarded.
    #[inline(always)]
    pub fn is_wanted(&self) -> bool {
        self.wanted
    }

    #[cold]
    #[inline(never)]
    fn hand_on(&mut self) {
        let items = std::mem::take(&mut self.items);
        self.wanted = self.wanted && (self.take)(self.out, items);
        if !self.wanted {
            self.out.clear();
        }
    }
}

/// Lets `write` append to a buffer that keeps the whole text.
pub fn whole<T>(out: &mut Vec<u8>, write: impl FnOnce(&mut Pieces) -> T) -> T {
    write(&mut Pieces::new(out, usize::MAX, &mut |_, _| true))
}
