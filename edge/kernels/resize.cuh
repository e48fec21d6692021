// From the camera's picture to what the engine takes, in one launch: the steps of edge/picture/preprocess.py, each
// rounded to whole grey levels, as there. A block makes a tile of the result; what lies between two steps
// stays in shared memory, and a tile's border is made by both neighbours.
#pragma once

#include "block.cuh"

namespace resize {

using namespace affinity;  // the block
using Grey = unsigned char;

constexpr int kSteps = 12;    // a side halved eleven times: 2048 times too long
constexpr int kTaps = 3;      // pixels of a side that one pixel of a step is made of
constexpr int kChannels = 3;  // BGR, interleaved, in and out
constexpr int kThreads = 256, kWarps = kThreads / kWarp;

// resize.py has the same structures for Python: change both together.
struct Taps {  // of one row or column of a step: the neighbouring pixels it is made of
  int first;
  float weights[kTaps];  // 0 for those that do not count; in a bilinear step 2048ths
};

struct Step {
  const Taps* rows;     // one for each row that it makes
  const Taps* columns;  // one for each column
  int row_taps, column_taps;
  int bilinear;  // else it averages areas
};

struct Resize {
  const Grey* source;       // in (any height, any width, kChannels)
  long long source_stride;  // bytes from one row to the next
  Grey* target;             // out (height, width, kChannels), contiguous
  Step steps[kSteps];
  int count;  // of steps; at least one
  int height, width;
  int tile_height, tile_width;
  int even_bytes;    // shared memory of steps 0, 2, ...; what is behind it is of steps 1, 3, ...
  int shared_bytes;  // both
};

// What a tile needs of a step's picture.
struct Window {
  int top, left, rows, columns;
};

struct Picture {
  const Grey* at;  // pixel (top, left)
  long long stride;
  int top, left;
};

DEVICE int least(int a, int b) { return a < b ? a : b; }

DEVICE Window tile_window(const Resize& p, int tile_row, int tile_column) {
  const int top = tile_row * p.tile_height, left = tile_column * p.tile_width;
  return {top, left, least(p.tile_height, p.height - top), least(p.tile_width, p.width - left)};
}

// What a step reads in order to make `made`.
DEVICE Window read_window(const Step& step, const Window& made) {
  const int top = step.rows[made.top].first, left = step.columns[made.left].first;
  const int below = step.rows[made.top + made.rows - 1].first + step.row_taps;
  const int right = step.columns[made.left + made.columns - 1].first + step.column_taps;
  return {top, left, below - top, right - left};
}

// windows[s]: what step s makes for this tile.
DEVICE void find_windows(const Resize& p, int tile_row, int tile_column, Window* windows) {
  each_thread(t, 1) {
    Window window = tile_window(p, tile_row, tile_column);
    for (int s = p.count - 1; s > 0; --s) {
      windows[s] = window;
      window = read_window(p.steps[s], window);
    }
    windows[0] = window;
  }
  sync_block();
}

// One channel of one pixel, `from` that channel of the first of its pixels. OpenCV is followed to the digit,
// since what is off by one in two steps is off by two: a bilinear step counts in whole 2048ths and drops
// digits on the way, an area's mean is rounded to the even neighbour.
DEVICE Grey bilinear_pixel(const Taps& down, const Taps& across, const Grey* from, long long stride,
                           const Step& step) {
  int sum = 2;  // of quarters: rounds
  UNROLL for (int j = 0; j < kTaps; ++j) {
    if (j >= step.row_taps) continue;
    int line = 0;
    UNROLL for (int i = 0; i < kTaps; ++i)
      if (i < step.column_taps)
        line += static_cast<int>(across.weights[i]) * from[j * stride + i * kChannels];
    sum += static_cast<int>(down.weights[j]) * (line >> 4) >> 16;
  }
  return static_cast<Grey>(sum >> 2);
}

DEVICE Grey area_pixel(const Taps& down, const Taps& across, const Grey* from, long long stride,
                       const Step& step) {
  float sum = 0;
  UNROLL for (int j = 0; j < kTaps; ++j) {
    if (j >= step.row_taps) continue;
    float line = 0;
    UNROLL for (int i = 0; i < kTaps; ++i)
      if (i < step.column_taps) line += across.weights[i] * from[j * stride + i * kChannels];
    sum += down.weights[j] * line;
  }
  return static_cast<Grey>(rintf(sum));
}

// A warp makes a row, its threads neighbouring bytes. `to` is pixel (top, left) of the window.
DEVICE void make_step(const Step& step, const Picture& from, const Window& made, Grey* to, int to_stride) {
  each_thread(t, kThreads) {
    for (int y = t / kWarp; y < made.rows; y += kWarps) {
      const Taps down = step.rows[made.top + y];
      const Grey* line = from.at + (down.first - from.top) * from.stride;
      for (int i = t % kWarp; i < made.columns * kChannels; i += kWarp) {
        const int x = i / kChannels, channel = i % kChannels;
        const Taps across = step.columns[made.left + x];
        const Grey* first = line + (across.first - from.left) * kChannels + channel;
        to[y * to_stride + i] = step.bilinear ? bilinear_pixel(down, across, first, from.stride, step)
                                              : area_pixel(down, across, first, from.stride, step);
      }
    }
  }
  sync_block();
}

DEVICE void resize_block(const Resize& p, int tile_row, int tile_column, Window* windows, Grey* shared) {
  find_windows(p, tile_row, tile_column, windows);
  Picture from = {p.source, p.source_stride, 0, 0};
  for (int s = 0; s < p.count - 1; ++s) {
    const Window made = windows[s];
    Grey* to = shared + s % 2 * p.even_bytes;
    make_step(p.steps[s], from, made, to, made.columns * kChannels);
    from = {to, made.columns * kChannels, made.top, made.left};
  }
  const Window made = windows[p.count - 1];
  const long long first = (static_cast<long long>(made.top) * p.width + made.left) * kChannels;
  make_step(p.steps[p.count - 1], from, made, p.target + first, p.width * kChannels);
}

}  // namespace resize
