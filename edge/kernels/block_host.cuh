// A block's arithmetic and its matrix unit on the CPU: what block.cuh asks for, for tests.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>

#define DEVICE inline
#define UNROLL
#define UNROLL_BY(n)

namespace affinity {

using Half = _Float16;
template <class T>
struct Matrix {
  T at[kTile][kTile];
};
using Sums = Matrix<float>;
struct Left : Matrix<Half> {};
struct Right : Matrix<Half> {};

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
// Value by value: ThreadSanitizer does not see a memcpy of a known size.
inline void load(Matrix<Half>& to, const Half* from, int stride) {
  for (int i = 0; i < kTile; ++i)
    for (int j = 0; j < kTile; ++j) to.at[i][j] = from[i * stride + j];
}
inline void store(float* to, const Sums& sums, int stride) {
  for (int i = 0; i < kTile; ++i)
    for (int j = 0; j < kTile; ++j) to[i * stride + j] = sums.at[i][j];
}
inline void multiply_add(Sums& sums, const Left& a, const Right& b) {
  for (int i = 0; i < kTile; ++i)
    for (int k = 0; k < kTile; ++k)
      for (int j = 0; j < kTile; ++j) sums.at[i][j] += to_float(a.at[i][k]) * to_float(b.at[k][j]);
}
}  // namespace affinity

#ifdef REAL_THREADS
#include "block_threads.cuh"
#else
#include "block_loops.cuh"
#endif
