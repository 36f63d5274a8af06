/* The engine's elementwise steps, each in one pass over memory.
 *
 * Every function works on float32 matrices of `rows` by `cols` with unit column stride and a row stride per argument (in
 * elements). The arithmetic is that of the torch version in fused.py, operation by operation and without contraction into
 * fused multiply-adds, so that both give the same bits.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

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

/* The steps of masked_product.py: m = r + g (1 - r), and m = kept = 1 in rows that are not routed (routed may be null). */
#define ROUTED(r) (!routed || routed[(r) * st])

/* out = h * (m - kept_r) */
void masked_excess(const float *restrict h, int64_t sh, const float *restrict g, int64_t sg, const float *restrict source, int64_t ss,
                   const float *restrict kept, int64_t sk, const uint8_t *restrict routed, int64_t st, float *restrict out, int64_t rows,
                   int64_t cols) {
    ROWS(r) {
        const float *hr = h + r * sh, *gr = g + r * sg, *s = source + r * ss;
        float *o = out + r * cols, k = kept[r * sk];
        if (!ROUTED(r)) {
            COLS(c) o[c] = 0.0f;
            continue;
        }
        COLS(c) {
            float m = s[c] + gr[c] * (1.0f - s[c]);
            o[c] = hr[c] * (m - k);
        }
    }
}

/* The gradients of h, g and source from that of `out`, and `out` again, each where its pointer is not null; grad_kept loses a row's sum. */
void masked_excess_backward(const float *restrict grad, int64_t sd, const float *restrict h, int64_t sh, const float *restrict g, int64_t sg,
                            const float *restrict source, int64_t ss, const float *restrict kept, int64_t sk,
                            const uint8_t *restrict routed, int64_t st, float *restrict out, float *restrict grad_h,
                            float *restrict grad_g, float *restrict grad_s, float *restrict grad_kept, int64_t rows, int64_t cols) {
    ROWS(r) {
        const float *d = grad + r * sd, *hr = h + r * sh, *gr = g + r * sg, *s = source + r * ss;
        float k = kept[r * sk];
        float *targets[] = {out, grad_h, grad_g, grad_s};
        if (!ROUTED(r)) {
            for (int i = 0; i < 4; i++)
                if (targets[i]) COLS(c) targets[i][r * cols + c] = 0.0f;
            continue;
        }
        if (out) {
            float *o = out + r * cols;
            COLS(c) o[c] = hr[c] * (s[c] + gr[c] * (1.0f - s[c]) - k);
        }
        if (grad_h) {
            float *o = grad_h + r * cols;
            COLS(c) o[c] = d[c] * (s[c] + gr[c] * (1.0f - s[c]) - k);
        }
        if (grad_g) {
            float *o = grad_g + r * cols;
            COLS(c) o[c] = d[c] * hr[c] * (1.0f - s[c]);
        }
        if (grad_s) {
            float *o = grad_s + r * cols;
            COLS(c) o[c] = d[c] * hr[c] * (1.0f - gr[c]);
        }
        if (grad_kept) {
            float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
            COLS(c) sum += d[c] * hr[c];
            grad_kept[r] -= sum;
        }
    }
}

/* y += kept_r * dense + bias */
void add_kept(float *restrict y, const float *restrict dense, int64_t sd, const float *restrict kept, int64_t sk,
              const uint8_t *restrict routed, int64_t st, const float *restrict bias, int64_t rows, int64_t cols) {
    ROWS(r) {
        const float *d = dense + r * sd;
        float *o = y + r * cols, k = ROUTED(r) ? kept[r * sk] : 1.0f;
        if (bias)
            COLS(c) o[c] += k * d[c] + bias[c];
        else
            COLS(c) o[c] += k * d[c];
    }
}

/* out = kept_r * grad; grad_kept gains a routed row's sum of grad * dense; either may be null */
void add_kept_backward(const float *restrict grad, int64_t sg, const float *restrict dense, int64_t sd, const float *restrict kept, int64_t sk,
                       const uint8_t *restrict routed, int64_t st, float *restrict out, float *restrict grad_kept, int64_t rows,
                       int64_t cols) {
    ROWS(r) {
        const float *gr = grad + r * sg, *d = dense + r * sd;
        float k = ROUTED(r) ? kept[r * sk] : 1.0f;
        if (out) {
            float *o = out + r * cols;
            COLS(c) o[c] = k * gr[c];
        }
        if (grad_kept && ROUTED(r)) {
            float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
            COLS(c) sum += gr[c] * d[c];
            grad_kept[r] += sum;
        }
    }
}

/* The step of norm.py: y = x * inverse_r * weight with inverse_r = 1 / sqrt(mean(x^2) + eps); weight may be null. */
void rms_norm(const float *restrict x, int64_t sx, const float *restrict weight, float eps, float *restrict y, int64_t sy,
              float *restrict inverse, int64_t rows, int64_t cols) {
    ROWS(r) {
        const float *xr = x + r * sx;
        float *o = y + r * sy, squares = 0.0f;
#pragma omp simd reduction(+ : squares)
        COLS(c) squares += xr[c] * xr[c];
        const float i = 1.0f / sqrtf(squares / (float)cols + eps);
        inverse[r] = i;
        if (weight)
            COLS(c) o[c] = xr[c] * i * weight[c];
        else
            COLS(c) o[c] = xr[c] * i;
    }
}

/* out = inverse * (g - x * inverse^2 * mean(g x)), where g = grad * weight */
void rms_norm_backward(const float *restrict grad, int64_t sg, const float *restrict x, int64_t sx, const float *restrict weight,
                       const float *restrict inverse, float *restrict out, int64_t rows, int64_t cols) {
    ROWS(r) {
        const float *gr = grad + r * sg, *xr = x + r * sx, i = inverse[r];
        float *o = out + r * cols, along = 0.0f;
        if (weight) {
#pragma omp simd reduction(+ : along)
            COLS(c) along += gr[c] * weight[c] * xr[c];
        } else {
#pragma omp simd reduction(+ : along)
            COLS(c) along += gr[c] * xr[c];
        }
        const float share = along / (float)cols * i * i;
        if (weight)
            COLS(c) o[c] = i * (gr[c] * weight[c] - xr[c] * share);
        else
            COLS(c) o[c] = i * (gr[c] - xr[c] * share);
    }
}

/* The step of vocabulary.py. exp by Cody and Waite's reduction and a polynomial (Cephes), within 2 units in the last place, for x <= 0. */
static inline float exp_below_0(float x) {
    x = x < -87.0f ? -87.0f : x;
    float n = __builtin_rintf(x * 1.44269504f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    union {
        int32_t i;
        float f;
    } scale = {.i = ((int32_t)n + 127) << 23};
    return p * scale.f;
}

/* Per row: KL(softmax(clean) || softmax(other)). */
void kl_rows(const float *restrict clean, int64_t sc, const float *restrict other, int64_t so, float *restrict kl, int64_t rows, int64_t cols) {
    ROWS(r) {
        const float *a = clean + r * sc, *b = other + r * so;
        float top_a = a[0], top_b = b[0], sum_a = 0.0f, sum_b = 0.0f, cross = 0.0f;
#pragma omp simd reduction(max : top_a, top_b)
        COLS(c) {
            top_a = a[c] > top_a ? a[c] : top_a;
            top_b = b[c] > top_b ? b[c] : top_b;
        }
#pragma omp simd reduction(+ : sum_a, sum_b, cross)
        COLS(c) {
            float x = a[c] - top_a, y = b[c] - top_b, e = exp_below_0(x);
            sum_a += e;
            sum_b += exp_below_0(y);
            cross += e * (x - y);
        }
        kl[r] = cross / sum_a - logf(sum_a) + logf(sum_b);
    }
}

/* The same with out = softmax(other) - softmax(clean), while the row is in the cache; `row` has room for one. */
void kl_rows_gradient(const float *restrict clean, int64_t sc, const float *restrict other, int64_t so, float *restrict kl, float *restrict out,
                      float *restrict row, int64_t rows, int64_t cols) {
    ROWS(r) {
        const float *a = clean + r * sc, *b = other + r * so;
        float *o = out + r * cols, top_a = a[0], top_b = b[0], sum_a = 0.0f, sum_b = 0.0f, cross = 0.0f;
#pragma omp simd reduction(max : top_a, top_b)
        COLS(c) {
            top_a = a[c] > top_a ? a[c] : top_a;
            top_b = b[c] > top_b ? b[c] : top_b;
        }
#pragma omp simd reduction(+ : sum_a, sum_b, cross)
        COLS(c) {
            float x = a[c] - top_a, y = b[c] - top_b, e = exp_below_0(x), f = exp_below_0(y);
            sum_a += e;
            sum_b += f;
            cross += e * (x - y);
            row[c] = e;
            o[c] = f;
        }
        const float share_a = 1.0f / sum_a, share_b = 1.0f / sum_b;
        COLS(c) o[c] = o[c] * share_b - row[c] * share_a;
        kl[r] = cross / sum_a - logf(sum_a) + logf(sum_b);
    }
}

/* Every row of `out` times its weight, in place. */
void scale_rows(float *restrict out, const float *restrict weight, int64_t rows, int64_t cols) {
    ROWS(r) {
        float *o = out + r * cols, w = weight[r];
        COLS(c) o[c] *= w;
    }
}

/* Whether two stretches of memory hold the same bits. */
int same_bits(const void *one, const void *other, int64_t bytes) { return memcmp(one, other, (size_t)bytes) == 0; }

/* One Adam ascent step within [0, 1] on n numbers, in place: see adversary.py. */
void adam_ascent(float *restrict value, float *restrict first, float *restrict second, const float *restrict grad, int64_t n, float beta_1,
                 float beta_2, float correction_1, float correction_2, float rate, float divisor) {
    for (int64_t i = 0; i < n; i++) {
        float g = grad[i] / divisor;
        float a = first[i] + (1.0f - beta_1) * (g - first[i]);
        float b = beta_2 * second[i] + (1.0f - beta_2) * g * g;
        first[i] = a;
        second[i] = b;
        float v = value[i] + rate * (a / correction_1) / (__builtin_sqrtf(b / correction_2) + 1e-8f);
        v = v < 0.0f ? 0.0f : v;
        value[i] = v > 1.0f ? 1.0f : v;
    }
}
