// First launch: each map's own context places, as unit vectors (distillation/affinity.py, context_places).
//
// One block makes one row of cells of one map. It holds all channels of its cells, so it can divide by their
// norm. A thread reads whole rows of one cell and channel; its neighbours read the next cells, so 32-byte
// sectors are used up whole.
#pragma once

#include "problem.cuh"

namespace affinity {

constexpr int kContextThreads = 256;  // a few cells times tens of channels: one or two cells a thread
constexpr int kShares = 16;           // threads that add up the squares of one cell together

// Which row of cells of which map a block has.
struct CellRow {
  int scale, network, row;
};

DEVICE CellRow cell_row_of(const Problem& p, int block) {
  int scale = 0;
  while (block >= kNetworks * p.scales[scale].cell_rows) block -= kNetworks * p.scales[scale++].cell_rows;
  const int rows = p.scales[scale].cell_rows;
  return {scale, block / rows, block % rows};
}

template <int count>
DEVICE float sum_of(const Half* from) {
  const auto values = *reinterpret_cast<const Vector<count>*>(from);
  float sum = 0;
  UNROLL for (int i = 0; i < count; ++i) sum += to_float(values.at[i]);
  return sum;
}

template <int count>
DEVICE float sum_of_cell(const Half* corner, const Scale& s) {
  float sum = 0;
  for (int x = 0; x < s.cell_width; x += count) {  // once, where a cell is as wide as a load
    UNROLL_BY(8)  // loads on their way together
    for (int y = 0; y < s.cell_height; ++y) sum += sum_of<count>(corner + y * s.width + x);
  }
  return sum;
}

DEVICE float mean_of_cell(const Half* corner, const Scale& s) {
  const float share = 1.0f / (s.cell_height * s.cell_width);
  switch (s.cell_vector) {
    case 8: return share * sum_of_cell<8>(corner, s);
    case 4: return share * sum_of_cell<4>(corner, s);
    case 2: return share * sum_of_cell<2>(corner, s);
    default: return share * sum_of_cell<1>(corner, s);
  }
}

// means (cell_columns, channels) of one row of cells; `map` is the picture's (channels, height, width).
DEVICE void mean_cells(const Half* map, const Scale& s, int row, float* means) {
  each_thread(t, kContextThreads) {
    for (int i = t; i < s.channels * s.cell_columns; i += kContextThreads) {
      const int channel = i / s.cell_columns, column = i % s.cell_columns;
      const Half* corner = map + static_cast<size_t>(channel) * places_of(s) + row * s.cell_height * s.width;
      means[column * s.channels + channel] = mean_of_cell(corner + column * s.cell_width, s);
    }
  }
}

// shares (cell_columns, kShares): parts of each cell's sum of squares.
DEVICE void share_squares(const Scale& s, const float* means, float* shares) {
  each_thread(t, kContextThreads) {
    for (int i = t; i < s.cell_columns * kShares; i += kContextThreads) {
      const float* cell = means + i / kShares * s.channels;
      float sum = 0;
      for (int c = i % kShares; c < s.channels; c += kShares) sum += cell[c] * cell[c];
      shares[i] = sum;
    }
  }
}

// contexts (cells, padded_channels): one row of cells; behind the last row comes the padding, all 0, so that
// the next launch may multiply whole tiles. The memory need not be prepared by anybody.
DEVICE void write_unit_vectors(const Scale& s, int row, const float* means, const float* shares,
                               Half* contexts) {
  const bool is_last = row == s.cell_rows - 1;
  const int cells = is_last ? s.padded_cells - row * s.cell_columns : s.cell_columns;
  each_thread(t, kContextThreads) {
    for (int i = t; i < cells * s.padded_channels; i += kContextThreads) {
      const int cell = i / s.padded_channels, channel = i % s.padded_channels;
      float value = 0;
      if (cell < s.cell_columns && channel < s.channels) {
        float squares = 0;
        UNROLL for (int j = 0; j < kShares; ++j) squares += shares[cell * kShares + j];
        value = means[cell * s.channels + channel] * inverse_norm(squares, s.channels);
      }
      contexts[i] = to_half(value);
    }
  }
}

// shared: cell_columns * (channels + kShares) floats.
DEVICE void context_block(const Problem& p, int block, int picture, float* shared) {
  const CellRow which = cell_row_of(p, block);
  const Scale& s = p.scales[which.scale];
  const Half* maps = which.network == 0 ? s.teacher : s.globl;
  float *means = shared, *shares = shared + s.cell_columns * s.channels;
  if (block == 0) each_thread(t, 1) p.tickets[picture] = 0;
  mean_cells(maps + static_cast<size_t>(picture) * s.channels * places_of(s), s, which.row, means);
  sync_block();
  share_squares(s, means, shares);
  sync_block();
  Half* contexts = contexts_of(s, picture, which.network) + which.row * s.cell_columns * s.padded_channels;
  write_unit_vectors(s, which.row, means, shares, contexts);
}

}  // namespace affinity
