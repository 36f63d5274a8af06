/* A whole site under masks and its gradients, a block of rows at a time, so that what lies between the products never leaves the cache:
 *
 *     y = (x V * (m - kept)) U + kept (x M) + b,    m = r + g (1 - r)
 *
 * The products are those of the BLAS that torch brings, which is handed in, or those of split.c where it is not. Matrices are float32 and row-major with a row stride in elements; V, U and M may be
 * given transposed. A row that is not routed is as in the target: it takes part in the product with M alone.
 */
#include <stdint.h>
#include <string.h>

#include "split.h"

typedef void (*sgemm_t)(const char *, const char *, const int *, const int *, const int *, const float *, const float *, const int *,
                        const float *, const int *, const float *, float *, const int *);

typedef struct {
    const float *at;
    int64_t stride;
    int64_t transposed;
} Factor;

typedef struct {
    sgemm_t sgemm; /* null: split.c */
    int64_t rows, d_in, C, d_out, block;
    Factor V, U, M;
    const float *x, *g, *r, *kept;
    int64_t sx, sg, sr, sk;
    const uint8_t *routed; /* null: all rows are */
    const float *bias;     /* null: none */
    float *h;              /* x V of the routed rows, at the beginning of each block */
    float *scratch;        /* block * 2 (C + d_in + d_out) */
} Site;

/* out [m, n] = a [m, k] b [k, n], or added to it; the BLAS reads columns first, and so sees every matrix transposed. */
static void product(const Site *s, int64_t m, int64_t n, int64_t k, const float *a, int64_t sa, int ta, Laid *laid_a, const float *b, int64_t sb, int tb,
                    Laid *laid_b, int add, float *out, int64_t so) {
    const float one = 1.0f, beta = add ? 1.0f : 0.0f;
    const int m_ = (int)m, n_ = (int)n, k_ = (int)k, sa_ = (int)sa, sb_ = (int)sb, so_ = (int)so;
    if (!m || !n || !k) return;
    if (s->sgemm)
        s->sgemm(tb ? "T" : "N", ta ? "T" : "N", &n_, &m_, &k_, &one, b, &sb_, a, &sa_, &beta, out, &so_);
    else if (!split_product(m, n, k, a, sa, ta, laid_a, b, sb, tb, laid_b, add, out, so))
        memset(out, 0xff, (size_t)(m * so) * sizeof(float)); /* NaN, which the step's check finds */
}

/* V, U and M as laid out for one call, each for all its blocks. */
static _Thread_local Laid laid_factors[3], laid_rows;

static void begin(const Site *s, Laid *laid[3]) {
    const int keeps = s->rows > s->block;
    for (int i = 0; i < 3; i++) {
        laid_factors[i].ready = 0;
        laid[i] = keeps ? &laid_factors[i] : 0;
    }
}

static void times(const Site *s, int64_t rows, const float *a, int64_t sa, Laid *laid_a, const Factor *f, Laid *laid, int64_t d_in, int64_t d_out, int add,
                  float *out) {
    product(s, rows, d_out, d_in, a, sa, 0, laid_a, f->at, f->stride, (int)f->transposed, laid, add, out, d_out);
}

static void times_transposed(const Site *s, int64_t rows, const float *a, int64_t sa, Laid *laid_a, const Factor *f, Laid *laid, int64_t d_in, int64_t d_out,
                             int add, float *out) {
    product(s, rows, d_in, d_out, a, sa, 0, laid_a, f->at, f->stride, !f->transposed, laid, add, out, d_in);
}

/* Lists the routed rows of a block; returns how many there are. */
static int64_t routed_rows(const Site *s, int64_t first, int64_t rows, int32_t *which) {
    int64_t count = 0;
    for (int64_t i = 0; i < rows; i++)
        if (!s->routed || s->routed[first + i]) which[count++] = (int32_t)i;
    return count;
}

static const float *gathered(const float *a, int64_t stride, int64_t width, const int32_t *which, int64_t count, float *out) {
    for (int64_t i = 0; i < count; i++) memcpy(out + i * width, a + which[i] * stride, (size_t)width * sizeof(float));
    return out;
}

static void add_rows(float *out, int64_t width, const int32_t *which, int64_t count, const float *a) {
    for (int64_t i = 0; i < count; i++) {
        float *o = out + which[i] * width;
        for (int64_t c = 0; c < width; c++) o[c] += a[i * width + c];
    }
}

void site_forward(const Site *s, float *y) {
    const int64_t C = s->C, d_in = s->d_in, d_out = s->d_out;
    int32_t which[s->block];
    Laid *laid[3];
    begin(s, laid);
    float *e = s->scratch, *x_routed = e + s->block * C, *y_routed = x_routed + s->block * d_in;
    for (int64_t first = 0; first < s->rows; first += s->block) {
        const int64_t rows = s->rows - first < s->block ? s->rows - first : s->block;
        const int64_t count = routed_rows(s, first, rows, which);
        const float *x = s->x + first * s->sx, *x_in = x;
        float *h = s->h + first * C, *out = y + first * d_out;
        int64_t sx = s->sx;
        if (count < rows) x_in = gathered(x, s->sx, sx = d_in, which, count, x_routed);
        laid_rows.ready = 0;
        times(s, rows, x, s->sx, &laid_rows, &s->M, laid[2], d_in, d_out, 0, out);
        times(s, count, x_in, sx, count < rows ? 0 : &laid_rows, &s->V, laid[0], d_in, C, 0, h);
        for (int64_t i = 0; i < count; i++) {
            const int64_t row = first + which[i];
            const float *g = s->g + row * s->sg, *r = s->r + row * s->sr, *hi = h + i * C, k = s->kept[row * s->sk];
            float *ei = e + i * C, *o = out + which[i] * d_out;
            for (int64_t c = 0; c < C; c++) ei[c] = hi[c] * (r[c] + g[c] * (1.0f - r[c]) - k);
            for (int64_t c = 0; c < d_out; c++) o[c] *= k;
        }
        if (count == rows) {
            times(s, rows, e, C, 0, &s->U, laid[1], C, d_out, 1, out);
        } else {
            times(s, count, e, C, 0, &s->U, laid[1], C, d_out, 0, y_routed);
            add_rows(out, d_out, which, count, y_routed);
        }
        if (s->bias)
            for (int64_t i = 0; i < rows; i++)
                for (int64_t c = 0; c < d_out; c++) out[i * d_out + c] += s->bias[c];
    }
}

/* Each gradient only where its pointer is not null; those of V and U need not be zero before. */
void site_backward(const Site *s, const float *grad, int64_t stride, float *grad_x, float *grad_V, float *grad_U, float *grad_g, float *grad_r,
                   int64_t sgr, float *grad_kept, int64_t sgk) {
    const int64_t C = s->C, d_in = s->d_in, d_out = s->d_out, block = s->block;
    const size_t row_of_C = (size_t)C * sizeof(float);
    int32_t which[block];
    Laid *laid[3];
    begin(s, laid);
    float *e = s->scratch, *grad_h = e + block * C, *x_routed = grad_h + block * C, *through = x_routed + block * d_in, *y_routed = through + block * d_in;
    if (grad_V) memset(grad_V, 0, (size_t)d_in * row_of_C);
    if (grad_U) memset(grad_U, 0, (size_t)d_out * row_of_C);
    for (int64_t first = 0; first < s->rows; first += block) {
        const int64_t rows = s->rows - first < block ? s->rows - first : block;
        const int64_t count = routed_rows(s, first, rows, which);
        const float *x = s->x + first * s->sx, *x_in = x, *h = s->h + first * C, *gy = grad + first * stride, *gy_in = gy;
        /* What comes back through M, before kept: it is the gradient of x, and its product with x is that of kept. */
        float *gx = grad_x ? grad_x + first * d_in : through;
        int64_t sx = s->sx, sy = stride;
        if (count < rows) {
            if (grad_V) x_in = gathered(x, s->sx, sx = d_in, which, count, x_routed);
            gy_in = gathered(gy, stride, sy = d_out, which, count, y_routed);
        }
        laid_rows.ready = 0;
        if (grad_x || grad_kept) times_transposed(s, rows, gy, stride, &laid_rows, &s->M, laid[2], d_in, d_out, 0, gx);
        times_transposed(s, count, gy_in, sy, count < rows ? 0 : &laid_rows, &s->U, laid[1], C, d_out, 0, grad_h);
        if (count < rows)
            for (int64_t row = first; row < first + rows; row++) {
                if (s->routed[row]) continue;
                if (grad_g) memset(grad_g + row * C, 0, row_of_C);
                if (grad_r) memset(grad_r + row * sgr, 0, row_of_C);
                if (grad_kept) grad_kept[row * sgk] = 0.0f;
            }
        for (int64_t i = 0; i < count; i++) {
            const int64_t row = first + which[i];
            const float *g = s->g + row * s->sg, *r = s->r + row * s->sr, *hi = h + i * C, *xi = x + which[i] * s->sx;
            const float k = s->kept[row * s->sk];
            float *ei = e + i * C, *d = grad_h + i * C, *gi = gx + which[i] * d_in;
            if (grad_kept) {
                float dense = 0.0f, parts = 0.0f;
#pragma omp simd reduction(+ : dense)
                for (int64_t c = 0; c < d_in; c++) dense += gi[c] * xi[c];
#pragma omp simd reduction(+ : parts)
                for (int64_t c = 0; c < C; c++) parts += d[c] * hi[c];
                grad_kept[row * sgk] = dense - parts;
            }
            if (grad_g)
                for (int64_t c = 0; c < C; c++) grad_g[row * C + c] = d[c] * hi[c] * (1.0f - r[c]);
            if (grad_r)
                for (int64_t c = 0; c < C; c++) grad_r[row * sgr + c] = d[c] * hi[c] * (1.0f - g[c]);
            for (int64_t c = 0; c < C; c++) {
                const float rest = r[c] + g[c] * (1.0f - r[c]) - k;
                ei[c] = hi[c] * rest;
                d[c] *= rest;
            }
            if (grad_x)
                for (int64_t c = 0; c < d_in; c++) gi[c] *= k;
        }
        if (grad_x && count == rows) {
            times_transposed(s, rows, grad_h, C, 0, &s->V, laid[0], d_in, C, 1, gx);
        } else if (grad_x) {
            times_transposed(s, count, grad_h, C, 0, &s->V, laid[0], d_in, C, 0, through);
            add_rows(gx, d_in, which, count, through);
        }
        if (grad_V) product(s, d_in, C, count, x_in, sx, 1, 0, grad_h, C, 0, 0, 1, grad_V, C);
        if (grad_U) product(s, C, d_out, count, e, C, 1, 0, gy_in, sy, 0, 0, 1, grad_U, d_out);
    }
}
