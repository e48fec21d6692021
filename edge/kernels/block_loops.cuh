// A block as loops: each phase runs all its threads before the next one begins.
#pragma once

// Within a phase no thread may rely on another: with LAST_FIRST they run in the opposite order, to the same
// result.
#ifdef LAST_FIRST
#define in_some_order(i, n) for (int i = (n) - 1; i >= 0; --i)
#else
#define in_some_order(i, n) for (int i = 0; i < (n); ++i)
#endif
#define each_thread(t, n) in_some_order(t, n)
#define each_warp(w, n) in_some_order(w, n)

namespace affinity {

template <class T, int N = kMaxThreads>
struct PerThread {
  T all[N];
  T& operator[](int t) { return all[t]; }
};
template <class T>
using PerWarp = PerThread<T, kMaxThreads / kWarp>;

inline void sync_block() {}
inline void sync_warp() {}
inline void publish() {}
inline unsigned add(unsigned* counter, unsigned n) { return (*counter += n) - n; }

template <class Work>
void with_threads(int, Work work) {
  work();
}

}  // namespace affinity
