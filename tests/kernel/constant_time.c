/* Secrets are declared uninitialised, and memcheck follows them: it reports a branch or an address that depends
 * on one. Run by constant_time.sh; an argument chooses what to look at.
 *
 * All limbs of all operands are secret as well, so that a product is checked together with what calls it. The
 * backends avx2 and portable as they are, and ifma4 in plain C, for memcheck does not know AVX-512; ifma is the text of that over wider
 * vectors.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <valgrind/memcheck.h>

#include "../../crypto/kernel/kernel.h"

enum { GROUPS = 2, BYTES = 7, ROWS = 3, BASES = 2, BRANCH = 1, ADDRESS = 2 };

static uint64_t random_state = 88172645463325252ULL;

static uint64_t random_word(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}

static uint64_t *make_words(size_t count) {
    uint64_t *words = aligned_alloc(ALIGNMENT, count * sizeof(uint64_t) + ALIGNMENT - count * sizeof(uint64_t) % ALIGNMENT);
    if (!words) abort();
    return words;
}

/* Secret digits below `bound`. */
static uint64_t *make_secret(size_t count, uint64_t bound) {
    uint64_t *words = make_words(count);
    for (size_t i = 0; i < count; i++) words[i] = random_word() % bound;
    VALGRIND_MAKE_MEM_UNDEFINED(words, count * sizeof(uint64_t));
    return words;
}

/* A public ring of random digits: what is computed means nothing, but it is computed. */
static Ring make_ring(size_t limbs, uint64_t bound) {
    uint64_t *words = make_words(3 * limbs);
    for (size_t i = 0; i < 3 * limbs; i++) words[i] = random_word() % bound;
    return (Ring){limbs, random_word() % bound | 1, words, words + limbs};
}

static void check(const Backend *backend, size_t limbs) {
    const uint64_t bound = backend->limb_bits < 64 ? 1ULL << backend->limb_bits : UINT64_MAX;
    const Ring ring = make_ring(limbs, bound);
    const size_t size = 2 * limbs * backend->lanes, row_bytes = size * backend->limb_bits / 8;
    uint64_t *a = make_secret(GROUPS * size, bound), *b = make_secret(GROUPS * size, bound);
    uint64_t *out = make_words(GROUPS * size), *scratch = make_words(((1u << WINDOW_BITS) + 1) * size);

    backend->multiply(&ring, out, a, GROUPS, b, 1);
    backend->multiply(&ring, out, a, GROUPS, b, 0);
    backend->square(&ring, out, a, GROUPS);

    backend->enter(&ring, out, a, GROUPS, b);
    backend->leave(&ring, out, a, GROUPS);

    const size_t exponent_bytes = GROUPS * backend->lanes * BYTES;
    uint8_t *exponents = malloc(exponent_bytes);
    if (!exponents) abort();
    for (size_t i = 0; i < exponent_bytes; i++) exponents[i] = (uint8_t)random_word();
    VALGRIND_MAKE_MEM_UNDEFINED(exponents, exponent_bytes);
    backend->power(&ring, out, a, GROUPS, exponents, BYTES, 0, scratch);
    backend->power(&ring, out, a, GROUPS, exponents, BYTES, BYTES, scratch);

    if (backend->power_mod_n) backend->power_mod_n(&ring, out, a, GROUPS, exponents, BYTES, BYTES, scratch);

    if (backend->power_of_two) {
        backend->power_of_two(&ring, out, a, exponents, BYTES, 0, scratch);
        backend->power_of_two(&ring, out, a, exponents, BYTES, BYTES, scratch);
    }

    uint64_t *table = make_secret(ROWS * size / backend->lanes * MAX_ENTRIES, bound);
    uint64_t *digits = make_secret(ROWS * GROUPS * backend->lanes, MAX_ENTRIES);
    backend->select_and_multiply(&ring, out, GROUPS, table, ROWS, MAX_ENTRIES, digits, scratch);

    if (backend->multiply_constants) {
        enum { OF_LANES = 4 };
        const size_t row_words = 3 * limbs * CONSTANTS;
        uint64_t *constants = make_secret(OF_LANES * row_words, backend->limb_bits <= 32 ? UINT32_MAX : bound);
        uint64_t *chosen = make_secret(OF_LANES * GROUPS * backend->lanes, CONSTANTS);
        uint64_t *products = make_words(2 * GROUPS * size);
        for (size_t pieces = 1; pieces <= backend->lanes; pieces *= 2)
            backend->multiply_constants(&ring, products, GROUPS, constants, OF_LANES, pieces, chosen);
        free(constants), free(chosen), free(products);
    }

    /* c* of the key-safety check (crypto/rings/grid.py) is what these make of ciphertexts, by weights that both holders
     * have seen: enter, run, and power with an exponent for each number. The steps of a program are public here; docs/kernel.md
     * says what they tell. */
    uint8_t *rows = malloc(BASES * row_bytes + ROW_SLACK);
    if (!rows) abort();
    memset(rows, 0, BASES * row_bytes + ROW_SLACK);
    backend->compress(&ring, rows, a, BASES);
    backend->expand(&ring, out, rows, BASES);
    const Step steps[] = {{BASES, 0, 1}, {BASES + 1, BASES, BASES}, {BASES, BASES + 1, 0}};
    backend->run(&ring, out, rows, BASES, row_bytes / (2 * limbs), steps, sizeof steps / sizeof *steps, scratch);

    free(a), free(b), free(out), free(scratch), free(exponents), free(table), free(digits), free(rows), free((void *)ring.modulus);
}

/* What must be reported, so that silence means something. */
static void leak(int what) {
    static volatile uint8_t table[256];
    uint64_t *secret = make_secret(1, 256);
    volatile uint8_t seen = 0;
    if (what == BRANCH && *secret > 127) seen = 1;
    if (what == ADDRESS) seen = table[*secret];
    (void)seen;
    free(secret);
}

int main(int count, char **arguments) {
    if (!RUNNING_ON_VALGRIND) {
        fputs("this program proves something under valgrind only\n", stderr);
        return 2;
    }
    const char *what = count > 1 ? arguments[1] : "";
    if (strcmp(what, "branch") == 0) leak(BRANCH);
    else if (strcmp(what, "address") == 0) leak(ADDRESS);
    else {
        /* One tile a half, an even and an odd number of them, and the size of a 3072-bit modulus on avx2. */
        const size_t limbs[] = {10, 40, 50, 110};
        const Backend *const backends[] = {&veilmatch_avx2, &veilmatch_ifma4, &veilmatch_portable};
        for (size_t b = 0; b < sizeof backends / sizeof *backends; b++)
            for (size_t i = 0; i < sizeof limbs / sizeof *limbs; i++) check(backends[b], limbs[i]);
    }
    return 0;
}
