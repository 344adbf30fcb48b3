/* Threads of this process as the ranks of a training, with faults on request. */
#ifndef DESCENT_TESTS_RANK_THREADS_H
#define DESCENT_TESTS_RANK_THREADS_H

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

extern "C" {
#include "core/communicator.h"
}

class RankThreads {
 public:
  /* What rank `rank` does once it has sent `messages`: silence drops what it sends, breakage fails its exchanges. */
  enum Fault { NONE, SILENCE, BREAKAGE };
  struct Plan {
    Fault fault = NONE;
    int rank = 0;
    int64_t messages = 0;
  };

  explicit RankThreads(int size, double seconds = 60) : RankThreads(size, seconds, Plan()) {}
  RankThreads(int size, double seconds, Plan plan) : size_(size), seconds_(seconds), plan_(plan) {}
  /* A rank on each of these hosts; otherwise each host has two. */
  explicit RankThreads(std::vector<std::string> hosts) : RankThreads(static_cast<int>(hosts.size())) {
    hosts_ = std::move(hosts);
  }

  /* Calls body(rank, communicator) on one thread for each rank and returns when all have; the communicator is NULL where
   * it could not be made. */
  template <typename Body>
  void run(Body body) {
    std::vector<std::thread> threads;
    for (int rank = 0; rank < size_; rank++)
      threads.emplace_back([this, rank, &body] {
        descent_communicator *communicator = nullptr;
        (void)communicator_create(make(rank), seconds_, &communicator);
        body(rank, communicator);
        handle_close(communicator, HANDLE_COMMUNICATOR);
      });
    for (std::thread &thread : threads) thread.join();
  }

  int64_t sent() const { return sent_; }
  /* The exit code with which a rank has ended all of them; -1: none has. */
  int aborted() const { return aborted_; }

 private:
  struct Transport {
    transport base; /* first: the library has a pointer to it */
    RankThreads *all;
    int64_t sent;
  };

  transport *make(int rank) {
    Transport *made = new Transport{};
    made->base.interface = TRANSPORT_INTERFACE;
    made->base.rank = made->base.local_rank = rank;
    made->base.size = made->base.local_size = size_;
    const std::string host = hosts_.empty() ? "node" + std::to_string(rank / 2) : hosts_.at(static_cast<size_t>(rank));
    std::snprintf(made->base.host, sizeof made->base.host, "%s", host.c_str());
    made->base.exchange = exchange;
    made->base.abort = [](transport *base, int code) { reinterpret_cast<Transport *>(base)->all->end(code); };
    made->base.close = [](transport *base, bool) { delete reinterpret_cast<Transport *>(base); };
    made->all = this;
    return &made->base;
  }

  void end(int code) {
    const std::lock_guard<std::mutex> lock(mutex_);
    aborted_ = code;
    arrived_.notify_all();
  }

  /* What has to happen to `rank` now. */
  Fault fault(const Transport *own) const {
    return plan_.fault != NONE && own->base.rank == plan_.rank && own->sent >= plan_.messages ? plan_.fault : NONE;
  }

  static bool exchange(transport *base, const message *messages, int n, double seconds, int *silent, char *reason,
                       size_t size) {
    Transport *own = reinterpret_cast<Transport *>(base);
    RankThreads *all = own->all;
    std::unique_lock<std::mutex> lock(all->mutex_);
    *silent = -1;
    for (int i = 0; i < n; i++) {
      if (messages[i].receives) continue;
      const char *data = static_cast<const char *>(messages[i].data);
      if (all->fault(own) == BREAKAGE) {
        std::snprintf(reason, size, "broken by the test");
        return false;
      }
      if (all->fault(own) == NONE)
        all->queues_[{own->base.rank, messages[i].peer}].emplace_back(data, data + messages[i].bytes);
      own->sent++;
      all->sent_++;
    }
    all->arrived_.notify_all();
    std::vector<bool> done(static_cast<size_t>(n));
    for (int i = 0; i < n; i++) done[static_cast<size_t>(i)] = !messages[i].receives;
    return all->receive(lock, own->base.rank, messages, done, seconds, silent, reason, size);
  }

  static std::chrono::system_clock::time_point deadline(double seconds) {
    return std::chrono::system_clock::now() +
           std::chrono::duration_cast<std::chrono::system_clock::duration>(std::chrono::duration<double>(seconds));
  }

  bool receive(std::unique_lock<std::mutex> &lock, int rank, const message *messages, std::vector<bool> &done,
               double seconds, int *silent, char *reason, size_t size) {
    auto until = deadline(seconds);
    for (;;) {
      bool progress = false;
      *silent = -1;
      if (aborted_ >= 0) {
        std::snprintf(reason, size, "ended with exit code %d", aborted_.load());
        return false;
      }
      for (size_t i = 0; i < done.size(); i++) {
        if (done[i]) continue;
        auto &queue = queues_[{messages[i].peer, rank}];
        if (queue.empty()) {
          if (*silent < 0 || messages[i].peer < *silent) *silent = messages[i].peer;
          continue;
        }
        if (static_cast<int64_t>(queue.front().size()) != messages[i].bytes) {
          *silent = -1;
          std::snprintf(reason, size, "a message of %zu bytes from rank %d where %lld were expected",
                        queue.front().size(), messages[i].peer, static_cast<long long>(messages[i].bytes));
          return false;
        }
        std::memcpy(messages[i].data, queue.front().data(), queue.front().size());
        queue.pop_front();
        done[i] = progress = true;
      }
      if (*silent < 0) return true;
      if (progress) until = deadline(seconds);
      /* A time of the system's clock: ThreadSanitizer knows that wait. */
      if (arrived_.wait_until(lock, until) == std::cv_status::timeout) return false;
    }
  }

  int size_;
  double seconds_;
  Plan plan_;
  std::vector<std::string> hosts_;
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::map<std::pair<int, int>, std::deque<std::vector<char>>> queues_; /* (from, to): not received yet */
  std::atomic<int64_t> sent_{0};
  std::atomic<int> aborted_{-1};
};

#endif
