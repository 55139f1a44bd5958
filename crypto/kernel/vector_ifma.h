/* Eight lanes of 52-bit limbs: AVX-512 IFMA (vpmadd52luq, vpmadd52huq).
 *
 * A product of two limbs arrives in halves, low and high, each added to a 64-bit column.
 * The multiplier reads the low 52 bits of an operand only, so operands must be normalised digits.
 */
#ifndef VEILMATCH_VECTOR_H
#define VEILMATCH_VECTOR_H

#include <immintrin.h>
#include <stdint.h>

typedef __m512i V;

enum { LANES = 8, LOG_LANES = 3, LIMB_BITS = 52 };

/* A column holds 2^11 half products: no carry is needed between a product and its reduction. */
#define COLUMNS_NEED_CARRY 0
/* Products are added in halves, into column i + j and into the next one. */
#define HALF_PRODUCTS 1

static inline V broadcast(uint64_t x) { return _mm512_set1_epi64((long long)x); }
static inline V add(V a, V b) { return _mm512_add_epi64(a, b); }
static inline V sub(V a, V b) { return _mm512_sub_epi64(a, b); }
static inline V and(V a, V b) { return _mm512_and_si512(a, b); }
/* Division by 2^LIMB_BITS, rounding down, of a signed column. */
static inline V carry_of(V a) { return _mm512_srai_epi64(a, LIMB_BITS); }
/* A choice for each lane, made without a branch. */
typedef __mmask8 Mask;
static inline Mask equal(V a, V b) { return _mm512_cmpeq_epi64_mask(a, b); }
static inline V choose(Mask m, V chosen, V otherwise) { return _mm512_mask_mov_epi64(otherwise, m, chosen); }
/* A word in a register. A masked instruction that takes its operand from memory is not bound to read what the
 * mask leaves out; a table is to be read whole. */
static inline V loaded(V a) {
    __asm__("" : "+v"(a));
    return a;
}

/* In each lane, the word of `table` whose number stands in that lane of `places`. */
static inline V places_of(V index) { return index; } /* vpermq reads the low three bits */
static inline V look_up(V table, V places) { return _mm512_permutexvar_epi64(places, table); }
static inline V high_part(V index) { return _mm512_srli_epi64(index, LOG_LANES); }

/* Eight limbs of a row, see operations.h: the bytes of each go to their word, those at odd places come down by
 * half a byte. */
static inline V load_row(const uint8_t *row) {
    const V bytes = _mm512_set_epi8(52, 51, 50, 49, 48, 47, 46, 45, 46, 45, 44, 43, 42, 41, 40, 39, 39, 38, 37, 36, 35,
                                    34, 33, 32, 33, 32, 31, 30, 29, 28, 27, 26, 26, 25, 24, 23, 22, 21, 20, 19, 20, 19,
                                    18, 17, 16, 15, 14, 13, 13, 12, 11, 10, 9, 8, 7, 6, 7, 6, 5, 4, 3, 2, 1, 0);
    const V shifts = _mm512_set_epi64(4, 0, 4, 0, 4, 0, 4, 0);
    const V words = _mm512_srlv_epi64(_mm512_permutexvar_epi8(bytes, _mm512_loadu_si512(row)), shifts);
    return and(words, broadcast((1ULL << LIMB_BITS) - 1));
}

static inline V add_low(V c, V a, V b) { return _mm512_madd52lo_epu64(c, a, b); }
static inline V add_high(V c, V a, V b) { return _mm512_madd52hi_epu64(c, a, b); }
static inline V multiply_only(V a, V b) { return add_low(a, a, b); }
/* (a * b) mod 2^LIMB_BITS */
static inline V product_low(V a, V b) { return add_low(_mm512_setzero_si512(), a, b); }

#endif
