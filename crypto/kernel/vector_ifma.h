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

/* In each lane, the word of `table` whose number stands in that lane of `places`. */
static inline V places_of(V index) { return index; } /* vpermq reads the low three bits */
static inline V look_up(V table, V places) { return _mm512_permutexvar_epi64(places, table); }
static inline V high_part(V index) { return _mm512_srli_epi64(index, LOG_LANES); }

static inline V add_low(V c, V a, V b) { return _mm512_madd52lo_epu64(c, a, b); }
static inline V add_high(V c, V a, V b) { return _mm512_madd52hi_epu64(c, a, b); }
/* (a * b) mod 2^LIMB_BITS */
static inline V product_low(V a, V b) { return add_low(_mm512_setzero_si512(), a, b); }

#endif
