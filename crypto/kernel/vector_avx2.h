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

enum { LANES = 4, LIMB_BITS = 28 };

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
/* All ones in the lanes where a == b, else zero; no branch. */
static inline V equal(V a, V b) { return _mm256_cmpeq_epi64(a, b); }

static inline V add_product(V c, V a, V b) { return add(c, _mm256_mul_epu32(a, b)); }
/* (a * b) mod 2^LIMB_BITS */
static inline V product_low(V a, V b) {
    return and(_mm256_mul_epu32(a, b), broadcast((1ULL << LIMB_BITS) - 1));
}

#endif
