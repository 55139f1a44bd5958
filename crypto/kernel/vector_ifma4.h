/* Four lanes of 52-bit limbs: AVX-512 IFMA on 256-bit registers. See vector_ifma.h, which this is half of.
 *
 * Where a processor does two instructions a cycle on registers of this size and one on those of 512 bits (Zen 4),
 * four numbers take little more than half of the time of eight.
 */
#ifndef VEILMATCH_VECTOR_H
#define VEILMATCH_VECTOR_H

#include <immintrin.h>
#include <stdint.h>

typedef __m256i V;

enum { LANES = 4, LOG_LANES = 2, LIMB_BITS = 52 };

/* As in vector_ifma.h. */
#define COLUMNS_NEED_CARRY 0
#define HALF_PRODUCTS 1

static inline V broadcast(uint64_t x) { return _mm256_set1_epi64x((long long)x); }
static inline V add(V a, V b) { return _mm256_add_epi64(a, b); }
static inline V sub(V a, V b) { return _mm256_sub_epi64(a, b); }
static inline V and(V a, V b) { return _mm256_and_si256(a, b); }
/* Division by 2^LIMB_BITS, rounding down, of a signed column. */
static inline V carry_of(V a) { return _mm256_srai_epi64(a, LIMB_BITS); }
/* A choice for each lane, made without a branch. */
typedef __mmask8 Mask;
static inline Mask equal(V a, V b) { return _mm256_cmpeq_epi64_mask(a, b); }
static inline V choose(Mask m, V chosen, V otherwise) { return _mm256_mask_mov_epi64(otherwise, m, chosen); }
/* A word in a register, by an instruction without a mask; see vector_ifma.h. */
static inline V loaded(V a) {
    __asm__("" : "+v"(a));
    return a;
}

/* In each lane, the word of `table` whose number stands in that lane of `places`. */
static inline V places_of(V index) { return index; } /* vpermq reads the low two bits */
static inline V look_up(V table, V places) { return _mm256_permutexvar_epi64(places, table); }
static inline V high_part(V index) { return _mm256_srli_epi64(index, LOG_LANES); }

/* Four limbs of a row, see operations.h: the bytes of each go to their word, those at odd places come down by
 * half a byte. Half of a row of eight lanes is a whole number of bytes, and is such a row. */
static inline V load_row(const uint8_t *row) {
    const V bytes = _mm256_set_epi8(26, 25, 24, 23, 22, 21, 20, 19, 20, 19, 18, 17, 16, 15, 14, 13, 13, 12, 11, 10, 9,
                                    8, 7, 6, 7, 6, 5, 4, 3, 2, 1, 0);
    const V shifts = _mm256_set_epi64x(4, 0, 4, 0);
    const V words = _mm256_srlv_epi64(_mm256_permutexvar_epi8(bytes, _mm256_loadu_si256((const __m256i *)row)), shifts);
    return and(words, broadcast((1ULL << LIMB_BITS) - 1));
}

static inline V add_low(V c, V a, V b) { return _mm256_madd52lo_epu64(c, a, b); }
static inline V add_high(V c, V a, V b) { return _mm256_madd52hi_epu64(c, a, b); }
static inline V multiply_only(V a, V b) { return add_low(a, a, b); }
/* (a * b) mod 2^LIMB_BITS */
static inline V product_low(V a, V b) { return add_low(_mm256_setzero_si256(), a, b); }

/* For narrow.h: [a b c d] to [a b 0 0], [0 0 c d], [a b a b], [0 0 a b] and [c d 0 0]. */
static inline V low_half(V a) { return _mm256_maskz_mov_epi64(3, a); }
static inline V high_half(V a) { return _mm256_maskz_mov_epi64(12, a); }
static inline V low_twice(V a) { return _mm256_permute4x64_epi64(a, 0x44); }
static inline V low_to_high(V a) { return _mm256_maskz_permutex_epi64(12, a, 0x44); }
static inline V high_to_low(V a) { return _mm256_maskz_permutex_epi64(3, a, 0xee); }

#endif
