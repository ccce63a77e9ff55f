/* What the kernels share: vectors as wide as the machine's, and a loop over the threads of XLA. */
#ifndef SELFEVO_PARALLEL_H
#define SELFEVO_PARALLEL_H

#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "xla/ffi/api/c_api.h"

#if defined(__AVX512F__)
#define WIDTH 16
#elif defined(__AVX__)
#define WIDTH 8
#else
#define WIDTH 4
#endif

#define LINE 16 /* floats of a cache line */

typedef float vec __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));

/* Before a loop whose rounds are known once it is inlined: all of them, or sums stay in memory. */
#ifdef __clang__
#define UNROLL(n) _Pragma("clang loop unroll(full)")
#else
#define PRAGMA(text) _Pragma(#text)
#define UNROLL(n) PRAGMA(GCC unroll n)
#endif

#define INLINE static inline __attribute__((always_inline))

/* Does units [from, to) of a job. */
typedef void (*Body)(const void* job, int64_t from, int64_t to);

#define JOB_BYTES 512

typedef struct {
  _Alignas(16) char job[JOB_BYTES];
  Body body;
  int64_t units, chunk;
  atomic_llong next, left;
  atomic_int holders;
} Loop;

INLINE void relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

static void loop_run(Loop* loop) {
  for (;;) {
    int64_t from = atomic_fetch_add(&loop->next, loop->chunk);
    if (from >= loop->units) return;
    int64_t to = from + loop->chunk < loop->units ? from + loop->chunk : loop->units;
    loop->body(loop->job, from, to);
    atomic_fetch_sub(&loop->left, to - from);
  }
}

static void loop_release(Loop* loop) {
  if (atomic_fetch_sub(&loop->holders, 1) == 1) free(loop);
}

static void loop_task(void* data) {
  loop_run((Loop*)data);
  loop_release((Loop*)data);
}

/* Whether a call of the API failed; why is not told to anyone. */
INLINE int failed(const XLA_FFI_CallFrame* frame, XLA_FFI_Error* error) {
  if (error == NULL) return 0;
  XLA_FFI_Error_Destroy_Args gone = {sizeof gone, NULL, error};
  frame->api->XLA_FFI_Error_Destroy(&gone);
  return 1;
}

/* Runs a job of so many units on as many of XLA's threads as are worth it. The caller takes part and waits for none but
   those that have begun, so that a pool whose threads are all busy delays nothing. */
static void in_parallel(XLA_FFI_CallFrame* frame, Body body, const void* job, size_t bytes, int64_t units,
                        int64_t worth) {
  int64_t threads = 1;
  if (worth > 1 && units > 1) {
    XLA_FFI_ThreadPool_NumThreads_Args asked = {sizeof asked, NULL, frame->ctx, &threads};
    if (failed(frame, frame->api->XLA_FFI_ThreadPool_NumThreads(&asked))) threads = 1;
    if (threads > worth) threads = worth;
    if (threads > units) threads = units;
  }
  Loop* loop = threads > 1 ? malloc(sizeof(Loop)) : NULL;
  if (loop == NULL) {
    body(job, 0, units);
    return;
  }
  __builtin_memcpy(loop->job, job, bytes);
  loop->body = body;
  loop->units = units;
  loop->chunk = units / (4 * threads) > 1 ? units / (4 * threads) : 1;
  atomic_init(&loop->next, 0);
  atomic_init(&loop->left, units);
  atomic_init(&loop->holders, 1);
  for (int64_t t = 1; t < threads; t++) {
    atomic_fetch_add(&loop->holders, 1);
    XLA_FFI_ThreadPool_Schedule_Args asked = {sizeof asked, NULL, frame->ctx, loop_task, loop};
    if (failed(frame, frame->api->XLA_FFI_ThreadPool_Schedule(&asked))) {
      atomic_fetch_sub(&loop->holders, 1);
      break;
    }
  }
  loop_run(loop);
  for (int spins = 0; atomic_load(&loop->left) > 0; spins++) {
    if (spins < 4096) {
      relax();
    } else {
      sched_yield();
    }
  }
  loop_release(loop);
}

/* Whether this call asks what the handler was built for, which is answered, or is no execution. */
INLINE int only_asks(XLA_FFI_CallFrame* frame) {
  for (XLA_FFI_Extension_Base* at = frame->extension_start; at != NULL; at = at->next) {
    if (at->type == XLA_FFI_Extension_Metadata) {
      XLA_FFI_Metadata* about = ((XLA_FFI_Metadata_Extension*)at)->metadata;
      about->api_version.major_version = XLA_FFI_API_MAJOR;
      about->api_version.minor_version = XLA_FFI_API_MINOR;
      about->traits = 0;
      return 1;
    }
  }
  return frame->stage != XLA_FFI_ExecutionStage_EXECUTE;
}

#endif
