/* The ifma4 backend with every instruction of AVX-512 written out in C, for checkers that do not know them: the text
 * of pair_form.h and operations.h over 52-bit limbs and products in halves, as it is compiled for ifma4 and for ifma.
 */
#pragma GCC target("avx2") /* vectors in registers, as operations.h has them */
#include <stdint.h>
#include <string.h>

enum { LANES = 4, LOG_LANES = 2, LIMB_BITS = 52 };
#define COLUMNS_NEED_CARRY 0
#define HALF_PRODUCTS 1

typedef uint64_t V __attribute__((vector_size(8 * LANES)));
typedef int64_t Signed __attribute__((vector_size(8 * LANES)));
typedef V Mask;

static inline V broadcast(uint64_t x) { return (V){x, x, x, x}; }
static inline V add(V a, V b) { return a + b; }
static inline V sub(V a, V b) { return a - b; }
static inline V and(V a, V b) { return a & b; }
static inline V carry_of(V a) { return (V)((Signed)a >> LIMB_BITS); }
static inline Mask equal(V a, V b) { return (V)(a == b); }
static inline V choose(Mask m, V chosen, V otherwise) { return (m & chosen) | (~m & otherwise); }
static inline V loaded(V a) { return a; }
static inline V places_of(V index) { return index & broadcast(LANES - 1); }
static inline V high_part(V index) { return index >> LOG_LANES; }

/* vpermq reads registers: the place is no address. */
static inline V look_up(V table, V places) {
    V found = broadcast(0);
    for (uint64_t lane = 0; lane < LANES; lane++)
        found = choose(equal(places, broadcast(lane)), broadcast(table[lane]), found);
    return found;
}

static inline V load_row(const uint8_t *row) {
    V limbs;
    for (int lane = 0; lane < LANES; lane++) {
        uint64_t word;
        memcpy(&word, row + lane * LIMB_BITS / 8, sizeof word);
        limbs[lane] = word >> lane * LIMB_BITS % 8 & ((1ULL << LIMB_BITS) - 1);
    }
    return limbs;
}

static inline V half_product(V c, V a, V b, int shift) {
    const uint64_t digit = (1ULL << LIMB_BITS) - 1;
    for (int lane = 0; lane < LANES; lane++)
        c[lane] += (uint64_t)((unsigned __int128)(a[lane] & digit) * (b[lane] & digit) >> shift) & digit;
    return c;
}
static inline V add_low(V c, V a, V b) { return half_product(c, a, b, 0); }
static inline V add_high(V c, V a, V b) { return half_product(c, a, b, LIMB_BITS); }
static inline V multiply_only(V a, V b) { return add_low(a, a, b); }
static inline V product_low(V a, V b) { return add_low(broadcast(0), a, b); }

static inline V low_half(V a) { return (V){a[0], a[1], 0, 0}; }
static inline V high_half(V a) { return (V){0, 0, a[2], a[3]}; }
static inline V low_twice(V a) { return (V){a[0], a[1], a[0], a[1]}; }
static inline V low_to_high(V a) { return (V){0, 0, a[0], a[1]}; }
static inline V high_to_low(V a) { return (V){a[2], a[3], 0, 0}; }

#include "../../crypto/kernel/pair_form.h"

#include "../../crypto/kernel/operations.h"

#include "../../crypto/kernel/narrow.h"

static int is_available(void) { return 1; }

const Backend veilmatch_ifma4 = {
    "ifma4", LANES, LIMB_BITS, is_available, multiply, square, power, power_mod_n, power_of_two, select_and_multiply,
    enter, leave, compress, expand, run, saturate, NULL,
};
