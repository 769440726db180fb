#include "ordered_work.h"

#include <signal.h>

#include <chrono>

#include "thread.h"

namespace overlayfs {
namespace {

constexpr size_t kEntriesInBatch = 1000;
constexpr size_t kMostUnread = size_t{4} << 20;            // bytes, beyond which workers wait
constexpr auto kPatience = std::chrono::milliseconds(50);  // then a smaller batch will do

}  // namespace

ChangeRecords& OrderedWork::Pieces::records() {
  if (pieces_.empty() || pieces_.back().task) pieces_.emplace_back();
  return pieces_.back().records;
}

int OrderedWork::start(std::unique_ptr<Task> first, unsigned threads) {
  auto node = std::make_shared<Node>();
  node->task = std::move(first);
  {
    const std::scoped_lock lock(mutex_);
    node->place = nodes_.insert(nodes_.end(), node);
    waiting_.push_back(std::move(node));
    live_ = 1;
  }
  for (unsigned i = 0; i < threads; ++i) {
    const int error = start_thread([self = shared_from_this()] { self->work(); }, false);
    if (error != 0) return i == 0 ? error : 0;  // fewer will do
  }
  return 0;
}

void OrderedWork::work() {
  // Signals are the main thread's.
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  std::unique_lock lock(mutex_);
  while (true) {
    std::shared_ptr<Node> node;
    wanted_.wait(lock, [&] { return cancelled() || live_ == 0 || (node = next()) != nullptr; });
    if (node == nullptr) return;
    ++running_;
    lock.unlock();
    Pieces pieces(*this);
    node->task->run(pieces);
    node->task.reset();
    lock.lock();
    --running_;
    finish(node, pieces);
  }
}

// The task that is deepest in hand; while much is unread only the one that everything else waits for.
std::shared_ptr<OrderedWork::Node> OrderedWork::next() {
  std::shared_ptr<Node> node;
  if (done_bytes_ + held_bytes_ < kMostUnread) {
    while (node == nullptr && !waiting_.empty()) {
      if (waiting_.back()->state == State::waiting) node = waiting_.back();
      waiting_.pop_back();
    }
  } else if (in_order_ && done_bytes_ < kMostUnread / 4 && !nodes_.empty() &&
             nodes_.front()->state == State::waiting) {
    node = nodes_.front();
  }
  if (node) node->state = State::running;
  return node;
}

void OrderedWork::finish(const std::shared_ptr<Node>& node, Pieces& pieces) {
  std::vector<std::shared_ptr<Node>> tasks;
  for (Pieces::Piece& piece : pieces.pieces_) {
    if (!piece.task && piece.records.empty()) continue;
    if (!piece.task && !in_order_) {
      deliver(std::move(piece.records));
      continue;
    }
    auto made = std::make_shared<Node>();
    if (piece.task) {
      made->task = std::move(piece.task);
      tasks.push_back(made);
    } else {
      made->records = std::move(piece.records);
      made->state = State::done;
      held_bytes_ += made->records.bytes();
    }
    made->place = nodes_.insert(node->place, made);
  }
  nodes_.erase(node->place);
  live_ += tasks.size();
  --live_;
  const bool more = tasks.size() > 1;
  for (auto task = tasks.rbegin(); task != tasks.rend(); ++task) waiting_.push_back(std::move(*task));
  // What has nothing before it any more can be taken.
  while (in_order_ && !nodes_.empty() && nodes_.front()->state == State::done) {
    held_bytes_ -= nodes_.front()->records.bytes();
    deliver(std::move(nodes_.front()->records));
    nodes_.pop_front();
  }
  if (more || live_ == 0) wanted_.notify_all();
  if (live_ == 0 || cancelled() || done_count_ >= kEntriesInBatch) ready_.notify_all();
}

void OrderedWork::deliver(ChangeRecords records) {
  done_bytes_ += records.bytes();
  done_count_ += records.count();
  done_.push_back(std::move(records));
}

OrderedWork::Batch OrderedWork::take() {
  Batch batch;
  std::unique_lock lock(mutex_);
  const auto enough = [&] { return cancelled() || live_ == 0 || done_count_ >= kEntriesInBatch; };
  while (!ready_.wait_for(lock, kPatience, enough) && done_.empty()) {
  }
  std::vector<ChangeRecords> taken;
  size_t count = 0;
  while (!done_.empty() && count < kEntriesInBatch) {
    done_bytes_ -= done_.front().bytes();
    done_count_ -= done_.front().count();
    count += done_.front().count();
    taken.push_back(std::move(done_.front()));
    done_.pop_front();
  }
  batch.ended = cancelled() || (live_ == 0 && done_.empty());
  lock.unlock();
  wanted_.notify_all();
  for (ChangeRecords& records : taken) batch.records.append(std::move(records));
  return batch;
}

void OrderedWork::cancel() {
  {
    const std::scoped_lock lock(mutex_);
    cancelled_.store(true, std::memory_order_relaxed);
  }
  wanted_.notify_all();
  ready_.notify_all();
}

void OrderedWork::wait_until_still() {
  std::unique_lock lock(mutex_);
  ready_.wait(lock, [&] { return running_ == 0 && (cancelled() || live_ == 0); });
  // What the tasks hold is let go of here, not when the last thread ends.
  const Nodes dropped = std::move(nodes_);
  const auto waiting = std::move(waiting_);
  nodes_.clear();
  waiting_.clear();
  lock.unlock();
}

}  // namespace overlayfs
