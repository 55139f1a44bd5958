/* The operations of the portable backend, without Python: for processors that this machine is not.
 *
 * Reads calls from the standard input and writes what each makes, both as words of 64 bits, little-endian. A call is
 * its operation, the n of a ring, its groups, four numbers that depend on the operation, the words of the ring (inverse,
 * N, one), and then its arrays, each with its number of words before it. test_portable_elsewhere.py writes and checks.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../../crypto/kernel/kernel.h"

enum { MULTIPLY, SQUARE, POWER, SELECT, OF_CONSTANTS, ENTER, LEAVE, REST, RUN };

static void fail(const char *what) {
    fprintf(stderr, "portable_driver: %s\n", what);
    exit(1);
}

static uint64_t *make_words(size_t count) {
    uint64_t *words = calloc(count + 1, sizeof *words);
    if (!words) fail("no memory");
    return words;
}

static void read_words(uint64_t *words, size_t count) {
    if (fread(words, sizeof *words, count, stdin) != count) fail("a call is cut off");
}

static uint64_t *read_array(void) {
    uint64_t count;
    read_words(&count, 1);
    uint64_t *words = make_words(count);
    read_words(words, count);
    return words;
}

int main(void) {
    enum { NUMBERS = 7 };
    const Backend *backend = &veilmatch_portable;
    uint64_t head[NUMBERS];
    if (!backend->is_available() || backend->lanes != 1 || backend->limb_bits != 64) fail("another backend");
    while (fread(head, sizeof *head, NUMBERS, stdin) == NUMBERS) {
        const size_t n = head[1], groups = head[2], size = 2 * n;
        if (n == 0 || n > MAX_LIMBS) fail("a ring of another size");
        uint64_t *words = make_words(3 * n + 1);
        read_words(words, 3 * n + 1);
        const Ring ring = {n, words[0], words + 1, words + 1 + n};
        uint64_t *a = read_array(), *b = read_array();
        size_t written = groups * size;
        uint64_t *out = make_words(2 * written), *scratch = make_words(((1u << WINDOW_BITS) + 1 + head[3]) * size);
        switch (head[0]) {
        case MULTIPLY: backend->multiply(&ring, out, a, groups, b, head[3]); break;
        case SQUARE: backend->square(&ring, out, a, groups); break;
        case POWER: backend->power(&ring, out, a, groups, (const uint8_t *)b, head[3], head[4], scratch); break;
        case SELECT: backend->select_and_multiply(&ring, out, groups, a, head[3], head[4], b, scratch); break;
        case OF_CONSTANTS:
            backend->multiply_constants(&ring, out, groups, a, head[3], 1, b);
            written *= 2;
            break;
        case ENTER: backend->enter(&ring, out, a, groups, b); break;
        case LEAVE: backend->leave(&ring, out, a, groups); break;
        case REST: {
            uint8_t *rows = (uint8_t *)make_words(written + ROW_SLACK);
            backend->compress(&ring, rows, a, groups);
            backend->expand(&ring, out, rows, groups);
            free(rows);
            break;
        }
        case RUN: { /* b: as many steps as head[3], three words each; the bases rest in a */
            Step *steps = (Step *)make_words(2 * head[3]);
            for (size_t i = 0; i < head[3]; i++)
                steps[i] = (Step){(int32_t)b[3 * i], (int32_t)b[3 * i + 1], (int32_t)b[3 * i + 2]};
            backend->run(&ring, out, (const uint8_t *)a, groups, sizeof *a, steps, head[3], scratch);
            written = size;
            free(steps);
            break;
        }
        default: fail("an unknown operation");
        }
        if (fwrite(out, sizeof *out, written, stdout) != written) fail("nothing can be written");
        free(words), free(a), free(b), free(out), free(scratch);
    }
    return feof(stdin) ? 0 : 1;
}
