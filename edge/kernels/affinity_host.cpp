// The same block functions on the CPU: for tests, where there is no GPU. As plain loops (block_loops.cuh) or,
// with REAL_THREADS, as threads and barriers (block_threads.cuh).
#include <vector>

#include "context.cuh"
#include "places.cuh"
#include "top_share.cuh"

using namespace affinity;

template <class Block>
static void run_stage(const Problem& p, Stage stage, Block block) {
  with_threads(p.launches[stage].threads, [&] {
    in_some_order(picture, p.pictures) in_some_order(i, p.launches[stage].blocks) {
      block(i, picture);
      sync_block();  // what the block shared is free for the next one
    }
  });
}

static std::vector<float> shared_memory(const Launch& launch) {
  return std::vector<float>(launch.shared_bytes / sizeof(float));
}

extern "C" int affinity_problem_bytes() { return sizeof(Problem); }

extern "C" int affinity_run(const Problem* p, void*) {
  std::vector<float> means = shared_memory(p->launches[kContextStage]);
  run_stage(*p, kContextStage, [&](int i, int picture) { context_block(*p, i, picture, means.data()); });
  PlacesShared places;
  run_stage(*p, kPlacesStage, [&](int i, int picture) { places_block(*p, i, picture, places); });
  std::vector<float> rows = shared_memory(p->launches[kMapStage]);
  Selection selection;
  run_stage(*p, kMapStage, [&](int i, int picture) { map_block(*p, i, picture, rows.data(), selection); });
  return 0;
}

extern "C" const char* affinity_error(int) { return ""; }
