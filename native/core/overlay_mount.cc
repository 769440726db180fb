#include "overlay_mount.h"

#include <fcntl.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <tuple>

#include "mount_info.h"
#include "mount_tree.h"
#include "overlay_unmount.h"
#include "scratch.h"
#include "sys.h"
#include "work_directory.h"

namespace overlayfs {
namespace {

// A mount attached below a shared one is shared at first: copies of it have appeared in the peers.
bool is_shared(const DirectoryIdentity& mount_root) {
  return mount_root.unique_mount_id && is_shared_mount(mount_root.mount_id);
}

// One mount under way. Whatever it has done when it goes away without having succeeded is taken back.
class Mounting {
 public:
  Mounting(const MountPlan& plan, const std::function<bool()>& aborted) : plan_(plan), aborted_(aborted) {}
  Mounting(const Mounting&) = delete;
  Mounting& operator=(const Mounting&) = delete;
  ~Mounting() {
    if (!done_) take_back();
  }

  std::variant<Mounted, MountFailure> run() {
    if (auto result = steps(); !result) {
      failure_.error = std::move(result).error();
      failure_.attempts = std::move(mounted_.attempts);
      return std::move(failure_);
    }
    done_ = true;
    if (plan_.needs_file_handles) look_for_file_handles();
    hand_over_layers();
    return std::move(mounted_);
  }

 private:
  Result<void> steps() {
    TRY(open_layers());
    if (plan_.policy && spec_.upper) TRY(check_writable_layers());
    TRY(make_scratch());
    TRY(open_target());
    if (plan_.remove_volatile_marker) {
      at(Step::clear_marker, "work");
      TRY(remove_volatile_marker(lock_.get()));
    }
    at(Step::create);
    TRY(create());
    if (plan_.policy) TRY(verify());
    return attach();
  }

  void at(Step step, const char* role = "", size_t index = 0) {
    failure_.step = step;
    failure_.role = role;
    failure_.index = index;
  }

  Result<OpenLayer> open_layer(const DirectoryRef& ref, const char* role, size_t index = 0) {
    at(Step::open_layer, role, index);
    Fd fd = TRY(open_directory(ref));
    DirectoryIdentity identity;
    if (plan_.upper) identity = TRY(identify(fd.get(), ref.shown()));  // only containment asks for it
    return OpenLayer{std::move(fd), ref.fd >= 0 ? "" : ref.path, identity};
  }

  Result<void> open_layers() {
    spec_.lower.reserve(plan_.lower.size() + 1);
    for (size_t i = 0; i < plan_.lower.size(); ++i)
      spec_.lower.push_back(TRY(open_layer(plan_.lower[i], "lower", i)));
    for (size_t i = 0; i < plan_.data_only_lower.size(); ++i) {
      spec_.data_only_lower.push_back(TRY(open_layer(plan_.data_only_lower[i], "dataOnlyLower", i)));
    }
    if (plan_.upper) spec_.upper = TRY(open_layer(*plan_.upper, "upper"));
    if (plan_.work) spec_.work = TRY(open_layer(*plan_.work, "work"));
    spec_.options = plan_.options;
    spec_.source = plan_.source;
    spec_.readonly = plan_.readonly;
    spec_.mount_attributes = plan_.mount_attributes;
    return {};
  }

  Result<void> check_writable_layers() {
    at(Step::check_upper, "upper");
    if (spec_.upper->identity.links == 0)
      return SysError{ENOENT, "statx", "deleted directory", plan_.upper->shown(), {}};
    readable_upper_ = TRY(reopen_readable(spec_.upper->fd.get(), spec_.upper->path));
    if (sys::fgetxattr(readable_upper_.get(), (plan_.xattr_prefix + "opaque").c_str(), nullptr, 0) < 0 &&
        errno == EOPNOTSUPP) {
      mounted_.upper_without_xattrs = true;
      if (plan_.require_xattrs)
        return failed("fgetxattr", plan_.xattr_prefix + "opaque", plan_.upper->shown());
    }
    at(Step::check_upper, "work");
    if (spec_.work->identity.links == 0)
      return SysError{ENOENT, "statx", "deleted directory", plan_.work->shown(), {}};

    TRY(check_containment(*spec_.upper, "upper"));
    TRY(check_containment(*spec_.work, "work"));

    at(Step::check_in_use, "work");
    lock_ = TRY(lock_work_directory(*spec_.work));
    if (plan_.check_in_use) TRY(check_in_use());
    snapshot_ = LayerSnapshot::take(readable_upper_.get(), lock_.get());
    return {};
  }

  Result<void> check_containment(const OpenLayer& inner, const char* role) {
    at(Step::check_in_lower, role);
    for (const auto& [layers, refs] :
         {std::pair(&spec_.lower, &plan_.lower), std::pair(&spec_.data_only_lower, &plan_.data_only_lower)}) {
      const Containment found = TRY(find_containing_lower(inner, *layers));
      mounted_.containment_verified &= found.verified;
      if (!found.outer) continue;
      failure_.other = (*refs)[*found.outer].shown();
      return SysError{ELOOP, "openat", "\"..\"", inner.path, {}};
    }
    return {};
  }

  Result<void> check_in_use() {
    // Where the kernel lacks a rung, the next one may still be able to ask.
    for (const Rung rung : plan_.rungs) {
      mounted_.in_use = probe_in_use(*spec_.upper, *spec_.work, rung, plan_.detached_layers);
      if (mounted_.in_use.answer != InUse::unknown) break;
    }
    if (mounted_.in_use.answer == InUse::no || mounted_.in_use.answer == InUse::unknown) return {};
    const bool upper = mounted_.in_use.answer == InUse::upper;
    at(Step::check_in_use, upper ? "upper" : "work");
    return SysError{
        EBUSY, "fsconfig", "CMD_CREATE, index=on", (upper ? plan_.upper : plan_.work)->shown(), {}};
  }

  Result<void> make_scratch() {
    if (!plan_.scratch && !plan_.empty_lower) return {};
    at(Step::scratch);
    scratch_.emplace(TRY(ScratchTmpfs::create(plan_.scratch_size, !plan_.detached_layers)));
    // Mount tables show a layer on a detached mount as if that were the root: the names must be no one
    // else's.
    if (plan_.scratch) {
      spec_.upper = OpenLayer{TRY(scratch_->make_directory("overlayfs-scratch-upper")), {}, {}};
      spec_.work = OpenLayer{TRY(scratch_->make_directory("overlayfs-scratch-work")), {}, {}};
    }
    if (plan_.empty_lower)
      spec_.lower.push_back({TRY(scratch_->make_directory("overlayfs-scratch-empty")), {}, {}});
    return {};
  }

  Result<void> open_target() {
    if (plan_.target.empty()) return {};
    at(Step::target);
    if (plan_.make_target) mounted_.made_target = TRY(make_directory(plan_.target, plan_.target_mode));
    target_ = TRY(open_directory({plan_.target}));
    return {};
  }

  Result<void> create() {
    for (size_t i = 0; i < plan_.rungs.size(); ++i) {
      mounted_.rung = plan_.rungs[i];
      auto result = create_by(mounted_.rung);
      if (result) return result;
      const bool last = i + 1 == plan_.rungs.size();
      if (last || !is_rung_missing(mounted_.rung, result.error())) return result;
      mounted_.attempts.push_back({mounted_.rung, std::move(result.error())});
    }
    return SysError{EINVAL, "mount", "no way left to try", {}, {}};
  }

  Result<void> create_by(Rung rung) {
    if (rung != Rung::mount && rung != Rung::mount_fd_names) {
      mounted_.root = TRY(create_detached(spec_, rung));
      return {};
    }
    TRY(create_at(spec_, rung, fd_name(target_.get())));
    attached_ = true;
    Fd root = TRY(open_directory({plan_.target}));
    struct statfs fs {};
    if (sys::fstatfs(root.get(), &fs) != 0) return failed("fstatfs", {}, plan_.target);
    if (fs.f_type != abi::OVERLAYFS_SUPER_MAGIC)
      return SysError{ENOENT, "statfs", "the target has been moved meanwhile", plan_.target, {}};
    mounted_.root = std::move(root);
    TRY(identify_attached());
    const bool superblock_only = plan_.readonly && (plan_.mount_attributes & abi::MOUNT_ATTR_RDONLY) == 0;
    return superblock_only ? clear_mount_readonly(mounted_.root.get()) : Result<void>();
  }

  Result<void> verify() {
    at(Step::verify_writable);
    struct statfs fs {};
    if (sys::fstatfs(mounted_.root.get(), &fs) != 0) return failed("fstatfs");
    if (spec_.upper && !plan_.readonly && (fs.f_flags & ST_RDONLY) != 0) {
      return SysError{EROFS, "fstatfs", "the overlay came up read-only", {}, {}};
    }
    return {};
  }

  Result<void> attach() {
    at(Step::attach);
    if (aborted_()) return SysError{ECANCELED, "move_mount", "the process is exiting", {}, {}};
    if (plan_.target.empty()) return identify_attached();
    if (!attached_) {
      TRY(attach_mount(mounted_.root.get(), target_.get(), plan_.target));
      attached_ = true;
      TRY(identify_attached());
    }
    mounted_.propagated = is_shared(mounted_.identity);
    if (plan_.propagation != 0) TRY(set_propagation(mounted_.root.get(), plan_.propagation));
    mounted_.root.reset();  // a descriptor of the mount would keep umount2(2) at EBUSY
    return {};
  }

  Result<void> identify_attached() {
    mounted_.identity = TRY(identify_mount(mounted_.root.get(), plan_.target));
    return {};
  }

  // index and nfs_export are switched off in silence where a layer has no file handles.
  void look_for_file_handles() {
    const auto lacks = [](const OpenLayer& layer) { return !sys::has_file_handles(layer.fd.get()); };
    mounted_.without_file_handles =
        std::any_of(spec_.lower.begin(), spec_.lower.end(), lacks) || (spec_.upper && lacks(*spec_.upper));
  }

  void hand_over_layers() {
    mounted_.layers.lower.reserve(spec_.lower.size());
    for (OpenLayer& layer : spec_.lower) mounted_.layers.lower.push_back(std::move(layer.fd));
    if (plan_.empty_lower) mounted_.layers.lower.pop_back();
    for (OpenLayer& layer : spec_.data_only_lower)
      mounted_.layers.data_only_lower.push_back(std::move(layer.fd));
    if (spec_.upper) mounted_.layers.upper = std::move(spec_.upper->fd);
    if (spec_.work) mounted_.layers.work = std::move(spec_.work->fd);
    if (plan_.keep_upper_for_sync) mounted_.upper_for_sync = std::move(readable_upper_);
  }

  void take_back() {
    mounted_.root.reset();
    if (attached_) unmount();  // what failed first is what is reported
    target_.reset();
    if (mounted_.made_target) remove_directory(plan_.target, *mounted_.made_target);
    if (snapshot_) snapshot_->restore();
  }

  // Whatever keeps it busy, it must not stay: nobody would answer for it.
  void unmount() const {
    for (const bool lazy : {false, true}) {
      // mount(2) gives no descriptor: between the mount and its identification there is only the path.
      const bool known = mounted_.identity.mount_id != 0;
      if (known ? bool(unmount_overlay(mounted_.identity, plan_.target, lazy))
                : bool(unmount_topmost_overlay(plan_.target, lazy))) {
        return;
      }
    }
  }

  const MountPlan& plan_;
  const std::function<bool()>& aborted_;
  OverlaySpec spec_;
  Fd readable_upper_, lock_, target_;
  std::optional<ScratchTmpfs> scratch_;
  std::optional<LayerSnapshot> snapshot_;
  bool attached_ = false, done_ = false;
  Mounted mounted_;
  MountFailure failure_;
};

}  // namespace

const char* step_name(Step step) {
  switch (step) {
    case Step::open_layer:
      return "open-layer";
    case Step::check_upper:
      return "check-upper";
    case Step::check_in_lower:
      return "check-in-lower";
    case Step::check_in_use:
      return "check-in-use";
    case Step::clear_marker:
      return "clear-marker";
    case Step::scratch:
      return "scratch";
    case Step::target:
      return "target";
    case Step::create:
      return "create";
    case Step::verify_writable:
      return "verify-writable";
    case Step::attach:
      return "attach";
  }
  return "";
}

std::variant<Mounted, MountFailure> mount_overlay(const MountPlan& plan,
                                                  const std::function<bool()>& aborted) {
  return Mounting(plan, aborted).run();
}

Result<Attached> attach_overlay(int mount, const std::string& target, bool make_target,
                                uint64_t propagation) {
  Attached attached;
  attached.identity = TRY(identify_mount(mount, target));  // a mount keeps its id when it is attached
  if (make_target) attached.made_target = TRY(make_directory(target));
  bool hangs = false;
  const auto attach = [&]() -> Result<void> {
    const Fd directory = TRY(open_directory({target}));
    TRY(attach_mount(mount, directory.get(), target));
    hangs = true;
    attached.propagated = is_shared(attached.identity);
    return set_propagation(mount, propagation);
  };
  if (auto result = attach(); !result) {
    // Its own descriptor keeps it busy, and alive: the view is detached again.
    if (hangs) std::ignore = unmount_overlay(attached.identity, target, true);
    if (attached.made_target) remove_directory(target, *attached.made_target);
    return std::move(result).error();
  }
  return attached;
}

}  // namespace overlayfs
