// A block as real threads and barriers, as on the GPU. Far too slow for anything but this: under
// ThreadSanitizer (g++ -fsanitize=thread) a barrier that is missing is found and named.
#pragma once

#include <pthread.h>

#include <thread>
#include <vector>

#define in_some_order(i, n) for (int i = 0; i < (n); ++i)
#define each_thread(t, n) if (const int t = own_thread; t < (n))
#define each_warp(w, n) if (const int w = own_thread / kWarp; own_thread % kWarp == 0 && w < (n))

namespace affinity {

// Two barriers in turn: at one alone ThreadSanitizer takes who arrives for the next time as waited for by
// those who are still leaving, and sees no race between them.
struct Barrier {
  pthread_barrier_t turns[2];
  void start(int count) {
    for (pthread_barrier_t& turn : turns) pthread_barrier_init(&turn, nullptr, count);
  }
  void wait(unsigned turn) { pthread_barrier_wait(&turns[turn % 2]); }
};

inline Barrier block_barrier, warp_barriers[kMaxThreads / kWarp];
inline thread_local int own_thread;
inline thread_local unsigned block_turn, warp_turn;

template <class T>
struct PerThread {
  T own;
  T& operator[](int) { return own; }
};
template <class T>
using PerWarp = PerThread<T>;  // its first thread has it all

inline void sync_block() { block_barrier.wait(block_turn++); }
inline void sync_warp() { warp_barriers[own_thread / kWarp].wait(warp_turn++); }
inline void publish() {}  // blocks run one after the other
inline unsigned add(unsigned* counter, unsigned n) {
  return __atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

// Every thread does the work; `work` runs block after block, with a barrier between them.
template <class Work>
void with_threads(int count, Work work) {
  block_barrier.start(count);
  for (int w = 0; w < count / kWarp; ++w) warp_barriers[w].start(kWarp);
  std::vector<std::thread> threads;
  for (int t = 0; t < count; ++t)
    threads.emplace_back([=] {
      own_thread = t;
      work();
    });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace affinity
