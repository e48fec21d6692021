// The end of the third launch: the mean of the largest places, exactly as torch's topk and mean.
//
// The picture's last block to finish its strip finds the k-th largest value of both maps by radix selection,
// eight bits a round, and adds up what is larger. Which block is last changes nothing: sums have a fixed
// order.
#pragma once

#include "fuse.cuh"

namespace affinity {

constexpr int kDigit = 8;             // bits of a round: 4 rounds, and a bin for each thread
constexpr int kBins = 1 << kDigit;
constexpr int kBinGroup = 16;         // bins added up first, so that no thread has to add up more than 2 x 16
constexpr int kBinGroups = kBins / kBinGroup;
constexpr int kKeyBits = 32;
constexpr unsigned kSign = 1u << (kKeyBits - 1);
constexpr unsigned kNanKey = ~0u;     // above infinity: one broken place makes the score NaN

struct Selection {
  unsigned bins[kParts][kBins];
  unsigned groups[kParts][kBinGroups];
  unsigned prefix[kParts];  // the leading digits of the k-th largest key, as far as they are known
  unsigned wanted[kParts];  // how many keys are to be found that begin with them
  float sums[kParts][kFuseThreads];
  int last;  // whether this block is the picture's last
};

// Unsigned keys in the order of the values, NaN the largest of all.
DEVICE unsigned key_of(float x) {
  if (x != x) return kNanKey;
  const unsigned bits = bits_of(x);
  return bits & kSign ? ~bits : bits | kSign;
}
DEVICE float value_of(unsigned key) { return float_of(key & kSign ? key ^ kSign : ~key); }

// The digits above `shift` + kDigit; C++ leaves a shift by all bits open.
DEVICE unsigned leading(unsigned key, int shift) {
  return shift + kDigit == kKeyBits ? 0 : key >> (shift + kDigit);
}

DEVICE void start_round(Selection& shared) {
  each_thread(t, kBins) {
    for (int m = 0; m < kParts; ++m) shared.bins[m][t] = 0;
  }
  sync_block();
}

DEVICE void count_digits(const Problem& p, int picture, int shift, Selection& shared) {
  const int count = places_of(p.scales[0]);
  each_thread(t, kFuseThreads) {
    for (int m = 0; m < kParts; ++m) {
      const float* values = places_map_of(p, picture, m);
      for (int i = t; i < count; i += kFuseThreads) {
        const unsigned key = key_of(values[i]);
        const bool candidate = leading(key, shift) == leading(shared.prefix[m], shift);
        if (candidate) add(&shared.bins[m][key >> shift & (kBins - 1)], 1);
      }
    }
  }
  sync_block();
}

DEVICE void add_up_groups(Selection& shared) {
  each_thread(t, kParts * kBinGroups) {
    const int m = t / kBinGroups, group = t % kBinGroups;
    unsigned sum = 0;
    UNROLL for (int i = 0; i < kBinGroup; ++i) sum += shared.bins[m][group * kBinGroup + i];
    shared.groups[m][group] = sum;
  }
  sync_block();
}

// How many keys lie in bins above `bin`.
DEVICE unsigned above(const Selection& shared, int m, int bin) {
  unsigned sum = 0;
  for (int group = bin / kBinGroup + 1; group < kBinGroups; ++group) sum += shared.groups[m][group];
  for (int i = bin + 1; i % kBinGroup; ++i) sum += shared.bins[m][i];
  return sum;
}

// The bin of the k-th largest key gives its next digit. `found` is kept apart, since others still read
// `wanted`.
DEVICE void pick_digit(int shift, Selection& shared) {
  PerThread<unsigned> found[kParts];
  each_thread(t, kBins) {
    for (int m = 0; m < kParts; ++m) {
      const unsigned larger_keys = above(shared, m, t), wanted = shared.wanted[m];
      const bool here = larger_keys < wanted && wanted <= larger_keys + shared.bins[m][t];
      found[m][t] = here ? wanted - larger_keys : 0;
    }
  }
  sync_block();
  each_thread(t, kBins) {
    for (int m = 0; m < kParts; ++m) {
      if (!found[m][t]) continue;
      shared.wanted[m] = found[m][t];
      shared.prefix[m] |= static_cast<unsigned>(t) << shift;
    }
  }
  sync_block();
}

DEVICE void select(const Problem& p, int picture, Selection& shared) {
  each_thread(t, kParts) {
    shared.prefix[t] = 0;
    shared.wanted[t] = p.top;
  }
  for (int shift = kKeyBits - kDigit; shift >= 0; shift -= kDigit) {
    start_round(shared);
    count_digits(p, picture, shift, shared);
    add_up_groups(shared);
    pick_digit(shift, shared);
  }
}

DEVICE void add_up_larger(const Problem& p, int picture, Selection& shared) {
  each_thread(t, kFuseThreads) {
    for (int m = 0; m < kParts; ++m) {
      const float* values = places_map_of(p, picture, m);
      float sum = 0;
      for (int i = t; i < places_of(p.scales[0]); i += kFuseThreads)
        if (key_of(values[i]) > shared.prefix[m]) sum += values[i];
      shared.sums[m][t] = sum;
    }
  }
  sync_block();
}

DEVICE void write_scores(const Problem& p, int picture, const Selection& shared) {
  each_thread(t, kParts) {
    float sum = shared.wanted[t] * value_of(shared.prefix[t]);  // the k-th value, and others equal to it
    for (int i = 0; i < kFuseThreads; ++i) sum += shared.sums[t][i];
    p.scores[picture * kParts + t] = sum / p.top;
  }
}

// Whether all other blocks of the picture have written their rows.
DEVICE bool is_last(const Problem& p, int picture, Selection& shared) {
  publish();
  sync_block();
  each_thread(t, 1) {
    shared.last = add(&p.tickets[picture], 1) + 1 == static_cast<unsigned>(strips_of(p));
  }
  sync_block();
  publish();
  return shared.last;
}

DEVICE void map_block(const Problem& p, int strip, int picture, float* rows, Selection& shared) {
  fuse_block(p, strip, picture, rows);
  if (!is_last(p, picture, shared)) return;
  select(p, picture, shared);
  add_up_larger(p, picture, shared);
  write_scores(p, picture, shared);
}

}  // namespace affinity
