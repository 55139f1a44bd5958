/* The backend for every other processor with 64-bit words, Arm among them: one number of 64-bit limbs, in plain C.
 *
 * Products are those of pair_form.h, with the same bounds, by product scanning: all limb products of a column are
 * added up, then it becomes a limb. The reduction runs along (Koc, Acar, Kaliski, 1996: FIPS), so that a product with
 * its reduction is one pass over the columns. The halves of limb products have sums of their own: no carry is waited
 * for. A choice is a mask over everything that could be chosen.
 */
#include "kernel.h"

#ifdef __SIZEOF_INT128__
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

typedef unsigned __int128 Wide;

/* A column of a sum of products: low + high * 2^64. Each is a sum of fewer than 2^10 words, or a little below zero. */
typedef struct {
    Wide low, high;
} Column;

INLINE void add_product(Column *c, uint64_t a, uint64_t b) {
    const Wide product = (Wide)a * b;
    c->low += (uint64_t)product;
    c->high += (uint64_t)(product >> 64);
}

/* Returns the limb of the column and makes it the next one, with what was carried. The shift is signed. */
INLINE uint64_t take_limb(Column *c) {
    const uint64_t limb = (uint64_t)c->low;
    c->low = (Wide)((__int128)c->low >> 64) + c->high;
    c->high = 0;
    return limb;
}

/* c += the products a[i] * b[k - i] for i from `first` to `end` */
INLINE void add_products(Column *c, const uint64_t *a, const uint64_t *b, size_t k, size_t first, size_t end) {
#pragma GCC unroll 4
    for (size_t i = first; i < end; i++) add_product(c, a[i], b[k - i]);
}

/* Montgomery: makes the quotient digit with which the lowest limb of the column vanishes. */
INLINE void reduce_column(Column *c, uint64_t *digit, const Ring *ring) {
    *digit = (uint64_t)c->low * ring->inverse;
    add_product(c, *digit, ring->modulus[0]);
}

/* Twice a column, before anything is carried to it. */
INLINE void add_doubled(Column *c, const Column *other) {
    c->low += 2 * other->low;
    c->high += 2 * other->high;
}

/* The indices i of the products a[i] * b[k - i] of a column k of numbers of n limbs: from the first to before the end. */
INLINE size_t first_of(size_t k, size_t n) { return k < n ? 0 : k - n + 1; }
INLINE size_t end_of(size_t k, size_t n) { return k < n ? k + 1 : n; }

/* -- products mod N^2, see pair_form.h ------------------------------------------------------------------ */

/* c - q: all ones less q, one more at the lowest column, and R less at the first one above. */
INLINE void subtract_digit(Column *c, const uint64_t *q, size_t k, size_t n) {
    if (k < n) c->low += (Wide)(uint64_t)~q[k] + (k == 0);
    if (k == n) c->low -= 1;
}

/* r = x * y / R; r may be x or y. */
static void multiply_pair(uint64_t *r, const uint64_t *x, const uint64_t *y, const Ring *ring) {
    const size_t n = ring->limbs;
    const uint64_t *x0 = x, *x1 = x + n, *y0 = y, *y1 = y + n, *N = ring->modulus;
    uint64_t q[MAX_LIMBS], p[MAX_LIMBS], r0[MAX_LIMBS];
    Column c = {0, 0};
    for (size_t k = 0; k < 2 * n; k++) {
        const size_t first = first_of(k, n), end = end_of(k, n);
        add_products(&c, x0, y0, k, first, end);
        add_products(&c, q, N, k, first, k < n ? k : n);
        if (k < n) reduce_column(&c, q + k, ring);
        const uint64_t limb = take_limb(&c);
        if (k >= n) r0[k - n] = limb;
    }
    Column d = {0, 0};
    uint64_t r1[MAX_LIMBS];
    for (size_t k = 0; k < 2 * n; k++) {
        const size_t first = first_of(k, n), end = end_of(k, n);
        subtract_digit(&d, q, k, n);
        add_products(&d, x0, y1, k, first, end);
        add_products(&d, x1, y0, k, first, end);
        add_products(&d, p, N, k, first, k < n ? k : n);
        if (k < n) reduce_column(&d, p + k, ring);
        const uint64_t limb = take_limb(&d);
        if (k >= n) r1[k - n] = limb;
    }
    memcpy(r, r0, n * sizeof *r);
    memcpy(r + n, r1, n * sizeof *r);
}

/* r = x^2 / R; r may be x. */
static void square_pair(uint64_t *r, const uint64_t *x, const Ring *ring) {
    const size_t n = ring->limbs;
    const uint64_t *x0 = x, *x1 = x + n, *N = ring->modulus;
    uint64_t q[MAX_LIMBS], p[MAX_LIMBS], r0[MAX_LIMBS];
    Column c = {0, 0};
    for (size_t k = 0; k < 2 * n; k++) {
        const size_t first = first_of(k, n);
        Column half = {0, 0};
        add_products(&half, x0, x0, k, first, (k + 1) / 2);
        add_doubled(&c, &half);
        if (k % 2 == 0) add_product(&c, x0[k / 2], x0[k / 2]);
        add_products(&c, q, N, k, first, k < n ? k : n);
        if (k < n) reduce_column(&c, q + k, ring);
        const uint64_t limb = take_limb(&c);
        if (k >= n) r0[k - n] = limb;
    }
    Column d = {0, 0};
    uint64_t r1[MAX_LIMBS];
    for (size_t k = 0; k < 2 * n; k++) {
        const size_t first = first_of(k, n);
        Column half = {0, 0};
        add_products(&half, x0, x1, k, first, end_of(k, n));
        subtract_digit(&d, q, k, n);
        add_doubled(&d, &half);
        add_products(&d, p, N, k, first, k < n ? k : n);
        if (k < n) reduce_column(&d, p + k, ring);
        const uint64_t limb = take_limb(&d);
        if (k >= n) r1[k - n] = limb;
    }
    memcpy(r, r0, n * sizeof *r);
    memcpy(r + n, r1, n * sizeof *r);
}

static void multiply(const Ring *ring, uint64_t *out, const uint64_t *a, size_t groups, const uint64_t *b,
                     size_t b_step) {
    const size_t size = 2 * ring->limbs;
    for (size_t g = 0; g < groups; g++) multiply_pair(out + g * size, a + g * size, b + g * b_step * size, ring);
}

static void square(const Ring *ring, uint64_t *out, const uint64_t *a, size_t groups) {
    const size_t size = 2 * ring->limbs;
    for (size_t g = 0; g < groups; g++) square_pair(out + g * size, a + g * size, ring);
}

/* -- choices by secrets ----------------------------------------------------------------------------------- */

/* All ones if a equals b, else 0; both below 2^63. The compiler must not know that it is one of two. */
INLINE uint64_t mask_of_equal(uint64_t a, uint64_t b) {
    uint64_t mask = -(((a ^ b) - 1) >> 63);
    __asm__("" : "+r"(mask));
    return mask;
}

/* out = table[index] for a secret index: reads every entry. */
static void select_number(uint64_t *out, const uint64_t *table, size_t entries, size_t size, uint64_t index) {
    memset(out, 0, size * sizeof *out);
    for (size_t e = 0; e < entries; e++) {
        const uint64_t mask = mask_of_equal(e, index);
        for (size_t i = 0; i < size; i++) out[i] |= mask & table[e * size + i];
    }
}

/* out[i] = row[i][index] for a secret index: reads every entry. */
static void select_words(uint64_t *out, const uint64_t *row, size_t size, size_t entries, uint64_t index) {
    uint64_t masks[MAX_ENTRIES];
    for (size_t e = 0; e < entries; e++) masks[e] = mask_of_equal(e, index);
    for (size_t i = 0; i < size; i++, row += entries) {
        uint64_t word = 0;
        for (size_t e = 0; e < entries; e++) word |= masks[e] & row[e];
        out[i] = word;
    }
}

/* The w-th window of an exponent of `size` bytes. */
static uint64_t window_at(const uint8_t *exponent, size_t size, size_t w) {
    uint64_t digit = 0;
    for (size_t bit = (w + 1) * WINDOW_BITS; bit-- > w * WINDOW_BITS;)
        digit = 2 * digit + (bit < 8 * size ? exponent[bit / 8] >> bit % 8 & 1u : 0u);
    return digit;
}

static void power(const Ring *ring, uint64_t *out, const uint64_t *a, size_t groups, const uint8_t *exponents,
                  size_t size, size_t step, uint64_t *scratch) {
    enum { ENTRIES = 1 << WINDOW_BITS };
    const size_t limbs = 2 * ring->limbs, windows = (8 * size + WINDOW_BITS - 1) / WINDOW_BITS;
    uint64_t *table = scratch, *chosen = table + ENTRIES * limbs;
    memcpy(table, ring->one, limbs * sizeof *table);
    for (size_t g = 0; g < groups; g++, exponents += step) {
        uint64_t *result = out + g * limbs;
        memcpy(table + limbs, a + g * limbs, limbs * sizeof *table);
        for (size_t e = 2; e < ENTRIES; e++) {
            if (e % 2 == 0)
                square_pair(table + e * limbs, table + e / 2 * limbs, ring);
            else
                multiply_pair(table + e * limbs, table + (e - 1) * limbs, table + limbs, ring);
        }
        memcpy(result, table, limbs * sizeof *table);
        for (size_t w = windows; w-- > 0;) {
            if (w + 1 < windows) {
                for (int i = 0; i < WINDOW_BITS; i++) square_pair(result, result, ring);
            }
            select_number(chosen, table, ENTRIES, limbs, window_at(exponents, size, w));
            multiply_pair(result, result, chosen, ring);
        }
    }
}

static void select_and_multiply(const Ring *ring, uint64_t *out, size_t groups, const uint64_t *table, size_t rows,
                                size_t entries, const uint64_t *digits, uint64_t *scratch) {
    const size_t size = 2 * ring->limbs;
    for (size_t r = 0; r < rows; r++, table += size * entries) {
        for (size_t g = 0; g < groups; g++, digits++) {
            uint64_t *result = out + g * size;
            select_words(r == 0 ? result : scratch, table, size, entries, *digits);
            if (r > 0) multiply_pair(result, result, scratch, ring);
        }
    }
}

/* -- plain numbers ---------------------------------------------------------------------------------------- */

/* r += a, r of `room` limbs and a of `count` of them */
static void add_limbs(uint64_t *r, const uint64_t *a, size_t room, size_t count) {
    Wide carry = 0;
    for (size_t i = 0; i < room; i++) {
        carry += (Wide)r[i] + (i < count ? a[i] : 0);
        r[i] = (uint64_t)carry;
        carry >>= 64;
    }
}

/* r = a * b: 2n limbs */
static void multiply_limbs(uint64_t *r, const uint64_t *a, const uint64_t *b, size_t n) {
    Column c = {0, 0};
    for (size_t k = 0; k < 2 * n; k++) {
        add_products(&c, a, b, k, first_of(k, n), end_of(k, n));
        r[k] = take_limb(&c);
    }
}

static void enter(const Ring *ring, uint64_t *out, const uint64_t *x, size_t groups, const uint64_t *factors) {
    const size_t n = ring->limbs;
    uint64_t low[2 * MAX_LIMBS] = {0}, high[2 * MAX_LIMBS] = {0};
    for (size_t g = 0; g < groups; g++, x += 2 * n, out += 2 * n) {
        memcpy(low, x, n * sizeof *x);
        memcpy(high, x + n, n * sizeof *x);
        memset(low + n, 0, n * sizeof *low);
        memset(high + n, 0, n * sizeof *high);
        multiply_pair(low, low, factors, ring);
        multiply_pair(high, high, factors + 2 * n, ring);
        add_limbs(low, high, n, n);
        add_limbs(low + n, high + n, n, n);
        memcpy(out, low, 2 * n * sizeof *out);
    }
}

static void leave(const Ring *ring, uint64_t *out, const uint64_t *a, size_t groups) {
    const size_t n = ring->limbs;
    uint64_t one[2 * MAX_LIMBS] = {1}, x[2 * MAX_LIMBS], square[2 * MAX_LIMBS], plain[2 * MAX_LIMBS];
    uint64_t reduced[2 * MAX_LIMBS];
    multiply_limbs(square, ring->modulus, ring->modulus, n);
    for (size_t g = 0; g < groups; g++) {
        multiply_pair(x, a + g * 2 * n, one, ring);
        multiply_limbs(plain, x + n, ring->modulus, n);
        add_limbs(plain, x, 2 * n, n);
        uint64_t borrow = 0;
        for (size_t i = 0; i < 2 * n; i++) {
            const Wide difference = (Wide)plain[i] - square[i] - borrow;
            reduced[i] = (uint64_t)difference;
            borrow = (uint64_t)(difference >> 64) & 1;
        }
        const uint64_t is_less = mask_of_equal(borrow, 1);
        for (size_t i = 0; i < 2 * n; i++) out[g * 2 * n + i] = (plain[i] & is_less) | (reduced[i] & ~is_less);
    }
}

/* -- packs at rest: limbs have no gaps -------------------------------------------------------------------- */

static void compress(const Ring *ring, uint8_t *rows, const uint64_t *a, size_t groups) {
    memcpy(rows, a, groups * 2 * ring->limbs * sizeof *a);
}

static void expand(const Ring *ring, uint64_t *out, const uint8_t *rows, size_t groups) {
    memcpy(out, rows, groups * 2 * ring->limbs * sizeof *out);
}

static void run(const Ring *ring, uint64_t *out, const uint8_t *bases, size_t count, size_t row_bytes,
                const Step *steps, size_t step_count, uint64_t *scratch) {
    const size_t size = 2 * ring->limbs;
    uint64_t *expanded[2] = {scratch, scratch + size}, *made = scratch + 2 * size, *last = made;
    for (size_t s = 0; s < step_count; s++) {
        const size_t operands[2] = {(size_t)steps[s].left, (size_t)steps[s].right};
        const uint64_t *x[2];
        for (int i = 0; i < 2; i++) {
            x[i] = operands[i] < count ? expanded[i] : made + (operands[i] - count) * size;
            if (operands[i] < count) memcpy(expanded[i], bases + operands[i] * size * row_bytes, size * row_bytes);
        }
        last = made + ((size_t)steps[s].to - count) * size;
        if (operands[0] == operands[1])
            square_pair(last, x[0], ring);
        else
            multiply_pair(last, x[0], x[1], ring);
    }
    memcpy(out, last, size * sizeof *out);
}

/* -- products of constants, see constants.h --------------------------------------------------------------- */

/* q = floor(a * b / R), or one less. */
static void multiply_high(uint64_t *q, const uint64_t *a, const uint64_t *b, size_t n) {
    Column c = {0, 0};
    for (size_t k = n > 1 ? n - 2 : 0; k < 2 * n; k++) {
        add_products(&c, a, b, k, first_of(k, n), end_of(k, n));
        const uint64_t limb = take_limb(&c);
        if (k >= n) q[k - n] = limb;
    }
}

/* r = (a * b + d * m + s) mod R; s may be NULL for 0. */
static void multiply_low(uint64_t *r, const uint64_t *a, const uint64_t *b, const uint64_t *d, const uint64_t *m,
                         const uint64_t *s, size_t n) {
    Column c = {0, 0};
    for (size_t k = 0; k < n; k++) {
        if (s) c.low += s[k];
        add_products(&c, a, b, k, 0, k + 1);
        add_products(&c, d, m, k, 0, k + 1);
        r[k] = take_limb(&c);
    }
}

static void multiply_constants(const Ring *ring, uint64_t *out, size_t groups, const void *table, size_t rows,
                               size_t pieces, const uint64_t *digits) {
    const size_t n = ring->limbs;
    uint64_t complement[MAX_LIMBS], entry[3 * MAX_LIMBS], q[MAX_LIMBS], p[MAX_LIMBS], product[2 * MAX_LIMBS];
    (void)pieces; /* there is one lane */
    for (size_t i = 0; i < n; i++) complement[i] = ~ring->modulus[i] + (i == 0); /* R - N; N is odd */
    for (size_t r = 0; r < rows; r++) {
        const uint64_t *row = (const uint64_t *)table + r * 3 * n * CONSTANTS;
        for (size_t g = 0; g < groups; g++, digits++) {
            uint64_t *x = out + g * 4 * n, *e = x + n, *l = e + n;
            select_words(entry, row, 3 * n, CONSTANTS, *digits);
            if (r == 0) {
                memcpy(x, entry, n * sizeof *x);
                memset(e, 0, 3 * n * sizeof *e);
            } else {
                multiply_high(q, x, entry + n, n);
                multiply_high(p, e, entry + n, n);
                multiply_low(product, x, entry, q, complement, NULL, n);
                multiply_low(product + n, e, entry, p, complement, q, n);
                memcpy(x, product, 2 * n * sizeof *x);
            }
            add_limbs(l, entry + 2 * n, n + 1, n);
        }
    }
}

static void saturate(size_t rounds) {
    uint64_t c[SATURATING], factor = 5;
    for (int i = 0; i < SATURATING; i++) c[i] = (uint64_t)i + 3;
    __asm__ volatile("" : "+r"(factor)); /* nothing about it is known at compile time */
    for (size_t r = 0; r < rounds; r++) {
#pragma GCC unroll 16
        for (int i = 0; i < SATURATING; i++) c[i] = (uint64_t)((Wide)c[i] * factor >> 64);
    }
    for (int i = 0; i < SATURATING; i++) __asm__ volatile("" : : "r"(c[i]));
}

static int is_available(void) { return 1; }

const Backend veilmatch_portable = {
    "portable", 1, 64, is_available, multiply, square, power, NULL, NULL, select_and_multiply,
    enter, leave, compress, expand, run, saturate, multiply_constants,
};
#endif
