/* Products y = x W of a few rows with one matrix or several, each laid out once as it is read: in panels of PANEL
   columns, [panels, k, PANEL].

   A tile keeps its sums in registers from the first k to the last: a result depends on its row and its column alone, not
   on how many rows are computed or by how many threads. */
#include "parallel.h"

#define PANEL 32
#define MOST 4 /* matrices of one call */
/* Sums of a tile: ROWS * VECTORS of the machine's registers, 32 (AVX-512, NEON) or 16. */
#if defined(__aarch64__)
#define VECTORS 4
#else
#define VECTORS 2
#endif
#define ROWS (WIDTH == 16 ? 12 : 6)
#define COLUMNS (VECTORS * WIDTH)
/* Multiplications that take a thread about as long as waking it. */
#define THREAD_WORTH (1 << 20)

typedef struct {
  const float *x, *w[MOST];
  float* y[MOST];
  int64_t n[MOST], panels[MOST];
  int64_t m, k;
} Product;

_Static_assert(sizeof(Product) <= JOB_BYTES, "a job is copied into the loop");

/* `columns` of them are stored. Meanwhile `step` floats for each k are fetched from `ahead` on. */
INLINE void tile(int rows, const float* x, const float* w, float* y, int64_t k, int64_t n, int64_t columns,
                 const float* ahead, int64_t step) {
  vec sums[ROWS][VECTORS];
  UNROLL(16)
  for (int r = 0; r < rows; r++) {
    UNROLL(4)
    for (int v = 0; v < VECTORS; v++) sums[r][v] = (vec){0};
  }
  for (int64_t i = 0; i < k; i++) {
    const float* row = w + i * PANEL;
    vec weights[VECTORS];
    UNROLL(4)
    for (int v = 0; v < VECTORS; v++) weights[v] = *(const vec*)(row + v * WIDTH);
    __builtin_prefetch(ahead + i * step, 0, 3);
    if (step > LINE) __builtin_prefetch(ahead + i * step + LINE, 0, 3);
    UNROLL(16)
    for (int r = 0; r < rows; r++) {
      float a = x[r * k + i];
      UNROLL(4)
      for (int v = 0; v < VECTORS; v++) sums[r][v] += a * weights[v];
    }
  }
  UNROLL(16)
  for (int r = 0; r < rows; r++) {
    if (columns >= COLUMNS) {
      UNROLL(4)
      for (int v = 0; v < VECTORS; v++) *(vec*)(y + r * n + v * WIDTH) = sums[r][v];
    } else {
      for (int64_t c = 0; c < columns; c++) y[r * n + c] = sums[r][c / WIDTH][c % WIDTH];
    }
  }
}

static void tile_of(int rows, const float* x, const float* w, float* y, int64_t k, int64_t n, int64_t columns,
                    const float* ahead, int64_t step) {
  switch (rows) {
#define OF(R) \
  case R: \
    tile(R, x, w, y, k, n, columns, ahead, step); \
    break;
    OF(1) OF(2) OF(3) OF(4) OF(5) OF(6)
#if WIDTH == 16
    OF(7) OF(8) OF(9) OF(10) OF(11) OF(12)
#endif
  }
}

/* Panel `at` of matrix `number`. */
static void panel_of(const Product* p, int64_t number, int64_t at) {
  int64_t tiles = (p->m + ROWS - 1) / ROWS, each = (p->m + tiles - 1) / tiles;
  /* the next panel is fetched evenly over the tiles of this one: all at once would hold up the sums */
  int64_t passes = tiles * (PANEL / COLUMNS), step = (PANEL + passes - 1) / passes;
  const float *w = p->w[number] + at * p->k * PANEL, *ahead = w + p->k * PANEL; /* past the end it does no harm */
  int64_t n = p->n[number];
  for (int64_t c = 0; c < PANEL && at * PANEL + c < n; c += COLUMNS) {
    for (int64_t r = 0; r < p->m; r += each) {
      int rows = (int)(p->m - r < each ? p->m - r : each);
      float* y = p->y[number] + r * n + at * PANEL + c;
      tile_of(rows, p->x + r * p->k, w + c, y, p->k, n, n - at * PANEL - c, ahead, step);
      ahead += p->k * step;
      if (ahead >= w + 2 * p->k * PANEL) ahead = w; /* of many rows: it is all there */
    }
  }
}

static void panels(const void* job, int64_t from, int64_t to) {
  const Product* p = job;
  int64_t number = 0, first = 0;
  for (int64_t at = from; at < to; at++) {
    while (at - first >= p->panels[number]) first += p->panels[number++];
    panel_of(p, number, at - first);
  }
}

/* x f32[m, k] and of each matrix w f32[panels, k, PANEL] -> of each y f32[m, n] */
XLA_FFI_Error* selfevo_product(XLA_FFI_CallFrame* frame) {
  if (only_asks(frame)) return NULL;
  XLA_FFI_Buffer **args = (XLA_FFI_Buffer**)frame->args.args, **rets = (XLA_FFI_Buffer**)frame->rets.rets;
  Product p = {.x = args[0]->data, .m = args[0]->dims[0], .k = args[0]->dims[1]};
  if (p.m == 0) return NULL;
  int64_t units = 0;
  for (int64_t i = 0; i < frame->rets.size; i++) {
    p.w[i] = args[1 + i]->data;
    p.y[i] = rets[i]->data;
    p.n[i] = rets[i]->dims[1];
    p.panels[i] = args[1 + i]->dims[0];
    units += p.panels[i];
  }
  in_parallel(frame, panels, &p, sizeof p, units, 1 + p.m * p.k * units * PANEL / THREAD_WORTH);
  return NULL;
}
