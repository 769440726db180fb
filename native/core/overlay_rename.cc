#include "overlay_rename.h"

#include <fcntl.h>
#include <sys/file.h>

#include <utility>

#include "beneath.h"
#include "directory.h"
#include "rename_staging.h"
#include "sys.h"
#include "tree_copy.h"

namespace overlayfs {
namespace {

std::string without_slashes(const std::string& path) {
  return path.substr(0, path.find_last_not_of('/') + 1);
}

class Rename {
 public:
  explicit Rename(const RenamePlan& plan) : plan_(plan), shown_(without_slashes(plan.from)) {}

  Result<Renamed> run(int root) {
    from_ = TRY(place_in_root(root, plan_.from));
    to_ = TRY(place_in_root(root, plan_.to));
    const unsigned flags = (plan_.noreplace ? abi::rename_flag::NOREPLACE : 0) |
                           (plan_.exchange ? abi::rename_flag::EXCHANGE : 0);
    if (sys::renameat2(from_.parent.get(), from_.name.c_str(), to_.parent.get(), to_.name.c_str(), flags) ==
        0)
      return Renamed{};
    const SysError refusal = failed("rename", {}, plan_.from);
    if (refusal.err != EXDEV || plan_.exchange) return refusal;
    for (std::string* name : {&from_.name, &to_.name}) *name = without_slashes(*name);
    if (!TRY(is_a_matter_of_layers())) return refusal;
    TRY(check_target());
    return copy_and_remove();
  }

  RenameFailure failure{};

 private:
  // The kernel has answered for everything else: that both are on one mount, that nothing is renamed into
  // itself, that directories only replace directories, and that nothing is mounted on either.
  Result<bool> is_a_matter_of_layers() {
    auto source = open_beneath(from_.parent.get(), from_.name, O_PATH | O_DIRECTORY);
    if (!source) return source.error().err == ENOTDIR ? Result<bool>(false) : std::move(source).error();
    struct statfs fs {};
    if (sys::fstatfs(source->get(), &fs) != 0) return failed("fstatfs", {}, plan_.from);
    return fs.f_type == abi::OVERLAYFS_SUPER_MAGIC;
  }

  // What the kernel asks only later.
  Result<void> check_target() {
    auto there = open_beneath(to_.parent.get(), to_.name, O_RDONLY | O_DIRECTORY);
    if (!there) {
      if (there.error().err == ENOENT) return {};
      return std::move(there).error();
    }
    if (!TRY(sorted_names(there->get())).empty()) return SysError{ENOTEMPTY, "rename", {}, plan_.to, {}};
    return {};
  }

  Result<Renamed> copy_and_remove() {
    failure.how = RenameFailed::copy;
    const Fd locked = TRY(lock_source());
    remove_stale_stagings(to_.parent.get());
    RenameStaging staging = TRY(RenameStaging::make(to_.parent.get()));
    TreeCopy copy(shown_, plan_.cancel, plan_.exiting, plan_.progress);
    auto tree = make_and_publish(staging, copy);
    if (!tree) {
      take_back(staging);
      return std::move(tree).error();
    }

    failure.how = RenameFailed::half_done;
    Remains remains = remove_tree(from_.parent.get(), *tree, shown_);
    if (auto removed = staging.remove(false); !removed) {
      ++remains.count;
      remains.paths.push_back(beside_target(staging.name()));
      if (!remains.why) remains.why = std::move(removed.error());
    }
    if (remains.count == 0) return Renamed{true, copy.entries(), copy.bytes()};
    SysError why = *remains.why;
    failure.remains = std::move(remains);
    return why;
  }

  Result<RecordedEntry> make_and_publish(RenameStaging& staging, TreeCopy& copy) {
    auto tree = copy.copy(from_.parent.get(), from_.name, staging.fd(), RenameStaging::kTree);
    if (!tree) {
      if (copy.refused()) failure.how = RenameFailed::refused;
      if (tree.error().err == ESTALE) failure.how = RenameFailed::changed;
      return tree;
    }
    // After a power cut the copy must be whole wherever the original is gone.
    if (sys::syncfs(staging.fd()) != 0) return failed("syncfs", {}, plan_.to);
    if (auto same = verify_tree(from_.parent.get(), *tree, shown_); !same) {
      if (same.error().err == ESTALE) failure.how = RenameFailed::changed;
      return std::move(same).error();
    }
    if (cancelled(plan_.cancel) || plan_.exiting())
      return SysError{ECANCELED, "rename", "aborted", plan_.from, {}};
    const unsigned flags = plan_.noreplace ? abi::rename_flag::NOREPLACE : 0;
    if (sys::renameat2(staging.fd(), RenameStaging::kTree, to_.parent.get(), to_.name.c_str(), flags) != 0) {
      failure.how = RenameFailed::rename;
      return failed("rename", {}, plan_.from);
    }
    return tree;
  }

  // Two renames of one directory at the same moment would make two of it.
  Result<Fd> lock_source() {
    Fd source = TRY(open_beneath(from_.parent.get(), from_.name, O_RDONLY | O_DIRECTORY));
    if (sys::flock(source.get(), LOCK_EX | LOCK_NB) == 0) return source;
    if (errno != EWOULDBLOCK) return failed("flock", "LOCK_EX", plan_.from);
    failure.how = RenameFailed::refused;
    return SysError{
        EBUSY, "flock", "it is locked, as while another rename of it is under way", plan_.from, {}};
  }

  void take_back(RenameStaging& staging) {
    auto removed = staging.remove(true);
    if (removed) return;
    failure.staging = beside_target(staging.name());
    failure.staging_error = std::move(removed.error());
  }

  std::string beside_target(const std::string& name) const {
    const std::string to = without_slashes(plan_.to);
    return to.substr(0, to.rfind('/') + 1) + name;
  }

  const RenamePlan& plan_;
  const std::string shown_;  // what paths in errors begin with
  Place from_, to_;
};

}  // namespace

const char* rename_failed_name(RenameFailed how) {
  switch (how) {
    case RenameFailed::overlay:
      return "overlay";
    case RenameFailed::rename:
      return "rename";
    case RenameFailed::refused:
      return "refused";
    case RenameFailed::changed:
      return "changed";
    case RenameFailed::copy:
      return "copy";
    case RenameFailed::half_done:
      return "half-done";
  }
  return "";
}

std::variant<Renamed, RenameFailure> rename_in_overlay(int root, const RenamePlan& plan) {
  Rename rename(plan);
  auto renamed = rename.run(root);
  if (renamed) return *renamed;
  rename.failure.error = std::move(renamed.error());
  return std::move(rename.failure);
}

}  // namespace overlayfs
