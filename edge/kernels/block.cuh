// A thread block, on the GPU or on the host.
//
// A block function is written as phases: `each_thread(t, n) { ... }` is what thread t of the first n does,
// then `sync_block()`. On the GPU that is the usual code. On the host each phase is a loop over all its
// threads, so the same source runs and is tested where there is no GPU. What a thread keeps from one phase to
// the next lives in PerThread (PerWarp for the matrix unit's registers), what the block shares in an
// argument.
#pragma once

namespace affinity {

constexpr int kWarp = 32;   // threads that a GPU runs in step
constexpr int kTile = 16;   // side of the matrix unit's products (m16n16k16, all units since sm_70)
constexpr int kVector = 8;  // FP16 values of one 16-byte load, the widest there is
constexpr int kMaxThreads = 256;

}  // namespace affinity

#ifdef __CUDACC__
#include "block_gpu.cuh"
#else
#include "block_host.cuh"
#endif

namespace affinity {

// `count` neighbouring values, moved in one piece where the compiler can.
template <int count>
struct alignas(2 * count) Vector {
  Half at[count];
};

// The larger one; unlike fmaxf it keeps NaN, since a broken value must never look like a good one.
DEVICE float larger(float a, float b) { return a >= b || a != a ? a : b; }
DEVICE int clamped(int i, int size) { return i < 0 ? 0 : i < size ? i : size - 1; }

}  // namespace affinity
