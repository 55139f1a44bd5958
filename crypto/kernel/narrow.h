/* A secret power of two numbers in the four lanes of a vector, for the time of few numbers: both parts of a number side
 * by side. Included by a backend of four lanes, after operations.h.
 *
 * A vector holds [x0 of one, x0 of the other, x1 of one, x1 of the other], and a product in pair form is
 *
 *     [t1 | t2] = [x0 | x1] * [y0 | y0] + [0 | x0] * [0 | y1]
 *
 * then one reduction for both, in which q and p are found together. p needs q, digit by digit, so t2 comes a tile later
 * than t1: column k of a vector is column k of t1 and column k - TILE of t2. The bounds are those of pair_form.h.
 */

/* r = [(t1 + q*N)/R | (t2 - q + p*N)/R]; t: 2n columns. */
static void reduce_side_by_side(V *r, const V *t, const VectorRing *ring) {
    const size_t n = ring->limbs;
    const V *modulus = ring->modulus;
    V q[MAX_LIMBS + TILE], c[2 * TILE];
    clear_columns(c, TILE, 2 * TILE);
    for (size_t k = 0; k <= 2 * n; k += TILE) {
        const size_t first = k < n ? 0 : k - n + TILE, end = k < n + TILE ? k : n + TILE;
        UNROLL for (size_t i = 0; i < TILE; i++) {
            const V low = k < 2 * n ? low_half(t[k + i]) : broadcast(0);
            const V high = k > 0 ? high_half(t[k - TILE + i]) : broadcast(0);
            c[i] = add(c[TILE + i], add(low, high));
            if (k > 0 && k <= n) c[i] = sub(c[i], low_to_high(q[k - TILE + i]));
        }
        clear_columns(c, TILE, 2 * TILE);
        for (size_t i = first; i < end; i += TILE) add_tile(c, q + i, modulus + k - i);
        if (k < n) {
            reduce_tile(c, q + k, modulus, ring->inverse);
        } else if (k == n) {
            /* The last digits of p, while those of r0 begin to come out. */
            V d[2 * TILE];
            load_tile(d, c);
            load_tile(d + TILE, c + TILE);
            reduce_tile(d, q + k, modulus, ring->inverse);
            carry_tile(c);
            UNROLL for (size_t i = 0; i < TILE; i++) {
                q[k + i] = high_half(q[k + i]);
                r[i] = low_half(c[i]);
                c[TILE + i] = add(low_half(c[TILE + i]), high_half(d[TILE + i]));
            }
        } else {
            carry_tile(c);
            UNROLL for (size_t i = 0; i < TILE; i++) {
                r[k - n - TILE + i] = add(r[k - n - TILE + i], high_half(c[i]));
                if (k < 2 * n) r[k - n + i] = low_half(c[i]);
            }
        }
    }
}

/* t + (sign of a) * b + (sign of b) * a, from column 2 * half on: what the signs of differences add to a product. */
INLINE void add_signs(V *t, const Difference *a, const Difference *b, size_t half) {
    for (size_t i = 0; i < half; i++) t[2 * half + i] = add(t[2 * half + i], sign_correction(a, b, i));
    t[3 * half] = add(t[3 * half], and(a->sign, b->sign));
}

/* r = x * y / R for n vectors each; r may be x or y. */
static void multiply_side_by_side(V *r, const V *x, const V *y, const VectorRing *ring) {
    const size_t n = ring->limbs, half = n / 2;
    V t[MAX_COLUMNS], middle[MAX_LIMBS], y0[MAX_LIMBS], x0[MAX_LIMBS], y1[MAX_LIMBS];
    Difference dx, dy0, dx0, dy1;
    for (size_t i = 0; i < n; i++) {
        y0[i] = low_twice(y[i]);
        x0[i] = low_to_high(x[i]);
        y1[i] = high_half(y[i]);
    }
    subtract_halves(&dx, x, half);
    subtract_halves(&dy0, y0, half);
    subtract_halves(&dx0, x0, half);
    subtract_halves(&dy1, y1, half);
    multiply_halves_twice(t, x, y0, x0, y1, half);
    multiply_halves_twice(t + n, x + half, y0 + half, x0 + half, y1 + half, half);
    multiply_halves_twice(middle, dx.digits, dy0.digits, dx0.digits, dy1.digits, half);
    add_middle(t, middle, half);
    add_signs(t, &dx, &dy0, half);
    add_signs(t, &dx0, &dy1, half);
    reduce_side_by_side(r, t, ring);
}

/* r = x^2 / R for n vectors; r may be x. */
static void square_side_by_side(V *r, const V *x, const VectorRing *ring) {
    const size_t n = ring->limbs, half = n / 2;
    V t[MAX_COLUMNS], middle[MAX_LIMBS], x0[MAX_LIMBS];
    Difference dx, dx0;
    for (size_t i = 0; i < n; i++) x0[i] = low_twice(x[i]);
    subtract_halves(&dx, x, half);
    subtract_halves(&dx0, x0, half);
    multiply_halves(t, x, x0, half);
    multiply_halves(t + n, x + half, x0 + half, half);
    multiply_halves(middle, dx.digits, dx0.digits, half);
    add_middle(t, middle, half);
    add_signs(t, &dx, &dx0, half);
    for (size_t i = 0; i < 2 * n; i++) t[i] = add(t[i], high_half(t[i])); /* t2 = 2*x0*x1 */
    reduce_side_by_side(r, t, ring);
}

static void power_of_two(const Ring *ring, uint64_t *out, const uint64_t *a, const uint8_t *exponents, size_t size,
                         size_t step, uint64_t *scratch) {
    enum { ENTRIES = 1 << WINDOW_BITS };
    VectorRing v;
    spread_ring(&v, ring);
    const size_t n = ring->limbs, windows = (8 * size + WINDOW_BITS - 1) / WINDOW_BITS;
    V *table = (V *)scratch, *chosen = table + ENTRIES * n, *result = chosen + n;
    for (size_t i = 0; i < n; i++) {
        table[i] = add(low_half(broadcast(ring->one[i])), high_half(broadcast(ring->one[n + i])));
        table[n + i] = add(low_half(((const V *)a)[i]), low_to_high(((const V *)a)[n + i]));
        result[i] = table[i];
    }
    for (size_t e = 2; e < ENTRIES; e++) {
        if (e % 2 == 0)
            square_side_by_side(table + e * n, table + e / 2 * n, &v);
        else
            multiply_side_by_side(table + e * n, table + (e - 1) * n, table + n, &v);
    }
    for (size_t w = windows; w-- > 0;) {
        if (w + 1 < windows) {
            for (int i = 0; i < WINDOW_BITS; i++) square_side_by_side(result, result, &v);
        }
        select_group(chosen, table, ENTRIES, n, low_twice(window_of_lanes(exponents, size, step, w, 2)));
        multiply_side_by_side(result, result, chosen, &v);
    }
    for (size_t i = 0; i < n; i++) {
        ((V *)out)[i] = low_half(result[i]);
        ((V *)out)[n + i] = high_to_low(result[i]);
    }
}
