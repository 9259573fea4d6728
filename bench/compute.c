/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compute - the tests that stay in user mode. Kinds of code that differ for a translator: loops, calls and returns,
 * indirect jumps, dependent loads, vectors of several widths, string functions, LOCK.
 */
#include <stdlib.h>
#include <string.h>

#include "guest.h"

/* ---- integers ------------------------------------------------------------ */

/* greatest common divisors: division, and branches that nothing predicts */
static uint64_t gcd(long n)
{
    uint64_t sum = 0, seed = 1;
    for (long i = 0; i < n; i++) {
        uint64_t a = bench_random(&seed) >> 20, b = bench_random(&seed) >> 20 | 1;
        while (b) {
            uint64_t r = a % b;
            a = b;
            b = r;
        }
        sum += a;
    }
    return sum;
}

/* 1024-bit numbers: 64x64 multiplication with carries */
static uint64_t bignum(long n)
{
    enum { WORDS = 16 };
    uint64_t a[WORDS], b[WORDS], seed = 3;
    for (int i = 0; i < WORDS; i++) {
        a[i] = bench_random(&seed);
        b[i] = bench_random(&seed);
    }
    for (long k = 0; k < n; k++) {
        uint64_t product[2 * WORDS] = { 0 };
        for (int i = 0; i < WORDS; i++) {
            uint64_t carry = 0;
            for (int j = 0; j < WORDS; j++) {
                unsigned __int128 t = (unsigned __int128)a[i] * b[j] + product[i + j] + carry;
                product[i + j] = (uint64_t)t;
                carry = t >> 64;
            }
            product[i + WORDS] = carry;
        }
        memcpy(a, product + WORDS / 2, sizeof a);
        a[0] |= 1;
        bench_barrier();
    }
    return a[5];
}

/* bit tricks in plain arithmetic: counting, reversing, finding bits */
static uint64_t bits(long n)
{
    uint64_t sum = 0, seed = 5;
    for (long i = 0; i < n; i++) {
        uint64_t x = bench_random(&seed);
        for (uint64_t m = x & 0xffff; m; m &= m - 1)
            sum += (uint64_t)__builtin_ctzll(m);
        x = (x & 0x5555555555555555) << 1 | (x >> 1 & 0x5555555555555555);
        x = (x & 0x3333333333333333) << 2 | (x >> 2 & 0x3333333333333333);
        x = (x & 0x0f0f0f0f0f0f0f0f) << 4 | (x >> 4 & 0x0f0f0f0f0f0f0f0f);
        sum += __builtin_bswap64(x) + (x << (i & 63) | x >> (-i & 63));
    }
    return sum;
}

static bool has_bmi(void)
{
    return __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
}

/* the same sort of work with the instructions made for it */
__attribute__((target("bmi,bmi2,popcnt"))) static uint64_t bmi(long n)
{
    uint64_t sum = 0, seed = 5;
    for (long i = 0; i < n; i++) {
        uint64_t x = bench_random(&seed);
        sum += (uint64_t)__builtin_popcountll(x) + (uint64_t)__builtin_ctzll(x | 1ull << 40);
        sum ^= (x & ~(x >> 3)) + (x & (x - 1)) + (x >> (i & 31));
    }
    return sum;
}

/* ---- calls --------------------------------------------------------------- */

static int place_queens(unsigned all, unsigned columns, unsigned left, unsigned right)
{
    int found = columns == all;
    for (unsigned open = all & ~(columns | left | right); open; open &= open - 1) {
        unsigned bit = open & -open;
        found += place_queens(all, columns | bit, (left | bit) << 1, (right | bit) >> 1);
    }
    return found;
}

/* the eight queens by recursion */
static uint64_t queens(long n)
{
    volatile unsigned all = 0xff;
    uint64_t sum = 0;
    for (long i = 0; i < n; i++)
        sum += (uint64_t)place_queens(all, 0, 0, 0);
    return sum;
}

struct shape {
    const struct shape_ops *ops;
    int64_t a, b;
};

struct shape_ops {
    int64_t (*area)(const struct shape *s);
    void (*grow)(struct shape *s, int64_t by);
};

static int64_t square_area(const struct shape *s)
{
    return s->a * s->a;
}
static int64_t box_area(const struct shape *s)
{
    return s->a * s->b;
}
static int64_t ring_area(const struct shape *s)
{
    return (s->a - s->b) * (s->a + s->b) * 3;
}
static void grow_first(struct shape *s, int64_t by)
{
    s->a = (s->a + by) & 0xffff;
}
static void grow_both(struct shape *s, int64_t by)
{
    s->a = (s->a + by) & 0xffff;
    s->b = (s->b ^ by) & 0xfff;
}

/* calls through tables of functions: an operation is two calls */
static uint64_t virtual_calls(long n)
{
    enum { SHAPES = 64 };
    static const struct shape_ops kinds[] = {
        { square_area, grow_first }, { box_area, grow_both }, { ring_area, grow_both }, { box_area, grow_first }
    };
    struct shape shapes[SHAPES];
    uint64_t seed = 11;
    int64_t sum = 0;
    for (int i = 0; i < SHAPES; i++)
        shapes[i] = (struct shape){ &kinds[bench_random(&seed) & 3], i, i * 3 };
    bench_barrier();
    for (long i = 0; i < n; i++) {
        struct shape *s = &shapes[i % SHAPES];
        s->ops->grow(s, i);
        sum += s->ops->area(s);
    }
    return (uint64_t)sum;
}

/* an interpreter: one indirect jump an instruction; a program that counts primes below 100 */
static uint64_t bytecode(long n)
{
    enum op { SET, ADD, MOD, JUMP_NOT_ZERO, JUMP_LESS, JUMP, COUNT, END };
    static const struct {
        uint8_t op, a, b;
        int8_t k;
    } program[] = {
        { SET, 0, 0, 2 },           /* 0: candidate = 2 */
        { SET, 1, 0, 2 },           /* 1: divisor = 2 */
        { JUMP_LESS, 1, 0, 4 },     /* 2: divisor < candidate? */
        { JUMP, 0, 0, 8 },          /* 3: none divided it */
        { MOD, 2, 0, 1 },           /* 4: r2 = candidate % divisor */
        { JUMP_NOT_ZERO, 2, 0, 7 }, /* 5 */
        { JUMP, 0, 0, 9 },          /* 6: not a prime */
        { JUMP, 0, 0, 12 },         /* 7 */
        { COUNT, 3, 0, 0 },         /* 8 */
        { ADD, 0, 0, 1 },           /* 9: the next candidate */
        { JUMP_LESS, 0, 4, 1 },     /* 10: r4 is the limit */
        { END, 0, 0, 0 },           /* 11 */
        { ADD, 1, 0, 1 },           /* 12: the next divisor */
        { JUMP, 0, 0, 2 },          /* 13 */
    };
    static void *const labels[] = { &&set, &&add, &&mod, &&jump_not_zero, &&jump_less, &&jump, &&count, &&end };
    uint64_t sum = 0;
    for (long i = 0; i < n; i++) {
        int64_t r[5] = { 0, 0, 0, 0, 100 };
        int pc = 0;
#define NEXT goto *labels[program[pc].op]
        NEXT;
    set:
        r[program[pc].a] = program[pc].k;
        pc++;
        NEXT;
    add:
        r[program[pc].a] += program[pc].k;
        pc++;
        NEXT;
    mod:
        r[program[pc].a] = (int32_t)r[program[pc].b] % (int32_t)r[program[pc].k];
        pc++;
        NEXT;
    jump_not_zero:
        pc = r[program[pc].a] ? program[pc].k : pc + 1;
        NEXT;
    jump_less:
        pc = r[program[pc].a] < r[program[pc].b] ? program[pc].k : pc + 1;
        NEXT;
    jump:
        pc = program[pc].k;
        NEXT;
    count:
        r[program[pc].a]++;
        pc++;
        NEXT;
    end:
        sum += (uint64_t)r[3];
#undef NEXT
    }
    return sum;
}

/* ---- hashing, sorting, parsing, packing ---------------------------------- */

/* open addressing: insert 256 keys, look up 512 */
static uint64_t hash_table(long n)
{
    enum { SLOTS = 1024, KEYS = 256 };
    static uint64_t keys[SLOTS], values[SLOTS];
    uint64_t sum = 0, seed = 17;
    for (long i = 0; i < n; i++) {
        memset(keys, 0, sizeof keys);
        uint64_t first = seed;
        for (int k = 0; k < KEYS; k++) {
            uint64_t key = bench_random(&seed), slot = key * 0x9e3779b97f4a7c15 >> 54;
            while (keys[slot] && keys[slot] != key)
                slot = (slot + 1) % SLOTS;
            keys[slot] = key;
            values[slot] = (uint64_t)k;
        }
        uint64_t again = first;
        for (int k = 0; k < 2 * KEYS; k++) {
            uint64_t key = bench_random(&again), slot = key * 0x9e3779b97f4a7c15 >> 54;
            while (keys[slot] && keys[slot] != key)
                slot = (slot + 1) % SLOTS;
            sum += keys[slot] == key ? values[slot] + 1 : 0;
        }
    }
    return sum;
}

static inline uint32_t rotl(uint32_t x, int by)
{
    return x << by | x >> (32 - by);
}

/* ChaCha20, a block of 64 bytes: additions, rotations and nothing else */
static uint64_t chacha(long n)
{
    uint32_t in[16] = { 0x61707865, 0x3320646e, 0x79622d32, 0x6b206574, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 9, 10 };
    uint64_t sum = 0;
    for (long i = 0; i < n; i++) {
        uint32_t x[16];
        memcpy(x, in, sizeof x);
        for (int round = 0; round < 20; round++)
            for (int q = 0; q < 4; q++) {
                int shift = round & 1;
                uint32_t *a = &x[q], *b = &x[4 + ((q + shift) & 3)], *c = &x[8 + ((q + 2 * shift) & 3)],
                         *d = &x[12 + ((q + 3 * shift) & 3)];
                *a += *b, *d = rotl(*d ^ *a, 16);
                *c += *d, *b = rotl(*b ^ *c, 12);
                *a += *b, *d = rotl(*d ^ *a, 8);
                *c += *d, *b = rotl(*b ^ *c, 7);
            }
        for (int k = 0; k < 16; k++)
            sum += x[k] + in[k];
        in[12]++;
    }
    return sum;
}

/* a heap of 512 numbers */
static uint64_t heapsort(long n)
{
    enum { N = 512 };
    static uint32_t v[N];
    uint64_t sum = 0, seed = 23;
    for (long i = 0; i < n; i++) {
        for (int k = 0; k < N; k++)
            v[k] = (uint32_t)bench_random(&seed);
        for (int end = N, top = N / 2; end > 1;) {
            uint32_t x;
            if (top > 0) {
                x = v[--top];
            } else {
                x = v[--end];
                v[end] = v[0];
            }
            int hole = top, child;
            while ((child = 2 * hole + 1) < end) {
                child += child + 1 < end && v[child + 1] > v[child];
                if (v[child] <= x)
                    break;
                v[hole] = v[child];
                hole = child;
            }
            v[hole] = x;
        }
        sum += v[0] ^ v[N / 2];
    }
    return sum;
}

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* qsort with strcmp over 128 words: calls back and forth between a library and its user */
static uint64_t sort_words(long n)
{
    enum { WORDS = 128 };
    static char text[WORDS][12];
    char *words[WORDS];
    uint64_t sum = 0, seed = 29;
    for (long i = 0; i < n; i++) {
        for (int k = 0; k < WORDS; k++) {
            uint64_t r = bench_random(&seed);
            for (int c = 0; c < 10; c++, r >>= 4)
                text[k][c] = (char)('a' + (r & 15));
            words[k] = text[k];
        }
        qsort(words, WORDS, sizeof words[0], compare_strings);
        sum += (uint64_t)(words[WORDS / 2][0] + words[0][1] * 256);
    }
    return sum;
}

struct json {
    const char *at;
    uint64_t numbers, strings, depth;
};

static void json_blank(struct json *j)
{
    while (*j->at == ' ' || *j->at == '\n' || *j->at == ',' || *j->at == ':')
        j->at++;
}

static void json_value(struct json *j)
{
    json_blank(j);
    switch (*j->at) {
    case '{':
    case '[': {
        char close = *j->at++ == '{' ? '}' : ']';
        for (json_blank(j); *j->at && *j->at != close; json_blank(j))
            json_value(j);
        j->at += *j->at == close;
        j->depth++;
        break;
    }
    case '"':
        for (j->at++; *j->at && *j->at != '"'; j->at++) {
            j->at += *j->at == '\\';
            j->strings = j->strings * 31 + (uint8_t)*j->at;
        }
        j->at += *j->at == '"';
        break;
    case 't':
    case 'n':
        j->at += 4;
        break;
    case 'f':
        j->at += 5;
        break;
    default: {
        bool minus = *j->at == '-';
        uint64_t x = 0;
        for (j->at += minus; (*j->at >= '0' && *j->at <= '9') || *j->at == '.'; j->at++)
            x = *j->at == '.' ? x : x * 10 + (uint64_t)(*j->at - '0');
        j->numbers += minus ? -x : x;
    }
    }
}

/* a parser that goes byte by byte and calls itself; 400 bytes */
static uint64_t json(long n)
{
    static const char text[] =
        "{\"machine\": {\"cpus\": 4, \"memory\": 536870912, \"devices\": [{\"kind\": \"uart\", \"port\": 1016, "
        "\"irq\": 4},"
        " {\"kind\": \"rtc\", \"port\": 112, \"irq\": 8}, {\"kind\": \"pit\", \"port\": 64, \"irq\": 0}]},\n"
        " \"trace\": [true, false, null, \"a \\\"quoted\\\" word\", -12.5, 3.14159, 2718281828],\n"
        " \"names\": {\"alpha\": [1, 2, 3, [4, 5, [6, 7, [8]]]], \"beta\": \"the quick brown fox jumps\", \"gamma\": "
        "{}}}";
    struct json j = { 0 };
    for (long i = 0; i < n; i++) {
        j.at = text;
        bench_barrier();
        json_value(&j);
    }
    return j.numbers ^ j.strings ^ j.depth << 32;
}

/* a packer of the LZ kind over 4 KiB of text that repeats: table look-ups, comparisons of runs, byte stores */
static uint64_t pack(long n)
{
    enum { SIZE = 4096, TABLE = 1024 };
    static uint8_t in[SIZE + 8], out[2 * SIZE];
    static uint16_t table[TABLE];
    uint64_t seed = 31, sum = 0;
    for (int i = 0; i < SIZE; i++)
        in[i] = i > 64 && bench_random(&seed) % 24 ? in[i - 1 - (int)(seed >> 50 & 3) * 8]
                                                   : (uint8_t)(bench_random(&seed) % 16);
    for (long k = 0; k < n; k++) {
        memset(table, 0, sizeof table);
        size_t o = 0;
        for (int i = 0; i < SIZE;) {
            uint32_t word;
            memcpy(&word, in + i, sizeof word);
            uint16_t *slot = &table[word * 2654435761u >> 22];
            int candidate = *slot, length = 0;
            *slot = (uint16_t)i;
            while (candidate < i && i + length < SIZE && in[candidate + length] == in[i + length] && length < 255)
                length++;
            if (length >= 4) {
                out[o++] = 0xff;
                out[o++] = (uint8_t)length;
                out[o++] = (uint8_t)(i - candidate);
                i += length;
            } else {
                out[o++] = in[i++];
            }
        }
        bench_barrier();
        sum += o + out[o / 2];
    }
    return sum;
}

/* ---- floating point ------------------------------------------------------ */

/* 24x24 matrices of doubles */
static uint64_t matrix(long n)
{
    enum { N = 24 };
    static double a[N][N], b[N][N], c[N][N];
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            a[i][j] = 1.0 / (i + j + 1);
            b[i][j] = i == j ? 1.5 : 0.01 * j;
        }
    for (long r = 0; r < n; r++) {
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) {
                double s = 0;
                for (int k = 0; k < N; k++)
                    s += a[i][k] * b[k][j];
                c[i][j] = s;
            }
        bench_barrier();
    }
    return (uint64_t)(c[7][11] * 1e12);
}

/* a transform of 256 points and nothing of libm's, which may round differently from CPU to CPU */
static uint64_t fft(long n)
{
    enum { LOG = 8, N = 1 << LOG };
    static double root[N / 2][2], x[N][2];
    const double step_c = 0.99969881869620425, step_s = -0.024541228522912288; /* of 2 pi / 256 */
    root[0][0] = 1;
    root[0][1] = 0;
    for (int i = 1; i < N / 2; i++) {
        root[i][0] = root[i - 1][0] * step_c - root[i - 1][1] * step_s;
        root[i][1] = root[i - 1][0] * step_s + root[i - 1][1] * step_c;
    }
    uint64_t sum = 0;
    for (long r = 0; r < n; r++) {
        for (int i = 0; i < N; i++) {
            int reversed = 0;
            for (int b = 0; b < LOG; b++)
                reversed |= (i >> b & 1) << (LOG - 1 - b);
            x[reversed][0] = (i * 7 + (int)(r & 1)) % 37;
            x[reversed][1] = 0;
        }
        for (int half = 1; half < N; half *= 2)
            for (int start = 0; start < N; start += 2 * half)
                for (int k = 0; k < half; k++) {
                    double *a = x[start + k], *b = x[start + k + half], *w = root[k * (N / 2 / half)];
                    double re = b[0] * w[0] - b[1] * w[1], im = b[0] * w[1] + b[1] * w[0];
                    b[0] = a[0] - re, b[1] = a[1] - im;
                    a[0] += re, a[1] += im;
                }
        sum += (uint64_t)(int64_t)(x[5][0] * 1024) + (uint64_t)(int64_t)x[77][1];
    }
    return sum;
}

/* One Mandelbrot line of 32 points; T is a number or a vector of LANES numbers. */
#define MANDELBROT(T, LANES, ELEMENT)                                        \
    ELEMENT count = 0;                                                       \
    for (long i = 0; i < n; i++)                                             \
        for (int at = 0; at < 32; at += LANES) {                             \
            T cr, ci, zr, zi, inside;                                        \
            for (int l = 0; l < LANES; l++)                                  \
                ((ELEMENT *)&cr)[l] = (ELEMENT)(at + l) / 16 - (ELEMENT)1.5; \
            ci = cr * 0 + (ELEMENT)(i % 16) / 16;                            \
            zr = cr, zi = ci, inside = cr * 0;                               \
            for (int k = 0; k < 32; k++) {                                   \
                T rr = zr * zr, ii = zi * zi, next = rr - ii + cr;           \
                zi = zr * zi * 2 + ci;                                       \
                zr = next;                                                   \
                inside += MANDELBROT_BELOW4(rr + ii);                        \
            }                                                                \
            for (int l = 0; l < LANES; l++)                                  \
                count += ((ELEMENT *)&inside)[l];                            \
        }                                                                    \
    return (uint64_t)(int64_t)count;

typedef double v2d __attribute__((vector_size(16)));
typedef int64_t v2i __attribute__((vector_size(16)));
typedef double v4d __attribute__((vector_size(32)));
typedef int64_t v4i __attribute__((vector_size(32)));

/* Numbers that grow beyond all bounds end as infinities and NaNs: on purpose, hardware does not slow down for them. */
static uint64_t mandelbrot_x87(long n)
{
#define MANDELBROT_BELOW4(x) ((x) < 4 ? 1 : 0)
    MANDELBROT(long double, 1, long double)
#undef MANDELBROT_BELOW4
}

static uint64_t mandelbrot_sse(long n)
{
#define MANDELBROT_BELOW4(x) ((v2d)((v2i)((x) < 4.0) & (v2i)(v2d){ 1, 1 }))
    MANDELBROT(v2d, 2, double)
#undef MANDELBROT_BELOW4
}

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2");
}

__attribute__((target("avx2"))) static uint64_t mandelbrot_avx(long n)
{
#define MANDELBROT_BELOW4(x) ((v4d)((v4i)((x) < 4.0) & (v4i)(v4d){ 1, 1, 1, 1 }))
    MANDELBROT(v4d, 4, double)
#undef MANDELBROT_BELOW4
}

/* ---- strings and memory -------------------------------------------------- */

/* the C library's functions on short strings: an operation is a search, a length, a comparison and a copy */
static uint64_t strings(long n)
{
    static const char *const words[] = { "init",
                                         "/usr/lib/x86_64-linux-gnu/libc.so.6",
                                         "a",
                                         "PATH=/usr/bin:/bin",
                                         "the quick brown fox jumps over the lazy dog",
                                         "",
                                         "lodge",
                                         "console=ttyS0" };
    char buffer[64];
    uint64_t sum = 0;
    for (long i = 0; i < n; i++) {
        const char *a = words[i & 7], *b = words[i >> 1 & 7];
        const char *slash = strchr(a, '/');
        size_t length = strlen(b);
        memcpy(buffer, b, length + 1);
        bench_barrier();
        sum += length + (slash ? 1 : 0) + (strcmp(a, buffer) == 0 ? 2 : 0) + (memchr(buffer, 'x', length) ? 4 : 0);
    }
    return sum;
}

/* 64 KiB filled and copied: how fast memory streams */
static uint64_t stream(long n)
{
    enum { SIZE = 65536 };
    static char a[SIZE], b[SIZE];
    uint64_t sum = 0;
    for (long i = 0; i < n; i++) {
        memset(a, (int)i & 0xff, SIZE);
        bench_barrier();
        memcpy(b, a, SIZE);
        bench_barrier();
        sum += (uint8_t)b[i & (SIZE - 1)];
    }
    return sum;
}

/*
 * Dependent loads over so many bytes, each from another cache line in no order that a prefetcher knows: the step's
 * multiplier makes one cycle through all lines (Hull and Dobell).
 */
static uint64_t chase(long n, size_t bytes, void ***memory)
{
    size_t lines = bytes / 64;
    if (!*memory) {
        void **m = *memory = aligned_alloc(4096, bytes);
        for (size_t i = 0; i < lines; i++)
            m[i * 8] = &m[(i * 1664525 + 1013904223) % lines * 8];
    }
    void **p = *memory;
    for (long i = 0; i < n; i++)
        p = *p;
    return (uint64_t)(p - *memory);
}

static uint64_t chase_l1(long n)
{
    static void **memory;
    return chase(n, 16 << 10, &memory);
}

static uint64_t chase_l2(long n)
{
    static void **memory;
    return chase(n, 512 << 10, &memory);
}

static uint64_t chase_ram(long n)
{
    static void **memory;
    return chase(n, 64 << 20, &memory);
}

/* ---- LOCK ---------------------------------------------------------------- */

static uint64_t exchange(long n)
{
    static uint64_t word;
    word = 1;
    for (long i = 0; i < n; i++) {
        uint64_t old = __atomic_load_n(&word, __ATOMIC_RELAXED);
        while (!__atomic_compare_exchange_n(&word, &old, old * 3 + 1, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
            continue;
        __atomic_or_fetch(&word, 4, __ATOMIC_SEQ_CST);
    }
    return word;
}

const struct bench compute_benches[] = {
    { "gcd", gcd, NULL },
    { "bignum", bignum, NULL },
    { "bits", bits, NULL },
    { "bmi", bmi, has_bmi },
    { "queens", queens, NULL },
    { "virtual", virtual_calls, NULL },
    { "bytecode", bytecode, NULL },
    { "hash", hash_table, NULL },
    { "chacha", chacha, NULL },
    { "heapsort", heapsort, NULL },
    { "sortwords", sort_words, NULL },
    { "json", json, NULL },
    { "pack", pack, NULL },
    { "matrix", matrix, NULL },
    { "fft", fft, NULL },
    { "mandel-x87", mandelbrot_x87, NULL },
    { "mandel-sse", mandelbrot_sse, NULL },
    { "mandel-avx", mandelbrot_avx, has_avx2 },
    { "strings", strings, NULL },
    { "stream", stream, NULL },
    { "chase-l1", chase_l1, NULL },
    { "chase-l2", chase_l2, NULL },
    { "chase-ram", chase_ram, NULL },
    { "exchange", exchange, NULL },
    { NULL, NULL, NULL },
};
