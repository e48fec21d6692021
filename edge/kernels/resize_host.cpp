// The same block function on the CPU, as affinity_host.cpp does it: for tests, where there is no GPU.
#include <vector>

#include "resize.cuh"

using namespace resize;

extern "C" int resize_problem_bytes() { return sizeof(Resize); }

extern "C" int resize_run(const Resize* p, void*) {
  std::vector<Grey> shared(p->shared_bytes);
  Window windows[kSteps];
  const int tile_rows = (p->height + p->tile_height - 1) / p->tile_height;
  const int tile_columns = (p->width + p->tile_width - 1) / p->tile_width;
  with_threads(kThreads, [&] {
    in_some_order(row, tile_rows) in_some_order(column, tile_columns) {
      resize_block(*p, row, column, windows, shared.data());
      sync_block();  // what the block shared is free for the next one
    }
  });
  return 0;
}

extern "C" const char* resize_error(int) { return ""; }
