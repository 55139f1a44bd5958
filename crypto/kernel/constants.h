/* Products of constants: powers of a fixed base by a table, without Montgomery form. Included after operations.h by a
 * backend whose columns hold whole products (HALF_PRODUCTS 0).
 *
 * An entry of the table is a number y*(1 + l*N) mod N^2, kept as y, its quotient y'' = floor(y*R/N) and l, all below N.
 * The l of a product of entries is the sum of theirs, and what is left are products by y alone: with a number
 * x + e*N, as Shoup multiplies by constants (Harvey, J. Symb. Comp. 2014, section 3),
 *
 *     q = floor(x*y''/R)           x' = x*y - q*N
 *     p = floor(e*y''/R)           e' = e*y - p*N + q
 *
 * gives x' + e'*N = (x + e*N) * y mod N^2. Of every product one half of the columns is needed, upper or lower: three
 * products of n limbs in all, where a product of two pairs takes five. No digit waits for another one.
 *
 * q is at most x*y/N and above x*y/N - 3: y'' is less than 1 too small, which is x/R < 1 in the product; the columns
 * left out are less than 1; so is what the floor takes. So 0 <= x' < 3N, and 0 <= e' < 3N + q < 6N, which is less than R,
 * so that x' and e' are right if they are so mod R.
 */

enum {
    PARTS = 3,         /* y, y'', l */
    CALLS = 4,         /* products of a row: each fetches a share of the rows that come next */
    FETCHED = 16 * 64, /* bytes for a tile of columns: CALLS * n / TILE times as many are a row, and a little more */
};

/* Has what is read next come near, while something else is computed. Reads nothing, and no address is secret. */
INLINE void fetch(const uint8_t *next, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(next + i, 0, 2);
}

/* c[j] += the products a[i] * b[j - i] for all i, j < TILE. */
INLINE void add_diamond(V *c, const V *a, const V *b) {
    UNROLL for (int i = 0; i < TILE; i++) {
        const V factor = a[i];
        UNROLL for (int j = 0; j < TILE; j++) c[j] = add_product(c[j], factor, b[j - i]);
    }
}

/* The same for the products whose j - i is not negative, */
INLINE void add_upper_half(V *c, const V *a, const V *b) {
    UNROLL for (int i = 0; i < TILE; i++) {
        UNROLL for (int j = i; j < TILE; j++) c[j] = add_product(c[j], a[i], b[j - i]);
    }
}

/* and for those whose j - i is negative. */
INLINE void add_lower_half(V *c, const V *a, const V *b) {
    UNROLL for (int i = 1; i < TILE; i++) {
        UNROLL for (int j = 0; j < i; j++) c[j] = add_product(c[j], a[i], b[j - i]);
    }
}

/* Turns TILE columns, none negative, into digits. Returns what is carried beyond. */
INLINE V take_digits(V *out, const V *c, V carry) {
    UNROLL for (int j = 0; j < TILE; j++) {
        const V column = add(c[j], carry);
        carry = shift_down(column);
        out[j] = and(column, digit_mask());
    }
    return carry;
}

/* q = floor(a * b / R), or one less. The two columns below the upper half tell what is carried into it; all those below
 * these two are less than n * 2^-LIMB_BITS < 1 in q. */
static __attribute__((noinline)) void multiply_high(V *q, const V *a, const V *b, size_t n, const uint8_t *next,
                                                   size_t bytes) {
    V even[2] = {broadcast(0), broadcast(0)}, odd[2] = {broadcast(0), broadcast(0)}; /* sums, so that none waits */
    for (size_t i = 0; i + 2 < n; i += 2) {
        even[0] = add_product(even[0], a[i], b[n - 2 - i]);
        even[1] = add_product(even[1], a[i], b[n - 1 - i]);
        odd[0] = add_product(odd[0], a[i + 1], b[n - 3 - i]);
        odd[1] = add_product(odd[1], a[i + 1], b[n - 2 - i]);
    }
    even[0] = add_product(even[0], a[n - 2], b[0]);
    even[1] = add_product(even[1], a[n - 2], b[1]);
    odd[1] = add_product(odd[1], a[n - 1], b[0]);
    const V below = add(even[0], odd[0]), top = add(add(even[1], odd[1]), shift_down(below));
    V carry = shift_down(top);
    for (size_t k = 0; k < n; k += TILE, next += bytes) {
        V c[TILE];
        fetch(next, bytes);
        clear_columns(c, 0, TILE);
        add_lower_half(c, a + k, b + n);
        for (size_t i = k + TILE; i < n; i += TILE) add_diamond(c, a + i, b + n + k - i);
        carry = take_digits(q + k, c, carry);
    }
}

/* r = (a * b + d * m + s) mod R; s may be NULL for 0. */
static __attribute__((noinline)) void multiply_low(V *r, const V *a, const V *b, const V *d, const V *m, const V *s,
                                                  size_t n, const uint8_t *next, size_t bytes) {
    V carry = broadcast(0);
    for (size_t k = 0; k < n; k += TILE, next += bytes) {
        V c[TILE];
        fetch(next, bytes);
        if (s)
            load_tile(c, s + k);
        else
            clear_columns(c, 0, TILE);
        for (size_t i = 0; i < k; i += TILE) {
            add_diamond(c, a + i, b + k - i);
            add_diamond(c, d + i, m + k - i);
        }
        add_upper_half(c, a + k, b);
        add_upper_half(c, d + k, m);
        carry = take_digits(r + k, c, carry);
    }
}

/* Selects in a row of a table, uint32_t[words][CONSTANTS], for one or two vectors of digits: the place among eight, and
 * three masks that say which eight. */
typedef struct {
    V places;
    Mask bits[3];
} Selector;

static Selector selector_of(V digits) {
    Selector selector = {half_places_of(digits), {broadcast(0)}};
    const V high = half_part(digits);
    for (int i = 0; i < 3; i++) selector.bits[i] = equal(and(high, broadcast(1u << i)), broadcast(1u << i));
    return selector;
}

INLINE V select_of_row(const V *eights, const Selector *selector) {
    V found[8];
    UNROLL for (int i = 0; i < 8; i++) found[i] = look_up(eights[i], selector->places);
    UNROLL for (int i = 0; i < 4; i++) found[i] = choose(selector->bits[0], found[2 * i + 1], found[2 * i]);
    UNROLL for (int i = 0; i < 2; i++) found[i] = choose(selector->bits[1], found[2 * i + 1], found[2 * i]);
    return choose(selector->bits[2], found[1], found[0]);
}

/* out |= the constants in a row that the digits name, in the lanes of which `lanes` has the lower halves. Every entry is
 * read. */
static void select_constants(V *out, const uint32_t *row, size_t words, V digits, V lanes) {
    const Selector selector = selector_of(digits);
    const V *eights = (const V *)row;
    for (size_t i = 0; i < words; i++, eights += 8) out[i] = or(out[i], and(select_of_row(eights, &selector), lanes));
}

static void multiply_constants(const Ring *ring, uint64_t *out, size_t groups, const void *table, size_t rows,
                               size_t pieces, const uint64_t *digits) {
    const size_t n = ring->limbs, steps = rows / pieces, words = PARTS * n, row_words = words * CONSTANTS;
    V complement[MAX_LIMBS], entry[PARTS * MAX_LIMBS], q[MAX_LIMBS], p[MAX_LIMBS], product[2 * MAX_LIMBS];
    V of_piece[LANES];
    /* R - N */
    for (size_t i = 0; i < n; i++)
        complement[i] = sub(add(digit_mask(), broadcast(i == 0)), broadcast(ring->modulus[i]));
    for (size_t piece = 0; piece < pieces; piece++) {
        uint64_t lanes[LANES];
        for (size_t lane = 0; lane < LANES; lane++) lanes[lane] = lane % pieces == piece ? (1ULL << 32) - 1 : 0;
        memcpy(&of_piece[piece], lanes, sizeof(V));
    }
    for (size_t s = 0; s < steps; s++) {
        for (size_t g = 0; g < groups; g++) {
            V *x = (V *)out + g * 4 * n, *e = x + n, *l = e + n;
            for (size_t i = 0; i < words; i++) entry[i] = broadcast(0);
            for (size_t piece = 0; piece < pieces; piece++)
                select_constants(entry, (const uint32_t *)table + (piece * steps + s) * row_words, words,
                                 ((const V *)digits)[s * groups + g], of_piece[piece]);
            if (s == 0) {
                for (size_t i = 0; i < n; i++) {
                    x[i] = entry[i];
                    e[i] = l[n + i] = broadcast(0);
                    l[i] = entry[2 * n + i];
                }
                continue;
            }
            /* The rows of the next step, once for all groups: each product fetches its share of the pieces. */
            const uint8_t *next[CALLS];
            const size_t bytes = g == 0 ? pieces * FETCHED : 0;
            for (size_t i = 0; i < CALLS; i++) {
                const size_t piece = i * pieces / CALLS, share = i % (CALLS / pieces);
                next[i] = (const uint8_t *)((const uint32_t *)table + (piece * steps + s + 1) * row_words) +
                          share * (n / TILE) * bytes;
            }
            multiply_high(q, x, entry + n, n, next[0], bytes);
            multiply_high(p, e, entry + n, n, next[1], bytes);
            multiply_low(product, x, entry, q, complement, NULL, n, next[2], bytes);
            multiply_low(product + n, e, entry, p, complement, q, n, next[3], bytes);
            memcpy(x, product, 2 * n * sizeof *x);
            for (size_t i = 0; i < n; i++) l[i] = add(l[i], entry[2 * n + i]);
        }
    }
    for (size_t g = 0; g < groups; g++) {
        V *l = (V *)out + g * 4 * n + 2 * n;
        l[n] = carry_all(l, n);
    }
}
