/* Puts the kept values of a segment where its mask says; placing.py does the same with NumPy.
 *
 * Values are joined from their bytes by the block, which stays in the processor's nearest cache
 * until the mask has spread it. Nothing is read or written outside the buffers, whatever is in
 * them. docs/formats.md draws the layout.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "The layout is little-endian."
#endif

enum { BLOCK = 2048, MOST_WORDS = 4, SKIP = 255 };
enum { ALL = 0, BITS = 1, GAPS = 2 };

typedef struct {
    Py_ssize_t count;
    int width; /* in words of 16 bits */
    int turned;
    /* High and low bytes of each column of words; or the column, and NULL. */
    const uint8_t *high[MOST_WORDS], *low[MOST_WORDS];
} Values;

/* Give the entries of whole 64-bit words of a mask the next values; others stay zero. */
typedef void (*Spread)(void *out, const uint64_t *mask, size_t words, const void *values);

static void
read_column(uint16_t *restrict words, const Values *values, int column, size_t start, size_t n)
{
    const uint8_t *high = values->high[column], *low = values->low[column];
    if (low == NULL)
        memcpy(words, high + 2 * start, 2 * n);
    else
        for (size_t k = 0; k < n; k++)
            words[k] = (uint16_t)(high[start + k] << 8 | low[start + k]);
    if (values->turned && column == values->width - 1)
        for (size_t k = 0; k < n; k++)
            words[k] = (uint16_t)(words[k] >> 1 | words[k] << 15);
}

/* Write up to BLOCK values, from one of them on. */
static void
join(uint16_t *restrict out, const Values *values, size_t start, size_t n)
{
    uint16_t words[MOST_WORDS][BLOCK];
    for (int column = 0; column < values->width; column++)
        read_column(words[column], values, column, start, n);
    if (values->width == 1)
        memcpy(out, words[0], 2 * n);
    else if (values->width == 2)
        for (size_t k = 0; k < n; k++) {
            out[2 * k] = words[0][k];
            out[2 * k + 1] = words[1][k];
        }
    else
        for (size_t k = 0; k < n; k++)
            for (int column = 0; column < MOST_WORDS; column++)
                out[MOST_WORDS * k + column] = words[column][k];
}

#define SPREAD(WIDTH, TYPE)                                                              \
    static void spread_##WIDTH(void *out, const uint64_t *mask, size_t words,            \
                               const void *values)                                       \
    {                                                                                    \
        TYPE *entries = out;                                                             \
        const TYPE *next = values;                                                       \
        for (size_t word = 0; word < words; word++, entries += 64)                       \
            for (uint64_t left = mask[word]; left; left &= left - 1)                     \
                entries[__builtin_ctzll(left)] = *next++;                                \
    }                                                                                    \
    static Py_ssize_t place_gaps_##WIDTH(void *out, Py_ssize_t size, const uint8_t *gaps, \
                                         size_t n, const Values *values)                 \
    {                                                                                    \
        TYPE *entries = out, block[BLOCK];                                               \
        Py_ssize_t position = 0, done = 0;                                               \
        for (size_t start = 0; start < n; start += BLOCK) {                              \
            size_t end = n - start < BLOCK ? n : start + BLOCK, k = 0;                   \
            size_t there = (size_t)(values->count - done);                               \
            there = there < BLOCK ? there : BLOCK;                                       \
            join((uint16_t *)block, values, (size_t)done, there);                        \
            for (size_t i = start; i < end; i++) {                                       \
                position += gaps[i];                                                     \
                if (gaps[i] == SKIP)                                                     \
                    continue;                                                            \
                if (position >= size || k == there)                                      \
                    return -1;                                                           \
                entries[position++] = block[k++];                                        \
            }                                                                            \
            done += (Py_ssize_t)k;                                                       \
        }                                                                                \
        return position <= size ? done : -1;                                             \
    }

SPREAD(1, uint16_t)
SPREAD(2, uint32_t)
SPREAD(4, uint64_t)

#if defined(__x86_64__) && defined(__GNUC__)
#define HAS_AVX2
#include <immintrin.h>

/* For each byte of a mask: of which value each of its entries is to be, -1 where of none. */
static int8_t sources[256][8];

static void
fill_sources(void)
{
    for (int byte = 0; byte < 256; byte++)
        for (int entry = 0, next = 0; entry < 8; entry++)
            sources[byte][entry] = (int8_t)(byte >> entry & 1 ? next++ : -1);
}

/* Without a branch to be guessed, which costs most where every second entry is kept. */
__attribute__((target("avx2,popcnt"))) static void
spread_2_avx2(void *out, const uint64_t *mask, size_t words, const void *values)
{
    uint32_t *entries = out;
    const uint32_t *next = values;
    for (size_t word = 0; word < words; word++, entries += 64) {
        if (!mask[word])
            continue; /* memory that stays zero need not be there */
        for (int part = 0; part < 8; part++) {
            unsigned byte = mask[word] >> (8 * part) & 0xff;
            __m128i narrow = _mm_loadl_epi64((const __m128i *)sources[byte]);
            __m256i source = _mm256_cvtepi8_epi32(narrow);
            __m256i eight = _mm256_loadu_si256((const __m256i *)next);
            eight = _mm256_permutevar8x32_epi32(eight, source);
            eight = _mm256_andnot_si256(_mm256_srai_epi32(source, 31), eight);
            _mm256_storeu_si256((__m256i *)(entries + 8 * part), eight);
            next += __builtin_popcount(byte);
        }
    }
}
#endif

static Spread
fastest(int width)
{
#ifdef HAS_AVX2
    if (width == 2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt"))
        return spread_2_avx2;
#endif
    return width == 1 ? spread_1 : width == 2 ? spread_2 : spread_4;
}

static Py_ssize_t
place_bits(uint8_t *out, Py_ssize_t size, const uint8_t *bits, size_t n, const Values *values)
{
    enum { WORDS = BLOCK / 64 };
    /* As many values again may be read, and not used. */
    uint64_t mask[WORDS], block[2 * BLOCK];
    uint64_t last[64];
    const Spread spread = fastest(values->width);
    const size_t itemsize = 2 * (size_t)values->width;
    size_t done = 0;
    if (n != ((size_t)size + 7) / 8)
        return -1;
    for (size_t start = 0; start < (size_t)size; start += BLOCK) {
        size_t entries = (size_t)size - start < BLOCK ? (size_t)size - start : BLOCK;
        size_t whole = entries / 64, rest = entries % 64, kept = 0;
        memset(mask, 0, sizeof mask);
        memcpy(mask, bits + start / 8, (entries + 7) / 8);
        for (size_t word = 0; word < WORDS; word++)
            kept += (size_t)__builtin_popcountll(mask[word]);
        if (kept > (size_t)values->count - done || (rest && mask[whole] >> rest))
            return -1;
        join((uint16_t *)block, values, done, kept);
        spread(out + itemsize * start, mask, whole, block);
        if (rest) {
            size_t tail = (size_t)__builtin_popcountll(mask[whole]);
            memset(last, 0, sizeof last);
            spread(last, mask + whole, 1, (uint8_t *)block + itemsize * (kept - tail));
            memcpy(out + itemsize * (start + 64 * whole), last, itemsize * rest);
        }
        done += kept;
    }
    return (Py_ssize_t)done;
}

static Py_ssize_t
place_all(uint8_t *out, Py_ssize_t size, const Values *values)
{
    if (values->count != size)
        return -1;
    for (size_t start = 0; start < (size_t)size; start += BLOCK) {
        size_t n = (size_t)size - start < BLOCK ? (size_t)size - start : BLOCK;
        join((uint16_t *)(out + 2 * (size_t)values->width * start), values, start, n);
    }
    return size;
}

static Py_ssize_t
place(Py_buffer *out, int kind, const Py_buffer *mask, const Values *values)
{
    Py_ssize_t size = out->len / (2 * values->width);
    switch (kind) {
    case ALL:
        return place_all(out->buf, size, values);
    case BITS:
        return place_bits(out->buf, size, mask->buf, (size_t)mask->len, values);
    default: {
        size_t n = (size_t)mask->len;
        return values->width == 1   ? place_gaps_1(out->buf, size, mask->buf, n, values)
               : values->width == 2 ? place_gaps_2(out->buf, size, mask->buf, n, values)
                                    : place_gaps_4(out->buf, size, mask->buf, n, values);
    }
    }
}

/* Fill in the columns, of which `buffers` holds the sections; 0 where they do not fit. */
static int
set_columns(Values *values, const Py_buffer *buffers)
{
    for (int column = 0; column < values->width; column++) {
        const Py_buffer *high = &buffers[2 * column], *low = high + 1;
        int is_split = low->len != 0;
        if (high->len != (is_split ? 1 : 2) * values->count || (is_split && low->len != high->len))
            return 0;
        values->high[column] = high->buf;
        values->low[column] = is_split ? low->buf : NULL;
    }
    return 1;
}

static PyObject *
place_values(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    Py_buffer out, mask, buffers[2 * MOST_WORDS];
    Values values = {0};
    PyObject *sections;
    Py_ssize_t placed = -1;
    int kind, held = 0;

    if (!PyArg_ParseTuple(arguments, "w*iy*O!np:place_values", &out, &kind, &mask, &PyTuple_Type,
                          &sections, &values.count, &values.turned))
        return NULL;
    Py_ssize_t given = PyTuple_GET_SIZE(sections);
    values.width = (int)(given / 2);
    if (given != 2 && given != 4 && given != 8)
        PyErr_SetString(PyExc_ValueError, "A value has 1, 2 or 4 columns of two sections.");
    else if (kind < ALL || kind > GAPS || out.len % given || (uintptr_t)out.buf % (size_t)given)
        PyErr_SetString(PyExc_ValueError, "There is no such mask, or no whole values in out.");
    while (held < given && !PyErr_Occurred())
        if (PyObject_GetBuffer(PyTuple_GET_ITEM(sections, held), &buffers[held], PyBUF_SIMPLE) == 0)
            held++;
    if (!PyErr_Occurred() && !set_columns(&values, buffers))
        PyErr_SetString(PyExc_ValueError, "Sections are not as long as there are values.");
    if (!PyErr_Occurred()) {
        Py_BEGIN_ALLOW_THREADS
        placed = place(&out, kind, &mask, &values);
        Py_END_ALLOW_THREADS
    }
    while (held > 0)
        PyBuffer_Release(&buffers[--held]);
    PyBuffer_Release(&mask);
    PyBuffer_Release(&out);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(placed == values.count);
}

PyDoc_STRVAR(
    place_values_doc,
    "place_values(out, kind, mask, sections, count, turned, /)\n"
    "--\n\n"
    "Give the entries of a segment that its mask keeps their values.\n\n"
    "Args:\n"
    "    out: Entries, zeros, contiguous; written to.\n"
    "    kind: A MarkKind.\n"
    "    mask: The bytes of the mask.\n"
    "    sections: The high bytes of each column of words and the low ones; or the column,\n"
    "        and nothing.\n"
    "    count: How many values there are.\n"
    "    turned: Whether the last column was.\n\n"
    "Returns:\n"
    "    Whether the mask keeps as many entries; if not, some may have values now.\n\n"
    "Raises:\n"
    "    ValueError: The lengths do not fit each other.\n");

static PyMethodDef methods[] = {
    {"place_values", place_values, METH_VARARGS, place_values_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_place", NULL, 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC
PyInit__place(void)
{
#ifdef HAS_AVX2
    fill_sources();
#endif
    return PyModuleDef_Init(&definition);
}
