#include "ram/base/thread_pool.h"

#include <algorithm>

namespace ram {

ThreadPool::ThreadPool(size_t num_threads) {
  if (num_threads == 0) num_threads = std::max(1u, std::thread::hardware_concurrency());
  for (size_t thread = 1; thread < num_threads; ++thread) {
    workers_.emplace_back([this, thread] { Work(thread); });
  }
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  start_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::ParallelFor(size_t num_tasks,
                             const std::function<void(size_t task, size_t thread)>& body) {
  {
    const std::lock_guard lock(mutex_);
    body_ = &body;
    num_tasks_ = num_tasks;
    next_task_ = 0;
    num_running_ = workers_.size();
    ++generation_;
  }
  start_.notify_all();
  RunTasks(0);
  std::unique_lock lock(mutex_);
  done_.wait(lock, [this] { return num_running_ == 0; });
  body_ = nullptr;
}

void ThreadPool::RunTasks(size_t thread) {
  while (true) {
    size_t task = 0;
    {
      const std::lock_guard lock(mutex_);
      if (next_task_ >= num_tasks_) return;
      task = next_task_++;
    }
    (*body_)(task, thread);
  }
}

void ThreadPool::Work(size_t thread) {
  size_t seen = 0;
  while (true) {
    {
      std::unique_lock lock(mutex_);
      start_.wait(lock, [&] { return stop_ || generation_ != seen; });
      if (stop_) return;
      seen = generation_;
    }
    RunTasks(thread);
    {
      const std::lock_guard lock(mutex_);
      --num_running_;
    }
    done_.notify_one();
  }
}

}  // namespace ram
