/* The product of split.c. */
#include <stdint.h>

/* A factor laid out for the tile unit; `ready` once it is, so that it may serve again. */
typedef struct {
    uint16_t *high, *low;
    int64_t room, ready;
} Laid;

/* Whether this processor has the unit, and the system lets us use it. */
int split_available(void);

/* out [m, n] = a [m, k] b [k, n], or added to it; a transposed factor is given as it lies. `laid` factors may be null: nothing is kept then.
 * Returns 0 where there is no memory for it, and has done nothing. */
int split_product(int64_t m, int64_t n, int64_t k, const float *a, int64_t sa, int ta, Laid *laid_a, const float *b, int64_t sb, int tb,
                  Laid *laid_b, int add, float *out, int64_t so);
