/* Four lanes of 28-bit limbs: AVX2 (vpmuludq).
 *
 * A product of two limbs has 56 bits and is added to a 64-bit column whole.
 * The multiplier reads the low 32 bits of an operand only, so operands must be normalised digits.
 */
#ifndef VEILMATCH_VECTOR_H
#define VEILMATCH_VECTOR_H

#include <immintrin.h>
#include <stdint.h>

typedef __m256i V;

enum { LANES = 4, LOG_LANES = 2, LIMB_BITS = 28 };

/* A column holds 2^7 products as a signed number: carries are taken before a reduction is added. */
#define COLUMNS_NEED_CARRY 1
#define HALF_PRODUCTS 0

static inline V broadcast(uint64_t x) { return _mm256_set1_epi64x((long long)x); }
static inline V add(V a, V b) { return _mm256_add_epi64(a, b); }
static inline V sub(V a, V b) { return _mm256_sub_epi64(a, b); }
static inline V and(V a, V b) { return _mm256_and_si256(a, b); }
static inline V or(V a, V b) { return _mm256_or_si256(a, b); }
/* Division by 2^LIMB_BITS, rounding down, of a signed column. AVX2 shifts 64-bit words as unsigned
 * ones only: 2^63 is added before the shift and its share taken off again after it. */
static inline V carry_of(V a) {
    const V half = broadcast(1ULL << 63), shifted_half = broadcast(1ULL << (63 - LIMB_BITS));
    return sub(_mm256_srli_epi64(add(a, half), LIMB_BITS), shifted_half);
}
/* The same of a column that is not negative. */
static inline V shift_down(V a) { return _mm256_srli_epi64(a, LIMB_BITS); }
/* A choice for each lane, made without a branch. */
typedef V Mask;
static inline Mask equal(V a, V b) { return _mm256_cmpeq_epi64(a, b); }
static inline V choose(Mask m, V chosen, V otherwise) { return _mm256_blendv_epi8(otherwise, chosen, m); }
/* A word in a register; see vector_ifma.h. */
static inline V loaded(V a) {
    __asm__("" : "+x"(a));
    return a;
}

/* In each lane, the word of `table` whose number stands in that lane of `places`. AVX2 permutes halves of
 * words, by the low three bits of each half of a place. */
static inline V places_of(V index) {
    const V low = _mm256_slli_epi64(and(index, broadcast(LANES - 1)), 1);
    return add(low, _mm256_slli_epi64(add(low, broadcast(1)), 32));
}
static inline V look_up(V table, V places) { return _mm256_permutevar8x32_epi32(table, places); }
static inline V high_part(V index) { return _mm256_srli_epi64(index, LOG_LANES); }

/* The same for a table of words of 32 bits, twice as many: look_up leaves them in the lower halves. */
static inline V half_places_of(V index) { return and(index, broadcast(2 * LANES - 1)); }
static inline V half_part(V index) { return _mm256_srli_epi64(index, LOG_LANES + 1); }

/* Four limbs of a row, see operations.h: the bytes of each go to their word, those at odd places come down by
 * half a byte. */
static inline V load_row(const uint8_t *row) {
    const V bytes = _mm256_set_epi8(-1, -1, -1, -1, 13, 12, 11, 10, -1, -1, -1, -1, 10, 9, 8, 7, /* lanes 3 and 2 */
                                    -1, -1, -1, -1, 6, 5, 4, 3, -1, -1, -1, -1, 3, 2, 1, 0);
    const V shifts = _mm256_set_epi64x(4, 0, 4, 0);
    const V twice = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)row));
    return and(_mm256_srlv_epi64(_mm256_shuffle_epi8(twice, bytes), shifts), broadcast((1ULL << LIMB_BITS) - 1));
}

/* One product after the other, as they stand: gcc would add them up in a tree, for which there are not enough
 * registers. */
static inline V add_product(V c, V a, V b) { return loaded(add(c, _mm256_mul_epu32(a, b))); }
static inline V multiply_only(V a, V b) { return _mm256_mul_epu32(a, b); }
/* (a * b) mod 2^LIMB_BITS */
static inline V product_low(V a, V b) {
    return and(_mm256_mul_epu32(a, b), broadcast((1ULL << LIMB_BITS) - 1));
}

#endif
