/* Products and squares mod N^2 in pair form, one template for every instruction set.
 *
 * With x = x0 + x1*N, y = y0 + y1*N and R = 2^(n*LIMB_BITS) > 64*N:
 *
 *     t1 = x0*y0                   q = -t1/N mod R     r0 = (t1 + q*N) / R
 *     t2 = x0*y1 + x1*y0 - q       p = -t2/N mod R     r1 = (t2 + p*N) / R
 *
 * gives r0 + r1*N = x*y/R mod N^2. r0 and r1 stay in [0, 2N) if x0, x1, y0, y1 are, and are not reduced
 * further: t2 > -R, so that the whole number r1 is above -1.
 *
 * t1 and t2 come from one level of Karatsuba over halves of n/2 limbs; the reductions are product
 * scanning (column blocks of TILE limbs), interleaved because each alone is a chain of dependent
 * quotient digits. Columns are signed: the differences of Karatsuba may be negative.
 *
 * The including file defines V and the functions of vector_*.h.
 */
#include "kernel.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

enum { MAX_HALF = MAX_LIMBS / 2, MAX_COLUMNS = 2 * MAX_LIMBS };

/* The constants of a ring, in every lane. */
typedef struct {
    size_t limbs;
    V inverse, modulus[MAX_LIMBS];
} VectorRing;

static void spread_ring(VectorRing *v, const Ring *ring) {
    v->limbs = ring->limbs;
    v->inverse = broadcast(ring->inverse);
    for (size_t i = 0; i < ring->limbs; i++) v->modulus[i] = broadcast(ring->modulus[i]);
}

INLINE V digit_mask(void) { return broadcast((1ULL << LIMB_BITS) - 1); }

/* -- tiles: 2*TILE columns c, with c[0] the lowest -------------------------------------------- */

/* c[i + j] += a * b[j] for all j; a stands at row i. */
INLINE void add_row(V *c, V a, const V *b, int first) {
#if HALF_PRODUCTS
    UNROLL for (int j = first; j < TILE; j++) c[j] = add_low(c[j], a, b[j]);
    UNROLL for (int j = first; j < TILE; j++) c[j + 1] = add_high(c[j + 1], a, b[j]);
#else
    UNROLL for (int j = first; j < TILE; j++) c[j] = add_product(c[j], a, b[j]);
#endif
}

INLINE void load_tile(V *to, const V *from) { UNROLL for (int i = 0; i < TILE; i++) to[i] = from[i]; }

INLINE void clear_columns(V *c, int from, int to) { UNROLL for (int i = from; i < to; i++) c[i] = broadcast(0); }

/* c += a * b */
INLINE void add_tile(V *c, const V *a, const V *b) {
    V right[TILE];
    load_tile(right, b);
    UNROLL for (int i = 0; i < TILE; i++) add_row(c + i, a[i], right, 0);
}

/* c += the products a[i] * a[j] with i < j */
INLINE void add_tile_above_diagonal(V *c, const V *a) {
    V right[TILE];
    load_tile(right, a);
    UNROLL for (int i = 0; i < TILE; i++) add_row(c + i, right[i], right, i + 1);
}

/* c += the products a[i] * a[i] */
INLINE void add_tile_diagonal(V *c, const V *a) {
    UNROLL for (int i = 0; i < TILE; i++) {
#if HALF_PRODUCTS
        c[2 * i] = add_low(c[2 * i], a[i], a[i]);
        c[2 * i + 1] = add_high(c[2 * i + 1], a[i], a[i]);
#else
        c[2 * i] = add_product(c[2 * i], a[i], a[i]);
#endif
    }
}

/* Turns c[0..TILE) into digits; the carry goes to c[TILE]. */
INLINE void carry_tile(V *c) {
    UNROLL for (int i = 0; i < TILE; i++) {
        c[i + 1] = add(c[i + 1], carry_of(c[i]));
        c[i] = and(c[i], digit_mask());
    }
}

/* Montgomery: makes quotient digits q[0..TILE) so that c + q * modulus vanishes in c[0..TILE), whose
 * carries go to c[TILE]. modulus: its lowest tile. */
INLINE void reduce_tile(V *c, V *q, const V *modulus, V inverse) {
    V low[TILE];
    load_tile(low, modulus);
    UNROLL for (int i = 0; i < TILE; i++) {
        q[i] = product_low(c[i], inverse);
#if HALF_PRODUCTS
        /* The low halves cancel to 2^LIMB_BITS or to 0: their carry needs no product, and c[i + 1] is
         * waited for, so the products that it needs come first. */
        const V carry = carry_of(add(c[i], digit_mask()));
        c[i + 1] = add_low(add(c[i + 1], carry), q[i], low[1]);
        c[i + 1] = add(c[i + 1], add_high(broadcast(0), q[i], low[0]));
        UNROLL for (int j = 2; j < TILE; j++) c[i + j] = add_low(c[i + j], q[i], low[j]);
        UNROLL for (int j = 1; j < TILE; j++) c[i + j + 1] = add_high(c[i + j + 1], q[i], low[j]);
#else
        add_row(c + i, q[i], low, 0);
        c[i + 1] = add(c[i + 1], carry_of(c[i]));
#endif
    }
}

/* -- products of halves: 2*limbs columns ------------------------------------------------------- */

/* Writes the lower tile of c as columns and moves the upper one down. */
INLINE void shift_out(V *out, V *c) {
#if COLUMNS_NEED_CARRY
    carry_tile(c);
#endif
    load_tile(out, c);
    load_tile(c, c + TILE);
    clear_columns(c, TILE, 2 * TILE);
}

/* Keeps in the highest column what was carried beyond it: a sum of two products may be that large. */
INLINE void keep_carry(V *highest, V carry) {
#if COLUMNS_NEED_CARRY
    *highest = add_product(*highest, carry, broadcast(1ULL << LIMB_BITS));
#else
    (void)highest, (void)carry;
#endif
}

/* out = a * b */
static void multiply_halves(V *out, const V *a, const V *b, size_t limbs) {
    V c[2 * TILE];
    clear_columns(c, 0, 2 * TILE);
    for (size_t k = 0; k < 2 * limbs; k += TILE) {
        const size_t first = k < limbs ? 0 : k - limbs + TILE, last = k < limbs ? k : limbs - TILE;
        for (size_t i = first; i <= last; i += TILE) add_tile(c, a + i, b + k - i);
        shift_out(out + k, c);
    }
}

/* out = a * b + d * e */
static void multiply_halves_twice(V *out, const V *a, const V *b, const V *d, const V *e, size_t limbs) {
    V c[2 * TILE];
    clear_columns(c, 0, 2 * TILE);
    for (size_t k = 0; k < 2 * limbs; k += TILE) {
        const size_t first = k < limbs ? 0 : k - limbs + TILE, last = k < limbs ? k : limbs - TILE;
        for (size_t i = first; i <= last; i += TILE) {
            add_tile(c, a + i, b + k - i);
            add_tile(c, d + i, e + k - i);
        }
        shift_out(out + k, c);
    }
    keep_carry(out + 2 * limbs - 1, c[0]);
}

/* out = a * a: half of the tiles, doubled, and the diagonal */
static void square_half(V *out, const V *a, size_t limbs) {
    V carried[2 * TILE];
    clear_columns(carried, 0, 2 * TILE);
    for (size_t k = 0; k < 2 * limbs; k += TILE) {
        const size_t first = k < limbs ? 0 : k - limbs + TILE;
        const int has_diagonal = k % (2 * TILE) == 0;
        V c[2 * TILE];
        clear_columns(c, 0, 2 * TILE);
        for (size_t i = first; 2 * i < k; i += TILE) add_tile(c, a + i, a + k - i);
        if (has_diagonal) add_tile_above_diagonal(c, a + k / 2);
        UNROLL for (int i = 0; i < 2 * TILE; i++) c[i] = add(add(c[i], c[i]), carried[i]);
        if (has_diagonal) add_tile_diagonal(c, a + k / 2);
        shift_out(out + k, c);
        load_tile(carried, c);
    }
}

/* -- Karatsuba ---------------------------------------------------------------------------------- */

/* A difference low - high of two halves: digits + sign * 2^(half * LIMB_BITS), sign 0 or -1. */
typedef struct {
    V digits[MAX_HALF], sign;
} Difference;

static void subtract_halves(Difference *d, const V *x, size_t half) {
    V borrow = broadcast(0);
    for (size_t i = 0; i < half; i++) {
        const V digit = add(sub(x[i], x[half + i]), borrow);
        d->digits[i] = and(digit, digit_mask());
        borrow = carry_of(digit);
    }
    d->sign = borrow;
}

/* The i-th digit of -(sign of a) * b - (sign of b) * a. */
INLINE V sign_correction(const Difference *a, const Difference *b, size_t i) {
    return add(and(a->sign, b->digits[i]), and(b->sign, a->digits[i]));
}

/* t holds low*low and high*high, 2*half columns each; adds their sum less `middle`, the product of the
 * differences' digits, at column `half`. The signs are the caller's. */
static void add_middle(V *t, const V *middle, size_t half) {
    for (size_t i = 0; i < half; i++) {
        const V a = t[i], b = t[half + i], c = t[2 * half + i], d = t[3 * half + i], inner = add(b, c);
        t[half + i] = add(inner, sub(a, middle[i]));
        t[2 * half + i] = add(inner, sub(d, middle[half + i]));
    }
}

/* -- numbers ------------------------------------------------------------------------------------ */

/* r = (t1 + q*N)/R + N * (t2 - q + p*N)/R, see the head of this file. t1, t2: 2n columns. */
static void reduce_pair(V *r, const V *t1, const V *t2, const VectorRing *ring) {
    const size_t n = ring->limbs;
    const V *modulus = ring->modulus;
    V q[MAX_LIMBS], p[MAX_LIMBS], c[2 * TILE], d[2 * TILE];
    clear_columns(c, TILE, 2 * TILE);
    clear_columns(d, TILE, 2 * TILE);
    for (size_t k = 0; k < 2 * n; k += TILE) {
        const size_t first = k < n ? 0 : k - n + TILE, end = k < n ? k : n;
        UNROLL for (size_t i = 0; i < TILE; i++) c[i] = add(c[TILE + i], t1[k + i]);
        clear_columns(c, TILE, 2 * TILE);
        for (size_t i = first; i < end; i += TILE) add_tile(c, q + i, modulus + k - i);
        if (k < n) {
            reduce_tile(c, q + k, modulus, ring->inverse);
        } else {
            carry_tile(c);
            load_tile(r + k - n, c);
        }
        UNROLL for (size_t i = 0; i < TILE; i++) d[i] = add(d[TILE + i], t2[k + i]);
        clear_columns(d, TILE, 2 * TILE);
        if (k < n) {
            UNROLL for (size_t i = 0; i < TILE; i++) d[i] = sub(d[i], q[k + i]);
        }
        for (size_t i = first; i < end; i += TILE) add_tile(d, p + i, modulus + k - i);
        if (k < n) {
            reduce_tile(d, p + k, modulus, ring->inverse);
        } else {
            carry_tile(d);
            load_tile(r + k, d);
        }
    }
}

/* t1 = x0 * y0, 2n columns, of which a0 and b0 are the differences of halves. */
static void multiply_first(V *t1, const V *x0, const V *y0, Difference *a0, Difference *b0, size_t n) {
    const size_t half = n / 2;
    V middle[MAX_LIMBS];
    subtract_halves(a0, x0, half);
    subtract_halves(b0, y0, half);
    multiply_halves(t1, x0, y0, half);
    multiply_halves(t1 + n, x0 + half, y0 + half, half);
    multiply_halves(middle, a0->digits, b0->digits, half);
    add_middle(t1, middle, half);
    for (size_t i = 0; i < half; i++) t1[n + i] = add(t1[n + i], sign_correction(a0, b0, i));
    t1[n + half] = add(t1[n + half], and(a0->sign, b0->sign));
}

/* t1 = x0^2, 2n columns. */
static void square_first(V *t1, const V *x0, Difference *a0, size_t n) {
    const size_t half = n / 2;
    V middle[MAX_LIMBS];
    subtract_halves(a0, x0, half);
    square_half(t1, x0, half);
    square_half(t1 + n, x0 + half, half);
    square_half(middle, a0->digits, half);
    add_middle(t1, middle, half);
    for (size_t i = 0; i < half; i++) t1[n + i] = add(t1[n + i], sign_correction(a0, a0, i));
    t1[n + half] = add(t1[n + half], a0->sign);
}

/* r = x * y / R; r may be x or y. */
static void multiply_pair(V *r, const V *x, const V *y, const VectorRing *ring) {
    const size_t n = ring->limbs, half = n / 2;
    const V *x0 = x, *x1 = x + n, *y0 = y, *y1 = y + n;
    V t1[MAX_COLUMNS], t2[MAX_COLUMNS], middle[MAX_LIMBS];
    Difference a0, a1, b0, b1;
    multiply_first(t1, x0, y0, &a0, &b0, n);

    subtract_halves(&a1, x1, half);
    subtract_halves(&b1, y1, half);
    multiply_halves_twice(t2, x0, y1, x1, y0, half);
    multiply_halves_twice(t2 + n, x0 + half, y1 + half, x1 + half, y0 + half, half);
    multiply_halves_twice(middle, a0.digits, b1.digits, a1.digits, b0.digits, half);
    add_middle(t2, middle, half);
    for (size_t i = 0; i < half; i++)
        t2[n + i] = add(t2[n + i], add(sign_correction(&a0, &b1, i), sign_correction(&a1, &b0, i)));
    t2[n + half] = add(t2[n + half], add(and(a0.sign, b1.sign), and(a1.sign, b0.sign)));

    reduce_pair(r, t1, t2, ring);
}

/* r = x^2 / R; r may be x. */
static void square_pair(V *r, const V *x, const VectorRing *ring) {
    const size_t n = ring->limbs, half = n / 2;
    const V *x0 = x, *x1 = x + n;
    V t1[MAX_COLUMNS], t2[MAX_COLUMNS], middle[MAX_LIMBS];
    Difference a0, a1;
    square_first(t1, x0, &a0, n);

    subtract_halves(&a1, x1, half);
    multiply_halves(t2, x0, x1, half);
    multiply_halves(t2 + n, x0 + half, x1 + half, half);
    multiply_halves(middle, a0.digits, a1.digits, half);
    add_middle(t2, middle, half);
    for (size_t i = 0; i < half; i++) t2[n + i] = add(t2[n + i], sign_correction(&a0, &a1, i));
    t2[n + half] = add(t2[n + half], and(a0.sign, a1.sign));
    for (size_t i = 0; i < 2 * n; i++) t2[i] = add(t2[i], t2[i]);

    reduce_pair(r, t1, t2, ring);
}

/* -- numbers mod N: their first part alone ------------------------------------------------------ */

/* r = (t1 + q*N)/R, what reduce_pair makes of t1. */
static void reduce_first(V *r, const V *t1, const VectorRing *ring) {
    const size_t n = ring->limbs;
    V q[MAX_LIMBS], c[2 * TILE];
    clear_columns(c, TILE, 2 * TILE);
    for (size_t k = 0; k < 2 * n; k += TILE) {
        const size_t first = k < n ? 0 : k - n + TILE, end = k < n ? k : n;
        UNROLL for (size_t i = 0; i < TILE; i++) c[i] = add(c[TILE + i], t1[k + i]);
        clear_columns(c, TILE, 2 * TILE);
        for (size_t i = first; i < end; i += TILE) add_tile(c, q + i, ring->modulus + k - i);
        if (k < n) {
            reduce_tile(c, q + k, ring->modulus, ring->inverse);
        } else {
            carry_tile(c);
            load_tile(r + k - n, c);
        }
    }
}

/* r0 = x0 * y0 / R mod N; r may be x or y. */
static void multiply_mod_n(V *r, const V *x, const V *y, const VectorRing *ring) {
    V t1[MAX_COLUMNS];
    Difference a0, b0;
    multiply_first(t1, x, y, &a0, &b0, ring->limbs);
    reduce_first(r, t1, ring);
}

/* r0 = x0^2 / R mod N; r may be x. */
static void square_mod_n(V *r, const V *x, const VectorRing *ring) {
    V t1[MAX_COLUMNS];
    Difference a0;
    square_first(t1, x, &a0, ring->limbs);
    reduce_first(r, t1, ring);
}
