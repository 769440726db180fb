#include "ordered_work.h"

#include <signal.h>

#include <algorithm>
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
    node->open_place = open_.insert(open_.end(), node);
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
    wanted_.wait(lock, [&] { return cancelled() || open_.empty() || (node = next()) != nullptr; });
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

// The first, since what comes behind it waits for it; while much is unread only the one that everything else
// waits for.
std::shared_ptr<OrderedWork::Node> OrderedWork::next() {
  std::shared_ptr<Node> node;
  if (done_bytes_ + held_bytes_ < kMostUnread) {
    const auto is_waiting = [](const auto& one) { return one->state == State::waiting; };
    const auto first = std::find_if(open_.begin(), open_.end(), is_waiting);  // behind as many as run
    if (first != open_.end()) node = *first;
  } else if (in_order_ && done_bytes_ < kMostUnread / 4 && !nodes_.empty() &&
             nodes_.front()->state == State::waiting) {
    node = nodes_.front();
  }
  if (node) node->state = State::running;
  return node;
}

void OrderedWork::finish(const std::shared_ptr<Node>& node, Pieces& pieces) {
  size_t tasks = 0;
  for (Pieces::Piece& piece : pieces.pieces_) {
    if (!piece.task && piece.records.empty()) continue;
    if (!piece.task && !in_order_) {
      deliver(std::move(piece.records));
      continue;
    }
    auto made = std::make_shared<Node>();
    if (piece.task) {
      made->task = std::move(piece.task);
      made->open_place = open_.insert(node->open_place, made);
      ++tasks;
    } else {
      made->records = std::move(piece.records);
      made->state = State::done;
      held_bytes_ += made->records.bytes();
    }
    made->place = nodes_.insert(node->place, made);
  }
  nodes_.erase(node->place);
  open_.erase(node->open_place);
  // What has nothing before it any more can be taken.
  while (in_order_ && !nodes_.empty() && nodes_.front()->state == State::done) {
    held_bytes_ -= nodes_.front()->records.bytes();
    deliver(std::move(nodes_.front()->records));
    nodes_.pop_front();
  }
  if (tasks > 1 || open_.empty()) wanted_.notify_all();
  if (open_.empty() || cancelled() || done_count_ >= kEntriesInBatch) ready_.notify_all();
}

void OrderedWork::deliver(ChangeRecords records) {
  done_bytes_ += records.bytes();
  done_count_ += records.count();
  done_.push_back(std::move(records));
}

OrderedWork::Batch OrderedWork::take() {
  Batch batch;
  std::unique_lock lock(mutex_);
  const auto enough = [&] { return cancelled() || open_.empty() || done_count_ >= kEntriesInBatch; };
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
  batch.ended = cancelled() || (open_.empty() && done_.empty());
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
  ready_.wait(lock, [&] { return running_ == 0 && (cancelled() || open_.empty()); });
  // What the tasks hold is let go of here, not when the last thread ends.
  const Nodes dropped = std::move(nodes_), open = std::move(open_);
  nodes_.clear();
  open_.clear();
  lock.unlock();
}

}  // namespace overlayfs
