// The three launches on the GPU. How each works stands in its header; the way of the data in docs/kernels.md.
#include "context.cuh"
#include "places.cuh"
#include "top_share.cuh"

using namespace affinity;

// Blocks that must fit on a multiprocessor side by side: enough loads in flight to hide the memory's latency,
// and with these numbers nothing is spilled on any GPU that tests/test_kernels_compile.py names.
constexpr int kContextBlocks = 4, kPlaceBlocks = 3, kFuseBlocks = 4;

// Plain names, so that whoever loads a cubin finds them. `__grid_constant__`: the problem stays in constant
// memory.
#define KERNEL(threads, blocks) extern "C" __global__ void __launch_bounds__(threads, blocks)

KERNEL(kContextThreads, kContextBlocks) affinity_context(const __grid_constant__ Problem p) {
  extern __shared__ float shared[];
  context_block(p, blockIdx.x, blockIdx.y, shared);
}

KERNEL(kPlaceThreads, kPlaceBlocks) affinity_places(const __grid_constant__ Problem p) {
  __shared__ PlacesShared shared;
  places_block(p, blockIdx.x, blockIdx.y, shared);
}

KERNEL(kFuseThreads, kFuseBlocks) affinity_map(const __grid_constant__ Problem p) {
  extern __shared__ float rows[];
  __shared__ Selection selection;
  map_block(p, blockIdx.x, blockIdx.y, rows, selection);
}

// From here on: the way in from a shared library. A cubin has only the kernels.

extern "C" int affinity_problem_bytes() { return sizeof(Problem); }

// Starts the three launches one after the other on `stream`, without waiting. Returns a cudaError_t.
extern "C" int affinity_run(const Problem* p, cudaStream_t stream) {
  using Kernel = void (*)(const Problem);
  constexpr Kernel kKernels[kStages] = {affinity_context, affinity_places, affinity_map};
  for (int i = 0; i < kStages; ++i) {
    const Launch& launch = p->launches[i];
    const dim3 grid(launch.blocks, p->pictures);
    kKernels[i]<<<grid, launch.threads, launch.shared_bytes, stream>>>(*p);
    const cudaError_t error = cudaGetLastError();
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

extern "C" const char* affinity_error(int error) {
  return cudaGetErrorString(static_cast<cudaError_t>(error));
}
