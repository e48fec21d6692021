// What a block of the second launch reads: for 64 places, some channels of every map and of every context
// place.
#pragma once

#include "problem.cuh"

namespace affinity {

constexpr int kPlaces = 64;    // of a block: as many as context places, so both sides cost the same loads
constexpr int kContexts = 64;  // of one walk: 8 x 8, the detector's default
constexpr int kChunk = 32;     // channels at once: EfficientNet-Lite0's finest map in one
constexpr int kPad = 8;        // 16 bytes, so that the rows of a tile start in different banks
constexpr int kPlaceStride = kPlaces + kPad, kChannelStride = kChunk + kPad;
constexpr int kPlaceWarps = kPlaces / kTile;  // a warp has 16 places and all context places
constexpr int kPlaceThreads = kPlaceWarps * kWarp;

enum Map { kTeacherMap, kGlobalMap, kLocalMap, kMaps };  // the first two are those with contexts

struct Features {  // a chunk of maps (channel, place) and contexts (context place, channel)
  alignas(32) Half maps[kMaps][kChunk * kPlaceStride];
  alignas(32) Half contexts[kNetworks][kContexts * kChannelStride];
};

// The block's part of the picture.
struct Tile {
  int scale, first;  // first place
};

DEVICE int tiles_of(const Scale& s) { return (places_of(s) + kPlaces - 1) / kPlaces; }

DEVICE Tile tile_of(const Problem& p, int block) {
  int scale = 0;
  while (block >= tiles_of(p.scales[scale])) block -= tiles_of(p.scales[scale++]);
  return {scale, block * kPlaces};
}

// Eight places of one channel, 0 beyond the map's edges and where there is no map. `map` is the picture's
// (channels, places).
template <bool wide>
DEVICE Vector<kVector> eight_places(const Half* map, const Scale& s, int channel, int place) {
  Vector<kVector> values = {};
  if (!map || channel >= s.channels || place >= places_of(s)) return values;
  const Half* from = map + static_cast<size_t>(channel) * places_of(s) + place;
  if constexpr (wide) {
    values = *reinterpret_cast<const Vector<kVector>*>(from);
  } else {
    UNROLL for (int i = 0; i < kVector; ++i)
      if (place + i < places_of(s)) values.at[i] = from[i];
  }
  return values;
}

// What a thread moves of a chunk: of maps every 16th channel, of contexts every 32nd context place.
constexpr int kAcrossPlaces = kPlaces / kVector, kDownChannels = kPlaceThreads / kAcrossPlaces;
constexpr int kAcrossChannels = kChunk / kVector, kDownContexts = kPlaceThreads / kAcrossChannels;
struct Held {
  Vector<kVector> maps[kMaps][kChunk / kDownChannels];
  Vector<kVector> contexts[kNetworks][kContexts / kDownContexts];
};

// Where the block reads: its picture's maps, its contexts.
struct Sources {
  const Half* maps[kMaps];
  const Half* contexts[kNetworks];
};

template <bool wide>
DEVICE void fetch(const Scale& s, const Sources& from, int t, int first_place, int first_channel,
                  Held& held) {
  UNROLL for (int m = 0; m < kMaps; ++m)
    UNROLL for (int i = 0; i < kChunk / kDownChannels; ++i)
      held.maps[m][i] =
          eight_places<wide>(from.maps[m], s, first_channel + t / kAcrossPlaces + i * kDownChannels,
                             first_place + t % kAcrossPlaces * kVector);
  UNROLL for (int n = 0; n < kNetworks; ++n)
    UNROLL for (int i = 0; i < kContexts / kDownContexts; ++i) {
      const int context = t / kAcrossChannels + i * kDownContexts, channel = t % kAcrossChannels * kVector;
      held.contexts[n][i] = *reinterpret_cast<const Vector<kVector>*>(
          from.contexts[n] + context * s.padded_channels + first_channel + channel);
    }
}

DEVICE void keep(const Held& held, int t, Features& to) {
  UNROLL for (int m = 0; m < kMaps; ++m)
    UNROLL for (int i = 0; i < kChunk / kDownChannels; ++i) {
      const int channel = t / kAcrossPlaces + i * kDownChannels, place = t % kAcrossPlaces * kVector;
      *reinterpret_cast<Vector<kVector>*>(&to.maps[m][channel * kPlaceStride + place]) = held.maps[m][i];
    }
  UNROLL for (int n = 0; n < kNetworks; ++n)
    UNROLL for (int i = 0; i < kContexts / kDownContexts; ++i) {
      const int context = t / kAcrossChannels + i * kDownContexts, channel = t % kAcrossChannels * kVector;
      const int to_index = context * kChannelStride + channel;
      *reinterpret_cast<Vector<kVector>*>(&to.contexts[n][to_index]) = held.contexts[n][i];
    }
}

// All loads first, so that they are on their way together; then all stores.
template <bool wide>
DEVICE void stage(const Scale& s, const Sources& from, int first_place, int first_channel, Features& to) {
  each_thread(t, kPlaceThreads) {
    Held held;
    fetch<wide>(s, from, t, first_place, first_channel, held);
    keep(held, t, to);
  }
}

DEVICE Sources sources_of(const Scale& s, int picture, int first_context) {
  const size_t map = static_cast<size_t>(picture) * s.channels * places_of(s);
  const int context = first_context * s.padded_channels;
  return {{s.teacher + map, s.globl + map, s.local ? s.local + map : nullptr},
          {contexts_of(s, picture, 0) + context, contexts_of(s, picture, 1) + context}};
}

}  // namespace affinity
