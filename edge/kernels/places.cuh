// Second launch: at every place, the errors of both students and the disagreement of the affinities.
//
// One block has 64 neighbouring places of one map and walks through their channels in chunks (chunk.cuh).
// From shared memory the squared errors and norms are added up, and the matrix unit multiplies the chunk with
// the context places: the products (context x place) of teacher and student stay in registers. Three numbers
// a place leave the block. With more than 64 context places it walks again for each 64; its features then
// come from the L2 cache.
#pragma once

#include "chunk.cuh"

namespace affinity {

constexpr int kContextTiles = kContexts / kTile;
constexpr int kHalves = kPlaceThreads / kPlaces;  // threads that share the sums of one place

// Sums over channels at one place.
struct PlaceSums {
  float teacher, globl, local;      // squares
  float global_error, local_error;  // squared differences from the teacher
};

struct Cosines {  // products of one tile of contexts with each warp's places
  alignas(32) float tile[kPlaceWarps][kNetworks][kTile * kTile];
};
struct PlacesShared {
  union {  // the products come when the chunk is done with
    Features chunk;
    Cosines cosines;
  };
  PlaceSums sums[kHalves][kPlaces];
  float inverse[kNetworks][kPlaces];
  float disagreement[kHalves][kPlaces];
};

struct Products {
  Sums tile[kNetworks][kContextTiles];
};

DEVICE float square(float x) { return x * x; }

// Channels beyond the last are 0 in every map, so they add nothing.
DEVICE void add_up(const Features& chunk, PerThread<PlaceSums>& sums) {
  each_thread(t, kPlaceThreads) {
    UNROLL for (int c = t / kPlaces; c < kChunk; c += kHalves) {
      const int i = c * kPlaceStride + t % kPlaces;
      const float teacher = to_float(chunk.maps[kTeacherMap][i]), globl = to_float(chunk.maps[kGlobalMap][i]);
      const float local = to_float(chunk.maps[kLocalMap][i]);  // without a target unused
      sums[t].teacher += square(teacher);
      sums[t].globl += square(globl);
      sums[t].local += square(local);
      sums[t].global_error += square(teacher - globl);
      sums[t].local_error += square(teacher - local);
    }
  }
}

DEVICE void multiply(const Features& chunk, PerWarp<Products>& products) {
  each_warp(w, kPlaceWarps) {
    UNROLL for (int n = 0; n < kNetworks; ++n) {
      UNROLL for (int c = 0; c < kChunk; c += kTile) {
        Right places;
        load(places, chunk.maps[n] + c * kPlaceStride + w * kTile, kPlaceStride);
        UNROLL for (int i = 0; i < kContextTiles; ++i) {
          Left contexts;
          load(contexts, chunk.contexts[n] + i * kTile * kChannelStride + c, kChannelStride);
          multiply_add(products[w].tile[n][i], contexts, places);
        }
      }
    }
  }
}

DEVICE void clear(PerWarp<Products>& products) {
  each_warp(w, kPlaceWarps) {
    UNROLL for (int n = 0; n < kNetworks; ++n)
      UNROLL for (int i = 0; i < kContextTiles; ++i) clear(products[w].tile[n][i]);
  }
}

DEVICE void write_sheet(const Scale& s, int picture, int branch, int place, float error) {
  const int i = branch * places_of(s) + place;
  sheet_of(s, picture, branch)[place] = error * s.gain[i] - s.offset[i];
}

// 1 - cosine of two vectors, from their squares and the squares of their difference.
//
// Their product follows from the three. Adding it up would take two sums more, which leaves sm_110 without
// a free register, and is worse where it counts: of nearly equal vectors, what rounding did to the squares
// is in product and norms alike and cancels (3e-7 is left of 1024 channels, instead of 1e-6). Where a
// vector is 0 the product is, to the bit. The price is paid where one is a thousand times as long as the
// other (7e-4) or more; so that rounding never makes up for the squared error, which is large there,
// nothing is less than 0.
DEVICE float cosine_error(float teacher, float student, float difference) {
  const float product = 0.5f * (teacher + student - difference);
  return larger(1.0f - product / larger(norm_of(teacher) * norm_of(student), kLeastNorms), 0.0f);
}

// A student's error at one place (distillation/affinity.py, both_errors or squared_error).
DEVICE float student_error(const Problem& p, int channels, float teacher, float student, float difference) {
  const float squared = difference / channels;
  return p.cosine ? squared + cosine_error(teacher, student, difference) : squared;
}

// Norms for the cosines of the affinity; the students' errors are done.
DEVICE void finish_sums(const Problem& p, const Scale& s, int picture, int first, PerThread<PlaceSums>& sums,
                        PlacesShared& shared) {
  each_thread(t, kPlaceThreads) shared.sums[t / kPlaces][t % kPlaces] = sums[t];
  sync_block();
  each_thread(t, kPlaces) {
    PlaceSums all = {};
    UNROLL for (int h = 0; h < kHalves; ++h) {
      const PlaceSums& part = shared.sums[h][t];
      all = {all.teacher + part.teacher, all.globl + part.globl, all.local + part.local,
             all.global_error + part.global_error, all.local_error + part.local_error};
    }
    shared.inverse[0][t] = inverse_norm(all.teacher, s.channels);
    shared.inverse[1][t] = inverse_norm(all.globl, s.channels);
    if (first + t < places_of(s)) {
      const float of_global = student_error(p, s.channels, all.teacher, all.globl, all.global_error);
      const float of_local = student_error(p, s.channels, all.teacher, all.local, all.local_error);
      write_sheet(s, picture, kGlobal, first + t, of_global);
      if (s.local) write_sheet(s, picture, kLocal, first + t, of_local);
    }
  }
  sync_block();
}

// Adds the squared differences of the cosines to one tile of context places.
DEVICE void compare(const PlacesShared& shared, PerThread<float>& disagreement) {
  each_thread(t, kPlaceThreads) {
    const int w = t / kWarp, column = t % kTile, half = t % kWarp / kTile;
    const float *teacher = shared.cosines.tile[w][0], *globl = shared.cosines.tile[w][1];
    const int place = w * kTile + column;
    UNROLL for (int row = half; row < kTile; row += kHalves) {
      const int i = row * kTile + column;
      disagreement[t] += square(teacher[i] * shared.inverse[0][place] - globl[i] * shared.inverse[1][place]);
    }
  }
}

DEVICE void compare_all(PerWarp<Products>& products, PlacesShared& shared, PerThread<float>& disagreement) {
  UNROLL for (int i = 0; i < kContextTiles; ++i) {
    each_warp(w, kPlaceWarps) {
      UNROLL for (int n = 0; n < kNetworks; ++n)
        store(shared.cosines.tile[w][n], products[w].tile[n][i], kTile);
    }
    sync_warp();
    compare(shared, disagreement);
    sync_warp();
  }
}

DEVICE void finish_affinity(const Scale& s, int picture, int first, PerThread<float>& disagreement,
                            PlacesShared& shared) {
  each_thread(t, kPlaceThreads) {
    shared.disagreement[t % kWarp / kTile][t / kWarp * kTile + t % kTile] = disagreement[t];
  }
  sync_block();
  each_thread(t, kPlaces) {
    float sum = 0;
    UNROLL for (int h = 0; h < kHalves; ++h) sum += shared.disagreement[h][t];
    if (first + t < places_of(s)) write_sheet(s, picture, kAffinity, first + t, sum / cells_of(s));
  }
}

DEVICE void places_block(const Problem& p, int block, int picture, PlacesShared& shared) {
  const Tile tile = tile_of(p, block);
  const Scale& s = p.scales[tile.scale];
  PerThread<PlaceSums> sums = {};
  PerThread<float> disagreement = {};
  for (int context = 0; context < s.padded_cells; context += kContexts) {
    const Sources sources = sources_of(s, picture, context);
    PerWarp<Products> products;
    clear(products);
    for (int channel = 0; channel < s.channels; channel += kChunk) {
      if (s.wide)
        stage<true>(s, sources, tile.first, channel, shared.chunk);
      else
        stage<false>(s, sources, tile.first, channel, shared.chunk);
      sync_block();
      if (context == 0) add_up(shared.chunk, sums);
      multiply(shared.chunk, products);
      sync_block();
    }
    if (context == 0) finish_sums(p, s, picture, tile.first, sums, shared);
    compare_all(products, shared, disagreement);
    sync_block();
  }
  finish_affinity(s, picture, tile.first, disagreement, shared);
}

}  // namespace affinity
