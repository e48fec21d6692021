// The floor of a launch sequence: as many launches as the kernel has, of as many blocks, that do nothing.
#include "problem.cuh"

using namespace affinity;

__global__ void nothing(const __grid_constant__ Problem) {}

extern "C" int affinity_problem_bytes() { return sizeof(Problem); }

extern "C" int affinity_run(const Problem* p, cudaStream_t stream) {
  for (const Launch& launch : p->launches) {
    nothing<<<dim3(launch.blocks, p->pictures), launch.threads, launch.shared_bytes, stream>>>(*p);
  }
  return cudaGetLastError();
}

extern "C" const char* affinity_error(int error) {
  return cudaGetErrorString(static_cast<cudaError_t>(error));
}
