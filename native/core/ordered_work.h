// Work that falls apart into more work, done by several threads and delivered in one order: each task gives
// changes and further tasks, in the order in which their changes are to come. Bounded: workers wait while too
// much lies unread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <vector>

#include "change_record.h"

namespace overlayfs {

class OrderedWork : public std::enable_shared_from_this<OrderedWork> {
 public:
  class Pieces;
  struct Task {
    Task() = default;
    Task(const Task&) = delete;
    Task& operator=(const Task&) = delete;
    virtual ~Task() = default;
    virtual void run(Pieces& pieces) = 0;
  };

  // What a task comes to, in order.
  class Pieces {
   public:
    explicit Pieces(const OrderedWork& work) : work_(work) {}
    ChangeRecords& records();  // for changes that come now
    void add(std::unique_ptr<Task> task) { pieces_.emplace_back().task = std::move(task); }
    bool cancelled() const { return work_.cancelled(); }

   private:
    friend class OrderedWork;
    struct Piece {
      std::unique_ptr<Task> task;
      ChangeRecords records;
    };
    const OrderedWork& work_;
    std::vector<Piece> pieces_;
  };

  // `in_order` false: changes come as they are found.
  explicit OrderedWork(bool in_order) : in_order_(in_order) {}

  // 0, or the error number that refused the first thread. Threads end when the work has, or is cancelled.
  int start(std::unique_ptr<Task> first, unsigned threads);

  // The next changes: about a thousand, fewer if they take long; `ended` once nothing more will come. Waits.
  struct Batch {
    ChangeRecords records;
    bool ended = false;
  };
  Batch take();

  void cancel();
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
  // Waits until it is cancelled or at its end and no thread is in a task any more; what was not begun is
  // dropped.
  void wait_until_still();

 private:
  enum class State { waiting, running, done };
  struct Node;
  using Nodes = std::list<std::shared_ptr<Node>>;
  struct Node {
    State state = State::waiting;
    std::unique_ptr<Task> task;
    ChangeRecords records;
    Nodes::iterator place, open_place;
  };

  void work();
  std::shared_ptr<Node> next();                                    // under the lock
  void finish(const std::shared_ptr<Node>& node, Pieces& pieces);  // under the lock
  void deliver(ChangeRecords records);                             // under the lock

  const bool in_order_;
  std::atomic<bool> cancelled_ = false;
  std::mutex mutex_;
  std::condition_variable wanted_, ready_;
  Nodes nodes_;                                              // in the order of their changes
  Nodes open_;                                               // those of them whose tasks are not done
  std::deque<ChangeRecords> done_;                           // to be taken
  size_t done_count_ = 0, done_bytes_ = 0, held_bytes_ = 0;  // `held` waits for what comes before it
  size_t running_ = 0;
};

}  // namespace overlayfs
