//! Entries of datasets, typed, and their checksum.

use hdf5::types::{FloatSize, IntSize, TypeDescriptor};
use serde::{Deserialize, Serialize};

/// The type of a dataset's entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Element {
    /// 8-bit unsigned.
    U8,
    /// 16-bit unsigned.
    U16,
    /// 32-bit unsigned.
    U32,
    /// 64-bit unsigned.
    U64,
    /// 32-bit signed.
    I32,
    /// 64-bit signed.
    I64,
    /// Double precision.
    F64,
}

impl Element {
    /// Bytes an entry takes.
    pub fn size(self) -> usize {
        match self {
            Element::U8 => 1,
            Element::U16 => 2,
            Element::U32 | Element::I32 => 4,
            Element::U64 | Element::I64 | Element::F64 => 8,
        }
    }

    pub(super) fn descriptor(self) -> TypeDescriptor {
        match self {
            Element::U8 => TypeDescriptor::Unsigned(IntSize::U1),
            Element::U16 => TypeDescriptor::Unsigned(IntSize::U2),
            Element::U32 => TypeDescriptor::Unsigned(IntSize::U4),
            Element::U64 => TypeDescriptor::Unsigned(IntSize::U8),
            Element::I32 => TypeDescriptor::Integer(IntSize::U4),
            Element::I64 => TypeDescriptor::Integer(IntSize::U8),
            Element::F64 => TypeDescriptor::Float(FloatSize::U8),
        }
    }

    pub(super) fn from_descriptor(descriptor: &TypeDescriptor) -> Option<Self> {
        use Element::{F64, I32, I64, U8, U16, U32, U64};
        [U8, U16, U32, U64, I32, I64, F64].into_iter().find(|e| e.descriptor() == *descriptor)
    }
}

/// A Rust type of entries.
pub trait Entry: bytemuck::Pod + Send + Sync {
    /// The same as a dataset's type.
    const ELEMENT: Element;
}

macro_rules! entries {
    ($($type:ty => $element:ident),*) => {
        $(impl Entry for $type {
            const ELEMENT: Element = Element::$element;
        })*
    };
}

entries!(u8 => U8, u16 => U16, u32 => U32, u64 => U64, i32 => I32, i64 => I64, f64 => F64);

/// Entries on their way to or from a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// Of [`Element::U8`].
    U8(Vec<u8>),
    /// Of [`Element::U16`].
    U16(Vec<u16>),
    /// Of [`Element::U32`].
    U32(Vec<u32>),
    /// Of [`Element::U64`].
    U64(Vec<u64>),
    /// Of [`Element::I32`].
    I32(Vec<i32>),
    /// Of [`Element::I64`].
    I64(Vec<i64>),
    /// Of [`Element::F64`].
    F64(Vec<f64>),
}

macro_rules! each_column {
    ($column:expr, $values:ident => $body:expr) => {
        match $column {
            Column::U8($values) => $body,
            Column::U16($values) => $body,
            Column::U32($values) => $body,
            Column::U64($values) => $body,
            Column::I32($values) => $body,
            Column::I64($values) => $body,
            Column::F64($values) => $body,
        }
    };
}

impl Column {
    /// The type of the entries.
    pub fn element(&self) -> Element {
        match self {
            Column::U8(_) => Element::U8,
            Column::U16(_) => Element::U16,
            Column::U32(_) => Element::U32,
            Column::U64(_) => Element::U64,
            Column::I32(_) => Element::I32,
            Column::I64(_) => Element::I64,
            Column::F64(_) => Element::F64,
        }
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        each_column!(self, values => values.len())
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entries as they lie in the file.
    pub fn bytes(&self) -> &[u8] {
        each_column!(self, values => bytemuck::cast_slice(values))
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        each_column!(self, values => bytemuck::cast_slice_mut(values))
    }

    pub(super) fn zeroed(element: Element, n: usize) -> Self {
        match element {
            Element::U8 => Column::U8(vec![0; n]),
            Element::U16 => Column::U16(vec![0; n]),
            Element::U32 => Column::U32(vec![0; n]),
            Element::U64 => Column::U64(vec![0; n]),
            Element::I32 => Column::I32(vec![0; n]),
            Element::I64 => Column::I64(vec![0; n]),
            Element::F64 => Column::F64(vec![0.0; n]),
        }
    }

    /// A sum over the entries, each mixed with its place in the dataset (`first` and on).
    ///
    /// Sums of disjoint ranges add (wrapping) to the sum of the whole: the same on any number of
    /// ranks. It finds damage, it does not resist an adversary.
    pub fn checksum(&self, first: u64) -> u64 {
        fn sum(first: u64, bits: impl Iterator<Item = u64>) -> u64 {
            bits.zip(first..).fold(0, |sum, (bits, place)| sum.wrapping_add(mix(bits ^ mix(place))))
        }
        match self {
            Column::U8(v) => sum(first, v.iter().map(|&x| x.into())),
            Column::U16(v) => sum(first, v.iter().map(|&x| x.into())),
            Column::U32(v) => sum(first, v.iter().map(|&x| x.into())),
            Column::U64(v) => sum(first, v.iter().copied()),
            Column::I32(v) => sum(first, v.iter().map(|&x| u64::from(x as u32))),
            Column::I64(v) => sum(first, v.iter().map(|&x| x as u64)),
            Column::F64(v) => sum(first, v.iter().map(|x| x.to_bits())),
        }
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014), a bijection on 64 bits.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_same_however_the_entries_are_dealt_out() {
        let values: Vec<f64> = (0..100).map(|k| f64::from(k).sin()).collect();
        let whole = Column::F64(values.clone()).checksum(0);
        for cut in [0, 1, 37, 100] {
            let (a, b) = values.split_at(cut);
            let parts = Column::F64(a.to_vec())
                .checksum(0)
                .wrapping_add(Column::F64(b.to_vec()).checksum(cut as u64));
            assert_eq!(parts, whole);
        }
    }

    #[test]
    fn the_checksum_sees_a_changed_bit_and_an_exchange() {
        let values = vec![3u16, 1, 4, 1, 5];
        let sum = |v: &[u16]| Column::U16(v.to_vec()).checksum(0);
        for k in 0..5 {
            let mut changed = values.clone();
            changed[k] ^= 1;
            assert_ne!(sum(&changed), sum(&values));
        }
        assert_ne!(sum(&[1, 3, 4, 1, 5]), sum(&values));
    }
}
