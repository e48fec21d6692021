// Third launch: from normalised errors to the finished map (distillation/mapfusion.py).
//
// One block makes a strip of the map. It fuses the rows that it needs (its own, and those that blur and
// upsampling reach), blurs them along both sides in shared memory and writes its rows of the map at the
// input's size.
#pragma once

#include "problem.cuh"

namespace affinity {

constexpr int kAcross = 32;  // threads side by side: they divide the finest map of 256 and of 384 pixels
constexpr int kDown = 8;     // rows at once
constexpr int kFuseThreads = kAcross * kDown;
constexpr int kStrip = 8;  // rows of the finest map: 12 blocks a picture of 384 x 384, for batch 1
constexpr int kReach = 1;  // rows that bilinear upsampling looks beyond the strip, on both sides

// Every (row, column) of a raster, dealt out to the block's threads.
#define each_place(row, column, rows, columns)                      \
  each_thread(t, kFuseThreads)                                      \
    for (int row = t / kAcross; row < (rows); row += kDown)         \
      for (int column = t % kAcross; column < (columns); column += kAcross)

// Where a bilinear sample lies: between two indices, `share` of the way to the second (torch's
// align_corners=False). `step` is how far two samples lie apart.
struct Between {
  int first, second;
  float share;
};

DEVICE Between between(int i, int size, float step) {
  const float source = larger((i + 0.5f) * step - 0.5f, 0.0f);
  const int first = clamped(static_cast<int>(source), size);
  return {first, clamped(first + 1, size), source - first};
}

DEVICE float ratio(int a, int b) { return static_cast<float>(a) / b; }
DEVICE float mixed(float a, float b, float share) { return (1 - share) * a + share * b; }

// A sheet (height, width) at one place of the finest map.
DEVICE float upsampled(const float* sheet, int width, const Between& y, const Between& x) {
  const float *above = sheet + y.first * width, *below = sheet + y.second * width;
  return mixed(mixed(above[x.first], above[x.second], x.share),
               mixed(below[x.first], below[x.second], x.share), y.share);
}

DEVICE int strips_of(const Problem& p) { return (p.scales[0].height + kStrip - 1) / kStrip; }
DEVICE int strip_rows_of(const Problem& p) { return kStrip + 2 * (kReach + p.radius); }

struct BranchErrors {
  float of[kBranches];
};

// The largest error over scales, branch by branch, each on its own range.
DEVICE BranchErrors branch_errors(const Problem& p, int picture, int row, int column) {
  BranchErrors errors;
  UNROLL for (int b = 0; b < kBranches; ++b) errors.of[b] = -infinity();
  UNROLL_BY(1)  // twelve loads in flight are enough; all scales at once spill on sm_110
  for (int k = 0; k < kScales; ++k) {
    const Scale& s = p.scales[k];
    const Between y = between(row, s.height, ratio(s.height, p.scales[0].height));
    const Between x = between(column, s.width, ratio(s.width, p.scales[0].width));
    UNROLL for (int b = 0; b < kBranches; ++b)
      if (b != kLocal || s.local)
        errors.of[b] = larger(errors.of[b], upsampled(sheet_of(s, picture, b), s.width, y, x));
  }
  UNROLL for (int b = 0; b < kBranches; ++b) errors.of[b] = (errors.of[b] - p.low[b]) / p.span[b];
  return errors;
}

// fused (strip rows, width): the largest branch, rows repeated beyond the map's edges. Keeps the local
// branch's rows.
DEVICE void fuse(const Problem& p, int strip, int picture, float* fused) {
  const int width = p.scales[0].width, height = p.scales[0].height;
  float* local = places_map_of(p, picture, kLocalPart);
  each_place(i, column, strip_rows_of(p), width) {
    const int own = i - kReach - p.radius, row = strip * kStrip + own;
    const BranchErrors errors = branch_errors(p, picture, clamped(row, height), column);
    fused[i * width + column] = larger(larger(errors.of[kLocal], errors.of[kGlobal]), errors.of[kAffinity]);
    if (own >= 0 && own < kStrip && row < height) local[row * width + column] = errors.of[kLocal];
  }
}

// Along the rows: (strip rows, width) -> the same shape, edges repeated.
DEVICE void blur_rows(const Problem& p, const float* from, float* to) {
  const int width = p.scales[0].width;
  each_place(row, column, strip_rows_of(p), width) {
    float sum = 0;
    for (int j = -p.radius; j <= p.radius; ++j)
      sum += p.blur[j + p.radius] * from[row * width + clamped(column + j, width)];
    to[row * width + column] = sum;
  }
}

// Down the columns: (strip rows, width) -> (kStrip + 2 * kReach, width). Keeps the strip's own rows for the
// score.
DEVICE void blur_columns(const Problem& p, int strip, int picture, const float* from, float* to) {
  const int width = p.scales[0].width, height = p.scales[0].height;
  float* places = places_map_of(p, picture, kMapPart);
  each_place(i, column, kStrip + 2 * kReach, width) {
    float sum = 0;
    for (int j = 0; j <= 2 * p.radius; ++j) sum += p.blur[j] * from[(i + j) * width + column];
    to[i * width + column] = sum;
    const int own = i - kReach, row = strip * kStrip + own;
    if (own >= 0 && own < kStrip && row < height) places[row * width + column] = sum;
  }
}

// blurred: the finest map's rows from strip * kStrip - kReach on.
DEVICE void write_map(const Problem& p, int strip, int picture, const float* blurred) {
  const int width = p.scales[0].width, height = p.scales[0].height;
  const int zoom = p.input_height / height, first_row = strip * kStrip * zoom;
  const float step_y = ratio(height, p.input_height), step_x = ratio(width, p.input_width);
  float* map = p.map + (static_cast<size_t>(picture) * p.input_height + first_row) * p.input_width;
  each_place(row, column, smaller(kStrip * zoom, p.input_height - first_row), p.input_width) {
    Between y = between(first_row + row, height, step_y);
    y.first -= strip * kStrip - kReach;
    y.second -= strip * kStrip - kReach;
    map[row * p.input_width + column] = upsampled(blurred, width, y, between(column, width, step_x));
  }
}

// shared: two times strip rows * width floats.
DEVICE void fuse_block(const Problem& p, int strip, int picture, float* shared) {
  float *first = shared, *second = shared + strip_rows_of(p) * p.scales[0].width;
  fuse(p, strip, picture, first);
  sync_block();
  blur_rows(p, first, second);
  sync_block();
  blur_columns(p, strip, picture, second, first);
  sync_block();
  write_map(p, strip, picture, first);
}

}  // namespace affinity
