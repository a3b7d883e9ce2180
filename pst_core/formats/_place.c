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

#if defined(__x86_64__) && defined(__GNUC__)
#define HAS_AVX2
#define AVX2 __attribute__((target("avx2,popcnt")))
#include <immintrin.h>
#endif

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "The layout is little-endian."
#endif

enum { BLOCK = 4096, MOST_WORDS = 4, SECTIONS = 4, SKIP = 255 };
enum { ALL = 0, BITS = 1, GAPS = 2 }; /* mask_coding.MarkKind */

/* One byte of each value: `bits` of 8 as they are, else indices into an alphabet, 8 / bits of them
 * to a byte, the first in the lowest bits; of no bits where all are the same. */
typedef struct {
    const uint8_t *data;
    int bits;
    uint8_t groups[256][8]; /* what each byte stands for */
    uint8_t nibbles[2][16]; /* what each half of a byte does, where that is one value or two */
} Plane;

typedef struct {
    const uint8_t *words; /* as they are; or NULL, and two planes */
    Plane high, low;
} Column;

typedef struct {
    Py_ssize_t count;
    int width; /* columns: words of 16 bits to a value */
    int turned; /* whether the last column was, by a bit to the left */
    Column columns[MOST_WORDS];
} Values;

/* Give the entries of whole 64-bit words of a mask the next values; others stay zero. */
typedef void (*Spread)(void *out, const uint64_t *mask, size_t words, const void *values);

/* What is inlined is compiled once for any processor, and once for those with AVX2. */
#define INLINED static inline __attribute__((always_inline))

#ifdef HAS_AVX2
/* Sixteen groups at a time, where they are of two values or four; returns how many it has done. */
AVX2 static size_t
spell_out_avx2(uint8_t *buffer, const Plane *plane, const uint8_t *data, size_t groups)
{
    if (plane->bits == 1)
        return 0;
    const __m128i half = _mm_set1_epi8(15);
    const __m128i first = _mm_loadu_si128((const __m128i *)plane->nibbles[0]);
    const __m128i second = _mm_loadu_si128((const __m128i *)plane->nibbles[1]);
    size_t k = 0;
    for (; k + 16 <= groups; k += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(data + k));
        __m128i low = _mm_and_si128(bytes, half);
        __m128i high = _mm_and_si128(_mm_srli_epi16(bytes, 4), half);
        __m128i a = _mm_shuffle_epi8(first, low), c = _mm_shuffle_epi8(first, high);
        if (plane->bits == 4) {
            __m128i *out = (__m128i *)(buffer + 2 * k);
            _mm_storeu_si128(out, _mm_unpacklo_epi8(a, c));
            _mm_storeu_si128(out + 1, _mm_unpackhi_epi8(a, c));
        } else {
            __m128i *out = (__m128i *)(buffer + 4 * k);
            __m128i b = _mm_shuffle_epi8(second, low), d = _mm_shuffle_epi8(second, high);
            __m128i ab = _mm_unpacklo_epi8(a, b), cd = _mm_unpacklo_epi8(c, d);
            _mm_storeu_si128(out, _mm_unpacklo_epi16(ab, cd));
            _mm_storeu_si128(out + 1, _mm_unpackhi_epi16(ab, cd));
            ab = _mm_unpackhi_epi8(a, b), cd = _mm_unpackhi_epi8(c, d);
            _mm_storeu_si128(out + 2, _mm_unpacklo_epi16(ab, cd));
            _mm_storeu_si128(out + 3, _mm_unpackhi_epi16(ab, cd));
        }
    }
    return k;
}
#endif

#define SPELL_OUT(N)                                                                     \
    for (; k < groups; k++)                                                              \
        memcpy(buffer + k * N, plane->groups[data[k]], N);

/* Up to BLOCK bytes of a plane, from one of them on: where they are, or in the buffer. */
INLINED const uint8_t *
read_plane(uint8_t buffer[BLOCK + 16], const Plane *plane, size_t start, size_t n,
           const int has_avx2)
{
    if (plane->bits == 8)
        return plane->data + start;
    if (plane->bits == 0) {
        memset(buffer, plane->groups[0][0], n);
        return buffer;
    }
    const size_t in_a_byte = 8 / (size_t)plane->bits, skip = start % in_a_byte;
    const uint8_t *data = plane->data + start / in_a_byte;
    const size_t groups = (skip + n + in_a_byte - 1) / in_a_byte;
    size_t k = 0;
#ifdef HAS_AVX2
    if (has_avx2)
        k = spell_out_avx2(buffer, plane, data, groups);
#else
    (void)has_avx2;
#endif
    if (in_a_byte == 2) {
        SPELL_OUT(2)
    } else if (in_a_byte == 4) {
        SPELL_OUT(4)
    } else {
        SPELL_OUT(8)
    }
    return buffer + skip;
}

INLINED uint16_t
word_at(const uint8_t *words, size_t k)
{
    uint16_t word;
    memcpy(&word, words + 2 * k, 2);
    return word;
}

/* Up to BLOCK words of a column, from one of them on: where they are, or in the buffer. */
INLINED const uint8_t *
read_column(uint16_t buffer[BLOCK], const Column *column, int turned, size_t start, size_t n,
            const int has_avx2)
{
    const uint8_t *words = (uint8_t *)buffer;
    if (column->words != NULL) {
        words = column->words + 2 * start;
    } else {
        uint8_t highs[BLOCK + 16], lows[BLOCK + 16];
        const uint8_t *high = read_plane(highs, &column->high, start, n, has_avx2);
        const uint8_t *low = read_plane(lows, &column->low, start, n, has_avx2);
        for (size_t k = 0; k < n; k++)
            buffer[k] = (uint16_t)(high[k] << 8 | low[k]);
    }
    if (!turned)
        return words;
    for (size_t k = 0; k < n; k++)
        buffer[k] = (uint16_t)(word_at(words, k) >> 1 | word_at(words, k) << 15);
    return (uint8_t *)buffer;
}

/* Write up to BLOCK values, from one of them on. */
INLINED void
join(uint16_t *restrict out, const Values *values, size_t start, size_t n, const int has_avx2)
{
    uint16_t buffers[MOST_WORDS][BLOCK];
    const uint8_t *words[MOST_WORDS];
    for (int column = 0; column < values->width; column++) {
        int turned = values->turned && column == values->width - 1;
        words[column] =
            read_column(buffers[column], &values->columns[column], turned, start, n, has_avx2);
    }
    if (values->width == 1)
        memcpy(out, words[0], 2 * n);
    else if (values->width == 2)
        for (size_t k = 0; k < n; k++) {
            out[2 * k] = word_at(words[0], k);
            out[2 * k + 1] = word_at(words[1], k);
        }
    else
        for (size_t k = 0; k < n; k++)
            for (int column = 0; column < MOST_WORDS; column++)
                out[MOST_WORDS * k + column] = word_at(words[column], k);
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
    INLINED Py_ssize_t place_gaps_##WIDTH(void *out, Py_ssize_t size, const uint8_t *gaps, \
                                          size_t n, const Values *values,                \
                                          const int has_avx2)                            \
    {                                                                                    \
        TYPE *entries = out, block[BLOCK];                                               \
        Py_ssize_t position = 0, done = 0;                                               \
        for (size_t start = 0; start < n; start += BLOCK) {                              \
            size_t end = n - start < BLOCK ? n : start + BLOCK, k = 0;                   \
            size_t there = (size_t)(values->count - done);                               \
            there = there < BLOCK ? there : BLOCK;                                       \
            join((uint16_t *)block, values, (size_t)done, there, has_avx2);              \
            for (size_t i = start; i < end; i++) {                                       \
                position += gaps[i];                                                     \
                if (gaps[i] == SKIP) {                                                   \
                    if (position > size)                                                 \
                        return -1;                                                       \
                    continue;                                                            \
                }                                                                        \
                if (position >= size || k == there)                                      \
                    return -1;                                                           \
                entries[position++] = block[k++];                                        \
            }                                                                            \
            done += (Py_ssize_t)k;                                                       \
        }                                                                                \
        return done;                                                                     \
    }

SPREAD(1, uint16_t)
SPREAD(2, uint32_t)
SPREAD(4, uint64_t)

#ifdef HAS_AVX2
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
AVX2 static void
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

INLINED Py_ssize_t
place_bits(uint8_t *out, Py_ssize_t size, const uint8_t *bits, size_t n, const Values *values,
           Spread spread, const int has_avx2)
{
    enum { WORDS = BLOCK / 64 };
    /* Of values of four bytes there is room for more, as eight are read at a time. */
    uint64_t mask[WORDS], block[BLOCK];
    uint64_t last[64];
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
        join((uint16_t *)block, values, done, kept, has_avx2);
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

INLINED Py_ssize_t
place_all(uint8_t *out, Py_ssize_t size, const Values *values, const int has_avx2)
{
    if (values->count != size)
        return -1;
    for (size_t start = 0; start < (size_t)size; start += BLOCK) {
        size_t n = (size_t)size - start < BLOCK ? (size_t)size - start : BLOCK;
        join((uint16_t *)(out + 2 * (size_t)values->width * start), values, start, n, has_avx2);
    }
    return size;
}

#define PLACE(WIDTH, SPREAD)                                                             \
    return kind == GAPS                                                                  \
               ? place_gaps_##WIDTH(out->buf, size, mask->buf, n, values, has_avx2)      \
               : place_bits(out->buf, size, mask->buf, n, values, SPREAD, has_avx2);

/* How many entries the mask keeps, once they have their values; -1 where it does not fit. */
INLINED Py_ssize_t
place(Py_buffer *out, int kind, const Py_buffer *mask, const Values *values, Spread spread,
      const int has_avx2)
{
    const Py_ssize_t size = out->len / (2 * values->width);
    const size_t n = (size_t)mask->len;
    if (kind == ALL)
        return place_all(out->buf, size, values, has_avx2);
    switch (values->width) {
    case 1:
        PLACE(1, spread_1)
    case 2:
        PLACE(2, spread)
    default:
        PLACE(4, spread_4)
    }
}

static Py_ssize_t
place_anywhere(Py_buffer *out, int kind, const Py_buffer *mask, const Values *values)
{
    return place(out, kind, mask, values, spread_2, 0);
}

#ifdef HAS_AVX2
AVX2 static Py_ssize_t
place_avx2(Py_buffer *out, int kind, const Py_buffer *mask, const Values *values)
{
    return place(out, kind, mask, values, spread_2_avx2, 1);
}
#endif

typedef Py_ssize_t (*Place)(Py_buffer *, int, const Py_buffer *, const Values *);

/* The fastest that this processor can. */
static Place place_here = place_anywhere;

/* Of what is given for each plane, of its bytes and its alphabet; 0 where they do not fit. */
static int
set_plane(Plane *plane, const Py_buffer *bytes, const Py_buffer *alphabet, Py_ssize_t count)
{
    const Py_ssize_t n = alphabet->len;
    plane->data = bytes->buf;
    plane->bits = n == 0 ? 8 : n == 1 ? 0 : n == 2 ? 1 : n <= 4 ? 2 : 4;
    if (n > 16 || bytes->len != (count * plane->bits + 7) / 8)
        return 0;
    if (n == 0)
        return 1;
    uint8_t padded[16] = {0};
    memcpy(padded, alphabet->buf, (size_t)n);
    if (plane->bits == 0)
        plane->groups[0][0] = padded[0];
    else
        for (int byte = 0; byte < 256; byte++)
            for (int k = 0; k * plane->bits < 8; k++)
                plane->groups[byte][k] =
                    padded[byte >> (k * plane->bits) & ((1 << plane->bits) - 1)];
    for (int half = 0; half < 16; half++)
        for (int k = 0; k < 2; k++)
            plane->nibbles[k][half] = plane->groups[half][k];
    return 1;
}

static int
set_columns(Values *values, const Py_buffer *buffers)
{
    for (int i = 0; i < values->width; i++, buffers += SECTIONS) {
        Column *column = &values->columns[i];
        column->words = NULL;
        if (buffers[1].len == 0 && buffers[2].len == 0 && buffers[3].len == 0) {
            column->words = buffers[0].buf;
            if (buffers[0].len != 2 * values->count)
                return 0;
        } else if (!set_plane(&column->high, buffers, buffers + 1, values->count) ||
                   !set_plane(&column->low, buffers + 2, buffers + 3, values->count))
            return 0;
    }
    return 1;
}

static PyObject *
place_parsed(PyObject *arguments, Place place_so)
{
    Py_buffer out, mask, buffers[SECTIONS * MOST_WORDS];
    Values values;
    PyObject *sections;
    Py_ssize_t placed = -1;
    int kind, held = 0;

    if (!PyArg_ParseTuple(arguments, "w*iy*O!np:place_values", &out, &kind, &mask, &PyTuple_Type,
                          &sections, &values.count, &values.turned))
        return NULL;
    const Py_ssize_t given = PyTuple_GET_SIZE(sections), itemsize = 2 * given / SECTIONS;
    values.width = (int)(given / SECTIONS);
    if (given != SECTIONS && given != 2 * SECTIONS && given != 4 * SECTIONS)
        PyErr_SetString(PyExc_ValueError, "A value has 1, 2 or 4 columns of four sections.");
    else if (kind < ALL || kind > GAPS || out.len % itemsize || (size_t)out.buf % itemsize)
        PyErr_SetString(PyExc_ValueError, "There is no such mask, or no whole values in out.");
    else if (values.count < 0 || values.count > PY_SSIZE_T_MAX / 8)
        PyErr_SetString(PyExc_ValueError, "Sections cannot have so many values.");
    while (held < given && !PyErr_Occurred())
        if (PyObject_GetBuffer(PyTuple_GET_ITEM(sections, held), &buffers[held], PyBUF_SIMPLE) == 0)
            held++;
    if (!PyErr_Occurred() && !set_columns(&values, buffers))
        PyErr_SetString(PyExc_ValueError, "Sections are not as long as there are values.");
    if (!PyErr_Occurred()) {
        Py_BEGIN_ALLOW_THREADS
        placed = place_so(&out, kind, &mask, &values);
        Py_END_ALLOW_THREADS
    }
    while (held > 0)
        PyBuffer_Release(&buffers[--held]);
    PyBuffer_Release(&mask);
    PyBuffer_Release(&out);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(placed == values.count);
}

static PyObject *
place_values(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    return place_parsed(arguments, place_here);
}

static PyObject *
place_values_anywhere(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    return place_parsed(arguments, place_anywhere);
}

PyDoc_STRVAR(
    place_values_doc,
    "place_values(out, kind, mask, sections, count, turned, /)\n"
    "--\n\n"
    "Give the entries of a segment that its mask keeps their values.\n"
    "The buffers do not overlap.\n\n"
    "Args:\n"
    "    out: Entries, zeros, contiguous; written to.\n"
    "    kind: A MarkKind.\n"
    "    mask: The bytes of the mask.\n"
    "    sections: Of each column of words its high bytes, their alphabet, its low bytes and\n"
    "        their alphabet, as a blob has them decoded; or the column, and three times nothing.\n"
    "    count: How many values there are.\n"
    "    turned: Whether the last column was.\n\n"
    "Returns:\n"
    "    Whether the mask keeps as many entries; if not, some may have values now.\n\n"
    "Raises:\n"
    "    ValueError: The lengths do not fit each other.\n");

static PyMethodDef methods[] = {
    {"place_values", place_values, METH_VARARGS, place_values_doc},
    {"place_values_anywhere", place_values_anywhere, METH_VARARGS,
     "As place_values, as a processor without AVX2 does it."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef_Slot slots[] = {
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_place", NULL, 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC
PyInit__place(void)
{
#ifdef HAS_AVX2
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt")) {
        fill_sources();
        place_here = place_avx2;
    }
#endif
    return PyModuleDef_Init(&definition);
}
