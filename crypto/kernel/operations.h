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

static void run(const Ring *ring, uint64_t *out, const uint64_t *bases, size_t count, const Step *steps,
                size_t step_count, uint64_t *scratch) {
    VectorRing v;
    spread_ring(&v, ring);
    const size_t size = 2 * ring->limbs;
    V *made = (V *)out;
    for (size_t s = 0; s < step_count; s++) {
        const size_t left = (size_t)steps[s].left, right = (size_t)steps[s].right, to = (size_t)steps[s].to;
        const V *x = left < count ? (const V *)bases + left * size : (V *)scratch + (left - count) * size;
        const V *y = right < count ? (const V *)bases + right * size : (V *)scratch + (right - count) * size;
        made = (V *)scratch + (to - count) * size;
        if (left == right)
            square_pair(made, x, &v);
        else
            multiply_pair(made, x, y, &v);
    }
    memcpy(out, made, size * sizeof(V));
}

/* out = table[index] for a secret index: reads every entry. */
static void select_entry(V *out, const V *table, size_t entries, size_t size, V index) {
    for (size_t i = 0; i < size; i++) out[i] = broadcast(0);
    for (size_t e = 0; e < entries; e++) {
        const V chosen = equal(index, broadcast(e));
        for (size_t i = 0; i < size; i++) out[i] = or(out[i], and(chosen, table[e * size + i]));
    }
}

static void power(const Ring *ring, uint64_t *out, const uint64_t *a, size_t groups, const uint8_t *exponent,
                  size_t bits, uint64_t *scratch) {
    enum { ENTRIES = 1 << WINDOW_BITS };
    VectorRing v;
    spread_ring(&v, ring);
    const size_t size = 2 * ring->limbs, windows = (bits + WINDOW_BITS - 1) / WINDOW_BITS;
    V *table = (V *)scratch, *chosen = table + ENTRIES * size;
    for (size_t i = 0; i < size; i++) table[i] = broadcast(ring->one[i]);
    for (size_t g = 0; g < groups; g++) {
        V *result = (V *)out + g * size;
        memcpy(table + size, (const V *)a + g * size, size * sizeof(V));
        for (size_t e = 2; e < ENTRIES; e++) {
            if (e % 2 == 0)
                square_pair(table + e * size, table + e / 2 * size, &v);
            else
                multiply_pair(table + e * size, table + (e - 1) * size, table + size, &v);
        }
        memcpy(result, table, size * sizeof(V));
        for (size_t w = windows; w-- > 0;) {
            uint64_t digit = 0;
            for (size_t bit = (w + 1) * WINDOW_BITS; bit-- > w * WINDOW_BITS;)
                digit = 2 * digit + (bit < bits ? exponent[bit / 8] >> bit % 8 & 1u : 0u);
            if (w + 1 < windows) {
                for (int i = 0; i < WINDOW_BITS; i++) square_pair(result, result, &v);
            }
            select_entry(chosen, table, ENTRIES, size, broadcast(digit));
            multiply_pair(result, result, chosen, &v);
        }
    }
}

static void select_and_multiply(const Ring *ring, uint64_t *out, const uint64_t *table, size_t rows,
                                size_t entries, const uint64_t *digits, uint64_t *scratch) {
    enum { AT_ONCE = 2 * TILE };
    VectorRing v;
    spread_ring(&v, ring);
    const size_t size = 2 * ring->limbs;
    V *result = (V *)out, *chosen = (V *)scratch;
    for (size_t r = 0; r < rows; r++, table += entries * size) {
        const V index = ((const V *)digits)[r];
        V *selected = r == 0 ? result : chosen;
        for (size_t i = 0; i < size; i += AT_ONCE) {
            V limbs[AT_ONCE];
            clear_columns(limbs, 0, AT_ONCE);
            for (size_t e = 0; e < entries; e++) {
                const V mask = equal(index, broadcast(e));
                UNROLL for (int j = 0; j < AT_ONCE; j++)
                    limbs[j] = or(limbs[j], and(mask, broadcast(table[e * size + i + (size_t)j])));
            }
            UNROLL for (int j = 0; j < AT_ONCE; j++) selected[i + (size_t)j] = limbs[j];
        }
        if (r > 0) multiply_pair(result, result, chosen, &v);
    }
}
