// What the three kernels work on. `problem.py` and `constants.py` have the same structures for Python: change
// both together.
#pragma once

#include "block.cuh"

namespace affinity {

constexpr int kScales = 3;      // of the teacher that students predict: strides 4, 8, 16
constexpr int kNetworks = 2;    // whose affinity is compared: teacher, global student
constexpr int kMaxRadius = 8;   // of the blur, in places: a standard deviation of 4
constexpr float kNormFloor = 0.5f;      // distillation/affinity.py, NORM_FLOOR: below it a direction is noise
constexpr float kLeastSquare = 1e-12f;  // as there: the root of a sum of squares is never quite 0
constexpr float kLeastNorms = 1e-6f;    // as there: nor is the product of two norms

enum Branch { kLocal, kGlobal, kAffinity, kBranches };
enum Stage { kContextStage, kPlacesStage, kMapStage, kStages };  // the three launches
enum Part { kMapPart, kLocalPart, kParts };  // of the score: top share of the map, of the local branch alone

// One scale. Maps are FP16 (pictures, channels, height, width), the teacher's standardised per channel.
struct Scale {
  const Half* teacher;
  const Half* globl;
  const Half* local;    // null where the local student predicts nothing at this scale
  const float* gain;    // (kBranches, height * width): normalised error = error * gain - offset
  const float* offset;  // the same shape
  Half* contexts;       // scratch (pictures, kNetworks, padded_cells, padded_channels)
  float* sheets;        // scratch (pictures, kBranches, height * width): normalised errors
  int channels, padded_channels;
  int height, width;
  int cell_height, cell_width;  // places that one context place is the mean of
  int cell_rows, cell_columns;  // context places; what is left at the edges belongs to none
  int padded_cells;
  int cell_vector;  // values of a cell's row that can be read at once: 1, 2, 4 or 8
  int wide;         // whether rows of places can be read 8 at a time
};

struct Launch {
  int blocks, threads;  // of one picture; of one block
  int shared_bytes;     // beside what the kernel declares itself
};

struct Problem {
  Scale scales[kScales];  // the finest first
  float* map;             // out (pictures, input_height, input_width)
  float* scores;          // out (pictures, kParts)
  float* places;          // scratch (pictures, kParts, finest height * width): blurred map, local branch
  unsigned* tickets;      // scratch (pictures): strips that are done
  float low[kBranches];   // of MapFusion: 0 of a branch
  float span[kBranches];  // its high - low
  float blur[2 * kMaxRadius + 1];
  int radius;  // of the blur
  int top;     // places whose mean is a score
  int cosine;  // whether a student's error is the squared one plus 1 - cosine, or the squared one alone
  int pictures, input_height, input_width;
  Launch launches[kStages];
};

DEVICE int smaller(int a, int b) { return a < b ? a : b; }
DEVICE int places_of(const Scale& s) { return s.height * s.width; }
DEVICE int cells_of(const Scale& s) { return s.cell_rows * s.cell_columns; }

// Contexts of one picture and network: (padded_cells, padded_channels).
DEVICE Half* contexts_of(const Scale& s, int picture, int network) {
  const size_t one = static_cast<size_t>(s.padded_cells) * s.padded_channels;
  return s.contexts + (static_cast<size_t>(picture) * kNetworks + network) * one;
}

DEVICE float* sheet_of(const Scale& s, int picture, int branch) {
  return s.sheets + (static_cast<size_t>(picture) * kBranches + branch) * places_of(s);
}

DEVICE float* places_map_of(const Problem& p, int picture, int part) {
  return p.places + (static_cast<size_t>(picture) * kParts + part) * places_of(p.scales[0]);
}

// Norm of a vector with this sum of squares.
DEVICE float norm_of(float squares) { return sqrtf(larger(squares, kLeastSquare)); }

// 1 / norm, damped below the floor.
DEVICE float inverse_norm(float squares, int channels) {
  return 1.0f / larger(norm_of(squares), kNormFloor * sqrtf(static_cast<float>(channels)));
}

}  // namespace affinity
