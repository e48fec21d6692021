// A block's threads, barriers and matrix unit on the GPU: what block.cuh asks for, nothing more.
#pragma once

#include <cuda_fp16.h>
#include <mma.h>

#define DEVICE __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#define PRAGMA(text) _Pragma(#text)
#define UNROLL_BY(n) PRAGMA(unroll n)

namespace affinity {

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

}  // namespace affinity
