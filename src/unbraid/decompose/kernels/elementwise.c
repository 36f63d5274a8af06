/* The engine's elementwise steps, each in one pass over memory.
 *
 * Every function works on float32 matrices of `rows` by `cols` with unit column stride and a row stride per argument (in
 * elements). The arithmetic is that of the torch version in fused.py, operation by operation and without contraction into
 * fused multiply-adds, so that both give the same bits.
 */
#include <stdint.h>

#define ROWS(r) for (int64_t r = 0; r < rows; r++)
#define COLS(c) for (int64_t c = 0; c < cols; c++)

/* lower = clamp(z, 0, 1); upper = lower + slope * max(z - 1, 0) */
void leaky_hard(const float *restrict z, int64_t sz, float *restrict lower, float *restrict upper, int64_t rows, int64_t cols, float slope) {
    ROWS(r) {
        const float *zr = z + r * sz;
        float *lr = lower + r * cols, *ur = upper + r * cols;
        COLS(c) {
            float x = zr[c], l = x < 0.0f ? 0.0f : x;
            l = l > 1.0f ? 1.0f : l;
            float over = x - 1.0f;
            over = over < 0.0f ? 0.0f : over;
            lr[c] = l;
            ur[c] = l + over * slope;
        }
    }
}

void leaky_hard_backward(const float *restrict z, int64_t sz, const float *restrict gl, int64_t sl, const float *restrict gu, int64_t su,
                         float *restrict out, int64_t rows, int64_t cols, float slope) {
    ROWS(r) {
        const float *zr = z + r * sz, *lr = gl + r * sl, *ur = gu + r * su;
        float *o = out + r * cols;
        COLS(c) {
            float x = zr[c], a = lr[c], b = ur[c];
            float rising = a < 0.0f ? a : 0.0f;
            float inside = a + b, below = rising * slope, above = b * slope;
            o[c] = x <= 0.0f ? below : (x > 1.0f ? above : inside);
        }
    }
}

/* psi = g^2 / (g^2 + gamma^2) */
void smooth_count(const float *restrict g, int64_t sg, float *restrict psi, int64_t rows, int64_t cols, float gamma2) {
    ROWS(r) {
        const float *gr = g + r * sg;
        float *p = psi + r * cols;
        COLS(c) {
            float squares = gr[c] * gr[c];
            p[c] = squares / (squares + gamma2);
        }
    }
}

/* out = share_r * slope_c * g / (g^2 + gamma^2)^2 */
void smooth_count_backward(const float *restrict g, int64_t sg, const float *restrict share, const float *restrict slope, float *restrict out,
                           int64_t rows, int64_t cols, float gamma2) {
    ROWS(r) {
        const float *gr = g + r * sg;
        float *o = out + r * cols, w = share[r];
        COLS(c) {
            float d = gr[c] * gr[c] + gamma2;
            o[c] = w * slope[c] * gr[c] / (d * d);
        }
    }
}

/* Random 16-bit words to [0, 1]; a contiguous row of n. */
void unit_interval(const int16_t *restrict words, float *restrict out, int64_t n) {
    for (int64_t i = 0; i < n; i++) out[i] = ((float)words[i] + 32768.0f) * (1.0f / 65535.0f);
}

/* m = source + g * (1 - source), where the source may be one row for all (row stride 0) */
void interpolate(const float *restrict g, int64_t sg, const float *restrict source, int64_t ss, float *restrict out, int64_t rows, int64_t cols) {
    ROWS(r) {
        const float *gr = g + r * sg, *s = source + r * ss;
        float *o = out + r * cols;
        COLS(c) {
            float rest = 1.0f - s[c];
            o[c] = s[c] + gr[c] * rest;
        }
    }
}

void interpolate_backward(const float *restrict grad, int64_t sd, const float *restrict source, int64_t ss, float *restrict out, int64_t rows,
                          int64_t cols) {
    ROWS(r) {
        const float *d = grad + r * sd, *s = source + r * ss;
        float *o = out + r * cols;
        COLS(c) {
            float rest = 1.0f - s[c];
            o[c] = d[c] * rest;
        }
    }
}

/* out = h * (m - kept_r) */
void excess(const float *restrict h, int64_t sh, const float *restrict m, int64_t sm, const float *restrict kept, int64_t sk,
            float *restrict out, int64_t rows, int64_t cols) {
    ROWS(r) {
        const float *hr = h + r * sh, *mr = m + r * sm;
        float *o = out + r * cols, k = kept[r * sk];
        COLS(c) {
            float e = mr[c] - k;
            o[c] = hr[c] * e;
        }
    }
}

void excess_backward(const float *restrict grad, int64_t sd, const float *restrict h, int64_t sh, const float *restrict m, int64_t sm,
                     const float *restrict kept, int64_t sk, float *restrict grad_h, float *restrict grad_m, int64_t rows, int64_t cols) {
    ROWS(r) {
        const float *d = grad + r * sd, *hr = h + r * sh, *mr = m + r * sm;
        float *gh = grad_h + r * cols, *gm = grad_m + r * cols, k = kept[r * sk];
        COLS(c) {
            float e = mr[c] - k;
            gh[c] = d[c] * e;
            gm[c] = d[c] * hr[c];
        }
    }
}
