// A thread block, on the GPU or on the host.
//
// A block function is written as phases: `each_thread(t, n) { ... }` is what thread t of the first n does,
// then `sync_block()`. On the GPU that is the usual code. On the host each phase is a loop over all its
// threads, so the same source runs and is tested where there is no GPU. What a thread keeps from one phase to
// the next lives in PerThread (PerWarp for the matrix unit's registers), what the block shares in an
// argument.
#pragma once

#ifdef __CUDACC__
#include <cuda_fp16.h>
#include <mma.h>
#define DEVICE __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#define PRAGMA(text) _Pragma(#text)
#define UNROLL_BY(n) PRAGMA(unroll n)
#else
#include <cmath>
#include <cstring>
#include <limits>
#define DEVICE inline
#define UNROLL
#define UNROLL_BY(n)
#endif

namespace affinity {

constexpr int kWarp = 32;   // threads that a GPU runs in step
constexpr int kTile = 16;   // side of the matrix unit's products (m16n16k16, all units since sm_70)
constexpr int kVector = 8;  // FP16 values of one 16-byte load, the widest there is
constexpr int kMaxThreads = 256;

#ifdef __CUDACC__

namespace wmma = nvcuda::wmma;
using Half = __half;
using Left = wmma::fragment<wmma::matrix_a, kTile, kTile, kTile, Half, wmma::row_major>;
using Right = wmma::fragment<wmma::matrix_b, kTile, kTile, kTile, Half, wmma::row_major>;
using Sums = wmma::fragment<wmma::accumulator, kTile, kTile, kTile, float>;

#define each_thread(t, n) if (const int t = threadIdx.x; t < (n))
#define each_warp(w, n) if (const int w = threadIdx.x / kWarp; w < (n))

template <class T>
struct PerThread {
  T own;
  DEVICE T& operator[](int) { return own; }
};
template <class T>
using PerWarp = PerThread<T>;

DEVICE void sync_block() { __syncthreads(); }
DEVICE void sync_warp() { __syncwarp(); }
DEVICE void publish() { __threadfence(); }
DEVICE unsigned add(unsigned* counter, unsigned n) { return atomicAdd(counter, n); }
DEVICE float to_float(Half x) { return __half2float(x); }
DEVICE Half to_half(float x) { return __float2half_rn(x); }
DEVICE unsigned bits_of(float x) { return __float_as_uint(x); }
DEVICE float float_of(unsigned bits) { return __uint_as_float(bits); }
DEVICE float infinity() { return __int_as_float(0x7f800000); }

DEVICE void clear(Sums& sums) { wmma::fill_fragment(sums, 0.0f); }
DEVICE void load(Left& to, const Half* from, int stride) { wmma::load_matrix_sync(to, from, stride); }
DEVICE void load(Right& to, const Half* from, int stride) { wmma::load_matrix_sync(to, from, stride); }
DEVICE void multiply_add(Sums& sums, const Left& a, const Right& b) { wmma::mma_sync(sums, a, b, sums); }
DEVICE void store(float* to, const Sums& sums, int stride) {
  wmma::store_matrix_sync(to, sums, stride, wmma::mem_row_major);
}

#else

using Half = _Float16;
template <class T>
struct Matrix {
  T at[kTile][kTile];
};
using Sums = Matrix<float>;
struct Left : Matrix<Half> {};
struct Right : Matrix<Half> {};

// Within a phase no thread may rely on another: with LAST_FIRST they run in the opposite order, to the same
// result.
#ifdef LAST_FIRST
#define in_some_order(i, n) for (int i = (n) - 1; i >= 0; --i)
#else
#define in_some_order(i, n) for (int i = 0; i < (n); ++i)
#endif
#define each_thread(t, n) in_some_order(t, n)
#define each_warp(w, n) in_some_order(w, n)

template <class T, int N = kMaxThreads>
struct PerThread {
  T all[N];
  T& operator[](int t) { return all[t]; }
};
template <class T>
using PerWarp = PerThread<T, kMaxThreads / kWarp>;

// Phases run one after the other, so there is nothing to wait for.
inline void sync_block() {}
inline void sync_warp() {}
inline void publish() {}
inline unsigned add(unsigned* counter, unsigned n) { return (*counter += n) - n; }
inline float to_float(Half x) { return static_cast<float>(x); }
inline Half to_half(float x) { return static_cast<Half>(x); }
inline float infinity() { return std::numeric_limits<float>::infinity(); }
inline unsigned bits_of(float x) {
  unsigned bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
inline float float_of(unsigned bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

inline void clear(Sums& sums) { sums = {}; }
inline void load(Matrix<Half>& to, const Half* from, int stride) {
  for (int i = 0; i < kTile; ++i) std::memcpy(to.at[i], from + i * stride, sizeof to.at[i]);
}
inline void multiply_add(Sums& sums, const Left& a, const Right& b) {
  for (int i = 0; i < kTile; ++i)
    for (int k = 0; k < kTile; ++k)
      for (int j = 0; j < kTile; ++j) sums.at[i][j] += to_float(a.at[i][k]) * to_float(b.at[k][j]);
}
inline void store(float* to, const Sums& sums, int stride) {
  for (int i = 0; i < kTile; ++i) std::memcpy(to + i * stride, sums.at[i], sizeof sums.at[i]);
}

#endif

// `count` neighbouring values, moved in one piece where the compiler can.
template <int count>
struct alignas(2 * count) Vector {
  Half at[count];
};

// The larger one; unlike fmaxf it keeps NaN, since a broken value must never look like a good one.
DEVICE float larger(float a, float b) { return a >= b || a != a ? a : b; }
DEVICE int clamped(int i, int size) { return i < 0 ? 0 : i < size ? i : size - 1; }

}  // namespace affinity
