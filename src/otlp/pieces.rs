//! Text that leaves in pieces while it is written: of a text that is a thousand times its request, one piece is held.

/// Takes a finished piece, and how many items began in it; leaves the buffer empty. False when no more is wanted.
pub type Take<'a> = dyn FnMut(&mut Vec<u8>, u64) -> bool + 'a;

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

    /// Hands on what is there when it is a piece. Each loop over things that a client can send many of calls this, and
    /// so does a value inside itself.
    #[inline(always)]
    pub fn breathe(&mut self) {
        if self.out.len() >= self.piece_bytes {
            self.hand_on();
        }
    }

    /// Whether to go on. What is written all the same is thrown away.
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

/// Lets `write` append to a buffer that keeps all of it.
pub fn whole<T>(out: &mut Vec<u8>, write: impl FnOnce(&mut Pieces) -> T) -> T {
    write(&mut Pieces::new(out, usize::MAX, &mut |_, _| true))
}
