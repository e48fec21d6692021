// The launch on the GPU: a block for each tile. How it works stands in resize.cuh.
#include "resize.cuh"

constexpr int kBlocks = 4;  // side by side on a multiprocessor, as long as their shared memory allows it

extern "C" __global__ void __launch_bounds__(resize::kThreads, kBlocks)
    resize_picture(const __grid_constant__ resize::Resize p) {
  extern __shared__ resize::Grey shared[];
  __shared__ resize::Window windows[resize::kSteps];
  resize::resize_block(p, blockIdx.y, blockIdx.x, windows, shared);
}

// From here on: the way in from a shared library. A cubin has only the kernel.

extern "C" int resize_problem_bytes() { return sizeof(resize::Resize); }

// Starts it on `stream`, without waiting. Returns a cudaError_t.
extern "C" int resize_run(const resize::Resize* p, cudaStream_t stream) {
  const dim3 grid((p->width + p->tile_width - 1) / p->tile_width,
                  (p->height + p->tile_height - 1) / p->tile_height);
  resize_picture<<<grid, resize::kThreads, p->shared_bytes, stream>>>(*p);
  return cudaGetLastError();
}

extern "C" const char* resize_error(int error) {
  return cudaGetErrorString(static_cast<cudaError_t>(error));
}
