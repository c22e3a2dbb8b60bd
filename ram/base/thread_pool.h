#pragma once

// A fixed set of threads for loops whose steps are large (a megabyte of weights and more).

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace ram {

// Results never depend on the number of threads: a task writes only to its own place.
class ThreadPool {
 public:
  // The calling thread works too, so `num_threads` = 1 starts none. 0: one per core.
  explicit ThreadPool(size_t num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  size_t num_threads() const { return workers_.size() + 1; }

  // Calls body(task, thread) for every task in [0, num_tasks), in no particular order, and returns
  // when all are done. thread is in [0, num_threads()). One call at a time, not from a task.
  void ParallelFor(size_t num_tasks, const std::function<void(size_t task, size_t thread)>& body);

 private:
  void Work(size_t thread);
  void RunTasks(size_t thread);

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable start_;
  std::condition_variable done_;
  const std::function<void(size_t, size_t)>* body_ = nullptr;
  size_t num_tasks_ = 0;
  size_t next_task_ = 0;
  size_t num_running_ = 0;
  size_t generation_ = 0;
  bool stop_ = false;
};

}  // namespace ram
