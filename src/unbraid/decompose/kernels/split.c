/* A float32 matrix product on the tile unit of recent x86 processors: each number as the sum of two bfloat16, a = a1 + a2, and
 *
 *     a b = a1 b1 + a1 b2 + a2 b1,
 *
 * summed in float32. What is left out is 2^-18 of each product, and the second part is rounded at 2^-18 of its number; this is what torch calls the
 * float32 precision "high" where there is no TensorFloat32.
 */
#include "split.h"

#if defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__linux__)

#include <immintrin.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ROWS = 16, DEEP = 32, TILE = ROWS * DEEP, PANEL = 128, MANY = 256 };
/* A tile is 16 rows of 32 bfloat16; so deep a panel of two strips stays in the first cache, and of so many rows in the second. */

int split_available(void) {
    static int known = -1;
    if (known < 0) known = syscall(SYS_arch_prctl, 0x1023, 18) == 0; /* ask the kernel for the use of tiles */
    return known;
}

static int reserve(Laid *p, int64_t tiles) {
    if (p->room >= tiles) return 1;
    free(p->high);
    p->room = 0;
    p->high = aligned_alloc(64, (size_t)tiles * TILE * 2 * sizeof(uint16_t));
    if (!p->high) return 0;
    p->low = p->high + tiles * TILE;
    p->room = tiles;
    return 1;
}

/* Sixteen numbers as 32-bit patterns whose upper halves are the first and the second bfloat16 of each. */
static inline void halves(__m512 x, __m512i *high, __m512i *low) {
    __m512i h = _mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x)), 16);
    *high = h;
    *low = _mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_sub_ps(x, _mm512_castsi512_ps(h)))), 16);
}

static inline __m512i pairs(__m512i even, __m512i odd) { return _mm512_or_si512(_mm512_srli_epi32(even, 16), odd); }

static inline void transpose16(__m512i r[16]) {
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

static inline __mmask16 first(int64_t count) { return count >= 16 ? 0xffff : (count <= 0 ? 0 : (__mmask16)((1u << count) - 1)); }

/* Thirty-two numbers along memory, of which so many exist, as their first and their second bfloat16. */
static inline void split32(const float *a, int64_t there, __m512i *high, __m512i *low) {
    __m512 x = _mm512_maskz_loadu_ps(first(there), a), y = _mm512_maskz_loadu_ps(first(there - 16), a + 16);
    __m256i hx = (__m256i)_mm512_cvtneps_pbh(x), hy = (__m256i)_mm512_cvtneps_pbh(y);
    __m512 fx = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(hx), 16));
    __m512 fy = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(hy), 16));
    __m256i lx = (__m256i)_mm512_cvtneps_pbh(_mm512_sub_ps(x, fx)), ly = (__m256i)_mm512_cvtneps_pbh(_mm512_sub_ps(y, fy));
    *high = _mm512_inserti64x4(_mm512_castsi256_si512(hx), hy, 1);
    *low = _mm512_inserti64x4(_mm512_castsi256_si512(lx), ly, 1);
}

static inline void halves_along(const float *a, int64_t there, Laid *out, int64_t at) {
    __m512i high, low;
    split32(a, there, &high, &low);
    _mm512_store_si512(out->high + at, high);
    _mm512_store_si512(out->low + at, low);
}

/* One tile whose 16 rows lie along memory: row i is a[i * stride + 0 .. 31]; `rows` and `deep` of it exist. */
static void pack_along(const float *a, int64_t stride, int64_t rows, int64_t deep, __m512i high[16], __m512i low[16]) {
    for (int i = 0; i < 16; i++) split32(a + i * stride, i < rows ? deep : 0, &high[i], &low[i]);
}

/* The same 16 by 32 numbers where memory runs the other way: a[k * stride + i]; as pairs of k, one vector per pair over the 16 i. */
static void pack_across(const float *a, int64_t stride, int64_t rows, int64_t deep, __m512i high[16], __m512i low[16]) {
    const __mmask16 there = first(rows);
    for (int p = 0; p < 16; p++) {
        __m512i h0, l0, h1, l1;
        __m512 x = 2 * p < deep ? _mm512_maskz_loadu_ps(there, a + 2 * p * stride) : _mm512_setzero_ps();
        __m512 y = 2 * p + 1 < deep ? _mm512_maskz_loadu_ps(there, a + (2 * p + 1) * stride) : _mm512_setzero_ps();
        halves(x, &h0, &l0);
        halves(y, &h1, &l1);
        high[p] = pairs(h0, h1);
        low[p] = pairs(l0, l1);
    }
}

static inline void store(const __m512i high[16], const __m512i low[16], int64_t at, Laid *out) {
    for (int r = 0; r < 16; r++) {
        _mm512_store_si512(out->high + at + r * DEEP, high[r]);
        _mm512_store_si512(out->low + at + r * DEEP, low[r]);
    }
}

/* Lay a matrix [rows, deep] out in tiles of 16 by 32, all depths of a strip of rows after one another. A left factor wants each row's numbers along the tile's
 * rows, a right factor pairs of depth along them: the same tile, transposed in units of pairs. The order of the loops is that of memory. */
static void pack(const float *a, int64_t stride, int along, int left, int64_t rows, int64_t deep, int64_t at, Laid *out) {
    const int64_t strips = (rows + ROWS - 1) / ROWS, depths = (deep + DEEP - 1) / DEEP;
    __m512i high[16], low[16];
    if (along && left) {
        for (int64_t i = 0; i < strips * ROWS; i++)
            for (int64_t d = 0; d < depths; d++)
                halves_along(a + i * stride + d * DEEP, i < rows ? deep - d * DEEP : 0, out, at + (i / ROWS * depths + d) * TILE + i % ROWS * DEEP);
    } else if (along) {
        for (int64_t i = 0; i < strips; i++)
            for (int64_t d = 0; d < depths; d++) {
                pack_along(a + i * ROWS * stride + d * DEEP, stride, rows - i * ROWS, deep - d * DEEP, high, low);
                transpose16(high);
                transpose16(low);
                store(high, low, at + (i * depths + d) * TILE, out);
            }
    } else {
        for (int64_t d = 0; d < depths; d++)
            for (int64_t i = 0; i < strips; i++) {
                pack_across(a + d * DEEP * stride + i * ROWS, stride, rows - i * ROWS, deep - d * DEEP, high, low);
                if (left) {
                    transpose16(high);
                    transpose16(low);
                }
                store(high, low, at + (i * depths + d) * TILE, out);
            }
    }
}

/* Lay a whole factor out, a panel of depths after the other. */
static int lay_out(const float *a, int64_t stride, int along, int left, int64_t rows, int64_t deep, Laid *out) {
    const int64_t strips = (rows + ROWS - 1) / ROWS;
    if (!reserve(out, strips * ((deep + DEEP - 1) / DEEP))) return 0;
    for (int64_t k = 0; k < deep; k += PANEL)
        pack(a + (along ? k : k * stride), stride, along, left, rows, deep - k < PANEL ? deep - k : PANEL, strips * ROWS * k, out);
    return 1;
}

#define LOAD(tile, from) _tile_loadd(tile, from, 64)

/* Four tiles of the result, from two strips of each factor. */
static void multiply(const uint16_t *ah, const uint16_t *al, const uint16_t *bh, const uint16_t *bl, int64_t depths, int64_t next_a, int64_t next_b) {
    for (int64_t d = 0; d < depths; d++) {
        const int64_t at = d * TILE;
        LOAD(4, ah + at);
        LOAD(5, ah + next_a + at);
        LOAD(6, bl + at);
        LOAD(7, bl + next_b + at);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        LOAD(6, bh + at);
        LOAD(7, bh + next_b + at);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        LOAD(4, al + at);
        LOAD(5, al + next_a + at);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
}

typedef struct {
    float *at;
    int64_t stride, rows, cols;
} Out;

static void put(const Out *o, int64_t row, int64_t col, const float *tile, int add) {
    for (int64_t i = 0; i < ROWS && row + i < o->rows; i++) {
        float *to = o->at + (row + i) * o->stride + col;
        const __mmask16 there = first(o->cols - col);
        __m512 value = _mm512_load_ps(tile + i * 16);
        if (add) value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(there, to));
        _mm512_mask_storeu_ps(to, there, value);
    }
}

/* Adds a panel's products to `out`, or writes them. */
static void multiply_panel(const Out *o, const uint16_t *ah, const uint16_t *al, const uint16_t *bh, const uint16_t *bl, int64_t depths, int add) {
    const int64_t strips_a = (o->rows + ROWS - 1) / ROWS, strips_b = (o->cols + ROWS - 1) / ROWS, strip = depths * TILE, so = o->stride, bytes = so * 4;
    _Alignas(64) float tile[256];
    for (int64_t j = 0; j < strips_b; j += 2)
        for (int64_t i = 0; i < strips_a; i += 2) {
            const int64_t row = i * ROWS, col = j * ROWS, next_a = i + 1 < strips_a ? strip : 0, next_b = j + 1 < strips_b ? strip : 0;
            float *to = o->at + row * so + col;
            const int whole = row + 2 * ROWS <= o->rows && col + 2 * ROWS <= o->cols;
            if (whole && add) {
                _tile_loadd(0, to, bytes);
                _tile_loadd(1, to + 16, bytes);
                _tile_loadd(2, to + 16 * so, bytes);
                _tile_loadd(3, to + 16 * so + 16, bytes);
            } else {
                _tile_zero(0);
                _tile_zero(1);
                _tile_zero(2);
                _tile_zero(3);
            }
            multiply(ah + i * strip, al + i * strip, bh + j * strip, bl + j * strip, depths, next_a, next_b);
            if (whole) {
                _tile_stored(0, to, bytes);
                _tile_stored(1, to + 16, bytes);
                _tile_stored(2, to + 16 * so, bytes);
                _tile_stored(3, to + 16 * so + 16, bytes);
                continue;
            }
            _tile_stored(0, tile, 64);
            put(o, row, col, tile, add);
            if (next_b) {
                _tile_stored(1, tile, 64);
                put(o, row, col + 16, tile, add);
            }
            if (next_a) {
                _tile_stored(2, tile, 64);
                put(o, row + 16, col, tile, add);
            }
            if (next_a && next_b) {
                _tile_stored(3, tile, 64);
                put(o, row + 16, col + 16, tile, add);
            }
        }
}

/* Eight tiles of 16 rows of 64 bytes. The intrinsics tell the compiler of less memory than they read, so the contents are constant here, and there is
 * a barrier between laying out and multiplying. */
static const struct {
    uint8_t palette, start, reserved[14];
    uint16_t width[16];
    uint8_t height[16];
} shape = {.palette = 1, .width = {64, 64, 64, 64, 64, 64, 64, 64}, .height = {16, 16, 16, 16, 16, 16, 16, 16}};

#define BARRIER() __asm__ volatile("" ::: "memory")

int split_product(int64_t m, int64_t n, int64_t k, const float *a, int64_t sa, int ta, Laid *laid_a, const float *b, int64_t sb, int tb,
                  Laid *laid_b, int add, float *out, int64_t so) {
    static _Thread_local Laid own_a, own_b;
    const int64_t block = laid_a ? m : MANY, strips_b = (n + ROWS - 1) / ROWS;
    const int by_panel = !laid_b && m <= block; /* a right factor that serves one block of rows stays in the cache panel by panel */
    if (!laid_b) (laid_b = &own_b)->ready = 0;
    if (laid_a && !laid_a->ready && !lay_out(a, sa, !ta, 1, m, k, laid_a)) return 0;
    if (!laid_a && !reserve(&own_a, MANY / ROWS * (PANEL / DEEP))) return 0;
    if (by_panel ? !reserve(laid_b, strips_b * (PANEL / DEEP)) : !laid_b->ready && !lay_out(b, sb, tb, 0, n, k, laid_b)) return 0;
    if (laid_a) laid_a->ready = 1;
    laid_b->ready = !by_panel;
    _tile_loadconfig(&shape);
    for (int64_t row = 0; row < m; row += block) {
        const int64_t rows = m - row < block ? m - row : block, strips_a = (rows + ROWS - 1) / ROWS;
        const Out o = {out + row * so, so, rows, n};
        const Laid *left = laid_a ? laid_a : &own_a;
        for (int64_t from = 0; from < k; from += PANEL) {
            const int64_t part = k - from < PANEL ? k - from : PANEL;
            const int64_t at_a = laid_a ? strips_a * ROWS * from : 0, at_b = by_panel ? 0 : strips_b * ROWS * from;
            if (!laid_a) pack(a + (ta ? from * sa + row : row * sa + from), sa, !ta, 1, rows, part, 0, &own_a);
            if (by_panel) pack(b + (tb ? from : from * sb), sb, tb, 0, n, part, 0, laid_b);
            BARRIER();
            multiply_panel(&o, left->high + at_a, left->low + at_a, laid_b->high + at_b, laid_b->low + at_b, (part + DEEP - 1) / DEEP, add || from);
        }
    }
    _tile_release();
    return 1;
}

#else

int split_available(void) { return 0; }

int split_product(int64_t m, int64_t n, int64_t k, const float *a, int64_t sa, int ta, Laid *laid_a, const float *b, int64_t sb, int tb,
                  Laid *laid_b, int add, float *out, int64_t so) {
    return 0;
}

#endif
