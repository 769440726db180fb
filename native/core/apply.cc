#include "apply.h"

#include <fcntl.h>
#include <sys/vfs.h>

#include <algorithm>
#include <map>
#include <unordered_map>
#include <unordered_set>

#include "apply_check.h"
#include "apply_links.h"
#include "copy_entry.h"
#include "status.h"
#include "sys.h"
#include "view_cursor.h"

namespace overlayfs {

// One run: copying, then taking away, putting into place and setting what directories have.
class ApplyRun {
 public:
  ApplyRun(Apply& apply, std::vector<ApplyDecision> decisions, const Cancel& cancel, ApplyStaging staging)
      : apply_(apply),
        target_(apply.target_),
        cancel_(cancel),
        staging_(std::move(staging)),
        after_(apply.layers_, 0),
        hows_(apply.places_.size()),
        staged_(apply.places_.size()) {
    outcome_.decisions = apply.decide(std::move(decisions));
    copy_.metadata.private_prefix = apply_.layers_.stack().xattr_prefix();
    copy_.metadata.plain = true;
    copy_.control = {cancel, &apply_.bytes_done};
    copy_.staging = staging_.directory();
  }

  std::variant<ApplyOutcome, ApplyFailure> run() {
    auto done = all();
    if (done) {
      outcome_.left = apply_.left();
      if (auto left = staging_.clear()) outcome_.left.push_back(*std::move(left));
      return std::move(outcome_);
    }
    ApplyStaging::Undone undone = staging_.undo();
    return ApplyFailure{std::move(done).error(), current_,          with_content(undone.kept),
                        std::move(undone.left),  staging_.edited(), is_on_overlay()};
  }

 private:
  enum class How : uint8_t { nothing, remove, copy, move, metadata };
  struct NewDirectory {
    std::string path, staged;
  };

  const ApplyChange& change_at(size_t at) const { return apply_.changes_[apply_.places_[at].change]; }
  ApplyDecision decision_at(size_t at) const { return outcome_.decisions[apply_.places_[at].change]; }
  bool is_forced(size_t at) const { return decision_at(at) == ApplyDecision::force; }
  bool is_given(size_t at) const { return apply_.places_[at].change < apply_.given_; }
  bool is_nested(size_t at) const { return staged_[at].find('/') != std::string::npos; }
  static std::string staged_name(char kind, size_t at) { return kind + std::to_string(at); }

  Result<void> all() {
    TRY(in_order(Apply::Phase::copying, &ApplyRun::make_ready));
    TRY(make_durable());
    TRY(staging_.record(takings_));
    TRY(take_sources());
    staging_.begin_placing();
    TRY(in_order(Apply::Phase::placing, &ApplyRun::put_in_place));
    TRY(finish_directories());
    // A directory that somebody has chosen to lose may hold what has not been looked at.
    TRY(staging_.verify([this](size_t at) { return is_forced(at); }));
    return staging_.commit();
  }

  Result<void> in_order(Apply::Phase phase, Result<void> (ApplyRun::*step)(size_t)) {
    apply_.phase = phase;
    apply_.entries_done = 0;
    for (size_t at = 0; at < hows_.size(); count_done(at), ++at) {
      if (decision_at(at) == ApplyDecision::skip || apply_.places_[at].gone) continue;
      TRY(begin(at));
      TRY((this->*step)(at));
    }
    return {};
  }

  void count_done(size_t at) {
    if (is_given(at)) apply_.entries_done.fetch_add(1, std::memory_order_relaxed);
  }

  Result<void> begin(size_t at) {
    current_ = change_at(at).path;
    if (cancelled(cancel_)) return SysError{ECANCELED, "renameat2", "aborted", current_, {}};
    return {};
  }

  // Where directories of a lower cannot be renamed.
  bool is_on_overlay() const {
    struct statfs file_system {};
    return sys::fstatfs(target_.root(), &file_system) == 0 &&
           static_cast<int64_t>(file_system.f_type) == abi::OVERLAYFS_SUPER_MAGIC;
  }

  // The changes in directories that stayed are there with them.
  std::vector<size_t> with_content(const std::vector<size_t>& kept) const {
    std::vector<bool> there(hows_.size(), false);
    for (const size_t at : kept) {
      if (at < there.size()) there[at] = true;
    }
    std::vector<size_t> changes;
    std::string above;
    for (size_t at = 0; at < there.size(); ++at) {
      const bool inside = !above.empty() && is_below(change_at(at).path, above) && is_nested(at);
      if (there[at] && hows_[at] == How::copy) above = change_at(at).path;
      if ((there[at] || inside) && is_given(at)) changes.push_back(apply_.places_[at].change);
    }
    return changes;
  }

  // --- copying ---

  Result<void> make_ready(size_t at) {
    const ApplyChange& change = change_at(at);
    if (change.kind == ChangeKind::deleted) {
      hows_[at] = How::remove;
      plan_taking(kGone, at, apply_.places_[at].before);
      return {};
    }
    if (change.path.empty()) {
      hows_[at] = How::metadata;
      return {};
    }
    const MergedEntry entry = TRY(after_.lookup(change.path));
    if (!entry.exists()) return SysError{ESTALE, "lookup", "the layers have changed", change.path, {}};
    hows_[at] = TRY(how(at, entry));
    if (hows_[at] == How::move) plan_taking(kMoved, at, *change.from);
    if (hows_[at] == How::copy) TRY(copy(at, entry));
    return {};
  }

  Result<How> how(size_t at, const MergedEntry& entry) {
    const ApplyChange& change = change_at(at);
    const bool directory = entry.is_directory();
    if (change.kind == ChangeKind::renamed) {
      auto source = target_.entry(*change.from);
      const bool missing = !source && source.error().err == ENOENT && is_forced(at) && !directory;
      if (!source && !missing) return std::move(source).error();
      if (directory) return How::move;
      const bool alone = !change.link_group || kept_name(at) != nullptr;
      if (!missing && !change.fields && alone && !is_forced(at)) {
        // With an index its other names share it in the after-view too.
        const auto status = TRY(status_of(source->get(), {}));
        if (status->nlink == 1 || apply_.layers_.stack().index) return How::move;
      }
      if (!missing) plan_taking(kGone, at, *change.from);
      return How::copy;
    }
    const bool in_place =
        directory && change.kind != ChangeKind::added && change.kind != ChangeKind::replaced;
    if (!in_place) return How::copy;
    if (!is_forced(at)) return How::metadata;
    auto there = target_.entry(change.path);
    const auto status = there ? TRY(status_of(there->get(), {})) : std::optional<abi::Statx>();
    return status && S_ISDIR(status->mode) ? How::metadata : How::copy;
  }

  // Where the target has the inode that this name is of; null: it is to be made. What a conflict was found at
  // is the target's own.
  const std::string* kept_name(size_t at) const {
    const auto& group = change_at(at).link_group;
    const auto kept = group ? apply_.inodes_.find(*group) : apply_.inodes_.end();
    if (kept == apply_.inodes_.end()) return nullptr;
    const auto as_it_was = std::find_if(kept->second.begin(), kept->second.end(), [&](const KeptName& name) {
      return !name.change || outcome_.decisions[*name.change] == ApplyDecision::apply;
    });
    return as_it_was == kept->second.end() ? nullptr : &as_it_was->before;
  }

  void plan_taking(char kind, size_t at, const std::string& before) {
    takings_.push_back({staged_name(kind, at), before, change_at(at).path, kind == kMoved});
    if (kind == kMoved) staged_[at] = takings_.back().staged;
    if (change_at(at).kind == ChangeKind::renamed) sources_.push_back(takings_.size() - 1);
  }

  Result<void> copy(size_t at, const MergedEntry& entry) {
    const std::string& path = change_at(at).path;
    const std::string above = parent_of(path);
    while (!directories_.empty() && above != directories_.back().path &&
           !is_below(above, directories_.back().path))
      directories_.pop_back();
    const bool nested = !directories_.empty() && directories_.back().path == above;
    const std::string* kept = entry.is_directory() ? nullptr : kept_name(at);
    staged_[at] = nested ? directories_.back().staged + '/' + name_of(path)
                         : staged_name(kept != nullptr ? kLinked : kNew, at);
    TRY(kept != nullptr ? link_to(*kept, staged_[at]) : copy_to(at, entry, staged_[at]));
    if (entry.is_directory()) directories_.push_back({path, staged_[at]});
    return {};
  }

  Result<int> staged_directory(const std::string& path) {
    if (path.empty()) return staging_.directory();
    if (!staged_parent_ || staged_parent_path_ != path) {
      staged_parent_ = TRY(open_beneath(staging_.directory(), path, O_PATH | O_DIRECTORY));
      staged_parent_path_ = path;
    }
    return staged_parent_.get();
  }

  Result<void> link_to(const std::string& kept, const std::string& staged) {
    return staging_.link(kept, {TRY(staged_directory(parent_of(staged))), name_of(staged)});
  }

  Result<void> copy_to(size_t at, const MergedEntry& entry, const std::string& staged) {
    const int parent = TRY(staged_directory(parent_of(staged)));
    const std::string name = name_of(staged);
    const auto& group = change_at(at).link_group;
    if (group && !entry.is_directory()) {
      const auto [first, is_first] = links_.try_emplace(*group, staged);
      if (!is_first) {
        const int linked = sys::linkat(TRY(staged_again(parent_of(first->second))).get(),
                                       name_of(first->second).c_str(), parent, name.c_str(), 0);
        if (linked != 0) return failed("linkat", {}, current_);
        return {};
      }
    }
    const LayerEntry& from = entry.entry();
    const Source metadata = TRY(open_source(from.parent.fd->get(), from.name));
    if (entry.data_error != 0) return SysError{entry.data_error, "lookup", "its data", current_, {}};
    const LayerEntry& content = entry.data();
    const bool elsewhere = content.layer() != from.layer() || content.path() != from.path();
    CopiedEntry copied;
    if (elsewhere && S_ISREG(metadata.stat.st_mode)) {
      const Source data = TRY(open_source(content.parent.fd->get(), content.name));
      copied = TRY(copy_file(metadata, data, parent, name, copy_));
    } else {
      copied = TRY(copy_entry(metadata, parent, name, copy_));
    }
    if (S_ISDIR(metadata.stat.st_mode)) times_.emplace_back(current_, metadata.stat);
    if (S_ISREG(metadata.stat.st_mode)) {
      outcome_.bytes += copied.data.bytes;
      ++outcome_.methods[static_cast<size_t>(copied.data.method)];
    }
    copied_ = true;
    note_dropped(at, std::move(copied.dropped));
    return {};
  }

  void note_dropped(size_t at, std::vector<std::string> dropped) {
    for (std::string& one : dropped) {
      if (is_given(at)) outcome_.dropped.emplace_back(apply_.places_[at].change, std::move(one));
    }
  }

  Result<Fd> staged_again(const std::string& path) {
    return open_beneath(staging_.directory(), path, O_PATH | O_DIRECTORY);
  }

  // What is visible must be durable; one call for all of it.
  Result<void> make_durable() {
    if (copied_ && sys::syncfs(staging_.directory()) != 0) return failed("syncfs", {}, {});
    return {};
  }

  // --- placing ---

  // All that moves leaves before anything comes; what lies deeper first, since its directory may move too.
  Result<void> take_sources() {
    std::sort(sources_.begin(), sources_.end(),
              [&](size_t a, size_t b) { return takings_[a].before > takings_[b].before; });
    for (const size_t source : sources_) {
      const Taking& taking = takings_[source];
      current_ = taking.before;
      if (cancelled(cancel_)) return SysError{ECANCELED, "renameat2", "aborted", current_, {}};
      TRY(staging_.take(std::stoul(taking.staged.substr(1)), taking.before, taking.staged));
    }
    return {};
  }

  Result<bool> is_there(const std::string& path) {
    auto entry = target_.entry(path);
    if (entry) return true;
    if (entry.error().err == ENOENT) return false;
    return std::move(entry).error();
  }

  Result<void> put_in_place(size_t at) {
    const ApplyChange& change = change_at(at);
    const ApplyPlace& place = apply_.places_[at];
    switch (hows_[at]) {
      case How::remove:
        if (place.vacated || !TRY(is_there(change.path))) return {};
        return staging_.take(at, change.path, staged_name(kGone, at));
      case How::copy:
      case How::move:
        return is_nested(at) ? Result<void>() : put(at, change, place);
      default:
        return {};
    }
  }

  Result<void> put(size_t at, const ApplyChange& change, const ApplyPlace& place) {
    TRY(ensure_directory(parent_of(change.path)));
    const bool may_replace =
        is_forced(at) ||
        (change.kind == ChangeKind::renamed ? change.replaces : change.kind != ChangeKind::added);
    const bool exchange = may_replace && !(place.vacated && !is_forced(at)) && TRY(is_there(change.path));
    const bool quiet = change.kind == ChangeKind::modified || change.kind == ChangeKind::metadata;
    return staging_.put(at, staged_[at], change.path, exchange, quiet && exchange);
  }

  // A directory that was left out of the changes is made as the after-view has it.
  Result<void> ensure_directory(const std::string& path) {
    if (path.empty()) return {};
    auto there = target_.directory(path);
    if (there) return {};
    if (there.error().err != ENOENT) return std::move(there).error();
    TRY(ensure_directory(parent_of(path)));
    const MergedEntry entry = TRY(after_.lookup(path));
    if (!entry.is_directory()) return SysError{ESTALE, "lookup", "the layers have changed", path, {}};
    const LayerEntry& from = entry.entry();
    const Source source = TRY(open_source(from.parent.fd->get(), from.name));
    const std::string staged = "p" + std::to_string(parents_++);
    TRY(copy_entry(source, staging_.directory(), staged, copy_));
    times_.emplace_back(path, source.stat);
    return staging_.put(kNoPlace, staged, path, false, false);
  }

  // When no name in them changes any more.
  Result<void> finish_directories() {
    TRY(staging_.restore_times());
    for (size_t at = hows_.size(); at-- > 0;) {
      const ApplyChange& change = change_at(at);
      if (decision_at(at) == ApplyDecision::skip || apply_.places_[at].gone) continue;
      const bool moved = hows_[at] == How::move && change.directory && (change.fields || is_forced(at));
      if (hows_[at] != How::metadata && !moved) continue;
      TRY(begin(at));
      TRY(staging_.still_as_seen(change.path));
      const Source source = TRY(directory_source(change.path));
      note_dropped(at,
                   TRY(staging_.set_metadata(at, change.path, source.inode(), source.stat, copy_.metadata)));
      if (change.path.empty()) TRY(staging_.set_times({}, source.stat));
    }
    for (const auto& [path, status] : times_) {
      current_ = path;
      TRY(staging_.set_times(path, status));
    }
    return {};
  }

  Result<Source> directory_source(const std::string& path) {
    if (path.empty()) {
      Fd root(sys::dup_fd(after_.root().front().fd->get()));
      if (!root) return failed("fcntl", "F_DUPFD_CLOEXEC");
      return open_source(std::move(root));
    }
    const MergedEntry entry = TRY(after_.lookup(path));
    if (!entry.is_directory()) return SysError{ESTALE, "lookup", "the layers have changed", path, {}};
    return open_source(entry.entry().parent.fd->get(), entry.entry().name);
  }

  static constexpr size_t kNoPlace = ~size_t{0};

  Apply& apply_;
  TargetTree& target_;
  const Cancel& cancel_;
  ApplyStaging staging_;
  ViewCursor after_;
  CopyOptions copy_;
  ApplyOutcome outcome_;
  std::string current_;  // the path that is being worked on

  // By the place's number.
  std::vector<How> hows_;
  std::vector<std::string> staged_;

  std::vector<NewDirectory> directories_;  // that lead to what is being copied
  Fd staged_parent_;
  std::string staged_parent_path_;
  std::unordered_map<uint64_t, std::string> links_;  // where the first of a group was made
  std::vector<Taking> takings_;
  std::vector<size_t> sources_;                             // of renames, among the takings
  std::vector<std::pair<std::string, struct stat>> times_;  // of directories that have been made
  bool copied_ = false;
  uint64_t parents_ = 0;
};

Result<std::unique_ptr<Apply>> Apply::open(MergedLayers layers, const DirectoryRef& target) {
  TargetTree tree = TRY(TargetTree::open(target));
  std::unique_ptr<Apply> apply(new Apply(std::move(layers), std::move(tree)));
  TRY(recover_target(apply->target_, apply->left_));
  return apply;
}

Result<std::vector<Conflict>> Apply::check(std::vector<ApplyChange> changes, const Cancel& cancel) {
  for (const ApplyChange& change : changes) {
    if (is_reserved(change.path)) return SysError{EEXIST, "mkdirat", "a name of ours", change.path, {}};
  }
  changes_ = std::move(changes);
  given_ = changes_.size();
  TRY(complete_link_groups(changes_, layers_, target_, inodes_, cancel));
  places_ = place_changes(changes_);
  phase = Phase::checking;
  entries_done = 0;
  return find_conflicts(changes_, given_, places_, layers_, target_, cancel, entries_done);
}

std::vector<ApplyDecision> Apply::decide(std::vector<ApplyDecision> decisions) const {
  decisions.resize(changes_.size(), ApplyDecision::apply);
  for (bool more = true; more;) {
    more = false;
    std::unordered_set<std::string> staying;
    for (size_t index = 0; index < changes_.size(); ++index) {
      const ApplyChange& change = changes_[index];
      if (change.kind == ChangeKind::renamed && decisions[index] == ApplyDecision::skip)
        staying.insert(*change.from);
    }
    const std::string* skipped = nullptr;
    for (const ApplyPlace& place : places_) {
      const ApplyChange& change = changes_[place.change];
      ApplyDecision& decision = decisions[place.change];
      const bool below = skipped != nullptr && is_below(change.path, *skipped);
      const bool occupied = place.vacated && staying.contains(place.before);
      if (decision != ApplyDecision::skip && (below || occupied)) {
        decision = ApplyDecision::skip;
        more = true;
      }
      if (decision == ApplyDecision::skip && !below)
        skipped = change.kind == ChangeKind::modified || change.kind == ChangeKind::metadata ? nullptr
                                                                                             : &change.path;
    }
  }
  // Other names of an inode are for those that were given.
  std::unordered_set<uint64_t> made;
  for (size_t index = 0; index < given_; ++index) {
    if (decisions[index] != ApplyDecision::skip && changes_[index].link_group)
      made.insert(*changes_[index].link_group);
  }
  for (size_t index = given_; index < changes_.size(); ++index) {
    if (!made.contains(*changes_[index].link_group)) decisions[index] = ApplyDecision::skip;
  }
  return decisions;
}

std::variant<ApplyOutcome, ApplyFailure> Apply::run(std::vector<ApplyDecision> decisions,
                                                    const Cancel& cancel) {
  target_.forget();
  auto staging = ApplyStaging::create(target_);
  if (!staging) return ApplyFailure{std::move(staging).error(), {}, {}, {}, {}, false};
  return ApplyRun(*this, std::move(decisions), cancel, *std::move(staging)).run();
}

}  // namespace overlayfs
