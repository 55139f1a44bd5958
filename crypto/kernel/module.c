/* veilmatch.crypto._kernel: the operations of kernel.h over buffers, with the GIL released.
 *
 * Every function takes the name of a backend, the ring as uint64_t words (inverse, N[n], one[2n]; see
 * kernel.h) and arrays of groups; sizes, alignment and indices are checked here, so that
 * no argument can make the kernel touch other memory. The stable ABI of CPython 3.11.
 */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdlib.h>
#include <string.h>

#include "kernel.h"

static const Backend *const compiled[] = {
#if defined(__x86_64__) && defined(__GNUC__)
    &veilmatch_ifma, &veilmatch_ifma4, &veilmatch_avx2,
#endif
    &veilmatch_portable, NULL,
};

/* The first arguments of every function, checked. */
typedef struct {
    const Backend *backend;
    Ring ring;
    size_t group_bytes;
} Call;

/* Whether an array may be read as words of so many bytes; one without bytes is never read. */
static int is_aligned(const Py_buffer *array, size_t bytes) {
    return array->len == 0 || (uintptr_t)array->buf % bytes == 0;
}

static const Backend *find_backend(const char *name) {
    const Backend *const *backend = compiled;
    while (*backend && strcmp((*backend)->name, name) != 0) backend++;
    if (*backend && (*backend)->is_available()) return *backend;
    PyErr_Format(PyExc_ValueError, "backend '%s' is not available on this processor", name);
    return NULL;
}

static int begin(Call *call, const char *name, const Py_buffer *ring) {
    const Backend *backend = find_backend(name);
    if (!backend) return 0;
    const size_t words = (size_t)ring->len / 8, n = (words - 1) / 3;
    const size_t step = backend->lanes > 1 ? 2 * TILE : 1;
    if (ring->len % 8 != 0 || words != 3 * n + 1 || n == 0 || n % step != 0 || n > MAX_LIMBS ||
        !is_aligned(ring, sizeof(uint64_t))) {
        PyErr_Format(PyExc_ValueError, "a ring of %zd bytes", ring->len);
        return 0;
    }
    const uint64_t *word = ring->buf;
    call->backend = backend;
    call->ring = (Ring){n, word[0], word + 1, word + 1 + n};
    call->group_bytes = 2 * n * backend->lanes * sizeof(uint64_t);
    return 1;
}

/* Of arrays of groups: vectors lie where a cache line begins. */
static size_t alignment_of(const Call *call) { return call->backend->lanes > 1 ? ALIGNMENT : sizeof(uint64_t); }

/* The number of groups in an array; -1 with an exception if it is not a whole number of aligned ones. */
static Py_ssize_t groups_in(const Call *call, const Py_buffer *array) {
    if ((size_t)array->len % call->group_bytes != 0 || !is_aligned(array, alignment_of(call))) {
        PyErr_Format(PyExc_ValueError, "an array of %zd bytes at offset %zu: not groups of %zu bytes aligned to %zu",
                     array->len, (size_t)((uintptr_t)array->buf % ALIGNMENT), call->group_bytes, alignment_of(call));
        return -1;
    }
    return array->len / (Py_ssize_t)call->group_bytes;
}

static int is_as_long(const Call *call, const Py_buffer *array, Py_ssize_t groups) {
    const Py_ssize_t found = groups_in(call, array);
    if (found < 0) return 0;
    if (found != groups) PyErr_Format(PyExc_ValueError, "%zd groups where %zd belong", found, groups);
    return found == groups;
}

static size_t scratch_bytes(const Call *call, size_t groups) {
    return (groups * call->group_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static uint64_t *make_scratch(const Call *call, size_t groups) {
    uint64_t *scratch = aligned_alloc(ALIGNMENT, scratch_bytes(call, groups));
    if (!scratch) PyErr_NoMemory();
    return scratch;
}

/* Scratch numbers of operations that need about the same room each time, kept from one call to the next. A matcher has
   the C library give large blocks back at once (server/workers/memory.py): without this each of a megabyte's pages would
   be mapped anew for every group of packs. `kept` is used with the interpreter's lock held. Sizes are powers of two, so
   that programs of about one length share a block; pages that nobody has used are no memory. */
typedef struct {
    uint64_t *numbers;
    size_t bytes;
} Scratch;

#ifndef __SANITIZE_ADDRESS__ /* which is to see what is written past the end, or too late */
enum { KEPT = 64 };
static Scratch kept[KEPT];
#endif

static Scratch take_scratch(const Call *call, size_t groups) {
    Scratch taken = {NULL, scratch_bytes(call, groups)};
#ifndef __SANITIZE_ADDRESS__
    size_t bytes = ALIGNMENT;
    while (bytes < taken.bytes) bytes *= 2;
    taken.bytes = bytes;
    for (int i = 0; i < KEPT; i++) {
        if (kept[i].numbers && kept[i].bytes == bytes) {
            taken = kept[i];
            kept[i].numbers = NULL;
            return taken;
        }
    }
#endif
    taken.numbers = aligned_alloc(ALIGNMENT, taken.bytes);
    if (!taken.numbers) PyErr_NoMemory();
    return taken;
}

static void put_back(Scratch taken) {
#ifndef __SANITIZE_ADDRESS__
    for (int i = 0; taken.numbers && i < KEPT; i++) {
        if (!kept[i].numbers) {
            kept[i] = taken;
            return;
        }
    }
#endif
    free(taken.numbers);
}

static PyObject *finish(Py_buffer *buffers, int count) {
    for (int i = 0; i < count; i++) {
        if (buffers[i].obj) PyBuffer_Release(&buffers[i]);
    }
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

static PyObject *backends(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    PyObject *found = PyList_New(0);
    for (const Backend *const *b = compiled; found && *b; b++) {
        if (!(*b)->is_available()) continue;
        PyObject *entry = Py_BuildValue("(sII)", (*b)->name, (unsigned)(*b)->lanes, (unsigned)(*b)->limb_bits);
        if (!entry || PyList_Append(found, entry) < 0) Py_CLEAR(found);
        Py_XDECREF(entry);
    }
    return found;
}

static PyObject *multiply(PyObject *module, PyObject *args) {
    (void)module;
    const char *name;
    Py_buffer b[4] = {{0}};
    Call call;
    if (PyArg_ParseTuple(args, "sy*w*y*y*", &name, &b[0], &b[1], &b[2], &b[3]) && begin(&call, name, &b[0])) {
        const Py_ssize_t groups = groups_in(&call, &b[1]);
        const Py_ssize_t factors = groups < 0 ? -1 : groups_in(&call, &b[3]);
        if (factors >= 0 && is_as_long(&call, &b[2], groups) &&
            (factors == 1 || is_as_long(&call, &b[3], groups))) {
            Py_BEGIN_ALLOW_THREADS
            call.backend->multiply(&call.ring, b[1].buf, b[2].buf, (size_t)groups, b[3].buf, factors == groups);
            Py_END_ALLOW_THREADS
        }
    }
    return finish(b, 4);
}

static PyObject *square(PyObject *module, PyObject *args) {
    (void)module;
    const char *name;
    Py_buffer b[3] = {{0}};
    Call call;
    if (PyArg_ParseTuple(args, "sy*w*y*", &name, &b[0], &b[1], &b[2]) && begin(&call, name, &b[0])) {
        const Py_ssize_t groups = groups_in(&call, &b[1]);
        if (groups >= 0 && is_as_long(&call, &b[2], groups)) {
            Py_BEGIN_ALLOW_THREADS
            call.backend->square(&call.ring, b[1].buf, b[2].buf, (size_t)groups);
            Py_END_ALLOW_THREADS
        }
    }
    return finish(b, 3);
}

typedef void Power(const Ring *ring, uint64_t *out, const uint64_t *a, size_t groups, const uint8_t *exponents,
                   size_t size, size_t step, uint64_t *scratch);

/* power, or power_mod_n. */
static PyObject *power_by(PyObject *args, int mod_n) {
    const char *name;
    int each;
    Py_buffer b[4] = {{0}};
    Call call;
    if (PyArg_ParseTuple(args, "sy*w*y*py*", &name, &b[0], &b[1], &b[2], &each, &b[3]) && begin(&call, name, &b[0])) {
        const Py_ssize_t groups = groups_in(&call, &b[1]);
        if (groups >= 0 && is_as_long(&call, &b[2], groups)) {
            const size_t count = each ? (size_t)groups * call.backend->lanes : 1;
            const size_t size = count ? (size_t)b[3].len / count : 0;
            Power *const raise = mod_n ? call.backend->power_mod_n : call.backend->power;
            Scratch scratch = {NULL, 0};
            if (!raise)
                PyErr_Format(PyExc_ValueError, "backend '%s' is not available for powers mod N", name);
            else if (count * size != (size_t)b[3].len)
                PyErr_Format(PyExc_ValueError, "%zd bytes: not exponents for %zu numbers", b[3].len, count);
            else
                scratch = take_scratch(&call, (1u << WINDOW_BITS) + 1);
            if (scratch.numbers) {
                Py_BEGIN_ALLOW_THREADS
                raise(&call.ring, b[1].buf, b[2].buf, (size_t)groups, b[3].buf, size, each ? size : 0, scratch.numbers);
                Py_END_ALLOW_THREADS
            }
            put_back(scratch);
        }
    }
    return finish(b, 4);
}

static PyObject *power(PyObject *module, PyObject *args) {
    (void)module;
    return power_by(args, 0);
}

static PyObject *power_mod_n(PyObject *module, PyObject *args) {
    (void)module;
    return power_by(args, 1);
}

static PyObject *power_of_two(PyObject *module, PyObject *args) {
    (void)module;
    const char *name;
    int each;
    Py_buffer b[4] = {{0}};
    Call call;
    if (PyArg_ParseTuple(args, "sy*w*y*py*", &name, &b[0], &b[1], &b[2], &each, &b[3]) && begin(&call, name, &b[0])) {
        const size_t count = each ? 2 : 1, size = (size_t)b[3].len / count;
        if (!call.backend->power_of_two)
            PyErr_Format(PyExc_ValueError, "backend '%s' is not available for two numbers", name);
        else if (count * size != (size_t)b[3].len)
            PyErr_Format(PyExc_ValueError, "%zd bytes: not exponents for two numbers", b[3].len);
        else if (is_as_long(&call, &b[1], 1) && is_as_long(&call, &b[2], 1)) {
            Scratch scratch = take_scratch(&call, (1u << WINDOW_BITS) + 1);
            if (scratch.numbers) {
                Py_BEGIN_ALLOW_THREADS
                call.backend->power_of_two(&call.ring, b[1].buf, b[2].buf, b[3].buf, size, each ? size : 0,
                                           scratch.numbers);
                Py_END_ALLOW_THREADS
            }
            put_back(scratch);
        }
    }
    return finish(b, 4);
}

static PyObject *select_and_multiply(PyObject *module, PyObject *args) {
    (void)module;
    const char *name;
    unsigned int rows, entries;
    Py_buffer b[4] = {{0}};
    Call call;
    if (PyArg_ParseTuple(args, "sy*w*y*IIy*", &name, &b[0], &b[1], &b[2], &rows, &entries, &b[3]) &&
        begin(&call, name, &b[0])) {
        const Py_ssize_t groups = groups_in(&call, &b[1]);
        const size_t row_bytes = call.group_bytes / call.backend->lanes * entries;
        const size_t digit_bytes = call.backend->lanes * sizeof(uint64_t) * (size_t)(groups < 0 ? 0 : groups);
        if (groups >= 0 && (rows == 0 || entries == 0 || entries % call.backend->lanes != 0 || entries > MAX_ENTRIES ||
                            (size_t)b[2].len != rows * row_bytes || (size_t)b[3].len != rows * digit_bytes ||
                            !is_aligned(&b[2], alignment_of(&call)) || !is_aligned(&b[3], alignment_of(&call))))
            PyErr_Format(PyExc_ValueError, "a table of %zd bytes for %u rows of %u entries with %zd bytes of digits",
                         b[2].len, rows, entries, b[3].len);
        const Scratch none = {NULL, 0}, scratch = PyErr_Occurred() ? none : take_scratch(&call, 1);
        if (scratch.numbers) {
            Py_BEGIN_ALLOW_THREADS
            call.backend->select_and_multiply(&call.ring, b[1].buf, (size_t)groups, b[2].buf, rows, entries, b[3].buf,
                                              scratch.numbers);
            Py_END_ALLOW_THREADS
        }
        put_back(scratch);
    }
    return finish(b, 4);
}

/* The 64 bits of a big-endian number from byte `at` on, counted from its end; zeros beyond it. */
static uint64_t word_at(const uint8_t *number, size_t size, size_t at) {
    uint64_t word = 0;
    if (at + sizeof word <= size) {
        memcpy(&word, number + size - at - sizeof word, sizeof word);
        return __builtin_bswap64(word);
    }
    for (size_t i = size; i-- > at;) word = word << 8 | number[size - 1 - i];
    return word;
}

/* Numbers that stand one after the other, big-endian and `size` bytes each, to digits in their lanes, and back. A
 * digit and what comes before it in its first byte fit a word: limb_bits is at most 56, or 64. */
static void read_numbers(const Call *call, uint64_t *groups, const uint8_t *data, size_t count, size_t size) {
    const size_t lanes = call->backend->lanes, bits = call->backend->limb_bits, digits = 2 * call->ring.limbs;
    for (size_t i = 0; i < count; i++, data += size) {
        uint64_t *to = groups + i / lanes * lanes * digits + i % lanes;
        for (size_t d = 0; d < digits; d++)
            to[d * lanes] = word_at(data, size, d * bits / 8) >> d * bits % 8 & ~0ULL >> (64 - bits);
    }
}

static void write_numbers(const Call *call, uint8_t *data, const uint64_t *groups, size_t count, size_t size) {
    const size_t lanes = call->backend->lanes, bits = call->backend->limb_bits, digits = 2 * call->ring.limbs;
    for (size_t i = 0; i < count; i++, data += size) {
        const uint64_t *from = groups + i / lanes * lanes * digits + i % lanes;
        unsigned __int128 held = 0;
        size_t held_bits = 0, left = size;
        for (size_t d = 0; d < digits; d++) {
            held |= (unsigned __int128)from[d * lanes] << held_bits;
            held_bits += bits;
            if (held_bits >= 64 && left >= 8) {
                const uint64_t word = __builtin_bswap64((uint64_t)held);
                memcpy(data + (left -= 8), &word, sizeof word);
                held >>= 64, held_bits -= 64;
            }
            if (left < 8 && held_bits >= 8 * left) break;
        }
        for (; left > 0; held >>= 8) data[--left] = (uint8_t)held;
    }
}

/* How many numbers of `size` bytes `data` holds; -1 with an exception if they are not whole ones that fit a group. */
static Py_ssize_t numbers_in(const Call *call, const Py_buffer *data, unsigned int size) {
    if (size == 0 || size > 2 * call->ring.limbs * call->backend->limb_bits / 8 || (size_t)data->len % size != 0) {
        PyErr_Format(PyExc_ValueError, "%zd bytes: not numbers of %u bytes", data->len, size);
        return -1;
    }
    return data->len / (Py_ssize_t)size;
}

static PyObject *enter(PyObject *module, PyObject *args) {
    (void)module;
    const char *name;
    unsigned int size;
    Py_buffer b[4] = {{0}};
    Call call;
    if (PyArg_ParseTuple(args, "sy*w*y*Iy*", &name, &b[0], &b[1], &b[2], &size, &b[3]) && begin(&call, name, &b[0])) {
        const Py_ssize_t count = numbers_in(&call, &b[3], size), lanes = (Py_ssize_t)call.backend->lanes;
        const Py_ssize_t groups = (count + lanes - 1) / lanes;
        if (count >= 0 && is_as_long(&call, &b[1], groups) && is_as_long(&call, &b[2], 2)) {
            Py_BEGIN_ALLOW_THREADS
            memset(b[1].buf, 0, (size_t)b[1].len);
            read_numbers(&call, b[1].buf, b[3].buf, (size_t)count, size);
            call.backend->enter(&call.ring, b[1].buf, b[1].buf, (size_t)groups, b[2].buf);
            Py_END_ALLOW_THREADS
        }
    }
    return finish(b, 4);
}

static PyObject *leave(PyObject *module, PyObject *args) {
    (void)module;
    const char *name;
    unsigned int size;
    Py_buffer b[3] = {{0}};
    Call call;
    if (PyArg_ParseTuple(args, "sy*w*Iy*", &name, &b[0], &b[1], &size, &b[2]) && begin(&call, name, &b[0])) {
        const Py_ssize_t count = numbers_in(&call, &b[1], size), lanes = (Py_ssize_t)call.backend->lanes;
        if (count >= 0 && is_as_long(&call, &b[2], (count + lanes - 1) / lanes)) {
            const size_t groups = (size_t)b[2].len / call.group_bytes;
            uint64_t *plain = groups ? make_scratch(&call, groups) : NULL;
            if (plain) {
                Py_BEGIN_ALLOW_THREADS
                call.backend->leave(&call.ring, plain, b[2].buf, groups);
                write_numbers(&call, b[1].buf, plain, (size_t)count, size);
                Py_END_ALLOW_THREADS
            }
            free(plain);
        }
    }
    return finish(b, 3);
}

static PyObject *multiply_constants(PyObject *module, PyObject *args) {
    (void)module;
    const char *name;
    unsigned int rows, pieces;
    Py_buffer b[4] = {{0}};
    Call call;
    if (PyArg_ParseTuple(args, "sy*w*y*IIy*", &name, &b[0], &b[1], &b[2], &rows, &pieces, &b[3]) &&
        begin(&call, name, &b[0])) {
        const Backend *backend = call.backend;
        const size_t n = call.ring.limbs, lanes = backend->lanes, word = backend->limb_bits <= 32 ? 4 : 8;
        const size_t number_bytes = 2 * n * backend->limb_bits / 8, numbers = (size_t)b[1].len / number_bytes;
        const size_t groups = numbers / (2 * lanes);
        uint64_t *products = NULL;
        if (!backend->multiply_constants)
            PyErr_Format(PyExc_ValueError, "backend '%s' is not available for tables of constants", name);
        else if (rows == 0 || pieces == 0 || lanes % pieces != 0 || rows % pieces != 0 || groups == 0 ||
                 (size_t)b[1].len != groups * 2 * lanes * number_bytes ||
                 (size_t)b[2].len != 3 * n * word * rows * CONSTANTS ||
                 (size_t)b[3].len != rows / pieces * groups * lanes * sizeof(uint64_t) ||
                 !is_aligned(&b[2], alignment_of(&call)) || !is_aligned(&b[3], alignment_of(&call)))
            PyErr_Format(PyExc_ValueError,
                         "a table of %zd bytes for %u rows in %u pieces with %zd bytes of digits for %zd", b[2].len,
                         rows, pieces, b[3].len, b[1].len);
        else
            products = make_scratch(&call, 2 * groups);
        if (products) {
            Py_BEGIN_ALLOW_THREADS
            backend->multiply_constants(&call.ring, products, groups, b[2].buf, rows, pieces, b[3].buf);
            write_numbers(&call, b[1].buf, products, numbers, number_bytes);
            Py_END_ALLOW_THREADS
        }
        free(products);
    }
    return finish(b, 4);
}

/* The number of groups in an array of rows of so many lanes; -1 with an exception if it is not a whole number of them
 * and the slack. */
static Py_ssize_t groups_in_rows(const Call *call, const Py_buffer *rows, size_t lanes) {
    const size_t size = 2 * call->ring.limbs * lanes * call->backend->limb_bits / 8;
    if (rows->len < ROW_SLACK || ((size_t)rows->len - ROW_SLACK) % size != 0) {
        PyErr_Format(PyExc_ValueError, "rows of %zd bytes: not groups of %zu bytes and %d more", rows->len, size,
                     ROW_SLACK);
        return -1;
    }
    return (Py_ssize_t)(((size_t)rows->len - ROW_SLACK) / size);
}

static PyObject *compress(PyObject *module, PyObject *args) {
    (void)module;
    const char *name;
    Py_buffer b[3] = {{0}};
    Call call;
    if (PyArg_ParseTuple(args, "sy*w*y*", &name, &b[0], &b[1], &b[2]) && begin(&call, name, &b[0])) {
        const Py_ssize_t groups = groups_in_rows(&call, &b[1], call.backend->lanes);
        if (groups >= 0 && is_as_long(&call, &b[2], groups)) {
            Py_BEGIN_ALLOW_THREADS
            call.backend->compress(&call.ring, b[1].buf, b[2].buf, (size_t)groups);
            Py_END_ALLOW_THREADS
        }
    }
    return finish(b, 3);
}

static PyObject *expand(PyObject *module, PyObject *args) {
    (void)module;
    const char *name;
    Py_buffer b[3] = {{0}};
    Call call;
    if (PyArg_ParseTuple(args, "sy*w*y*", &name, &b[0], &b[1], &b[2]) && begin(&call, name, &b[0])) {
        const Py_ssize_t groups = groups_in_rows(&call, &b[2], call.backend->lanes);
        if (groups >= 0 && is_as_long(&call, &b[1], groups)) {
            Py_BEGIN_ALLOW_THREADS
            call.backend->expand(&call.ring, b[1].buf, b[2].buf, (size_t)groups);
            Py_END_ALLOW_THREADS
        }
    }
    return finish(b, 3);
}

/* Checks that every step reads bases or numbers made before it; returns how many scratch numbers it needs. */
static Py_ssize_t scratch_numbers(const Step *steps, size_t count, size_t bases) {
    if (count == 0) {
        PyErr_SetString(PyExc_ValueError, "a program without steps");
        return -1;
    }
    /* A number is made by a step, and may have the place of a base among the scratch numbers. */
    const size_t places = bases + count;
    unsigned char *made = calloc(places, 1);
    if (!made) {
        PyErr_NoMemory();
        return -1;
    }
    Py_ssize_t needed = 0;
    for (size_t s = 0; s < count && needed >= 0; s++) {
        const int64_t first = (int64_t)bases, end = first + (int64_t)places;
        const int64_t operands[2] = {steps[s].left, steps[s].right}, to = steps[s].to;
        int valid = to >= first && to < end;
        for (int i = 0; i < 2; i++)
            valid = valid && operands[i] >= 0 && operands[i] < end && (operands[i] < first || made[operands[i] - first]);
        if (valid) {
            made[to - first] = 1;
            if (to - first >= needed) needed = (Py_ssize_t)(to - first + 1);
        } else {
            PyErr_Format(PyExc_ValueError, "step %zu of the program is not valid", s);
            needed = -1;
        }
    }
    free(made);
    return needed;
}

/* Whether a backend can read its lanes of rows of so many, from this one on: rows are cut at its own width only. */
static int are_lanes_of_a_row(const Backend *backend, size_t row_lanes, size_t lane) {
    const size_t lanes = backend->lanes;
    const size_t most = lanes > 1 ? MAX_LANES : 1;
    if (row_lanes <= most && row_lanes % lanes == 0 && lane % lanes == 0 && lane < row_lanes) return 1;
    PyErr_Format(PyExc_ValueError, "%zu lanes from lane %zu on of rows of %zu", lanes, lane, row_lanes);
    return 0;
}

static PyObject *run(PyObject *module, PyObject *args) {
    (void)module;
    const char *name;
    unsigned int row_lanes, lane;
    Py_buffer b[4] = {{0}};
    Call call;
    if (PyArg_ParseTuple(args, "sy*w*y*IIy*", &name, &b[0], &b[1], &b[2], &row_lanes, &lane, &b[3]) &&
        begin(&call, name, &b[0]) && are_lanes_of_a_row(call.backend, row_lanes, lane)) {
        const Py_ssize_t bases = groups_in_rows(&call, &b[2], row_lanes);
        const size_t steps = (size_t)b[3].len / sizeof(Step);
        if (bases >= 0 && is_as_long(&call, &b[1], 1)) {
            if ((size_t)b[3].len % sizeof(Step) != 0 || !is_aligned(&b[3], sizeof(int32_t)))
                PyErr_SetString(PyExc_ValueError, "a program is int32 triples");
            const Py_ssize_t numbers = PyErr_Occurred() ? -1 : scratch_numbers(b[3].buf, steps, (size_t)bases);
            const Scratch none = {NULL, 0}, scratch = numbers < 0 ? none : take_scratch(&call, (size_t)numbers + 2);
            if (scratch.numbers) {
                const size_t bits = call.backend->limb_bits;
                Py_BEGIN_ALLOW_THREADS
                call.backend->run(&call.ring, b[1].buf, (const uint8_t *)b[2].buf + lane * bits / 8, (size_t)bases,
                                  row_lanes * bits / 8, b[3].buf, steps, scratch.numbers);
                Py_END_ALLOW_THREADS
            }
            put_back(scratch);
        }
    }
    return finish(b, 4);
}

static PyObject *saturate(PyObject *module, PyObject *args) {
    (void)module;
    const char *name;
    unsigned int rounds;
    if (!PyArg_ParseTuple(args, "sI", &name, &rounds)) return NULL;
    const Backend *backend = find_backend(name);
    if (!backend) return NULL;
    Py_BEGIN_ALLOW_THREADS
    backend->saturate(rounds);
    Py_END_ALLOW_THREADS
    return PyLong_FromUnsignedLongLong((unsigned long long)rounds * SATURATING);
}

static PyMethodDef methods[] = {
    {"backends", backends, METH_NOARGS, "backends() -> [(name, lanes, limb_bits)] that this processor runs, best first."},
    {"multiply", multiply, METH_VARARGS, "multiply(backend, ring, out, a, b): out[i] = a[i] * b[i], or * b[0] for one b."},
    {"square", square, METH_VARARGS, "square(backend, ring, out, a): out[i] = a[i]^2."},
    {"enter", enter, METH_VARARGS, "enter(backend, ring, out, factors, size, data): groups of big-endian numbers of size bytes each."},
    {"leave", leave, METH_VARARGS, "leave(backend, ring, data, size, a): the numbers of groups mod N^2, big-endian, size bytes each."},
    {"compress", compress, METH_VARARGS, "compress(backend, ring, rows, a): groups as rows without gaps."},
    {"expand", expand, METH_VARARGS, "expand(backend, ring, out, rows): groups of rows."},
    {"run", run, METH_VARARGS, "run(backend, ring, out, bases, row_lanes, lane, steps): the number that the last step makes\n"
     "of the lanes from `lane` on of bases in rows of row_lanes."},
    {"power", power, METH_VARARGS, "power(backend, ring, out, a, each, exponents): out[i] = a[i]^exponent, little-endian, secret; one for all, or "
     "of one size for each number."},
    {"power_mod_n", power_mod_n, METH_VARARGS, "power_mod_n(backend, ring, out, a, each, exponents): what power makes, mod N: the second\n"
     "parts are not read, and become 0."},
    {"power_of_two", power_of_two, METH_VARARGS, "power_of_two(backend, ring, out, a, each, exponents): power of the first two of one group."},
    {"select_and_multiply", select_and_multiply, METH_VARARGS,
     "select_and_multiply(backend, ring, out, table, rows, entries, digits): products of an entry of each row."},
    {"multiply_constants", multiply_constants, METH_VARARGS,
     "multiply_constants(backend, ring, data, table, rows, pieces, digits): products of a constant of each row,\n"
     "as big-endian numbers: group by group e*R + x of each lane, then its sum of l."},
    {"saturate", saturate, METH_VARARGS, "saturate(backend, rounds) -> how many multiply instructions it did."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "veilmatch.crypto._kernel",
    .m_doc = "Modular arithmetic on several numbers at once; see kernel.h.",
    .m_size = 0,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit__kernel(void) { return PyModule_Create(&definition); }
