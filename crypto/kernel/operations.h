/* The operations of a backend over groups of numbers; see kernel.h. Included after pair_form.h. */

static void multiply(const Ring *ring, uint64_t *out, const uint64_t *a, size_t groups, const uint64_t *b,
                     size_t b_step) {
    VectorRing v;
    spread_ring(&v, ring);
    const size_t size = 2 * ring->limbs;
    for (size_t g = 0; g < groups; g++)
        multiply_pair((V *)out + g * size, (const V *)a + g * size, (const V *)b + g * b_step * size, &v);
}

static void square(const Ring *ring, uint64_t *out, const uint64_t *a, size_t groups) {
    VectorRing v;
    spread_ring(&v, ring);
    const size_t size = 2 * ring->limbs;
    for (size_t g = 0; g < groups; g++) square_pair((V *)out + g * size, (const V *)a + g * size, &v);
}

/* out = table[index] for a secret index: reads every entry. */
static void select_group(V *out, const V *table, size_t entries, size_t size, V index) {
    enum { AT_ONCE = 2 * TILE }; /* limbs in registers while the table goes by */
    for (size_t i = 0; i < size; i += AT_ONCE) {
        V limbs[AT_ONCE];
        UNROLL for (size_t j = 0; j < AT_ONCE; j++) limbs[j] = table[i + j];
        for (size_t e = 1; e < entries; e++) {
            const Mask chosen = equal(index, broadcast(e));
            UNROLL for (size_t j = 0; j < AT_ONCE; j++)
                limbs[j] = choose(chosen, loaded(table[e * size + i + j]), limbs[j]);
        }
        UNROLL for (size_t j = 0; j < AT_ONCE; j++) out[i + j] = limbs[j];
    }
}

/* In each lane, the number whose secret index stands there: reads the whole table, V[size][entries / LANES],
 * LANES entries at a time. */
static void select_number(V *out, const V *table, size_t entries, size_t size, V index) {
    const size_t blocks = entries / LANES;
    const V places = places_of(index), high = high_part(index);
    Mask chosen[MAX_ENTRIES / LANES];
    for (size_t b = 1; b < blocks; b++) chosen[b] = equal(high, broadcast(b));
    for (size_t i = 0; i < size; i++, table += blocks) {
        V limb = look_up(table[0], places);
        for (size_t b = 1; b < blocks; b++) limb = choose(chosen[b], look_up(loaded(table[b]), places), limb);
        out[i] = limb;
    }
}

/* The w-th window of the exponent of each of the first `lanes` lanes. */
static V window_of_lanes(const uint8_t *exponents, size_t size, size_t step, size_t w, size_t lanes) {
    uint64_t digits[LANES] = {0};
    for (size_t lane = 0; lane < lanes; lane++) {
        const uint8_t *exponent = exponents + lane * step;
        for (size_t bit = (w + 1) * WINDOW_BITS; bit-- > w * WINDOW_BITS;)
            digits[lane] = 2 * digits[lane] + (bit < 8 * size ? exponent[bit / 8] >> bit % 8 & 1u : 0u);
    }
    V index;
    memcpy(&index, digits, sizeof index);
    return index;
}

typedef void Square(V *r, const V *x, const VectorRing *ring);
typedef void Multiply(V *r, const V *x, const V *y, const VectorRing *ring);

/* Raises the first `limbs` limbs of numbers, which are all of them, or the first part alone; the others become 0. */
INLINE void power_by(Square *square_number, Multiply *multiply_number, size_t limbs, const Ring *ring, uint64_t *out,
                     const uint64_t *a, size_t groups, const uint8_t *exponents, size_t size, size_t step,
                     uint64_t *scratch) {
    enum { ENTRIES = 1 << WINDOW_BITS };
    VectorRing v;
    spread_ring(&v, ring);
    const size_t group = 2 * ring->limbs, windows = (8 * size + WINDOW_BITS - 1) / WINDOW_BITS;
    V *table = (V *)scratch, *chosen = table + ENTRIES * limbs;
    for (size_t i = 0; i < limbs; i++) table[i] = broadcast(ring->one[i]);
    for (size_t g = 0; g < groups; g++, exponents += LANES * step) {
        V *result = (V *)out + g * group;
        memcpy(table + limbs, (const V *)a + g * group, limbs * sizeof(V));
        for (size_t e = 2; e < ENTRIES; e++) {
            if (e % 2 == 0)
                square_number(table + e * limbs, table + e / 2 * limbs, &v);
            else
                multiply_number(table + e * limbs, table + (e - 1) * limbs, table + limbs, &v);
        }
        memcpy(result, table, limbs * sizeof(V));
        for (size_t w = windows; w-- > 0;) {
            if (w + 1 < windows) {
                for (int i = 0; i < WINDOW_BITS; i++) square_number(result, result, &v);
            }
            select_group(chosen, table, ENTRIES, limbs, window_of_lanes(exponents, size, step, w, LANES));
            multiply_number(result, result, chosen, &v);
        }
        for (size_t i = limbs; i < group; i++) result[i] = broadcast(0);
    }
}

static void power(const Ring *ring, uint64_t *out, const uint64_t *a, size_t groups, const uint8_t *exponents,
                  size_t size, size_t step, uint64_t *scratch) {
    power_by(square_pair, multiply_pair, 2 * ring->limbs, ring, out, a, groups, exponents, size, step, scratch);
}

static void power_mod_n(const Ring *ring, uint64_t *out, const uint64_t *a, size_t groups, const uint8_t *exponents,
                        size_t size, size_t step, uint64_t *scratch) {
    power_by(square_mod_n, multiply_mod_n, ring->limbs, ring, out, a, groups, exponents, size, step, scratch);
}

static void select_and_multiply(const Ring *ring, uint64_t *out, size_t groups, const uint64_t *table, size_t rows,
                                size_t entries, const uint64_t *digits, uint64_t *scratch) {
    VectorRing v;
    spread_ring(&v, ring);
    const size_t size = 2 * ring->limbs, row_size = size * entries / LANES;
    V *chosen = (V *)scratch;
    /* Row by row: a row of the table then comes from memory once for all groups. */
    for (size_t r = 0; r < rows; r++) {
        const V *row = (const V *)table + r * row_size;
        for (size_t g = 0; g < groups; g++) {
            V *result = (V *)out + g * size;
            const V index = ((const V *)digits)[r * groups + g];
            select_number(r == 0 ? result : chosen, row, entries, size, index);
            if (r > 0) multiply_pair(result, result, chosen, &v);
        }
    }
}

/* -- plain numbers --------------------------------------------------------------------------------- */

/* Turns columns into digits. Returns what is carried beyond the last one. */
static V carry_all(V *c, size_t count) {
    V carry = broadcast(0);
    for (size_t i = 0; i < count; i++) {
        const V column = add(c[i], carry);
        carry = carry_of(column);
        c[i] = and(column, digit_mask());
    }
    return carry;
}

/* low * R^2 / R + high * R^3 / R. With low, high < R and reduced factors either has parts below 2N: their t1 and t2 are
 * below R*N. */
static void enter(const Ring *ring, uint64_t *out, const uint64_t *x, size_t groups, const uint64_t *factors) {
    VectorRing v;
    spread_ring(&v, ring);
    const size_t n = ring->limbs;
    V low[MAX_COLUMNS], high[MAX_COLUMNS];
    for (size_t g = 0; g < groups; g++) {
        const V *plain = (const V *)x + g * 2 * n;
        V *result = (V *)out + g * 2 * n;
        for (size_t i = 0; i < n; i++) {
            low[i] = plain[i];
            high[i] = plain[n + i];
            low[n + i] = high[n + i] = broadcast(0);
        }
        multiply_pair(low, low, (const V *)factors, &v);
        multiply_pair(high, high, (const V *)factors + 2 * n, &v);
        for (size_t i = 0; i < 2 * n; i++) result[i] = add(low[i], high[i]);
        carry_all(result, n);
        carry_all(result + n, n);
    }
}

/* A product with 1 has parts of N at most, so that x0 + x1*N is below 2*N^2: N^2 is subtracted where that leaves
 * nothing negative. */
static void leave(const Ring *ring, uint64_t *out, const uint64_t *a, size_t groups) {
    VectorRing v = {0};
    spread_ring(&v, ring);
    const size_t n = ring->limbs;
    V one[MAX_COLUMNS], x[MAX_COLUMNS], square[MAX_COLUMNS], reduced[MAX_COLUMNS];
    for (size_t i = 0; i < 2 * n; i++) one[i] = broadcast(i == 0);
    multiply_halves(square, v.modulus, v.modulus, n);
    carry_all(square, 2 * n);
    for (size_t g = 0; g < groups; g++) {
        V *plain = (V *)out + g * 2 * n;
        multiply_pair(x, (const V *)a + g * 2 * n, one, &v);
        multiply_halves(plain, x + n, v.modulus, n);
        for (size_t i = 0; i < n; i++) plain[i] = add(plain[i], x[i]);
        carry_all(plain, 2 * n);
        for (size_t i = 0; i < 2 * n; i++) reduced[i] = sub(plain[i], square[i]);
        const V is_less = carry_all(reduced, 2 * n); /* 0 or -1 */
        for (size_t i = 0; i < 2 * n; i++)
            plain[i] = add(reduced[i], and(is_less, sub(plain[i], reduced[i])));
    }
}

/* -- packs at rest --------------------------------------------------------------------------------- */

/* Two limbs are a whole number of bytes, one ends with half of one. */
enum { PAIR_BYTES = LIMB_BITS / 4, ROW_BYTES = LANES / 2 * PAIR_BYTES };

static void compress(const Ring *ring, uint8_t *rows, const uint64_t *a, size_t groups) {
    for (size_t i = 0; i < groups * 2 * ring->limbs * LANES; i += 2, rows += PAIR_BYTES) {
        const unsigned __int128 pair = (unsigned __int128)a[i + 1] << LIMB_BITS | a[i];
        memcpy(rows, &pair, PAIR_BYTES);
    }
}

static inline void expand_rows(V *out, const uint8_t *rows, size_t count, size_t row_bytes) {
    for (size_t i = 0; i < count; i++) out[i] = load_row(rows + i * row_bytes);
}

static void expand(const Ring *ring, uint64_t *out, const uint8_t *rows, size_t groups) {
    expand_rows((V *)out, rows, groups * 2 * ring->limbs, ROW_BYTES);
}

static void run(const Ring *ring, uint64_t *out, const uint8_t *bases, size_t count, size_t row_bytes,
                const Step *steps, size_t step_count, uint64_t *scratch) {
    VectorRing v;
    spread_ring(&v, ring);
    const size_t size = 2 * ring->limbs;
    V *expanded[2] = {(V *)scratch, (V *)scratch + size}, *made = (V *)scratch + 2 * size, *last = made;
    for (size_t s = 0; s < step_count; s++) {
        const size_t operands[2] = {(size_t)steps[s].left, (size_t)steps[s].right};
        const V *x[2];
        for (int i = 0; i < 2; i++) {
            x[i] = operands[i] < count ? expanded[i] : made + (operands[i] - count) * size;
            if (operands[i] < count) expand_rows(expanded[i], bases + operands[i] * size * row_bytes, size, row_bytes);
        }
        last = made + ((size_t)steps[s].to - count) * size;
        if (operands[0] == operands[1])
            square_pair(last, x[0], &v);
        else
            multiply_pair(last, x[0], x[1], &v);
    }
    memcpy(out, last, size * sizeof(V));
}

static void saturate(size_t rounds) {
    V c[SATURATING];
    for (int i = 0; i < SATURATING; i++) c[i] = broadcast((uint64_t)i + 3);
    V factor = broadcast(5);
    __asm__ volatile("" : "+x"(factor)); /* nothing about it is known at compile time */
    for (size_t r = 0; r < rounds; r++) UNROLL for (int i = 0; i < SATURATING; i++) c[i] = multiply_only(c[i], factor);
    for (int i = 0; i < SATURATING; i++) __asm__ volatile("" : : "x"(c[i]));
}
