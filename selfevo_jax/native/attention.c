/* Attention of one query in each row to the positions that its row holds, and to no others (softmax by blocks, arXiv
   2205.14135). */
#include <math.h>

#include "parallel.h"

#define BLOCK 64
#define MOST_PARTS 8
/* Queries of a head of keys, and numbers of a head. */
#define MOST_GROUP 64
#define MOST_DIM 512
/* Numbers of the cache that take a thread about as long as waking it. */
#define THREAD_WORTH (1 << 17)

typedef struct {
  const float* q;
  const int32_t* positions;
  float* out;
  const float *k[MOST_PARTS], *v[MOST_PARTS];
  int64_t lengths[MOST_PARTS];
  int64_t parts, held, heads, group, dim, window;
  float scale, softcap;
} Attention;

_Static_assert(sizeof(Attention) <= JOB_BYTES, "a job is copied into the loop");

/* e^x of x <= 0, to two units in the last place; 0 below -87. */
INLINE vec exponential(vec x) {
  const float magic = 12582912.0f; /* 1.5 * 2^23: a sum with it has the nearest whole number in its last bits */
  ivec tiny = x < -87.0f;
  vec shifted = x * 1.44269504f + magic;
  vec whole = shifted - magic;
  vec r = x - whole * 0.693359375f + whole * 2.12194440e-4f; /* ln 2 in two parts */
  vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  ivec power = ((ivec)shifted + 127) << 23;
  return (vec)((ivec)(p * (vec)power) & ~tiny);
}

#ifdef __has_builtin
#if __has_builtin(__builtin_shufflevector)
#define PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#endif
#endif
#ifndef PICK /* GCC before 12 */
#define PICK(a, b, ...) __builtin_shuffle(a, b, (ivec){__VA_ARGS__})
#endif
#if WIDTH == 16
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#elif WIDTH == 8
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define ODD 1, 3, 5, 7, 9, 11, 13, 15
#else
#define EVEN 0, 2, 4, 6
#define ODD 1, 3, 5, 7
#endif

/* The sums of WIDTH vectors, in their order: neighbours are added until one number of each is left. */
INLINE vec sums_of(vec each[WIDTH]) {
  UNROLL(4)
  for (int left = WIDTH / 2; left >= 1; left /= 2) {
    UNROLL(8)
    for (int i = 0; i < left; i++) {
      vec a = each[2 * i], b = each[2 * i + 1];
      each[i] = PICK(a, b, EVEN) + PICK(a, b, ODD);
    }
  }
  return each[0];
}

INLINE float sum_of(vec x) {
  float each[WIDTH], total = 0;
  *(vec*)each = x;
  UNROLL(16)
  for (int i = 0; i < WIDTH; i++) total += each[i];
  return total;
}

INLINE float most_of(vec x) {
  float each[WIDTH];
  *(vec*)each = x;
  UNROLL(16)
  for (int i = 1; i < WIDTH; i++) each[0] = each[i] > each[0] ? each[i] : each[0];
  return each[0];
}

/* Products of q with the `count` keys of a block, times `scale`, behind them -INFINITY; gives the largest. What comes
   next, the block's values, is fetched meanwhile. */
INLINE float score(float* scores, const float* q, const float* k, const float* next, int64_t count, const Attention* a) {
  vec top = (vec){0} - INFINITY;
  int64_t dim = a->dim;
  for (int64_t s = 0; s < count; s += WIDTH) {
    vec each[WIDTH];
    UNROLL(16)
    for (int i = 0; i < WIDTH; i++) {
      const float* row = k + (s + i < count ? s + i : count - 1) * dim;
      vec sums = *(const vec*)q * *(const vec*)row;
      for (int64_t at = WIDTH; at < dim; at += WIDTH) sums += *(const vec*)(q + at) * *(const vec*)(row + at);
      each[i] = sums;
    }
    for (int64_t at = 0; next != NULL && at < WIDTH * dim; at += LINE) __builtin_prefetch(next + s * dim + at, 0, 3);
    vec found = sums_of(each) * a->scale;
    if (a->softcap > 0) {
      for (int i = 0; i < WIDTH; i++) found[i] = a->softcap * tanhf(found[i] / a->softcap);
    }
    for (int64_t i = count - s; i < WIDTH; i++) found[i] = -INFINITY;
    *(vec*)(scores + s) = found;
    ivec more = found > top;
    top = (vec)(((ivec)found & more) | ((ivec)top & ~more));
  }
  return most_of(top);
}

/* out += weights[s] * v[s] over the positions of a block, out times `kept` before. */
INLINE void add_values(float* out, float kept, const float* weights, const float* v, int64_t count, int64_t dim) {
  int64_t at = 0;
  for (; at + 4 * WIDTH <= dim; at += 4 * WIDTH) {
    vec sums[4];
    UNROLL(4)
    for (int i = 0; i < 4; i++) sums[i] = *(vec*)(out + at + i * WIDTH) * kept;
    for (int64_t s = 0; s < count; s++) {
      UNROLL(4)
      for (int i = 0; i < 4; i++) sums[i] += weights[s] * *(const vec*)(v + s * dim + at + i * WIDTH);
    }
    UNROLL(4)
    for (int i = 0; i < 4; i++) *(vec*)(out + at + i * WIDTH) = sums[i];
  }
  for (; at < dim; at += WIDTH) {
    vec sum = *(vec*)(out + at) * kept;
    for (int64_t s = 0; s < count; s++) sum += weights[s] * *(const vec*)(v + s * dim + at);
    *(vec*)(out + at) = sum;
  }
}

/* Positions up to the one of a row; past the cache is a slot at rest, which sees none. */
INLINE int64_t reached_of(const Attention* a, int64_t row) {
  int64_t at = a->positions[row];
  return at < 0 || at >= a->held ? 0 : at + 1;
}

/* One row and one head of its keys. */
static void head_of(const Attention* a, int64_t row, int64_t head) {
  int64_t group = a->group, dim = a->dim, reached = reached_of(a, row);
  int64_t first = a->window > 0 && reached > a->window ? reached - a->window : 0;
  const float* q = a->q + (row * a->heads + head) * group * dim;
  float* out = a->out + (row * a->heads + head) * group * dim;
  float most[MOST_GROUP], total[MOST_GROUP], scores[BLOCK] __attribute__((aligned(64)));
  for (int64_t g = 0; g < group; g++) most[g] = -INFINITY, total[g] = 0;
  for (int64_t i = 0; i < group * dim; i++) out[i] = 0;
  int64_t start = 0;
  for (int64_t part = 0; part < a->parts; start += a->lengths[part], part++) {
    int64_t length = a->lengths[part];
    int64_t end = reached - start < length ? reached - start : length;
    const float* k = a->k[part] + (row * a->heads + head) * length * dim;
    const float* v = a->v[part] + (row * a->heads + head) * length * dim;
    for (int64_t from = first > start ? first - start : 0; from < end; from += BLOCK) {
      int64_t count = end - from < BLOCK ? end - from : BLOCK;
      for (int64_t g = 0; g < group; g++) {
        const float *keys = k + from * dim, *values = v + from * dim;
        float top = score(scores, q + g * dim, keys, g == 0 ? values : NULL, count, a);
        top = top > most[g] ? top : most[g];
        vec sums = {0};
        for (int64_t s = 0; s < count; s += WIDTH) {
          vec weights = exponential(*(vec*)(scores + s) - top);
          *(vec*)(scores + s) = weights;
          sums += weights;
        }
        float kept = most[g] == -INFINITY ? 0 : expf(most[g] - top);
        total[g] = total[g] * kept + sum_of(sums);
        most[g] = top;
        add_values(out + g * dim, kept, scores, values, count, dim);
      }
    }
  }
  for (int64_t g = 0; g < group; g++) {
    float share = total[g] > 0 ? 1 / total[g] : total[g]; /* what is no number stays none */
    for (int64_t i = 0; i < dim; i++) out[g * dim + i] *= share;
  }
}

static void heads_of(const void* job, int64_t from, int64_t to) {
  const Attention* a = job;
  for (int64_t at = from; at < to; at++) head_of(a, at / a->heads, at % a->heads);
}

static const void* setting(const XLA_FFI_CallFrame* frame, int64_t at) {
  return ((const XLA_FFI_Scalar*)frame->attrs.attrs[at])->value;
}

/* q f32[B, H, dim], positions i32[B], then of each part k and v f32[B, K, length, dim] -> f32[B, H, dim].
   Attributes in the order of their names: scale f32, softcap f32 (0: none), window i64 (0: none). */
XLA_FFI_Error* selfevo_attention(XLA_FFI_CallFrame* frame) {
  if (only_asks(frame)) return NULL;
  XLA_FFI_Buffer** args = (XLA_FFI_Buffer**)frame->args.args;
  const XLA_FFI_Buffer *q = args[0], *out = frame->rets.rets[0];
  Attention a = {.q = q->data, .positions = args[1]->data, .out = out->data, .parts = (frame->args.size - 2) / 2};
  for (int64_t part = 0; part < a.parts; part++) {
    a.k[part] = args[2 + 2 * part]->data;
    a.v[part] = args[3 + 2 * part]->data;
    a.lengths[part] = args[2 + 2 * part]->dims[2];
    a.held += a.lengths[part];
  }
  a.heads = args[2]->dims[1];
  a.group = q->dims[1] / a.heads;
  a.dim = q->dims[2];
  a.scale = *(const float*)setting(frame, 0);
  a.softcap = *(const float*)setting(frame, 1);
  a.window = *(const int64_t*)setting(frame, 2);
  int64_t seen = 0;
  for (int64_t row = 0; row < q->dims[0]; row++) {
    int64_t reached = reached_of(&a, row);
    seen += a.window > 0 && reached > a.window ? a.window : reached;
  }
  int64_t worth = 1 + seen * a.heads * a.dim / THREAD_WORTH;
  in_parallel(frame, heads_of, &a, sizeof a, q->dims[0] * a.heads, worth);
  return NULL;
}
