//! The most multiplications and additions a second that one thread can do.
//!
//! Start at [`peak`]. Written for AVX-512 where there is one: compilers prefer vectors of half that length.

use std::time::Instant;

/// Multiplications and additions in double precision a second, on this thread.
pub fn peak() -> f64 {
    let rounds = 200_000;
    (0..8)
        .map(|_| {
            let begin = Instant::now();
            let done = work(rounds);
            done / begin.elapsed().as_secs_f64()
        })
        .fold(0.0, f64::max)
}

/// Works for some milliseconds and says how many operations that were.
fn work(rounds: u64) -> f64 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        return wide(rounds);
    }
    portable(rounds)
}

/// Twenty-four independent vectors of eight, each multiplied and added to in every round.
#[cfg(target_arch = "x86_64")]
fn wide(rounds: u64) -> f64 {
    let constants = [0.5f64; 8];
    // SAFETY: the processor has AVX-512, the caller asked; 64 bytes of `constants` are read, and every
    // register that is written is named.
    unsafe {
        std::arch::asm!(
            "vmovupd zmm30, [{constants}]",
            "vmovupd zmm31, [{constants}]",
            ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23",
            "vmovupd zmm\\n, [{constants}]",
            ".endr",
            "2:",
            ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23",
            "vfmadd213pd zmm\\n, zmm30, zmm31",
            ".endr",
            "dec {rounds}",
            "jnz 2b",
            constants = in(reg) constants.as_ptr(),
            rounds = inout(reg) rounds => _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
            out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _, out("xmm16") _, out("xmm17") _,
            out("xmm18") _, out("xmm19") _, out("xmm20") _, out("xmm21") _, out("xmm22") _, out("xmm23") _,
            out("xmm30") _, out("xmm31") _,
            options(nostack, readonly),
        );
    }
    (rounds * 24 * 8 * 2) as f64
}

/// As much as the compiler makes of it.
fn portable(rounds: u64) -> f64 {
    const LANES: usize = 64;
    let (factor, term) = std::hint::black_box((0.5, 0.5));
    let mut values = [0.5f64; LANES];
    for _ in 0..rounds {
        for value in &mut values {
            *value = value.mul_add(factor, term);
        }
    }
    std::hint::black_box(values);
    (rounds as usize * LANES * 2) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_does_more_than_it_did_in_1990() {
        assert!(portable(1000) == 128_000.0 && peak() > 1e7);
    }
}
